//! The forms in which an event goes to connections: as JSON in the words of either dialect, compressed or not. Each form
//! that has a listener is made once, and shared by every lane.

use super::super::event::{Class, Dialect, EventId, ServerEvent};
use super::super::frame::{Frame, TEXT};
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

/// One event in the forms its listeners want.
#[derive(Default)]
struct EventForms {
    json: Option<Frame>,
    beta: Option<Frame>,
    compressed_json: CompressedForms,
    compressed_beta: CompressedForms,
}

impl Shard {
    /// Puts an event into the lanes of its listeners, to each in its form.
    pub(super) fn spread(&mut self, now: Micros, listeners: &[ConnKey], event: &Spread<'_>) {
        let mut forms = EventForms::default();
        for &listener in listeners {
            let dialect = self.dialect(listener);
            let known = event.of.map_or(dialect == Dialect::Native, |(of, _)| dialect.has(of));
            if !known {
                continue;
            }
            let (plain, compressed) = match dialect {
                Dialect::Native | Dialect::Ga => (&mut forms.json, &mut forms.compressed_json),
                Dialect::Beta => (&mut forms.beta, &mut forms.compressed_beta),
            };
            let plain = plain.get_or_insert_with(|| self.plain_form(event, dialect));
            let (frame, shape) = self.shared_form(listener, plain, compressed);
            let Spread { response, class, replayed, .. } = *event;
            let seq = event.seq.unwrap_or(0);
            let message = Message { frame, at: now, seq, response, class, shape, replayed };
            if event.of.is_some_and(|(of, _)| of.goes_first()) {
                self.enqueue_first(listener, message);
            } else {
                self.enqueue(listener, message, event.wait);
            }
        }
        let compressed = forms.compressed_json.into_iter().chain(forms.compressed_beta);
        let compressed = compressed.filter_map(|(_, form)| form);
        for frame in compressed.chain(forms.json).chain(forms.beta) {
            self.pool.recycle(frame);
        }
    }

    fn plain_form(&mut self, event: &Spread<'_>, dialect: Dialect) -> Frame {
        self.counters.events_encoded += 1;
        match event.of {
            Some((of, id)) if dialect == Dialect::Beta => {
                let mut words = Vec::new();
                of.write(id, event.seq, dialect, &mut words);
                self.pool.copy(&words).seal(TEXT)
            }
            _ => self.pool.copy(event.json).seal(TEXT),
        }
    }
}
