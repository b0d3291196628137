//! What the model server says: audio by the quickest way, what concerns the room's state, and the rest as it is.

use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::scan::{self, Outline};
use super::voice::Place;
use super::{OUR_CUT, OUR_PRIMING, Realtime, names};
use crate::core::config::Dialect;
use crate::core::engine::{Audience, EngineContext, EngineOutput};
use crate::core::event::{Passed, ServerEvent};
use crate::core::time::Micros;
use crate::core::upstream::Line;

/// Messages of one line that are no JSON, until it is given up.
const BAD_MESSAGES_MAX: u32 = 3;

/// How long the wish for an answer to what was committed may take before another session may take over, which knows of
/// an utterance only what there is in words.
const UNASKED: Micros = Micros::from_s(60);

impl Realtime {
    pub(super) fn message(&mut self, line: Line, text: &mut [u8], cx: &mut EngineContext<'_>) {
        if self.find(line).is_none() {
            return;
        }
        if self.is_current(line) {
            self.stall_at = cx.now + cx.config.realtime.stall;
        }
        let outline = Outline::read(text);
        let is_audio = |outline: &Outline| {
            let name = scan::plain(text, outline.name.as_ref());
            name.map(names::to_ga) == Some("response.output_audio.delta")
        };
        match outline {
            Ok(outline) if is_audio(&outline) && self.audio_delta(line, text, &outline, cx).is_some() => {}
            _ => self.event(line, text, cx),
        }
    }

    /// Takes audio without another look at the event; nothing when it is written unusually.
    fn audio_delta(
        &mut self,
        line: Line,
        text: &mut [u8],
        outline: &Outline,
        cx: &mut EngineContext<'_>,
    ) -> Option<()> {
        let delta = scan::plain_range(text, outline.delta.as_ref())?;
        let output_index = scan::number(text, outline.output_index.as_ref())?;
        let content_index = scan::number(text, outline.content_index.as_ref())?;
        let response = scan::plain_range(text, outline.response.as_ref())?;
        let item = scan::plain_range(text, outline.item.as_ref())?;
        let (before, rest) = text.split_at_mut(delta.start);
        let (encoded, after) = rest.split_at_mut(delta.len());
        let name = |range: Range<usize>| {
            let bytes = if range.end <= delta.start {
                &before[range]
            } else {
                &after[range.start - delta.end..range.end - delta.end]
            };
            std::str::from_utf8(bytes).ok()
        };
        let place = Place { response: name(response)?, item: name(item)?, output_index, content_index };
        let audio = base64_simd::STANDARD.decode_inplace(encoded).ok()?;
        self.play(line, place, audio, cx);
        Some(())
    }

    fn play(&mut self, line: Line, place: Place<'_>, audio: &[u8], cx: &mut EngineContext<'_>) {
        if self.is_current(line) {
            self.used(cx);
            self.find(line).into_iter().for_each(|line| line.spoke = true);
            self.voice.speak(line, place, audio, cx);
        }
    }

    /// Any event that is not usual audio.
    fn event(&mut self, line: Line, text: &[u8], cx: &mut EngineContext<'_>) {
        let readable =
            std::str::from_utf8(text).ok().filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        let Some(text) = readable else { return self.garbled(line, cx) };
        let rewritten;
        let (text, outline) = match Outline::read(text.as_bytes()) {
            Ok(outline) if scan::plain(text.as_bytes(), outline.name.as_ref()).is_some() => (text, outline),
            _ => {
                let value = serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
                let Some(value) = value else { return self.garbled(line, cx) };
                rewritten = value.to_string();
                let Ok(outline) = Outline::read(rewritten.as_bytes()) else { return self.garbled(line, cx) };
                (&*rewritten, outline)
            }
        };
        let Some(name) = scan::plain(text.as_bytes(), outline.name.as_ref()) else {
            return self.garbled(line, cx);
        };
        let name = names::to_ga(name);
        if name == "session.created" {
            return self.greeted(line, cx);
        }
        if self.is_current(line) && self.notice(line, name, text, cx) {
            let response = scan::plain(text.as_bytes(), outline.response.as_ref());
            let response = response.filter(|_| name.ends_with(".delta"));
            let response = response.and_then(|id| self.voice.known(line, id)).map(|answer| answer.number);
            if let Some(members) = members(text) {
                let event = ServerEvent::Passed(Box::new(Passed { name: name.into(), members }));
                cx.out.push(EngineOutput::Event { to: Audience::All, event, response });
            }
        }
    }

