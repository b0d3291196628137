//! The realtime engine: a model session behind each room that needs one, over the OpenAI Realtime protocol.
//!
//! A state machine on the room's shard. It asks for lines (`crate::core::upstream`), hears what becomes of them, and turns the
//! room's audio and commands into the model server's events and back. A room has at most one line that counts and one that
//! stands ready to take its place; what comes in while there is none waits in bounds ([`waiting`]), and what a lost line had
//! not answered is said again to the next ([`ear`], [`memory`]).

mod barge;
mod commands;
mod ear;
mod life;
mod memory;
mod names;
mod news;
mod resample;
mod scan;
mod session;
mod tell;
#[cfg(test)]
mod tests;
mod voice;
mod waiting;

use std::collections::VecDeque;

use super::{EngineContext, EngineInput, EngineOutput, ResponseNumber};
use crate::core::event::{AudioFormat, Codec};
use crate::core::frame::Draft;
use crate::core::ids::MemberNumber;
use crate::core::time::Micros;
use crate::core::upstream::{Line, UpstreamNews, UpstreamOrder};
use ear::Ear;
use life::{Courting, Stage, Upline};
use memory::Memory;
use voice::Voice;
use waiting::{Held, Message, Waiting, What};

/// The event ids of what the engine says of its own accord, so that answers to it are known. The settings:
const OUR_SESSION: &str = "vox.session";
/// The conversation so far.
const OUR_PRIMING: &str = "vox.prime";
/// What was heard of an interrupted response.
const OUR_CUT: &str = "vox.cut";
/// A response that a client asked for without naming the event.
const OUR_ASK: &str = "vox.ask";

/// Commands whose sender is remembered, for the error that may answer them.
const ASKERS_MAX: usize = 16;

/// The model session of one room.
#[derive(Debug, Default)]
pub struct Realtime {
    last_line: u32,
    /// The line that counts.
    line: Option<Upline>,
    /// The line that will take its place.
    next: Option<Upline>,
    courting: Courting,
    waiting: Waiting,
    ear: Ear,
    voice: Voice,
    memory: Memory,
    turn: Turn,
    /// The last commands that their senders had a name for.
    askers: VecDeque<(Box<str>, MemberNumber)>,
    /// When the line is closed unless something happens.
    idle_at: Micros,
    /// When a model server that owes a response has been silent for too long.
    stall_at: Micros,
    /// When audio last came in.
    heard_at: Micros,
    /// The clients know that their audio can't be understood.
    format_refused: bool,
}

/// Where the conversation stands.
#[derive(Debug, Default)]
struct Turn {
    /// The model server hears somebody speak.
    speaking: bool,
    /// A commit that has not been answered.
    commit: Option<Vec<u8>>,
    /// A wish for a response that has not been answered.
    ask: Option<Vec<u8>>,
    /// The model server will make a response by itself.
    expecting: bool,
    /// Something was committed that nobody has asked to be answered yet, and until then is waited for.
    unasked_until: Option<Micros>,
}

impl Realtime {
    pub(super) fn handle(&mut self, input: EngineInput, cx: &mut EngineContext<'_>) {
        match input {
            EngineInput::Audio { from, audio } => {
                self.audio(from, audio.payload(), cx);
                cx.pool.discard(audio);
            }
            EngineInput::Command { from, event_id, command } => self.command(from, event_id, command, cx),
            EngineInput::Left { member } => {
                self.ear.forget(member);
                self.askers.retain(|(_, asker)| *asker != member);
            }
            EngineInput::Tick => self.tick(cx),
        }
    }

    /// The end of a turn: what it brought goes out as one.
    pub(super) fn settle(&mut self, cx: &mut EngineContext<'_>) {
        let Some(line) = self.ready_line() else { return };
        if let Some(message) = self.ear.take_joined(cx) {
            cx.send(line, message);
        }
    }

    pub(super) fn upstream(&mut self, line: Line, news: UpstreamNews<'_>, cx: &mut EngineContext<'_>) {
        match news {
            UpstreamNews::Open => self.opened(line, cx),
            UpstreamNews::Message(text) => self.message(line, text, cx),
            UpstreamNews::Over(end) => self.over(line, end, cx),
        }
        self.try_swap(cx);
    }

    pub(super) fn flushed(&mut self, response: ResponseNumber, frames: usize, cx: &mut EngineContext<'_>) {
        self.tell_cut(response, frames, cx);
    }

