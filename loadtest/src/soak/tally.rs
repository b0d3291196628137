//! What a soak has seen.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::gaps::Drops;

/// What is longer counts as this.
const BACK_US_MAX: u64 = 600_000_000;

/// What became of the things said about one topic.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Sayings {
    pub(super) said: u64,
    /// Once for each listener.
    pub(super) heard: u64,
    /// Of these, how many came behind something that was said later.
    pub(super) late: u64,
    /// How many the server said that it could not tell.
    pub(super) told: u64,
    /// How many are missing without a word.
    pub(super) silent: u64,
}

/// Counts of one thread; at the end of all.
#[derive(Debug, Serialize)]
pub(super) struct Tally {
    /// Messages, and words of answers.
    #[serde(skip)]
    pub(super) topics: [Sayings; 2],
    /// Events that were not said because too many waited.
    pub(super) withheld: u64,
    /// Events sent again although they were taken, and what was told again although it was heard: nobody noticed.
    pub(super) repeated: u64,
    pub(super) told_again: u64,
    /// What was heard twice under different numbers.
    pub(super) twice: u64,
    pub(super) drops: Drops,
    /// Connections to busy rooms that ended, with whatever was to be told on them.
    pub(super) busy_ended: u64,
    /// How connections were ended, by us and by the server.
    pub(super) cuts: BTreeMap<String, u64>,
    pub(super) closes: BTreeMap<String, u64>,
    pub(super) errors: BTreeMap<String, u64>,
    /// Answers to those who came back, or asked: not recovered, recovered.
    pub(super) restorations: [u64; 2],
    /// Listeners whose log is that of the room; who were told that it is not.
    pub(super) exact: u64,
    pub(super) told: u64,
    /// Members that never came back, or were not through at the end.
    pub(super) stranded: u64,
    /// From the moment when a member was to come back to its restoration.
    #[serde(skip)]
    pub(super) back_us: Histogram<u64>,
    pub(super) late_us_max: u64,
}

impl Default for Tally {
    fn default() -> Self {
        let back_us = Histogram::new_with_bounds(1, BACK_US_MAX, 3).expect("good bounds");
        Self {
            topics: [Sayings::default(); 2],
            withheld: 0,
            repeated: 0,
            told_again: 0,
            twice: 0,
            drops: Drops::default(),
            busy_ended: 0,
            cuts: BTreeMap::new(),
            closes: BTreeMap::new(),
            errors: BTreeMap::new(),
            restorations: [0; 2],
            exact: 0,
            told: 0,
            stranded: 0,
            back_us,
            late_us_max: 0,
        }
    }
}

impl Tally {
    pub(super) fn error(&mut self, what: &str) {
        *self.errors.entry(what.to_owned()).or_default() += 1;
    }

    /// Adds another thread's.
    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.topics.iter_mut().zip(other.topics) {
            mine.said += theirs.said;
            mine.heard += theirs.heard;
            mine.late += theirs.late;
            mine.told += theirs.told;
            mine.silent += theirs.silent;
        }
        for (mine, theirs) in [
            (&mut self.withheld, other.withheld),
            (&mut self.repeated, other.repeated),
            (&mut self.told_again, other.told_again),
            (&mut self.twice, other.twice),
            (&mut self.busy_ended, other.busy_ended),
            (&mut self.exact, other.exact),
            (&mut self.told, other.told),
            (&mut self.stranded, other.stranded),
        ] {
            *mine += theirs;
        }
        for (mine, theirs) in [
            (&mut self.cuts, &other.cuts),
            (&mut self.closes, &other.closes),
            (&mut self.errors, &other.errors),
        ] {
            theirs.iter().for_each(|(name, n)| *mine.entry(name.clone()).or_default() += n);
        }
        self.drops.merge(&other.drops);
        self.restorations[0] += other.restorations[0];
        self.restorations[1] += other.restorations[1];
        self.late_us_max = self.late_us_max.max(other.late_us_max);
        let _ = self.back_us.add(&other.back_us);
    }

    /// What is missing without a word, of all topics.
    pub(super) fn silent(&self) -> u64 {
        self.topics.iter().map(|topic| topic.silent).sum()
    }
}
