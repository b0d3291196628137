//! When there is more to do, or less memory, than a shard can bear: it takes nothing new on, accepts more slowly, and
//! keeps what it has.

use super::super::counters::{SHED_CAUSES, ShedCause};
use super::super::lag::Shedding;
use super::super::time::Micros;
use super::Shard;

/// What part of the heads that may be read at once is read while new work is turned away anyhow.
const HEADS_PART: usize = 8;

impl Shard {
    /// Takes note of how late a turn has come: how long what was handled in it may have waited. Says when the shard
    /// begins or stops to turn new work away because of that.
    pub fn lagged(&mut self, now: Micros, lag: Micros) -> Option<Shedding> {
        self.lag.note(now, lag)
    }

    /// Whether new work is turned away.
    pub fn is_shedding(&self) -> bool {
        self.sheds_for().is_some()
    }

    /// Whether another socket may be accepted: heads in flight are bounded, and the listener's queue can wait.
    pub fn accepting(&self) -> bool {
        let most = self.config.limits.upgrades_in_flight_max;
        self.heads < if self.is_shedding() { most.div_ceil(HEADS_PART) } else { most }
    }

    /// Why new work is turned away, if it is.
    pub(super) fn sheds_for(&self) -> Option<ShedCause> {
        match (self.lag.is_over_mark(), self.quotas.memory_is_short()) {
            (_, true) => Some(ShedCause::Memory),
            (true, false) => Some(ShedCause::Lag),
            (false, false) => None,
        }
    }

    /// By [`ShedCause`], whether new work is turned away for it.
    pub(super) fn shedding(&self) -> [bool; SHED_CAUSES.len()] {
        [self.lag.is_over_mark(), self.quotas.memory_is_short()]
    }
}