    pub(super) fn deadline(&self) -> Option<Micros> {
        let line = self.line.as_ref();
        let ready = line.is_some_and(|line| line.stage == Stage::Ready);
        [
            line.and_then(Upline::deadline),
            self.next.as_ref().and_then(Upline::deadline),
            line.filter(|_| ready && self.next.is_none()).map(|line| line.ages_at),
            self.courting.deadline(line.is_none()),
            ready.then_some(self.idle_at),
            (ready && self.is_owed()).then_some(self.stall_at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn busy(&self) -> bool {
        self.voice.busy()
    }

    /// The line that counts, if it takes messages.
    fn ready_line(&self) -> Option<Line> {
        self.line.as_ref().filter(|line| line.stage == Stage::Ready).map(|line| line.line)
    }

    /// Whether the model server has to say something next.
    fn is_owed(&self) -> bool {
        self.turn.ask.is_some() || self.voice.busy()
    }

    /// Whether the model server ends turns by itself.
    fn detects_turns(cx: &EngineContext<'_>) -> bool {
        cx.settings.turn_detection.is_some()
    }

    fn audio(&mut self, from: MemberNumber, audio: &[u8], cx: &mut EngineContext<'_>) {
        if cx.settings.format.codec == Codec::Opus {
            return self.refuse_format(cx);
        }
        if !self.ear.listens_to(from, cx.now) {
            return;
        }
        self.heard_at = cx.now;
        self.used(cx);
        if self.ready_line().is_some() {
            return self.hear(audio, cx);
        }
        let lost_before = self.waiting.has_lost();
        if self.waiting.push_audio(audio, cx.settings.format).is_err() && !lost_before {
            self.tell_full(cx);
        }
        self.need(cx);
    }

    /// Audio for a line that is ready.
    fn hear(&mut self, audio: &[u8], cx: &mut EngineContext<'_>) {
        let Some(line) = self.ready_line() else { return };
        let long = self.turn.speaking || !Self::detects_turns(cx);
        self.ear.hear(audio, long, cx, |message, cx| cx.send(line, message));
    }

    /// A message for the model server: now, or as soon as there is one.
    fn post(&mut self, message: Message, cx: &mut EngineContext<'_>) {
        self.used(cx);
        if self.ready_line().is_some() {
            return self.send(message, cx);
        }
        let lost_before = self.waiting.has_lost();
        if self.waiting.push(message).is_err() && !lost_before {
            self.tell_full(cx);
        }
        self.need(cx);
    }

    /// A message for a line that is ready, behind the audio that came before it.
    fn send(&mut self, message: Message, cx: &mut EngineContext<'_>) {
        self.settle(cx);
        let Some(line) = self.ready_line() else { return };
        cx.send_bytes(line, &message.text);
        match message.what {
            What::Commit => {
                self.ear.mark();
                self.turn.commit = Some(message.text);
            }
            What::Ask => {
                (self.turn.ask, self.turn.unasked_until) = (Some(message.text), None);
                self.stall_at = cx.now + cx.config.realtime.stall;
            }
            What::Item(item) => self.memory.note(line, &item),
            What::Other => {}
        }
    }

    /// Everything that waits, in order.
    fn flush_waiting(&mut self, cx: &mut EngineContext<'_>) {
        for held in self.waiting.take() {
            match held {
                Held::Audio(audio) => self.hear(&audio, cx),
                Held::Message(message) => self.send(message, cx),
            }
        }
        self.settle(cx);
    }

    /// Something happens: the line stays.
    fn used(&mut self, cx: &EngineContext<'_>) {
        self.idle_at = cx.now + cx.config.realtime.idle;
    }
}

impl EngineContext<'_> {
    fn send(&mut self, line: Line, message: Draft) {
        self.out.push(EngineOutput::Upstream(UpstreamOrder::Send { line, message }));
    }

    fn send_bytes(&mut self, line: Line, text: &[u8]) {
        let message = self.pool.copy(text);
        self.send(line, message);
    }

    fn send_json(&mut self, line: Line, value: &serde_json::Value) {
        self.send_bytes(line, value.to_string().as_bytes());
    }
}

/// Milliseconds of so much audio.
fn milliseconds(bytes: usize, format: AudioFormat) -> usize {
    format.bytes_per_ms().map_or(0, |per_ms| bytes / per_ms)
}