    fn garbled(&mut self, line: Line, cx: &mut EngineContext<'_>) {
        let Some(upline) = self.find(line) else { return };
        upline.bad_messages += 1;
        let bad = upline.bad_messages;
        if self.is_current(line) {
            if bad == 1 {
                self.tell_garbled(cx);
            }
            if bad >= BAD_MESSAGES_MAX {
                self.drop_line(cx);
            }
        }
    }

    /// Learns from an event. True if it is passed on.
    fn notice(&mut self, line: Line, name: &str, text: &str, cx: &mut EngineContext<'_>) -> bool {
        let value = || serde_json::from_str::<Value>(text).unwrap_or_default();
        match name {
            "session.updated" => return false,
            // The room has one conversation, however many sessions carry it.
            "conversation.created" => return line == Line(1),
            "session.draining" => {
                self.find(line).into_iter().for_each(|line| line.ages_at = cx.now);
                return false;
            }
            "error" => {
                self.error(&value(), cx);
                return false;
            }
            "response.output_audio.delta" => {
                self.unusual_audio(line, &value(), cx);
                return false;
            }
            "output_audio_buffer.cleared" => {
                self.interrupt(value()["response_id"].as_str(), cx);
                return false;
            }
            "response.created" => {
                (self.turn.ask, self.turn.expecting, self.turn.unasked_until) = (None, false, None);
                let value = value();
                let response = &value["response"];
                let id = response["id"].as_str().unwrap_or_default();
                self.voice.begin(id, line, cx.now).apart =
                    response.get("conversation_id") == Some(&Value::Null);
            }
            "response.done" => self.response_done(line, &value()),
            "input_audio_buffer.speech_started" => {
                (self.turn.speaking, self.turn.expecting) = (true, false);
                if cx.settings.turn_detection.is_some_and(|vad| vad.interrupt_response) {
                    self.interrupt(None, cx);
                }
            }
            "input_audio_buffer.speech_stopped" | "input_audio_buffer.timeout_triggered" => {
                self.turn.speaking = false;
            }
            "input_audio_buffer.committed" => self.committed(line, &value(), cx),
            "conversation.item.added"
            | "conversation.item.done"
            | "response.output_item.added"
            | "response.output_item.done" => return self.item(line, name, &value(), cx),
            "conversation.item.deleted" => {
                self.memory.forget(value()["item_id"].as_str().unwrap_or_default());
            }
            "conversation.item.input_audio_transcription.completed" => {
                let value = value();
                if let (Some(id), Some(text)) = (value["item_id"].as_str(), value["transcript"].as_str()) {
                    self.memory.heard(line, id, text);
                }
            }
            _ => {}
        }
        if self.is_owed() {
            self.used(cx);
        }
        true
    }

    fn response_done(&mut self, line: Line, value: &Value) {
        let id = value["response"]["id"].as_str().unwrap_or_default();
        self.voice.running(line).filter(|answer| &*answer.id == id).for_each(|answer| answer.running = false);
    }

    fn committed(&mut self, line: Line, value: &Value, cx: &EngineContext<'_>) {
        let by_client = self.turn.commit.take().is_some();
        self.turn.speaking = false;
        self.turn.expecting = !by_client && cx.settings.turn_detection.is_some_and(|vad| vad.create_response);
        let unasked = !self.turn.expecting && self.turn.ask.is_none();
        self.turn.unasked_until = unasked.then(|| cx.now + UNASKED);
        self.ear.committed(cx.settings);
        if let Some(id) = value["item_id"].as_str() {
            self.memory.heard(line, id, "");
        }
    }

