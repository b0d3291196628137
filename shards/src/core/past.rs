//! What a room remembers, so that a member that comes back hears what it has missed.

use std::collections::VecDeque;

use super::engine::Audience;
use super::event::Class;
use super::ids::MemberNumber;
use super::memory::Earlier;

/// Members whose `client_seq` is remembered, those that have left included. Who comes back after so many others have
/// numbered their events is like one that never did.
const CLIENT_SEQS_MAX: usize = 1_024;

/// Earlier numberings that are remembered: a room that has been recalled more often than that was never up for long.
const EARLIER_MAX: usize = 16;

/// A room's latest events in the order of their numbers, without a gap; the room knows the number of the last. Bounded in
/// events and in bytes; what is too long to be kept takes everything before it along, so that no part is ever taken for the
/// whole.
///
/// The bytes of all events lie in one ring, so that a room pays for what it keeps and for nothing else.
#[derive(Debug, Default)]
pub(super) struct Past {
    entries: VecDeque<Entry>,
    bytes: VecDeque<u8>,
    /// The last `client_seq` of each member that numbers its events. The first makes room for a new one; who is heard of among
    /// the older half goes to the end, so that it is somebody who has long been silent.
    client_seqs: Vec<(MemberNumber, u64)>,
    /// What is known of its numbering where it does not follow from the room's place.
    pub(super) numbering: Option<Box<Numbering>>,
}

/// The numbering of a room that was recalled from a store, or has given out all member numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbering {
    /// Its name.
    pub(super) epoch: u64,
    /// See [`super::memory::Memory::earlier`].
    pub(super) earlier: Vec<Earlier>,
    /// Whether the room comes from a store.
    pub(super) recalled: bool,
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

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Events.
    pub(super) events: u64,
    /// Bytes of their JSON.
    pub(super) bytes: u64,
}

impl Past {
    /// Keeps the next event.
    pub(super) fn push(&mut self, to: Audience, class: Class, json: &[u8], limits: PastLimits) {
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

    /// Every event after the one of this number, in order, where `latest` is the number of the last; nothing when one of
    /// them is not kept, or none has that number yet.
    pub(super) fn after(&self, seq: u64, latest: u64) -> Option<impl Iterator<Item = PastEvent<'_>>> {
        let missed = usize::try_from(latest.checked_sub(seq)?).ok()?;
        let skipped = self.entries.len().checked_sub(missed)?;
        let mut at: usize = self.entries.iter().take(skipped).map(|entry| entry.len as usize).sum();
        Some(self.entries.iter().skip(skipped).zip(seq + 1..).map(move |(entry, seq)| {
            let range = at..at + entry.len as usize;
            at = range.end;
            PastEvent { seq, to: entry.to, class: entry.class, json: pieces(&self.bytes, range) }
        }))
    }

    /// How much is kept.
    pub(super) fn held(&self) -> Held {
        Held { events: self.entries.len() as u64, bytes: self.bytes.len() as u64 }
    }

    /// The last `client_seq` of a member, if it numbers its events.
    pub(super) fn client_seq(&self, member: MemberNumber) -> Option<u64> {
        self.client_seqs.iter().find(|(of, _)| *of == member).map(|&(_, seq)| seq)
    }

    /// Takes note of a member's event. False when it has been seen before.
    pub(super) fn take_client_seq(&mut self, member: MemberNumber, seq: u64) -> bool {
        let known = self.client_seqs.iter().rposition(|(of, _)| *of == member);
        match known {
            Some(at) if self.client_seqs[at].1 >= seq => return false,
            Some(at) if at >= CLIENT_SEQS_MAX / 2 || self.client_seqs.len() <= CLIENT_SEQS_MAX / 2 => {
                self.client_seqs[at].1 = seq;
                return true;
            }
            Some(at) => drop(self.client_seqs.remove(at)),
            None if self.client_seqs.len() >= CLIENT_SEQS_MAX => drop(self.client_seqs.remove(0)),
            None => {}
        }
        self.client_seqs.push((member, seq));
        true
    }

    /// The last `client_seq` of every member that numbers its events.
    pub(super) fn client_seqs(&self) -> &[(MemberNumber, u64)] {
        &self.client_seqs
    }

    /// Another numbering begins, of this name, in which no member is one of before.
    pub(super) fn number_anew(&mut self, epoch: u64) {
        let recalled = self.numbering.as_ref().is_some_and(|numbering| numbering.recalled);
        self.numbering = Some(Box::new(Numbering { epoch, earlier: Vec::new(), recalled }));
        self.client_seqs.clear();
    }
}

