//! What the engine itself tells the clients: errors, responses that failed, buffers that are empty.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{Realtime, milliseconds};
use crate::core::engine::{Audience, EngineContext};
use crate::core::event::{ErrorEvent, Passed, ServerEvent};
use crate::core::upstream::Line;

impl Realtime {
    /// The clients' audio can't be understood: told once.
    pub(super) fn refuse_format(&mut self, cx: &mut EngineContext<'_>) {
        if !std::mem::replace(&mut self.format_refused, true) {
            let message =
                "This room's engine takes pcm16, g711_ulaw and g711_alaw; what is sent as opus is not heard.";
            let mut error = server_error("audio_format_not_supported", message, false);
            error.kind = "invalid_request_error";
            cx.event(Audience::All, error.into());
        }
    }

    /// Too much waits: told when it begins.
    pub(super) fn tell_full(&mut self, cx: &mut EngineContext<'_>) {
        let message = "The model server can't be reached yet, and no more input can wait for it. What comes now is lost.";
        cx.event(Audience::All, server_error("upstream_backlog_full", message, true).into());
    }

    /// How much of it was lost: told when it is over.
    pub(super) fn tell_lost(&mut self, cx: &mut EngineContext<'_>) {
        if self.waiting.has_lost() {
            let ms = milliseconds(self.waiting.lost_audio_bytes, cx.settings.format);
            let commands = self.waiting.lost_messages;
            let message = format!(
                "While the model server could not be reached, {ms} ms of audio and {commands} commands were lost."
            );
            cx.event(Audience::All, server_error("upstream_input_lost", message, true).into());
        }
    }

    /// What waited is dropped.
    pub(super) fn tell_given_up(&mut self, retryable: bool, cx: &mut EngineContext<'_>) {
        let (audio, commands) = self.waiting.sum();
        let ms = milliseconds(audio, cx.settings.format);
        let (code, why) = match retryable {
            true => ("upstream_unavailable", "can't be reached"),
            false => ("upstream_refused", "refuses the session"),
        };
        let message = format!(
            "The model server {why}: {ms} ms of audio and {commands} commands that waited for it were dropped."
        );
        cx.event(Audience::All, server_error(code, message, retryable).into());
    }

    /// The responses of a lost line are over.
    pub(super) fn tell_failed(&mut self, line: Line, cx: &mut EngineContext<'_>) {
        let mut failed = 0;
        for answer in self.voice.running(line) {
            answer.running = false;
            failed += 1;
            if let Some(part) = answer.part.as_ref().filter(|_| !answer.cut) {
                cx.pass(
                    "response.output_audio.done",
                    &json!({
                        "response_id": part.response, "item_id": part.item,
                        "output_index": part.output_index, "content_index": part.content_index,
                    }),
                );
            }
            let error = json!({ "type": "server_error", "code": "upstream_lost" });
            cx.pass(
                "response.done",
                &json!({ "response": {
                    "object": "realtime.response", "id": answer.id, "status": "failed",
                    "status_details": { "type": "failed", "error": error },
                    "output": [], "metadata": null, "usage": null,
                }}),
            );
        }
        if failed == 0 && std::mem::take(&mut self.turn.expecting) {
            let message =
                "The model server was lost before it answered the last turn. Ask for a response again.";
            cx.event(Audience::All, server_error("upstream_lost", message, true).into());
        }
    }

    /// The model server said something that is no JSON.
    pub(super) fn tell_garbled(&mut self, cx: &mut EngineContext<'_>) {
        let message = "The model server sent an event that can't be read; it was left out.";
        cx.event(Audience::All, server_error("upstream_event_invalid", message, false).into());
    }
}

impl EngineContext<'_> {
    /// Tells everybody an event under names of the model server.
    pub(super) fn pass(&mut self, name: &str, members: &Value) {
        let text = members.to_string();
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or_default();
        let passed = Passed { name: name.into(), members: inner.into() };
        self.event(Audience::All, ServerEvent::Passed(Box::new(passed)));
    }
}

impl From<ErrorEvent> for ServerEvent {
    fn from(error: ErrorEvent) -> Self {
        Self::Error(Box::new(error))
    }
}

fn server_error(code: &'static str, message: impl Into<Cow<'static, str>>, retryable: bool) -> ErrorEvent {
    ErrorEvent { kind: "server_error", code, message: message.into(), param: None, event_id: None, retryable }
}
