//! Parcels for other shards, and dead letters for the control plane: as many as the mesh takes, the parcels that it does not
//! take in later turns.

use super::Pump;
use crate::core::channel::DeadLetter;
use crate::core::{Destination, Micros, ShardId, ShardMessage};
use crate::rt::error::Full;

/// How long a shard with nothing else to do waits before it tries again.
const RETRY: Micros = Micros::from_ms(1);

impl Pump {
    /// When it has to be tried again at the latest.
    pub(super) fn parcel_deadline(&self, now: Micros) -> Option<Micros> {
        self.shard.has_parcels().then(|| now + RETRY)
    }

    /// Sends what waits, to each shard until its queue is full.
    pub(super) fn deliver_parcels(&mut self) {
        if !self.shard.has_parcels() {
            return;
        }
        for to in (0..self.mesh.shards()).map(|shard| ShardId(shard as u16)) {
            while let Some(parcel) = self.shard.next_parcel(to) {
                let message = ShardMessage::Parcel { from: self.id, parcel };
                let Err(Full(message)) = self.mesh.try_send(Destination::Shard(to), message) else {
                    continue;
                };
                self.counters.mesh_full += 1;
                if let ShardMessage::Parcel { parcel, .. } = message {
                    self.shard.return_parcel(to, parcel);
                }
                break;
            }
        }
    }

    /// What finds no room is in the shard's count of dead letters all the same.
    pub(super) fn hand_letter(&mut self, letter: Box<DeadLetter>) {
        let message = ShardMessage::DeadLetter(letter);
        if self.mesh.try_send(Destination::ControlPlane, message).is_err() {
            self.counters.mesh_full += 1;
        }
    }
}
