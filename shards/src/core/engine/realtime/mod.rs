//! The realtime engine: a model session behind each room that needs one, over the OpenAI Realtime protocol.

use super::{EngineContext, EngineInput};
use crate::core::time::Micros;
use crate::core::upstream::{Line, UpstreamNews};

/// The model session of one room.
#[derive(Debug, Default)]
pub struct Realtime {}

impl Realtime {
    pub(super) fn handle(&mut self, input: EngineInput, cx: &mut EngineContext<'_>) {
        if let EngineInput::Audio { audio, .. } = input {
            cx.pool.discard(audio);
        }
    }

    pub(super) fn upstream(&mut self, _line: Line, _news: UpstreamNews<'_>, _cx: &mut EngineContext<'_>) {}

    pub(super) fn deadline(&self) -> Option<Micros> {
        None
    }

    pub(super) fn busy(&self) -> bool {
        false
    }
}
