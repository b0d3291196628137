//! One client's side of a connection: small, because there are ten thousand of them in a worker.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use super::converse::Turn;
use crate::clock::Voice;
use crate::track::Tracker;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum State {
    /// Not tried yet, or on its way to be tried again.
    #[default]
    Idle,
    /// On its way: the request is not sent yet.
    Connecting,
    /// The request is sent, the answer is not complete.
    Asked,
    /// Frames may flow.
    Open,
    /// A close frame went one way.
    Closing,
    /// Over.
    Closed,
}

/// A client.
#[derive(Default)]
pub(super) struct Conn {
    pub(super) socket: Option<OwnedFd>,
    pub(super) state: State,
    /// Counts the sockets this client has had, so that an event for an old one is known as such.
    pub(super) generation: u32,
    pub(super) ready: bool,
    /// One of those that stop reading.
    pub(super) slow: bool,
    /// It has stopped.
    pub(super) stopped: bool,
    /// The socket takes nothing any more.
    pub(super) write_dead: bool,
    /// When this attempt began, from which the handshake is timed.
    pub(super) asked_us: u64,
    /// When the storm cut this client off, or lets it come back.
    pub(super) cut_us: u64,
    /// When it first dialled after that; 0 until then.
    pub(super) dialled_us: u64,
    /// Number of the next frame to send.
    pub(super) seq: u32,
    /// Frames this conversation still has to send (`churn`).
    pub(super) frames_left: u32,
    pub(super) voice: Option<Voice>,
    /// The beginning of a frame or of a response head.
    pub(super) partial: Vec<u8>,
    /// The beginning of an event of a stream.
    pub(super) text: Vec<u8>,
    pub(super) pending: Option<Box<Pending>>,
    pub(super) tracker: Tracker,
    /// Its part of a conversation (`converse`).
    pub(super) turn: Option<Box<Turn>>,
    /// The resume token of the last welcome, with the last event's number (`storm --resume`).
    pub(super) resume: Option<Box<Resume>>,
}

/// What a client shows to get its session back.
pub(super) struct Resume {
    pub(super) token: String,
    pub(super) after: u64,
}

/// What a blocked socket has still to take: bytes that must come next, then frames that are not built yet.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) bytes: Vec<u8>,
    pub(super) frames: VecDeque<Waiting>,
}

/// A frame that waits for its socket.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) intended_us: u64,
    pub(super) late_us: u32,
}

impl Conn {
    /// Forgets everything that belongs to the socket; the client may be used again.
    pub(super) fn reset(&mut self, state: State) {
        *self = Self {
            state,
            generation: self.generation.wrapping_add(1),
            slow: self.slow,
            cut_us: self.cut_us,
            dialled_us: self.dialled_us,
            voice: self.voice,
            resume: self.resume.take(),
            turn: self.turn.take(),
            ..Self::default()
        };
    }
}

/// The poll token of a client's present socket.
pub(super) fn token(index: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}
