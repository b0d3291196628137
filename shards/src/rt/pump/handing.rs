//! What leaves the shard for other parties over the mesh.

use super::Pump;
use crate::core::work::{Work, WorkFailure, WorkNews, WorkOrder, Worked};
use crate::core::{Destination, Input, Micros, ShardMessage};
use crate::rt::error::Full;

impl Pump {
    /// Everything that waits goes, as far as the mesh has room.
    pub(super) fn deliver(&mut self) {
        self.deliver_parcels();
        self.deliver_reports();
        self.deliver_remembers();
    }

    /// When it has to be tried again at the latest.
    pub(super) fn retry_deadline(&self, now: Micros) -> Option<Micros> {
        let waiting = [self.report_deadline(now), self.parcel_deadline(now), self.remember_deadline(now)];
        waiting.into_iter().flatten().min()
    }

    /// Where the control plane has no room, the room is told at once that nobody will answer.
    pub(super) fn hand_work(&mut self, work: Box<Work>) {
        let sent = self.mesh.try_send(Destination::ControlPlane, ShardMessage::Work(work));
        let Err(Full(ShardMessage::Work(work))) = sent else { return };
        self.counters.mesh_full += 1;
        if let WorkOrder::Ask(request) = work.order {
            let news = WorkNews::Failed(WorkFailure::busy());
            self.tell(Input::Worked(Box::new(Worked { room: work.room, request: request.id, news })));
        }
    }
}
