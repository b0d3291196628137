//! Reports of rooms that have ended, on their way to the control plane.
//!
//! They wait here until the mesh has room for them, so that nobody waits for anybody. What is too much for that is
//! dropped and counted; while the node drains, rooms end only as fast as their reports leave.

use super::super::ids::RoomKey;
use super::super::report::{Ended, RoomEnd, RoomReport};
use super::super::time::Micros;
use super::Shard;

/// Reports that may wait.
const WAITING_MAX: usize = 65_536;
/// Bytes of them that may wait. They were their rooms' before: what grows is only what new rooms say in the meantime.
const WAITING_BYTES_MAX: usize = 64 << 20;

impl Shard {
    /// The report that has waited longest.
    pub fn next_report(&mut self, now: Micros) -> Option<Box<RoomReport>> {
        let mut report = self.reports.pop_front()?;
        self.report_bytes -= report.bytes();
        report.waited = now.since(report.ended);
        Some(report)
    }

    /// There was no room for it: it is the next again.
    pub fn return_report(&mut self, report: Box<RoomReport>) {
        self.report_bytes += report.bytes();
        self.reports.push_front(report);
    }

    /// Whether reports wait, or rooms that end when there is room for theirs.
    pub fn has_reports(&self) -> bool {
        !self.reports.is_empty() || (self.draining.is_some() && !self.lingering.is_empty())
    }

    /// How many were dropped.
    pub fn reports_dropped(&self) -> u64 {
        self.counters.reports_dropped
    }

    /// Reports every room that there still is: the shard leaves, and they end with it.
    pub fn report_all(&mut self, now: Micros) {
        if self.config.reports.is_none() {
            return;
        }
        let keys: Vec<_> =
            self.rooms.iter().map(|(index, room)| RoomKey { index, generation: room.generation }).collect();
        keys.into_iter().for_each(|key| self.report(now, key, RoomEnd::Drained));
    }

    /// Whether as many wait as may.
    pub(super) fn reports_full(&self) -> bool {
        self.reports.len() >= WAITING_MAX || self.report_bytes >= WAITING_BYTES_MAX
    }

    /// A room ends: what is known of it is reported, if somebody takes that and there was a conversation.
    pub(super) fn report(&mut self, now: Micros, key: RoomKey, why: RoomEnd) {
        self.end_responses(now, key);
        if self.config.reports.is_none() {
            return;
        }
        let Some(room) = self.rooms.find_mut(key) else { return };
        let Some(kept) = &mut room.kept else { return };
        let totals = std::mem::take(&mut kept.meter).totals();
        let mut record = kept.record.take().unwrap_or_default();
        if totals.over() == 0 && totals.utterances == 0 && record.is_silent() {
            return;
        }
        record.members(1);
        let ended = Ended {
            session: room.session_id.clone(),
            shard: self.id,
            engine: room.kind.name(),
            why,
            since: room.since,
            ended: now,
        };
        let report = Box::new(record.report(ended, totals, kept.state.take()));
        self.counters.reports_made += 1;
        if self.reports_full() {
            self.counters.reports_dropped += 1;
            return;
        }
        self.report_bytes += report.bytes();
        self.reports.push_back(report);
    }
}
