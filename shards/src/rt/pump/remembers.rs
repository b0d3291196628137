//! What rooms remember, from the core to the control plane: as much as the mesh takes, the rest in later turns.

use super::Pump;
use crate::core::memory::{Recall, Remembers};
use crate::core::{Destination, Micros, SessionId, ShardMessage};
use crate::rt::error::Full;

/// How long a shard with nothing else to do waits before it tries again.
const RETRY: Micros = Micros::from_ms(5);
/// Messages of at most 64 KiB or one room each.
const MESSAGES_PER_TURN: usize = 8;
/// How long a shard that leaves tries before it gives up what the control plane does not take.
const LAST_TRIES: Micros = Micros::from_ms(500);

impl Pump {
    /// When it has to be tried again at the latest; at once where only this turn had enough of it.
    pub(super) fn remember_deadline(&self, now: Micros) -> Option<Micros> {
        let waits = self.shard.must_tell_store(now) || !self.unasked.is_empty();
        waits.then(|| if self.store_is_full { now + RETRY } else { now })
    }

    /// Asks the store what could not be asked before, and tells it what is due: so much in a turn, that frames don't wait, and
    /// until the mesh is full.
    pub(super) fn deliver_remembers(&mut self) {
        self.store_is_full = false;
        while let Some(session) = self.unasked.pop_front() {
            if let Err(session) = self.try_ask_store(session) {
                self.store_is_full = true;
                return self.unasked.push_front(session);
            }
        }
        for _ in 0..MESSAGES_PER_TURN {
            let Some(told) = self.shard.next_remembers(self.now) else { return };
            if let Err(told) = self.try_tell_store(told) {
                self.store_is_full = true;
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

    /// Where the control plane has no room for the question it is asked later. The client waits for so long as it would for the
    /// answer.
    pub(super) fn ask_store(&mut self, session: SessionId) {
        if let Err(session) = self.try_ask_store(session) {
            self.counters.mesh_full += 1;
            self.store_is_full = true;
            self.unasked.push_back(session);
        }
    }

    fn try_ask_store(&mut self, session: SessionId) -> Result<(), SessionId> {
        let recall = Box::new(Recall { shard: self.id, session });
        match self.mesh.try_send(Destination::ControlPlane, ShardMessage::Recall(recall)) {
            Err(Full(ShardMessage::Recall(recall))) => Err(recall.session),
            Ok(()) | Err(Full(_)) => Ok(()),
        }
    }
}
