//! What is known of a room when it ends, for whoever wants to work on it afterwards: how it was used and what was said.
//!
//! A [`Record`] is kept only where somebody takes the reports (`jobs.*`), from the moment that something is said. It is
//! bounded: of what is too much the oldest goes, and is counted.

use std::collections::VecDeque;

use super::event::Role;
use super::ids::{SessionId, ShardId};
use super::time::Micros;
use super::usage::{ResponseUsage, Said, Totals};

/// Things said that are kept of one room, however short they are.
const UTTERANCES_MAX: usize = 1_024;
/// Responses whose usage is kept apart; the totals have them all.
const RESPONSES_MAX: usize = 256;
/// What a thing said takes beside its words.
const UTTERANCE_BYTES: usize = size_of::<Utterance>();

/// A room that has ended.
#[derive(Debug)]
pub struct RoomReport {
    /// Its name.
    pub session: SessionId,
    /// Whose it was.
    pub shard: ShardId,
    /// What answered in it.
    pub engine: &'static str,
    /// Why it ended.
    pub why: RoomEnd,
    /// From its making to its end.
    pub lasted: Micros,
    /// When it ended, by the node's clock; whoever takes the report knows how long ago that is by [`Self::waited`].
    pub ended: Micros,
    /// How long the report has waited for a place on its way.
    pub waited: Micros,
    /// Most members at once.
    pub members_peak: usize,
    /// All of its use.
    pub totals: Totals,
    /// The use of each response, the latest ones.
    pub responses: VecDeque<ResponseUsage>,
    /// Earlier ones that are not listed.
    pub responses_left_out: u64,
    /// What was said, the latest of it, in order.
    pub transcript: VecDeque<Utterance>,
    /// Earlier things said that are not in it.
    pub transcript_left_out: u64,
    /// What clients had kept with it: a JSON object.
    pub state: Option<Box<str>>,
}

/// Why a room ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomEnd {
    /// Nobody came back in time.
    Lingered,
    /// The operator closed it.
    Closed,
    /// Its place was needed.
    Evicted,
    /// The node left.
    Drained,
}

impl RoomEnd {
    /// As in a report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lingered => "lingered",
            Self::Closed => "closed",
            Self::Evicted => "evicted",
            Self::Drained => "drained",
        }
    }
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Utterance {
    /// When it was first heard of, since the room was made.
    pub at: Micros,
    /// By whom.
    pub role: Role,
    /// Its item.
    pub item: Box<str>,
    /// The words; nothing where nobody knows them.
    pub words: Option<Box<str>>,
}

impl RoomReport {
    /// What it holds, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let said: usize = self.transcript.iter().map(Utterance::bytes).sum();
        let responses = self.responses.len() * size_of::<ResponseUsage>();
        size_of::<Self>() + said + responses + self.state.as_deref().map_or(0, str::len)
    }
}

impl Utterance {
    fn bytes(&self) -> usize {
        UTTERANCE_BYTES + self.item.len() + self.words.as_deref().map_or(0, str::len)
    }
}

/// What is written down of a room while it lives.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The operator has closed it: when it ends, that is why.
    pub(super) closed: bool,
    members_peak: usize,
    responses: VecDeque<ResponseUsage>,
    responses_left_out: u64,
    transcript: VecDeque<Utterance>,
    transcript_left_out: u64,
    bytes: usize,
}

impl Record {
    /// So many members are there.
    pub(super) fn members(&mut self, members: usize) {
        self.members_peak = self.members_peak.max(members);
    }

    /// A response is over.
    pub(super) fn response(&mut self, usage: ResponseUsage) {
        if self.responses.len() == RESPONSES_MAX {
            self.responses.pop_front();
            self.responses_left_out += 1;
        }
        self.responses.push_back(usage);
    }

    /// Something was said, or more is known of it.
    pub(super) fn said(&mut self, at: Micros, said: Said<'_>, bytes_max: usize) {
        let cut = |words: &str| Box::<str>::from(&words[..words.floor_char_boundary(bytes_max / 2)]);
        let words = said.words.filter(|words| !words.is_empty()).map(|words| cut(&words));
        let known = self.transcript.iter_mut().rev().find(|utterance| *utterance.item == *said.item);
        match (known, said.role) {
            (Some(utterance), _) if words.is_some() => {
                let before = utterance.bytes();
                utterance.words = words;
                self.bytes = self.bytes - before + utterance.bytes();
            }
            (None, Some(role)) => {
                let item = cut(&said.item);
                let utterance = Utterance { at, role, item, words };
                self.bytes += utterance.bytes();
                self.transcript.push_back(utterance);
            }
            (Some(_), _) | (None, None) => {}
        }
        while self.bytes > bytes_max || self.transcript.len() > UTTERANCES_MAX {
            let Some(oldest) = self.transcript.pop_front() else { break };
            self.bytes -= oldest.bytes();
            self.transcript_left_out += 1;
        }
    }

