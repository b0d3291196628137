//! The events that a room remembers, so that a member that comes back hears what it has missed.

use std::collections::VecDeque;

use super::engine::Audience;
use super::event::Class;

/// A room's latest events in the order of their numbers, without a gap. Bounded in events and in bytes; what is too long
/// to be kept takes everything before it along, so that no part is ever taken for the whole.
///
/// The bytes of all events lie in one ring, so that a room pays for what it keeps and for nothing else.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// The number of the latest event, kept or not.
    seq: u64,
    entries: VecDeque<Entry>,
    bytes: VecDeque<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    len: u32,
    to: Audience,
    class: Class,
}

/// A kept event.
#[derive(Clone, Copy, Debug)]
pub(super) struct PastEvent<'a> {
    /// Its number.
    pub(super) seq: u64,
    /// Whom it concerned.
    pub(super) to: Audience,
    /// What it is worth when a lane is full.
    pub(super) class: Class,
    /// Its JSON, in the two pieces in which it lies in the ring.
    pub(super) json: (&'a [u8], &'a [u8]),
}

/// How much may be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct PastLimits {
    /// Events.
    pub(super) events_max: usize,
    /// Bytes of their JSON.
    pub(super) bytes_max: usize,
}

impl Past {
    /// Nothing, after the event of this number.
    pub(super) fn after_event(seq: u64) -> Self {
        Self { seq, ..Self::default() }
    }

    /// The number of the latest event, kept or not.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// Keeps the next event.
    pub(super) fn push(&mut self, to: Audience, class: Class, json: &[u8], limits: PastLimits) {
        self.seq += 1;
        if json.len() > limits.bytes_max || limits.events_max == 0 {
            self.entries.clear();
            self.bytes.clear();
            return;
        }
        while self.entries.len() >= limits.events_max || self.bytes.len() + json.len() > limits.bytes_max {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes.drain(..oldest.len as usize);
        }
        self.entries.push_back(Entry { len: json.len() as u32, to, class });
        self.bytes.extend(json);
    }

    /// Every event after the one of this number, in order; nothing when one of them is not kept, or none has that number
    /// yet.
    pub(super) fn after(&self, seq: u64) -> Option<impl Iterator<Item = PastEvent<'_>>> {
        let missed = usize::try_from(self.seq.checked_sub(seq)?).ok()?;
        let skipped = self.entries.len().checked_sub(missed)?;
        let mut at: usize = self.entries.iter().take(skipped).map(|entry| entry.len as usize).sum();
        Some(self.entries.iter().skip(skipped).zip(seq + 1..).map(move |(entry, seq)| {
            let range = at..at + entry.len as usize;
            at = range.end;
            PastEvent { seq, to: entry.to, class: entry.class, json: pieces(&self.bytes, range) }
        }))
    }
}

/// A range of a ring, in the two pieces in which it lies there.
fn pieces(ring: &VecDeque<u8>, range: std::ops::Range<usize>) -> (&[u8], &[u8]) {
    let (front, back) = ring.as_slices();
    let cut = |at: usize| at.min(front.len());
    let rest = |at: usize| at.saturating_sub(front.len());
    (&front[cut(range.start)..cut(range.end)], &back[rest(range.start)..rest(range.end)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::MemberNumber;

    const LIMITS: PastLimits = PastLimits { events_max: 4, bytes_max: 32 };

    fn texts(past: &Past, after: u64) -> Option<Vec<(u64, String)>> {
        let text = |event: PastEvent<'_>| {
            let json = [event.json.0, event.json.1].concat();
            (event.seq, String::from_utf8(json).expect("text"))
        };
        past.after(after).map(|events| events.map(text).collect())
    }

    #[test]
    fn what_is_kept_comes_back_in_order_and_what_is_not_is_said_so() {
        let mut past = Past::default();
        for number in 1..=6 {
            past.push(Audience::All, Class::Control, format!("event {number}").as_bytes(), LIMITS);
        }
        assert_eq!(past.seq(), 6);
        assert_eq!(texts(&past, 1), None, "the second event has gone");
        let kept = |numbers: std::ops::RangeInclusive<u64>| {
            Some(numbers.map(|number| (number, format!("event {number}"))).collect::<Vec<_>>())
        };
        assert_eq!(texts(&past, 2), kept(3..=6));
        assert_eq!(texts(&past, 5), kept(6..=6));
        assert_eq!(texts(&past, 6), Some(Vec::new()));
        assert_eq!(texts(&past, 7), None, "there has been no such event");
    }

    #[test]
    fn an_event_too_long_to_be_kept_takes_all_before_it_along() {
        let mut past = Past::after_event(40);
        past.push(Audience::All, Class::Control, b"short", LIMITS);
        past.push(Audience::One(MemberNumber(3)), Class::Control, &[b'x'; 33], LIMITS);
        assert_eq!(texts(&past, 40), None);
        assert_eq!(texts(&past, 42), Some(Vec::new()));
        past.push(Audience::All, Class::Control, &[b'y'; 32], LIMITS);
        assert_eq!(texts(&past, 42), Some(vec![(43, "y".repeat(32))]));
    }
}
