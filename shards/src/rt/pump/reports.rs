//! Reports of ended rooms, from the core to the control plane: as many as the mesh takes, the others in later turns.

use super::Pump;
use crate::core::{Destination, Micros, ShardMessage};
use crate::rt::error::Full;

/// How long a shard with nothing else to do waits before it tries again.
const RETRY: Micros = Micros::from_ms(5);

impl Pump {
    /// When it has to be tried again at the latest.
    pub(super) fn report_deadline(&self, now: Micros) -> Option<Micros> {
        self.shard.has_reports().then(|| now + RETRY)
    }

    /// Sends what waits, until the mesh is full.
    pub(super) fn deliver_reports(&mut self) {
        let dropped = self.shard.reports_dropped();
        if dropped > self.reports_dropped {
            let (shard, reports) = (self.id.0, dropped - self.reports_dropped);
            tracing::error!(shard, reports, "reports of ended rooms found no room to wait in: they are lost");
            self.reports_dropped = dropped;
        }
        while let Some(report) = self.shard.next_report(self.now) {
            match self.mesh.try_send(Destination::ControlPlane, ShardMessage::RoomEnded(report)) {
                Ok(()) => {}
                Err(Full(ShardMessage::RoomEnded(report))) => return self.shard.return_report(report),
                Err(Full(_)) => {}
            }
        }
    }

    /// The shard leaves: rooms that there still are end with it, and what the mesh does not take now is lost.
    pub(super) fn deliver_last_reports(&mut self) {
        self.shard.report_all(self.now);
        self.deliver_reports();
        let mut lost = 0;
        while self.shard.next_report(self.now).is_some() {
            lost += 1;
        }
        if lost > 0 {
            tracing::error!(
                shard = self.id.0,
                reports = lost,
                "the shard leaves with reports of ended rooms: they are lost"
            );
        }
    }
}
