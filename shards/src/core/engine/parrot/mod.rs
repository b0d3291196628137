//! The parrot: a complete, deterministic conversation partner that needs no account and no network. It listens
//! for speech, commits it, and plays it back as a full response.
//!
//! Per room it keeps what its listener keeps, the newest utterance not yet answered, and the one last answered, each at
//! most a minute long.

mod answer;
mod asked;
mod calls;
mod items;
mod speech;
#[cfg(test)]
mod tests;
mod tone;

use serde_json::Value;

use answer::{Answer, Progress};
use asked::Asked;
use items::Items;
use recording::Recording;
use speech::Source;

use super::listen::{Listener, Listening, Said, g711, recording};
use super::telling::{End, Place};
use super::told::passed;
use super::{Audience, EngineContext, EngineInput, ResponseNumber};
use crate::core::event::{
    CancelReason, ClientCommand, Content, ConversationId, Item, ItemName, ResponseRequest, ServerEvent, Usage,
};
use crate::core::ids::MemberNumber;
use crate::core::time::Micros;

/// The parrot of one room.
#[derive(Debug, Default)]
pub struct Parrot {
    listener: Listener,
    /// The newest input that no response has answered.
    fresh: Option<Source>,
    /// What the last response said.
    last: Option<Source>,
    answer: Option<Box<Answer>>,
    /// Speech ended while a response was running; its answer comes afterwards.
    waiting: bool,
    responses: u32,
    last_item: Option<ItemName>,
    items: Items,
    /// The newest input is what came of a function.
    called: bool,
    /// An utterance whose words somebody wants to have.
    untold: Option<ItemName>,
}

impl Parrot {
    /// Takes one input. Whatever it is, what is due by now goes out.
    pub(super) fn handle(&mut self, input: EngineInput, cx: &mut EngineContext<'_>) {
        self.follow_settings(cx);
        match input {
            EngineInput::Audio { from, audio } => {
                self.hear(from, &audio, cx);
                cx.pool.discard(audio);
            }
            EngineInput::Command { from, event_id, command } => self.obey(from, event_id, command, cx),
            EngineInput::Left { member } => self.forget(member, cx),
            EngineInput::Tick => self.notice_stall(cx),
        }
        self.advance(cx);
    }

    /// When the next chunk is due, or speech counts as over.
    pub(super) fn deadline(&self) -> Option<Micros> {
        let chunk = self.answer.as_ref().map(|answer| answer.deadline());
        let stall = self.listener.deadline();
        [chunk, stall].into_iter().flatten().min()
    }

    /// Whether a response is running.
    pub(super) fn busy(&self) -> bool {
        self.answer.is_some()
    }

    fn obey(
        &mut self,
        from: MemberNumber,
        event_id: Option<Box<str>>,
        command: ClientCommand,
        cx: &mut EngineContext<'_>,
    ) {
        match command {
            ClientCommand::Commit => self.commit(from, event_id, cx),
            ClientCommand::Clear => self.clear(from, cx),
            ClientCommand::ItemCreate(new) => self.take_item(from, event_id, *new, cx),
            ClientCommand::ResponseCreate(request) => self.respond(from, event_id, request, cx),
            ClientCommand::ResponseCancel { response_id } => {
                self.cancel_for(from, event_id, response_id, cx);
            }
            ClientCommand::ItemDelete { item } => self.delete_item(from, event_id, &item, cx),
            ClientCommand::ItemRetrieve { item } => self.retrieve_item(from, event_id, &item, cx),
            ClientCommand::ItemTruncate { item, content_index, audio_end_ms } => {
                self.truncate_item(from, event_id, (&item, content_index, audio_end_ms), cx);
            }
            ClientCommand::OutputClear => self.clear_output(cx),
            ClientCommand::Append
            | ClientCommand::SessionUpdate(_)
            | ClientCommand::RoomSend { .. }
            | ClientCommand::Channel(_)
            | ClientCommand::Ping { .. } => {}
        }
    }

    fn respond(
        &mut self,
        from: MemberNumber,
        event_id: Option<Box<str>>,
        request: ResponseRequest,
        cx: &mut EngineContext<'_>,
    ) {
        if self.answer.is_some() {
            let message = "A response is in progress; wait until it is done, or cancel it.";
            return cx.refuse(from, event_id, "conversation_already_has_active_response", message);
        }
        self.begin(request, cx);
    }

    fn begin(&mut self, request: ResponseRequest, cx: &mut EngineContext<'_>) {
        self.waiting = false;
        self.tell_words(cx);
        let Asked { apart, input } = Asked::of(&request, &self.items);
        if let (false, None, Some(call)) = (apart, &input, self.call_instead(&request, cx)) {
            return self.call(&call, request, cx);
        }
        let newest = input.or_else(|| self.fresh.take()).or_else(|| self.last.take());
        let source = newest.unwrap_or(Source::Greeting);
        // What was answered before is not needed any more.
        self.last = None;
        self.responses += 1;
        let fail_after = cx.config.parrot.fail_after;
        let place = Place {
            number: ResponseNumber(self.responses),
            conversation: (!apart).then_some(ConversationId::OF_ROOM),
            previous: self.last_item.clone(),
        };
        let fails = fail_after > 0 && u64::from(self.responses).is_multiple_of(fail_after + 1);
        let answer = Answer::begin(source, request, place, fails, cx);
        if let Some(item) = answer.told.in_progress() {
            self.last_item = Some(answer.told.item.into());
            self.items.push(item);
        }
        self.answer = Some(Box::new(answer));
    }