    /// Whether there is anything that somebody said.
    pub(super) fn is_silent(&self) -> bool {
        self.transcript.is_empty() && self.transcript_left_out == 0
    }

    /// The report of a room with these ends, but for what only the room knows.
    pub(super) fn report(self, of: Ended, totals: Totals, state: Option<Box<str>>) -> RoomReport {
        RoomReport {
            session: of.session,
            shard: of.shard,
            engine: of.engine,
            why: if self.closed { RoomEnd::Closed } else { of.why },
            lasted: of.ended.since(of.since),
            ended: of.ended,
            waited: Micros(0),
            members_peak: self.members_peak,
            totals,
            responses: self.responses,
            responses_left_out: self.responses_left_out,
            transcript: self.transcript,
            transcript_left_out: self.transcript_left_out,
            state,
        }
    }
}

/// Which room has ended, when and why.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) session: SessionId,
    pub(super) shard: ShardId,
    pub(super) engine: &'static str,
    pub(super) why: RoomEnd,
    pub(super) since: Micros,
    pub(super) ended: Micros,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::usage::Outcome;

    fn said<'a>(item: &'a str, role: Role, words: &'a str) -> Said<'a> {
        let words = (!words.is_empty()).then(|| words.into());
        Said { item: item.into(), role: Some(role), words }
    }

    fn words(record: &Record) -> Vec<Option<&str>> {
        record.transcript.iter().map(|utterance| utterance.words.as_deref()).collect()
    }

    #[test]
    fn words_that_come_later_join_their_item_in_its_place() {
        let mut record = Record::default();
        record.said(Micros(1), said("item_1", Role::User, ""), 65_536);
        record.said(Micros(2), said("item_2", Role::Assistant, "hello"), 65_536);
        let later = Said { item: "item_1".into(), role: None, words: Some("good morning".into()) };
        record.said(Micros(3), later, 65_536);
        let unknown = Said { item: "item_9".into(), role: None, words: Some("whose?".into()) };
        record.said(Micros(4), unknown, 65_536);
        // Told again without words, it keeps those it has.
        record.said(Micros(5), said("item_2", Role::Assistant, ""), 65_536);
        assert_eq!(words(&record), [Some("good morning"), Some("hello")]);
        assert_eq!(record.transcript[0].at, Micros(1));
        let bytes: usize = record.transcript.iter().map(Utterance::bytes).sum();
        assert_eq!(record.bytes, bytes);
    }

    #[test]
    fn of_too_much_the_oldest_goes_and_is_counted() {
        let mut record = Record::default();
        let long = "ü".repeat(10_000);
        for number in 0..10 {
            record.said(Micros(number), said(&format!("item_{number}"), Role::User, &long), 4_096);
        }
        assert_eq!(record.transcript.len(), 1, "half of the bound is the most that one may take");
        assert_eq!((record.transcript_left_out, &*record.transcript[0].item), (9, "item_9"));
        assert!(record.bytes <= 4_096);

        let mut record = Record::default();
        for number in 0..UTTERANCES_MAX + 5 {
            record.said(Micros(0), said(&format!("item_{number}"), Role::User, "x"), 1 << 20);
        }
        assert_eq!((record.transcript.len(), record.transcript_left_out), (UTTERANCES_MAX, 5));
    }

    #[test]
    fn without_room_for_words_none_are_kept() {
        let mut record = Record::default();
        record.said(Micros(0), said("item_1", Role::User, "a secret"), 0);
        assert!(record.transcript.is_empty());
        assert_eq!(record.transcript_left_out, 1);
        assert!(!record.is_silent());
    }

    #[test]
    fn the_usage_of_the_latest_responses_is_listed() {
        let usage = |number: usize| ResponseUsage {
            id: number.to_string().into(),
            at: Micros(0),
            audio_in: Micros(0),
            audio_out: Micros(0),
            first_audio: None,
            lasted: Micros(0),
            interruptions: 0,
            outcome: Outcome::Completed,
            reason: None,
        };
        let mut record = Record::default();
        (0..RESPONSES_MAX + 3).for_each(|number| record.response(usage(number)));
        assert_eq!((record.responses.len(), record.responses_left_out), (RESPONSES_MAX, 3));
        assert_eq!(&*record.responses[0].id, "3");
    }
}
