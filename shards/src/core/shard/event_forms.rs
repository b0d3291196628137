//! The forms in which an event goes to connections: as JSON in the words of either dialect, as MessagePack, or
//! as events of a stream; compressed or not. Each form that has a listener is made once, and shared by every lane.

use tungstenite::protocol::frame::coding::OpCode;

use super::super::conn::{Phase, Subprotocol};
use super::super::event::{Class, Dialect, EventId, ServerEvent, msgpack_of};
use super::super::frame::{BINARY, BinaryHeader, Frame, KIND_EVENTS, TEXT};
use super::super::ids::ConnKey;
use super::super::outbox::Message;
use super::super::time::Micros;
use super::Shard;
use super::compression::CompressedForms;

/// An event on its way to several connections.
#[derive(Debug)]
pub(super) struct Spread<'a> {
    /// As JSON in today's words, with its id and number.
    pub(super) json: &'a [u8],
    /// What it was written of, for those who take other words; nothing where that is not known any more: they miss it.
    pub(super) of: Option<(&'a ServerEvent, EventId)>,
    /// Its number in the room; nothing when it belongs to no history.
    pub(super) seq: Option<u64>,
    /// The response whose barge-in takes it away; 0 for none.
    pub(super) response: u32,
    /// What gives way to what.
    pub(super) class: Class,
    /// How long it may wait for company.
    pub(super) wait: Option<Micros>,
    /// Whether it is told again: then it stands outside the bounds of the lane, and whoever tells it bounds it.
    pub(super) replayed: bool,
}

/// How a connection takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventForm {
    /// A text message of JSON.
    Json,
    /// The same in the words of the vendor's beta.
    Beta,
    /// A binary message of MessagePack behind its header.
    Msgpack,
    /// An event of a stream, as a chunk.
    Chunk,
    /// The same without chunks.
    Bare,
}

impl EventForm {
    const fn of(subprotocol: Subprotocol) -> Self {
        match subprotocol {
            Subprotocol::None | Subprotocol::Plain | Subprotocol::V1 | Subprotocol::Realtime => Self::Json,
            Subprotocol::RealtimeBeta => Self::Beta,
            Subprotocol::Msgpack => Self::Msgpack,
            Subprotocol::Sse { chunked: true } => Self::Chunk,
            Subprotocol::Sse { chunked: false } => Self::Bare,
        }
    }

    /// What its messages are.
    pub(super) const fn opcode(self) -> OpCode {
        match self {
            Self::Json | Self::Beta | Self::Chunk | Self::Bare => TEXT,
            Self::Msgpack => BINARY,
        }
    }
}

/// One event in the forms its listeners want, by [`EventForm`].
#[derive(Default)]
struct EventForms {
    plain: [Option<Frame>; 5],
    compressed: [CompressedForms; 5],
}

impl Shard {
    pub(super) fn event_form(&self, key: ConnKey) -> EventForm {
        EventForm::of(self.subprotocol(key))
    }

    /// What an open connection speaks; of others, that nothing was agreed on.
    pub(super) fn subprotocol(&self, key: ConnKey) -> Subprotocol {
        match self.conns.find(key).map(|conn| &conn.phase) {
            Some(Phase::Open(open)) => open.subprotocol,
            _ => Subprotocol::None,
        }
    }

    /// Puts an event into the lanes of its listeners, to each in its form.
    pub(super) fn spread(&mut self, now: Micros, listeners: &[ConnKey], event: &Spread<'_>) {
        let mut forms = EventForms::default();
        for &listener in listeners {
            let subprotocol = self.subprotocol(listener);
            let (dialect, form) = (subprotocol.dialect(), EventForm::of(subprotocol));
            let known = event.of.map_or(dialect == Dialect::Native, |(of, _)| dialect.has(of));
            if !known {
                continue;
            }
            let plain =
                forms.plain[form as usize].get_or_insert_with(|| self.spread_form(event, form, dialect));
            let compressed = &mut forms.compressed[form as usize];
            let (frame, shape) = self.shared_form(listener, plain, form.opcode(), compressed);
            let Spread { response, class, replayed, .. } = *event;
            let seq = event.seq.unwrap_or(0);
            let message = Message { frame, at: now, seq, response, class, shape, replayed };
            if event.of.is_some_and(|(of, _)| of.goes_first()) {
                self.enqueue_first(listener, message);
            } else {
                self.enqueue(listener, message, event.wait);
            }
        }
        let compressed = forms.compressed.into_iter().flatten().filter_map(|(_, frame)| frame);
        for frame in compressed.chain(forms.plain.into_iter().flatten()) {
            self.pool.recycle(frame);
        }
    }

    fn spread_form(&mut self, event: &Spread<'_>, form: EventForm, dialect: Dialect) -> Frame {
        match event.of {
            Some((of, id)) if form == EventForm::Beta => {
                let mut words = Vec::new();
                of.write(id, event.seq, dialect, &mut words);
                self.seal_event(&words, event.seq, form)
            }
            _ => self.seal_event(event.json, event.seq, form),
        }
    }

    /// An event as a message of this form, made of its JSON.
    pub(super) fn seal_event(&mut self, json: &[u8], seq: Option<u64>, form: EventForm) -> Frame {
        self.counters.events_encoded += 1;
        match form {
            EventForm::Json | EventForm::Beta => self.pool.copy(json).seal(TEXT),
            EventForm::Msgpack => {
                let mut packed = std::mem::take(&mut self.packed);
                packed.clear();
                msgpack_of(json, &mut packed);
                let header = BinaryHeader { kind: KIND_EVENTS, flags: 0, track: 0, timestamp_ms: 0 };
                let frame = self.pool.copy(&packed).with_binary_header(header).seal(BINARY);
                self.packed = packed;
                frame
            }
            EventForm::Chunk | EventForm::Bare => self.stream_event(json, seq, form == EventForm::Chunk),
        }
    }
}