impl Numbering {
    /// What follows a numbering in a room that is recalled, of which only that is known which was saved.
    pub(super) fn begin(epoch: u64, before: Earlier, mut earlier: Vec<Earlier>) -> Self {
        earlier.push(before);
        let forgotten = earlier.len().saturating_sub(EARLIER_MAX);
        earlier.drain(..forgotten);
        Self { epoch, earlier, recalled: true }
    }

    /// What an earlier numbering shares with this one.
    pub(super) fn shared_with(&self, epoch: u64) -> Option<Earlier> {
        self.earlier.iter().find(|earlier| earlier.epoch == epoch).copied()
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

    const LIMITS: PastLimits = PastLimits { events_max: 4, bytes_max: 32 };

    fn texts(past: &Past, after: u64, latest: u64) -> Option<Vec<(u64, String)>> {
        let text = |event: PastEvent<'_>| {
            let json = [event.json.0, event.json.1].concat();
            (event.seq, String::from_utf8(json).expect("text"))
        };
        past.after(after, latest).map(|events| events.map(text).collect())
    }

    #[test]
    fn what_is_kept_comes_back_in_order_and_what_is_not_is_said_so() {
        let mut past = Past::default();
        for number in 1..=6 {
            past.push(Audience::All, Class::Control, format!("event {number}").as_bytes(), LIMITS);
        }
        assert_eq!(past.held(), Held { events: 4, bytes: 28 });
        assert_eq!(texts(&past, 1, 6), None, "the second event has gone");
        let kept = |numbers: std::ops::RangeInclusive<u64>| {
            Some(numbers.map(|number| (number, format!("event {number}"))).collect::<Vec<_>>())
        };
        assert_eq!(texts(&past, 2, 6), kept(3..=6));
        assert_eq!(texts(&past, 5, 6), kept(6..=6));
        assert_eq!(texts(&past, 6, 6), Some(Vec::new()));
        assert_eq!(texts(&past, 7, 6), None, "there has been no such event");
    }

    #[test]
    fn an_event_too_long_to_be_kept_takes_all_before_it_along() {
        let mut past = Past::default();
        past.push(Audience::All, Class::Control, b"short", LIMITS);
        past.push(Audience::One(MemberNumber(3)), Class::Control, &[b'x'; 33], LIMITS);
        assert_eq!(texts(&past, 40, 42), None);
        assert_eq!(texts(&past, 42, 42), Some(Vec::new()));
        past.push(Audience::All, Class::Control, &[b'y'; 32], LIMITS);
        assert_eq!(texts(&past, 42, 43), Some(vec![(43, "y".repeat(32))]));
    }

    #[test]
    fn the_events_of_a_member_count_once_and_the_memory_of_them_is_bounded() {
        let mut past = Past::default();
        let (one, two) = (MemberNumber(1), MemberNumber(2));
        let taken = [0, 0, 5, 4, 5, 6].map(|seq| past.take_client_seq(one, seq));
        assert_eq!(taken, [true, false, true, false, false, true]);
        assert!(past.take_client_seq(two, 3), "another member counts for itself");
        assert_eq!((past.client_seq(one), past.client_seq(two)), (Some(6), Some(3)));
        assert_eq!(past.client_seq(MemberNumber(3)), None);
        for number in 0..CLIENT_SEQS_MAX as u16 - 1 {
            assert!(past.take_client_seq(MemberNumber(100 + number), 1));
            assert!(number != 600 || past.take_client_seq(one, 7));
        }
        assert_eq!(past.client_seqs().len(), CLIENT_SEQS_MAX);
        assert_eq!((past.client_seq(one), past.client_seq(two)), (Some(7), None), "who was silent long");
    }

    #[test]
    fn as_many_earlier_numberings_are_known_as_may_be() {
        let before = |epoch, seq| Earlier { epoch, seq, members: 7 };
        let mut numbering = Numbering::begin(1, before(0, 10), Vec::new());
        for epoch in 2..40 {
            numbering = Numbering::begin(epoch, before(epoch - 1, epoch * 10), numbering.earlier);
        }
        assert_eq!((numbering.epoch, numbering.earlier.len()), (39, EARLIER_MAX));
        assert_eq!(numbering.shared_with(38), Some(before(38, 390)));
        assert_eq!(numbering.shared_with(39), None);
        assert_eq!(numbering.shared_with(0), None);
    }
}