    /// Sends what is due; a response that ends makes way for the one that waits.
    fn advance(&mut self, cx: &mut EngineContext<'_>) {
        self.tell_words(cx);
        while let Some(mut answer) = self.answer.take() {
            let Progress::Over(end) = answer.advance(cx) else {
                self.answer = Some(answer);
                return;
            };
            self.end(*answer, end, cx);
            if self.waiting {
                self.begin(ResponseRequest::default(), cx);
            }
        }
    }

    fn end(&mut self, answer: Answer, end: End, cx: &mut EngineContext<'_>) {
        let said = answer.finish(end, cx);
        self.items.settle(said.item, said.ms);
        self.last = Some(said.source);
        cx.event(Audience::All, rate_limits(self.responses, said.usage));
    }

    /// What is queued of the running response goes; the response goes on.
    fn clear_output(&mut self, cx: &mut EngineContext<'_>) {
        if let Some(answer) = &self.answer {
            answer.told.flush(cx);
        }
    }

    /// Tells the words of the utterance that was committed last, to those who asked for a transcription.
    fn tell_words(&mut self, cx: &mut EngineContext<'_>) {
        let Some(item) = self.untold.take() else { return };
        let Some(Source::Utterance(recording)) = &self.fresh else { return };
        let ms = recording.duration_ms(self.listener.format);
        let heard = Source::heard(ms);
        self.items.transcribe(&item, &heard);
        let words = Value::from(&*heard);
        let of = format!(r#""item_id":{},"content_index":0"#, Value::from(item.to_string()));
        let usage = format!(r#"{{"type":"duration","seconds":{}.{:03}}}"#, ms / 1_000, ms % 1_000);
        let name = |end| format!("conversation.item.input_audio_transcription.{end}");
        cx.event(Audience::All, passed(&name("delta"), format!(r#"{of},"delta":{words}"#)));
        let members = format!(r#"{of},"transcript":{words},"usage":{usage}"#);
        cx.event(Audience::All, passed(&name("completed"), members));
    }

    fn cancel_for(
        &mut self,
        from: MemberNumber,
        event_id: Option<Box<str>>,
        response: Option<Box<str>>,
        cx: &mut EngineContext<'_>,
    ) {
        let running = self.answer.as_ref().map(|answer| answer.told.id);
        if running.is_none() || response.is_some_and(|response| response.parse().ok() != running) {
            let message = "Cancellation failed: no active response found";
            return cx.refuse(from, event_id, "response_cancel_not_active", message);
        }
        self.cancel(CancelReason::ClientCancelled, cx);
        if self.waiting {
            self.begin(ResponseRequest::default(), cx);
        }
    }
}

impl Listening for Parrot {
    fn listener(&mut self) -> &mut Listener {
        &mut self.listener
    }

    fn last_item(&self) -> Option<ItemName> {
        self.last_item.clone()
    }

    fn add_item(&mut self, item: Item, cx: &mut EngineContext<'_>) {
        let previous = self.last_item.replace(item.id.clone());
        if wants_words(cx) && matches!(item.content[..], [Content::InputAudio(None)]) {
            self.untold = Some(item.id.clone());
        }
        self.called = false;
        self.items.push(item.clone());
        let item = Box::new(item);
        cx.event(Audience::All, ServerEvent::ItemAdded { item: item.clone(), previous: previous.clone() });
        cx.event(Audience::All, ServerEvent::ItemDone { item, previous });
    }

    fn take_utterance(&mut self, _item: ItemName, recording: Recording) {
        self.fresh = Some(Source::Utterance(recording));
    }

    fn answer_when_free(&mut self, cx: &mut EngineContext<'_>) {
        if self.answer.is_some() {
            self.waiting = true;
        } else {
            self.begin(ResponseRequest::default(), cx);
        }
    }

    fn cancel(&mut self, reason: CancelReason, cx: &mut EngineContext<'_>) {
        if let Some(answer) = self.answer.take() {
            self.end(*answer, End::Cancelled(reason), cx);
        }
    }

    fn forget_audio(&mut self, cx: &mut EngineContext<'_>) {
        self.waiting = false;
        self.cancel(CancelReason::ClientCancelled, cx);
        for kept in [&mut self.fresh, &mut self.last] {
            kept.take_if(|source| matches!(source, Source::Utterance(_)));
        }
    }
}

/// Whether a client has asked for transcriptions of what is said.
fn wants_words(cx: &EngineContext<'_>) -> bool {
    let said = cx.extras.filter(|extras| extras.contains("\"transcription\""));
    let extras: Option<Value> = said.and_then(|extras| serde_json::from_str(extras).ok());
    extras.is_some_and(|extras| extras["audio"]["input"]["transcription"].is_object())
}

/// What a model server says of its limits behind a response. A parrot has none: they count what was used of a round number.
fn rate_limits(responses: u32, usage: Usage) -> ServerEvent {
    const REQUESTS: u64 = 1_000;
    const TOKENS: u64 = 1_000_000;
    let requests = REQUESTS - u64::from(responses) % REQUESTS;
    let used = usage.input_text + usage.input_audio + usage.output_text + usage.output_audio;
    let tokens = TOKENS.saturating_sub(used);
    let one = |name: &str, limit: u64, remaining: u64| {
        format!(r#"{{"name":"{name}","limit":{limit},"remaining":{remaining},"reset_seconds":60}}"#)
    };
    let limits = [one("requests", REQUESTS, requests), one("tokens", TOKENS, tokens)].join(",");
    passed("rate_limits.updated", format!(r#""rate_limits":[{limits}]"#))
}

impl From<Said> for Source {
    fn from(said: Said) -> Self {
        match said {
            Said::Words(words) => Self::Text(words),
            Said::Utterance(recording) => Self::Utterance(recording),
        }
    }
}
