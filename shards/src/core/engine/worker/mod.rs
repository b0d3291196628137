//! The worker engine: hands utterances and texts to processes elsewhere, and brings their answers to the room.
//!
//! It listens as the parrot does. What is to be answered becomes a request; one at a time is out, and a few more wait. A
//! response is told to the members when its answer begins, and ends with the worker's word, a cancel, or the deadline.
//! Per room it keeps what its listener keeps, the newest input that nobody has asked about, and at most
//! [`WAITING_MAX`] requests that wait.

mod answer;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use answer::Answer;

use super::listen::recording::Recording;
use super::listen::{Listener, Listening, Said};
use super::telling::{End, Place};
use super::{Audience, EngineContext, EngineInput, EngineOutput, ResponseNumber, relay, told};
use crate::core::event::{
    AudioFormat, CancelReason, ClientCommand, ConversationId, ErrorEvent, Item, ItemKind, ItemName, NewItem,
    ResponseRequest, Role, ServerEvent,
};
use crate::core::ids::MemberNumber;
use crate::core::time::Micros;
use crate::core::work::{Matter, RequestId, WorkFailure, WorkNews, WorkOrder, WorkRequest};

/// Requests that wait behind the one that is out: a talker gets no further ahead of the workers.
const WAITING_MAX: usize = 4;

/// What one room has with its workers.
#[derive(Debug, Default)]
pub struct Worker {
    listener: Listener,
    last_item: Option<ItemName>,
    conversation: Option<ConversationId>,
    /// The newest input that nobody has asked about.
    fresh: Option<Input>,
    waiting: VecDeque<Question>,
    open: Option<Box<Open>>,
    responses: u32,
}

/// Something that a member said.
#[derive(Debug)]
struct Input {
    item: ItemName,
    matter: Matter,
    /// What a model would count: text and audio tokens.
    tokens: (u64, u64),
}

/// Something to be answered.
#[derive(Debug)]
struct Question {
    input: Option<Input>,
    asked: ResponseRequest,
}

/// The request that is out.
#[derive(Debug)]
struct Open {
    id: RequestId,
    /// When the room has waited long enough for a sign.
    deadline: Micros,
    asked: ResponseRequest,
    /// What its input counts for.
    tokens: (u64, u64),
    /// Once a worker has begun.
    answer: Option<Answer>,
}

impl Worker {
    /// Takes one input.
    pub(super) fn handle(&mut self, input: EngineInput, cx: &mut EngineContext<'_>) {
        self.follow_settings(cx);
        match input {
            EngineInput::Audio { from, audio } => {
                self.hear(from, &audio, cx);
                cx.pool.discard(audio);
            }
            EngineInput::Command { from, event_id, command } => self.obey(from, event_id, command, cx),
            EngineInput::Left { member } => self.forget(member, cx),
            EngineInput::Tick => {
                self.notice_stall(cx);
                self.notice_silence(cx);
            }
        }
    }

    /// Takes what a worker says. What concerns no request that is out is late, and nobody's business.
    pub(super) fn worked(&mut self, request: RequestId, news: WorkNews, cx: &mut EngineContext<'_>) {
        let Some(open) = self.open.as_mut().filter(|open| open.id == request) else { return };
        open.deadline = cx.now + cx.config.worker.deadline;
        match news {
            WorkNews::Audio { bytes, last } => {
                self.answer(cx).audio(&bytes, last, cx);
            }
            WorkNews::Words(words) => {
                if !self.answer(cx).words(words, cx) {
                    let message = "The worker's answer has more words than are taken.".into();
                    self.give_up(WorkFailure { code: "worker_failed", message, retryable: false }, cx);
                }
            }
            WorkNews::Passed(passed) => cx.event(Audience::All, ServerEvent::Passed(passed)),
            WorkNews::Again => {
                if let Some(answer) = open.answer.take() {
                    answer.finish(End::Failed("worker_lost"), cx);
                }
            }
            WorkNews::Done => self.end(End::Completed, cx),
            WorkNews::Failed(failure) => self.fail(failure, cx),
        }
    }

    /// When speech counts as over, or the worker has been silent for too long.
    pub(super) fn deadline(&self) -> Option<Micros> {
        let open = self.open.as_ref().map(|open| open.deadline);
        [open, self.listener.deadline()].into_iter().flatten().min()
    }