    /// Learns of an item. False for one that the session was told at its beginning: the clients know it.
    fn item(&mut self, line: Line, name: &str, value: &Value, cx: &EngineContext<'_>) -> bool {
        let item = &value["item"];
        let id = item["id"].as_str().unwrap_or_default();
        let last = match cx.config.realtime.dialect {
            Dialect::Ga => "conversation.item.done",
            Dialect::Beta => "conversation.item.added",
        };
        if let Some(upline) = self.find(line)
            && let Some(at) = upline.primed.iter().position(|primed| &**primed == id)
        {
            if name == last {
                upline.primed.swap_remove(at);
            }
            return false;
        }
        let response = value["response_id"].as_str().unwrap_or_default();
        if self.voice.known(line, response).is_none_or(|answer| !answer.apart) {
            self.memory.note(line, item);
        }
        true
    }

    fn unusual_audio(&mut self, line: Line, value: &Value, cx: &mut EngineContext<'_>) {
        let index = |key: &str| value[key].as_u64().unwrap_or(0) as u32;
        let (output_index, content_index) = (index("output_index"), index("content_index"));
        let decoded =
            value["delta"].as_str().map(|delta| base64_simd::forgiving_decode_to_vec(delta.as_bytes()));
        let (Some(response), Some(item), Some(Ok(audio))) =
            (value["response_id"].as_str(), value["item_id"].as_str(), decoded)
        else {
            return self.garbled(line, cx);
        };
        self.play(line, Place { response, item, output_index, content_index }, &audio, cx);
    }

    /// Tells the clients of an error of the model server: the one who asked, if that is known.
    fn error(&mut self, value: &Value, cx: &mut EngineContext<'_>) {
        let mut error = value["error"].clone();
        let about = error["event_id"].as_str().unwrap_or_default().to_owned();
        if matches!(&*about, OUR_PRIMING | OUR_CUT) || error["code"] == "session_expired" {
            return;
        }
        let answers = |message: &[u8]| {
            let asked = serde_json::from_slice::<Value>(message).unwrap_or_default();
            // Not every server says which event it means.
            about.is_empty() || asked["event_id"] == *about
        };
        self.turn.ask.take_if(|ask| answers(ask));
        if self.turn.commit.take_if(|commit| answers(commit)).is_some() {
            self.ear.unmark();
        }
        if !error.is_object() {
            error = json!({ "type": "server_error", "code": null, "message": "The model server reports an error." });
        }
        if about.starts_with("vox.") {
            error["event_id"] = Value::Null;
        }
        let ours = error["type"] == "server_error" || error["code"] == "rate_limit_exceeded";
        error["retryable"] = ours.into();
        let asker = self.askers.iter().find(|(name, _)| **name == *about).map(|(_, asker)| *asker);
        let members = format!("\"error\":{error}").into();
        let event = ServerEvent::Passed(Box::new(Passed { name: "error".into(), members }));
        cx.event(asker.map_or(Audience::All, Audience::One), event);
    }
}

/// The members of an event that go on: all but those that it gets anew, on one line.
fn members(text: &str) -> Option<Box<str>> {
    let mut members = String::with_capacity(text.len());
    let line = |part: &str, into: &mut String| into.extend(part.split(['\n', '\r']));
    let read = scan::each_member(text.as_bytes(), |key, value| {
        if !matches!(&text[key.clone()], "type" | "event_id" | "seq") {
            members.push_str(if members.is_empty() { "\"" } else { ",\"" });
            members.push_str(&text[key]);
            members.push_str("\":");
            line(&text[value], &mut members);
        }
    });
    read.ok().map(|()| members.into())
}
