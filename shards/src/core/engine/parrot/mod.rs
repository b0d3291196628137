//! The parrot: a complete, deterministic conversation partner that needs no account and no network. It listens
//! for speech, commits it, and plays it back as a full response.
//!
//! Per room it keeps what its listener keeps, the newest utterance not yet answered, and the one last answered, each at
//! most a minute long.

mod answer;
mod speech;
#[cfg(test)]
mod tests;
mod tone;

use answer::{Answer, Place};
use recording::Recording;
use speech::Source;

use super::listen::{Listener, Listening, g711, recording};
use super::relay::told;
use super::{Audience, EngineContext, EngineInput, ResponseNumber};
use crate::core::event::{
    AudioFormat, CancelReason, ClientCommand, ConversationId, Item, ItemName, NewContent, NewItem,
    ResponseRequest, Role, ServerEvent,
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
            ClientCommand::ItemCreate(new) => self.take_item(*new, cx),
            ClientCommand::ResponseCreate(request) => self.respond(from, event_id, request, cx),
            ClientCommand::ResponseCancel { response_id } => {
                self.cancel_for(from, event_id, response_id, cx);
            }
            ClientCommand::ItemDelete { .. }
            | ClientCommand::ItemRetrieve { .. }
            | ClientCommand::ItemTruncate { .. }
            | ClientCommand::OutputClear
            | ClientCommand::Append
            | ClientCommand::SessionUpdate(_)
            | ClientCommand::RoomSend { .. }
            | ClientCommand::Ping { .. } => {}
        }
    }

    fn take_item(&mut self, new: NewItem, cx: &mut EngineContext<'_>) {
        let item = told(&new, cx);
        self.add_item(item, cx);
        // What others are said to have said is history, nothing to answer.
        if new.role == Role::User {
            self.fresh = said(new.content, self.listener.format);
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
        let source = self.fresh.take().or_else(|| self.last.take()).unwrap_or(Source::Greeting);
        // What was answered before is not needed any more.
        self.last = None;
        self.responses += 1;
        let place = Place {
            number: ResponseNumber(self.responses),
            conversation: ConversationId::OF_ROOM,
            previous: self.last_item.clone(),
        };
        let answer = Answer::begin(source, request, place, cx);
        self.last_item = Some(answer.item().into());
        self.answer = Some(Box::new(answer));
    }

    /// Sends what is due; a response that ends makes way for the one that waits.
    fn advance(&mut self, cx: &mut EngineContext<'_>) {
        while let Some(mut answer) = self.answer.take() {
            if !answer.advance(cx) {
                self.answer = Some(answer);
                return;
            }
            self.last = Some(answer.finish(None, cx));
            if self.waiting {
                self.begin(ResponseRequest::default(), cx);
            }
        }
    }

    fn cancel_for(
        &mut self,
        from: MemberNumber,
        event_id: Option<Box<str>>,
        response: Option<Box<str>>,
        cx: &mut EngineContext<'_>,
    ) {
        let running = self.answer.as_ref().map(|answer| answer.id);
        if running.is_none() || response.is_some_and(|response| response.parse().ok() != running) {
            let message = "There is no such response in progress.";
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
            self.last = Some(answer.finish(Some(reason), cx));
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

/// What there is to answer in an item: its words if it has any, else its audio.
fn said(content: Vec<NewContent>, format: AudioFormat) -> Option<Source> {
    let mut words = String::new();
    let mut recording = Recording::default();
    for part in content {
        match part {
            NewContent::Text(text) => {
                let space = if words.is_empty() { "" } else { " " };
                words.extend([space, &text]);
            }
            NewContent::Image => {}
            NewContent::Audio { audio, .. } => {
                let fits = recording.room_for(format, audio.len());
                recording.push(format, &audio[..fits]);
            }
        }
    }
    match (words.is_empty(), recording.is_empty()) {
        (false, _) => Some(Source::Text(words.into())),
        (true, false) => Some(Source::Utterance(recording)),
        (true, true) => None,
    }
}
