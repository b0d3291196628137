//! Answers to the control plane.

use super::Pump;
use crate::core::counters::WireCounters;
use crate::core::message::{Answer, AskId};
use crate::core::{Destination, ShardMessage};

impl Pump {
    pub(super) fn answer(&mut self, id: AskId, mut answer: Answer) {
        if let Answer::Counters(counters) = &mut answer {
            counters.wire = self.count();
        }
        let message = ShardMessage::Answer { from: self.id, id, answer };
        if self.mesh.try_send(Destination::ControlPlane, message).is_err() {
            self.counters.mesh_full += 1;
        }
    }

    /// The counters, with the gauges as they are now.
    fn count(&self) -> WireCounters {
        let handshakes = self.wire.handshakes();
        WireCounters {
            buffers_exhausted: self.wire.buffers_exhausted,
            accept_paused: self.wire.accept_rests(),
            mesh_depth: self.mesh.depth() as u64,
            descriptors: self.wire.descriptors() as u64,
            in_flight: self.wire.in_flight(),
            tls_handshakes: handshakes.done,
            tls_resumed: handshakes.resumed,
            tls_failed: handshakes.failed,
            ..self.counters.clone()
        }
    }
}
