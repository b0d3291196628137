//! What lies in a lane: a shared frame, what it is worth, and how its bytes go onto the wire.

use super::super::event::Class;
use super::super::frame::{Frame, Gather};
use super::super::time::Micros;

/// A message in a lane.
#[derive(Debug)]
pub struct Message {
    /// The bytes, shared with every other lane that has them.
    pub frame: Frame,
    /// When it was due to leave: enqueued, or the end of its wait.
    pub at: Micros,
    /// Its number in the room: of the event, or of the audio frame.
    pub seq: u64,
    /// The response whose barge-in takes it away; 0 for none.
    pub response: u32,
    /// What gives way to what.
    pub class: Class,
    /// How it is framed.
    pub shape: Shape,
    /// Whether it is told again: it stands outside the lane's bounds, and never gives way.
    pub replayed: bool,
}

impl Message {
    /// A message without a number, of no response.
    pub fn new(frame: Frame, at: Micros, class: Class, shape: Shape) -> Self {
        Self { frame, at, seq: 0, response: 0, class, shape, replayed: false }
    }

    /// Bytes it takes on the wire.
    pub(super) fn size(&self) -> usize {
        match self.shape {
            Shape::Answer | Shape::Whole | Shape::Audio | Shape::Event | Shape::Compressed => {
                self.frame.wire().len()
            }
            Shape::BatchFirst { len, .. } => usize::from(len) + self.frame.payload().len() + 1,
            Shape::BatchLine => self.frame.payload().len() + 1,
            Shape::BatchLast => self.frame.payload().len(),
        }
    }

    /// Whether it is a part of a text message that others share.
    pub(super) fn in_batch(&self) -> bool {
        matches!(self.shape, Shape::BatchFirst { .. } | Shape::BatchLine | Shape::BatchLast)
    }

    /// Names its bytes from `skip` on.
    pub(super) fn gather(&self, skip: u32, into: &mut Gather) {
        let offset = self.frame.payload_offset() as u32;
        let wire = self.frame.wire().len() as u32;
        match self.shape {
            Shape::Answer | Shape::Whole | Shape::Audio | Shape::Event | Shape::Compressed => {
                into.push(self.frame.clone(), skip..wire);
            }
            Shape::BatchFirst { header, len } => {
                let len = u32::from(len);
                if skip < len {
                    into.push_own(header, skip..len);
                }
                into.push(self.frame.clone(), offset + skip.saturating_sub(len)..wire + 1);
            }
            Shape::BatchLine => into.push(self.frame.clone(), offset + skip..wire + 1),
            Shape::BatchLast => into.push(self.frame.clone(), offset + skip..wire),
        }
    }
}

/// How a message is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The HTTP answer that an open connection begins with: without it nothing that follows could be read.
    Answer,
    /// Header and payload as sealed: a control frame, another HTTP answer, a message of `/echo`.
    Whole,
    /// A message with audio in it, binary or an event, as sealed.
    Audio,
    /// A JSON event as sealed: a text message of its own, unless it finds company.
    Event,
    /// A JSON event as sealed, compressed: a text message that no other event can be a part of.
    Compressed,
    /// The first event of a batch: the header of all, and its line.
    BatchFirst {
        /// The header.
        header: [u8; 4],
        /// How many bytes of it count.
        len: u8,
    },
    /// An event inside a batch: its line.
    BatchLine,
    /// The last event of a batch: its payload, without a line feed.
    BatchLast,
}
