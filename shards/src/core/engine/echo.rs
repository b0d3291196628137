//! The echo: returns each frame to its sender at once, for measuring. It allocates nothing per frame and keeps
//! no audio.

use super::spurt::Spurts;
use super::{Audience, EngineContext, EngineInput, EngineOutput, relay};
use crate::core::ids::MemberNumber;

/// Takes one input.
pub(super) fn handle(spurts: &mut Spurts, input: EngineInput, cx: &mut EngineContext<'_>) {
    match input {
        EngineInput::Audio { from, audio } => {
            let mark = spurts.mark(from, cx.now);
            cx.out.push(EngineOutput::Audio {
                to: Audience::One(from),
                audio,
                track: MemberNumber(0),
                first: mark.first,
                last: false,
                timestamp_ms: mark.timestamp_ms,
                response: None,
                part: None,
            });
        }
        EngineInput::Command { from, event_id, command } => {
            relay::answer(from, event_id, command, Audience::One(from), cx);
        }
        EngineInput::Left { member } => spurts.forget(member),
        EngineInput::Tick => {}
    }
}
