//! The worker engine: hands utterances and texts to processes elsewhere, and brings their answers to the room.

use super::{EngineContext, EngineInput};
use crate::core::time::Micros;

/// What one room has with its workers.
#[derive(Debug, Default)]
pub struct Worker {}

impl Worker {
    pub(super) fn handle(&mut self, input: EngineInput, cx: &mut EngineContext<'_>) {
        if let EngineInput::Audio { audio, .. } = input {
            cx.pool.discard(audio);
        }
    }

    pub(super) fn deadline(&self) -> Option<Micros> {
        None
    }

    pub(super) fn busy(&self) -> bool {
        false
    }
}