    /// Whether a response is running or being waited for.
    pub(super) fn busy(&self) -> bool {
        self.open.is_some()
    }

    /// The request that is out.
    pub(super) fn open_request(&self) -> Option<RequestId> {
        self.open.as_ref().map(|open| open.id)
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
            | ClientCommand::ItemTruncate { .. } => told::keeps_no_items(from, event_id, cx),
            ClientCommand::OutputClear => self.clear_output(cx),
            ClientCommand::Append
            | ClientCommand::SessionUpdate(_)
            | ClientCommand::RoomSend { .. }
            | ClientCommand::Channel(_)
            | ClientCommand::Ping { .. } => {}
        }
    }

    /// What is queued of the answer that comes in is not wanted; the rest of it may still be.
    fn clear_output(&mut self, cx: &mut EngineContext<'_>) {
        if let Some(answer) = self.open.as_ref().and_then(|open| open.answer.as_ref()) {
            answer.told.flush(cx);
        }
    }

    fn take_item(&mut self, new: NewItem, cx: &mut EngineContext<'_>) {
        if new.kind == ItemKind::Other {
            let name = told::name_of(&new, cx);
            let previous = self.last_item.replace(name.clone());
            return told::tell_other(Audience::All, &told::other(&new, &name), previous.as_ref(), cx);
        }
        let item = relay::told(&new, cx);
        let name = item.id.clone();
        self.add_item(item, cx);
        // What others are said to have said is history, nothing to answer.
        if new.role == Role::User {
            let format = self.listener.format;
            self.fresh = Said::of(new.content, format).map(|said| {
                let (matter, tokens) = matter(said, format);
                Input { item: name, matter, tokens }
            });
        }
    }

    fn respond(
        &mut self,
        from: MemberNumber,
        event_id: Option<Box<str>>,
        request: ResponseRequest,
        cx: &mut EngineContext<'_>,
    ) {
        if self.open.is_some() && self.fresh.is_none() {
            let message = "A response is in progress; wait until it is done, or cancel it.";
            return cx.refuse(from, event_id, "conversation_already_has_active_response", message);
        }
        let question = Question { input: self.fresh.take(), asked: request };
        self.ask_when_free(question, Audience::One(from), event_id, cx);
    }

    /// Asks now, or as soon as what is out has been answered.
    fn ask_when_free(
        &mut self,
        question: Question,
        to: Audience,
        event_id: Option<Box<str>>,
        cx: &mut EngineContext<'_>,
    ) {
        if self.waiting.len() >= WAITING_MAX {
            return tell_failure(WorkFailure::busy(), to, event_id, cx);
        }
        self.waiting.push_back(question);
        self.ask_next(cx);
    }

    /// Asks what has waited longest, if nothing is out.
    fn ask_next(&mut self, cx: &mut EngineContext<'_>) {
        if self.open.is_some() {
            return;
        }
        let Some(Question { input, asked }) = self.waiting.pop_front() else { return };
        let id = RequestId(cx.rng.next_u64());
        let within = cx.config.worker.deadline;
        let (item, matter, tokens) = match input {
            Some(Input { item, matter, tokens }) => (Some(item), matter, tokens),
            None => (None, Matter::Nothing, (0, 0)),
        };
        let request = WorkRequest {
            id,
            item,
            matter,
            format: cx.settings.format,
            modality: asked.modality.unwrap_or(cx.settings.modality),
            metadata: asked.metadata.clone(),
            extras: cx.extras.map(Into::into),
            within,
        };
        cx.out.push(EngineOutput::Work(WorkOrder::Ask(Box::new(request))));
        self.open = Some(Box::new(Open { id, deadline: cx.now + within, asked, tokens, answer: None }));
    }

    /// The answer to the request that is out, which is told to the members if it has not been.
    fn answer(&mut self, cx: &mut EngineContext<'_>) -> &mut Answer {
        let open = self.open.as_mut().expect("only asked for while a request is out");
        open.answer.get_or_insert_with(|| {
            self.responses += 1;
            let place = Place {
                number: ResponseNumber(self.responses),
                conversation: Some(*self.conversation.get_or_insert_with(|| ConversationId(cx.next_id()))),
                previous: self.last_item.clone(),
            };
            let answer = Answer::begin(&open.asked, open.tokens, place, cx);
            self.last_item = Some(answer.told.item.into());
            answer
        })
    }

    /// Ends the response to the request that is out, which is told to the members even if nothing came of it; then
    /// the next is asked.
    fn end(&mut self, end: End, cx: &mut EngineContext<'_>) {
        if self.open.is_none() {
            return;
        }
        self.answer(cx);
        if let Some(answer) = self.open.take().and_then(|open| open.answer) {
            answer.finish(end, cx);
        }
        self.ask_next(cx);
    }

    fn fail(&mut self, failure: WorkFailure, cx: &mut EngineContext<'_>) {
        let code = failure.code;
        tell_failure(failure, Audience::All, None, cx);
        self.end(End::Failed(code), cx);
    }

    /// Fails, and tells whoever is working on it.
    fn give_up(&mut self, failure: WorkFailure, cx: &mut EngineContext<'_>) {
        self.call_off(cx);
        self.fail(failure, cx);
    }

    fn call_off(&mut self, cx: &mut EngineContext<'_>) {
        if let Some(open) = &self.open {
            cx.out.push(EngineOutput::Work(WorkOrder::Cancel(open.id)));
        }
    }

    fn notice_silence(&mut self, cx: &mut EngineContext<'_>) {
        if self.open.as_ref().is_some_and(|open| open.deadline <= cx.now) {
            let message = "No worker has answered in time; try again in a moment.".into();
            self.give_up(WorkFailure { code: "worker_timeout", message, retryable: true }, cx);
        }
    }

    fn cancel_for(
        &mut self,
        from: MemberNumber,
        event_id: Option<Box<str>>,
        response: Option<Box<str>>,
        cx: &mut EngineContext<'_>,
    ) {
        let running = self.open.as_ref().and_then(|open| open.answer.as_ref()).map(|answer| answer.told.id);
        let meant = match response {
            Some(response) => running.is_some_and(|running| response.parse() == Ok(running)),
            None => self.open.is_some(),
        };
        if !meant {
            let message = "There is no such response in progress.";
            return cx.refuse(from, event_id, "response_cancel_not_active", message);
        }
        self.call_off(cx);
        self.end(End::Cancelled(CancelReason::ClientCancelled), cx);
    }
}

