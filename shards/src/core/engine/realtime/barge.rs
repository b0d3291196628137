//! Barge-in: a response is cut short for the room at once, and the model server learns how much of it was sent.

use serde_json::json;

use super::{OUR_CUT, Realtime};
use crate::core::engine::{EngineContext, EngineOutput, ResponseNumber};

impl Realtime {
    /// Nothing more of a response is heard: the one named, or the newest that may still be. True if there was one.
    pub(super) fn interrupt(&mut self, id: Option<&str>, cx: &mut EngineContext<'_>) -> bool {
        let Some(answer) = self.voice.interruptible(id, cx.now) else { return false };
        answer.cut = true;
        cx.out.push(EngineOutput::Flush(answer.number));
        if answer.part.is_some() {
            let members = json!({ "response_id": answer.id });
            cx.pass("output_audio_buffer.cleared", &members);
        }
        true
    }

    /// The lanes have given back so many frames of a response: the rest is what the model should believe to have said.
    pub(super) fn tell_cut(&mut self, response: ResponseNumber, frames: usize, cx: &mut EngineContext<'_>) {
        let Some(line) = self.ready_line() else { return };
        let Some(answer) = self.voice.by_number(response).filter(|answer| answer.line == line) else {
            return;
        };
        let Some(part) = &answer.part else { return };
        let message = json!({
            "type": "conversation.item.truncate",
            "event_id": OUR_CUT,
            "item_id": part.item,
            "content_index": part.content_index,
            "audio_end_ms": answer.sent_ms(frames),
        });
        cx.send_json(line, &message);
    }
}
