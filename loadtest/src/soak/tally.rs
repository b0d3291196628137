//! What a soak has seen.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

/// What is longer counts as this.
const BACK_US_MAX: u64 = 600_000_000;

/// Counts of one thread; at the end of all.
#[derive(Debug, Serialize)]
pub(super) struct Tally {
    /// Messages said, and messages heard, once for each listener.
    pub(super) said: u64,
    pub(super) heard: u64,
    /// Messages that were not said because too many waited.
    pub(super) withheld: u64,
    /// Messages sent again although they were taken, and messages told again although they were heard: nobody noticed.
    pub(super) repeated: u64,
    pub(super) told_again: u64,
    /// Messages heard twice under different numbers.
    pub(super) twice: u64,
    /// News of what was dropped.
    pub(super) drops: u64,
    /// How connections were ended, by us and by the server.
    pub(super) cuts: BTreeMap<String, u64>,
    pub(super) closes: BTreeMap<String, u64>,
    pub(super) errors: BTreeMap<String, u64>,
    /// Answers to those who came back: not recovered, recovered.
    pub(super) restorations: [u64; 2],
    /// Listeners whose log is that of the room; who were told that it is not; messages missing without a word.
    pub(super) exact: u64,
    pub(super) told: u64,
    pub(super) told_messages: u64,
    pub(super) silent: u64,
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
            said: 0,
            heard: 0,
            withheld: 0,
            repeated: 0,
            told_again: 0,
            twice: 0,
            drops: 0,
            cuts: BTreeMap::new(),
            closes: BTreeMap::new(),
            errors: BTreeMap::new(),
            restorations: [0; 2],
            exact: 0,
            told: 0,
            told_messages: 0,
            silent: 0,
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
        for (mine, theirs) in [
            (&mut self.said, other.said),
            (&mut self.heard, other.heard),
            (&mut self.withheld, other.withheld),
            (&mut self.repeated, other.repeated),
            (&mut self.told_again, other.told_again),
            (&mut self.twice, other.twice),
            (&mut self.drops, other.drops),
            (&mut self.exact, other.exact),
            (&mut self.told, other.told),
            (&mut self.told_messages, other.told_messages),
            (&mut self.silent, other.silent),
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
        self.restorations[0] += other.restorations[0];
        self.restorations[1] += other.restorations[1];
        self.late_us_max = self.late_us_max.max(other.late_us_max);
        let _ = self.back_us.add(&other.back_us);
    }

    /// Whether nothing was lost without a word, nothing came twice, and everybody came back.
    pub(super) fn is_clean(&self) -> bool {
        self.silent == 0 && self.twice == 0 && self.stranded == 0
    }
}