impl Listening for Worker {
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

    fn take_utterance(&mut self, item: ItemName, recording: Recording) {
        let (matter, tokens) = heard(recording, self.listener.format);
        self.fresh = Some(Input { item, matter, tokens });
    }

    fn answer_when_free(&mut self, cx: &mut EngineContext<'_>) {
        let question = Question { input: self.fresh.take(), asked: ResponseRequest::default() };
        self.ask_when_free(question, Audience::All, None, cx);
    }

    /// Who speaks interrupts what can be heard. A request that nobody has begun to answer stays one.
    fn cancel(&mut self, reason: CancelReason, cx: &mut EngineContext<'_>) {
        if self.open.as_ref().is_some_and(|open| open.answer.is_some()) {
            self.call_off(cx);
            self.end(End::Cancelled(reason), cx);
        }
    }

    fn forget_audio(&mut self, cx: &mut EngineContext<'_>) {
        self.waiting.clear();
        self.fresh.take_if(|input| matches!(input.matter, Matter::Audio(_)));
        if self.open.is_some() {
            self.call_off(cx);
            self.end(End::Cancelled(CancelReason::ClientCancelled), cx);
        }
    }
}

/// Tells members why there is no answer.
fn tell_failure(failure: WorkFailure, to: Audience, event_id: Option<Box<str>>, cx: &mut EngineContext<'_>) {
    let WorkFailure { code, message, retryable } = failure;
    let error = ErrorEvent {
        kind: "server_error",
        code,
        message: String::from(message).into(),
        param: None,
        event_id,
        retryable,
    };
    cx.event(to, ServerEvent::Error(Box::new(error)));
}

/// What there is to answer in an item, and what that counts for.
fn matter(said: Said, format: AudioFormat) -> (Matter, (u64, u64)) {
    match said {
        Said::Words(words) => {
            let tokens = (words.split_whitespace().count() as u64, 0);
            (Matter::Text(words), tokens)
        }
        Said::Utterance(recording) => heard(recording, format),
    }
}

fn heard(recording: Recording, format: AudioFormat) -> (Matter, (u64, u64)) {
    let tokens = (0, recording.duration_ms(format).div_ceil(100));
    (Matter::Audio(recording.into_bytes()), tokens)
}
