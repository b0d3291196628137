//! What rooms want of workers goes to the control plane, and what workers say comes back to the rooms.

use super::super::effect::{Effect, Effects};
use super::super::engine::{Engine, EngineKind};
use super::super::ids::RoomKey;
use super::super::time::Micros;
use super::super::work::{Work, WorkOrder, Worked};
use super::Shard;

impl Shard {
    /// Whether rooms may have this engine here: an engine without what is behind it answers nobody.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn has_engine(&self, kind: EngineKind) -> Result<(), &'static str> {
        if kind == EngineKind::Worker && !self.config.worker.available {
            return Err("This server has no workers; its operator gives it some with worker.redis_url.");
        }
        Ok(())
    }

    /// Keeps what a room's engine wants of workers until the turn ends.
    pub(super) fn carry_work(&mut self, key: RoomKey, order: WorkOrder) {
        let Some(room) = self.rooms.find(key) else { return };
        let session = room.session_id.clone();
        self.works.push(Work { shard: self.id, room: key, session, order });
    }

    /// Hands on what rooms want of workers.
    pub(super) fn send_works(&mut self, fx: &mut Effects) {
        fx.extend(self.works.drain(..).map(|work| Effect::Work(Box::new(work))));
    }

    /// A worker has answered, or nobody will. Rooms that are gone, or have another engine by now, hear nothing.
    pub(super) fn worked(&mut self, now: Micros, worked: Worked) {
        let Worked { room: key, request, news } = worked;
        if let Some(room) = self.rooms.find(key)
            && matches!(room.engine, Some(Engine::Worker(_)))
        {
            self.with_engine(now, key, |engine, cx| engine.worked(request, news, cx));
        }
    }

    /// A room is going: nobody has to work for it any more.
    pub(super) fn dismiss_workers(&mut self, key: RoomKey) {
        let request = self.rooms.find(key).and_then(|room| room.engine.as_ref()?.open_request());
        if let Some(request) = request {
            self.carry_work(key, WorkOrder::Cancel(request));
        }
    }
}
