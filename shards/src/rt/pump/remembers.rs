//! What rooms remember, from the core to the control plane: as much as the mesh takes, the rest in later turns.

use super::Pump;
use crate::core::memory::{Recall, Recalled, Remembers, StoreFailed};
use crate::core::{Destination, Input, Micros, SessionId, ShardMessage};
use crate::rt::error::Full;

/// How long a shard with nothing else to do waits before it tries again.
const RETRY: Micros = Micros::from_ms(5);
/// How long a shard that leaves tries before it gives up what the control plane does not take.
const LAST_TRIES: Micros = Micros::from_ms(500);

impl Pump {
    /// When it has to be tried again at the latest.
    pub(super) fn remember_deadline(&self, now: Micros) -> Option<Micros> {
        self.shard.must_tell_store(now).then(|| now + RETRY)
    }

    /// Tells the store what is due, until the mesh is full.
    pub(super) fn deliver_remembers(&mut self) {
        while let Some(told) = self.shard.next_remembers(self.now) {
            if let Err(told) = self.try_tell_store(told) {
                return self.shard.return_remembers(told);
            }
        }
    }

    fn try_tell_store(&mut self, told: Remembers) -> Result<(), Remembers> {
        match self.mesh.try_send(Destination::ControlPlane, ShardMessage::Remember(told)) {
            Err(Full(ShardMessage::Remember(told))) => Err(told),
            Ok(()) | Err(Full(_)) => Ok(()),
        }
    }

    /// The shard leaves: everything that rooms still have to tell goes now, and that it was everything.
    pub(super) fn deliver_last_remembers(&mut self) {
        let until = self.clock.now() + LAST_TRIES;
        self.shard.tell_store_all(self.now);
        while let Some(mut told) = self.shard.next_remembers(self.now) {
            while let Err(returned) = self.try_tell_store(told) {
                told = returned;
                if self.clock.now() > until {
                    let shard = self.id.0;
                    tracing::error!(
                        shard,
                        "the shard leaves with changes of rooms that the store was not told"
                    );
                    return;
                }
                std::thread::yield_now();
            }
        }
    }

    /// Where the control plane has no room for the question, nobody can say.
    pub(super) fn ask_store(&mut self, session: SessionId) {
        let recall = Box::new(Recall { shard: self.id, session });
        let sent = self.mesh.try_send(Destination::ControlPlane, ShardMessage::Recall(recall));
        let Err(Full(ShardMessage::Recall(recall))) = sent else { return };
        self.counters.mesh_full += 1;
        let Recall { session, .. } = *recall;
        self.tell(Input::Recalled(Box::new(Recalled { session, memory: Err(StoreFailed) })));
    }
}
