//! Engines: what answers in a room. Each is a sans-IO state machine that takes audio, text, commit and cancel and
//! gives room events; the room drains its inbound queue into it and carries what comes out to the members.

mod echo;
mod listen;
mod parrot;
mod realtime;
mod relay;
mod spurt;
mod telling;
#[cfg(test)]
mod tests;
mod told;
mod worker;

use std::fmt;
use std::str::FromStr;

use parrot::Parrot;
use realtime::Realtime;
use spurt::Spurts;
use worker::Worker;

use super::config::ShardConfig;
use super::event::{ClientCommand, ClientError, PartRef, ServerEvent, SessionSettings};
use super::frame::{Draft, FramePool};
use super::gate::RealtimeClaim;
use super::ids::MemberNumber;
use super::rng::SplitMix64;
use super::time::Micros;
use super::upstream::{Line, UpstreamNews, UpstreamOrder};
use super::work::{RequestId, WorkNews, WorkOrder};

/// Which engine a room has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// Returns each frame to its sender at once.
    Echo,
    /// Forwards a member's audio to the other members.
    Relay,
    /// Plays each utterance back as a full response.
    Parrot,
    /// Passes the conversation on to a model server, and its answers back.
    Realtime,
    /// Hands utterances to processes elsewhere, and brings their answers back.
    Worker,
}

impl EngineKind {
    /// Every engine.
    pub const ALL: [Self; 5] = [Self::Echo, Self::Relay, Self::Parrot, Self::Realtime, Self::Worker];

    /// Whether it makes responses.
    pub const fn has_responses(self) -> bool {
        !matches!(self, Self::Echo | Self::Relay)
    }

    /// As written in configuration, queries and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Relay => "relay",
            Self::Parrot => "parrot",
            Self::Realtime => "realtime",
            Self::Worker => "worker",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No engine has this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an engine is one of echo, relay, parrot, realtime, worker")]
pub struct UnknownEngine;

impl FromStr for EngineKind {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownEngine)
    }
}

/// What a room brings to its engine.
#[derive(Debug)]
pub enum EngineInput {
    /// A frame of audio, in the room's format. The block is the engine's: it may send it on as it is.
    Audio {
        /// The speaking member.
        from: MemberNumber,
        /// The bare payload.
        audio: Draft,
    },
    /// A command of the conversation: commit, clear, item, response create and cancel, settings changed.
    Command {
        /// The commanding member.
        from: MemberNumber,
        /// Its name for the command, for the error that may answer it.
        event_id: Option<Box<str>>,
        /// The command.
        command: ClientCommand,
    },
    /// A member is gone: what is kept of it can go as well.
    Left {
        /// The member.
        member: MemberNumber,
    },
    /// The moment that [`Engine::deadline`] named has come.
    Tick,
}

/// Numbers a response within its room, from 1: what a barge-in flushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseNumber(pub u32);

/// Who of the members gets something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every member.
    All,
    /// Every member but one.
    AllBut(MemberNumber),
    /// One member.
    One(MemberNumber),
}

impl Audience {
    /// Whether the member of this number is one of them.
    pub const fn concerns(self, member: MemberNumber) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(but) => member.0 != but.0,
            Self::One(one) => member.0 == one.0,
        }
    }
}

/// What an engine gives.
#[derive(Debug)]
pub enum EngineOutput {
    /// A frame of audio.
    Audio {
        /// Who gets it.
        to: Audience,
        /// The bare payload.
        audio: Draft,
        /// 0 the engine, else the speaking member's number.
        track: MemberNumber,
        /// Whether a spurt begins with it. The first frame of a response is never dropped.
        first: bool,
        /// Whether a spurt ends with it.
        last: bool,
        /// Milliseconds since the spurt began.
        timestamp_ms: u32,
        /// The response it belongs to: cancelled, its queued audio leaves every lane.
        response: Option<ResponseNumber>,
        /// The part of the response that it belongs to, for clients that get audio as events. None where there is no response.
        part: Option<PartRef>,
    },
    /// An event.
    Event {
        /// Who gets it.
        to: Audience,
        /// The event.
        event: ServerEvent,
        /// The response it belongs to, if droppable deltas of it should go with a barge-in.
        response: Option<ResponseNumber>,
    },
    /// A barge-in: what is queued of this response leaves every lane now.
    Flush(ResponseNumber),
    /// Something for an upstream session.
    Upstream(UpstreamOrder),
    /// Something for workers.
    Work(WorkOrder),
}

/// What an engine may use while it handles an input.
#[derive(Debug)]
pub struct EngineContext<'a> {
    /// Now.
    pub now: Micros,
    /// Where drafts come from, and go back to.
    pub pool: &'a mut FramePool,
    /// What the shard was told when it started.
    pub config: &'a ShardConfig,
    /// Where jitter comes from.
    pub(crate) rng: &'a mut SplitMix64,
    /// The room's settings: format, turn detection.
    pub settings: &'a SessionSettings,
    /// What clients said of their session beyond that (instructions, voice, tools): a raw JSON object in the GA shape, all
    /// of their updates merged; nothing if they said nothing.
    pub extras: Option<&'a str>,
    /// Whether all members take audio in events, which few long ones suit better than many short ones.
    pub only_events: bool,
    /// What the token of the room's first member says of its model session.
    pub claim: Option<&'a RealtimeClaim>,
    /// The last number used for an id in this room; see [`Self::next_id`].
    pub last_id: &'a mut u64,
    /// What comes out, in order.
    pub out: &'a mut Vec<EngineOutput>,
}

impl EngineContext<'_> {
    /// A number for an item, response or event id, unique within the room.
    pub fn next_id(&mut self) -> u64 {
        *self.last_id += 1;
        *self.last_id
    }

    fn event(&mut self, to: Audience, event: ServerEvent) {
        self.out.push(EngineOutput::Event { to, event, response: None });
    }

    /// Answers a member's command with an error.
    fn refuse(&mut self, from: MemberNumber, event_id: Option<Box<str>>, code: &'static str, message: &str) {
        let error = ClientError::new(code, message).about(event_id);
        self.event(Audience::One(from), error.into());
    }
}

/// A room's engine. Small: a room that never hears anything has none.
#[derive(Debug)]
pub enum Engine {
    /// See [`EngineKind::Echo`].
    Echo(Spurts),
    /// See [`EngineKind::Relay`].
    Relay(Spurts),
    /// See [`EngineKind::Parrot`].
    Parrot(Box<Parrot>),
    /// See [`EngineKind::Realtime`].
    Realtime(Box<Realtime>),
    /// See [`EngineKind::Worker`].
    Worker(Box<Worker>),
}

const _: () = assert!(size_of::<Engine>() <= 40);

impl Engine {
    /// A fresh engine.
    pub fn start(kind: EngineKind) -> Self {
        match kind {
            EngineKind::Echo => Self::Echo(Spurts::default()),
            EngineKind::Relay => Self::Relay(Spurts::default()),
            EngineKind::Parrot => Self::Parrot(Box::default()),
            EngineKind::Realtime => Self::Realtime(Box::default()),
            EngineKind::Worker => Self::Worker(Box::default()),
        }
    }

    /// Which engine it is.
    pub const fn kind(&self) -> EngineKind {
        match self {
            Self::Echo(_) => EngineKind::Echo,
            Self::Relay(_) => EngineKind::Relay,
            Self::Parrot(_) => EngineKind::Parrot,
            Self::Realtime(_) => EngineKind::Realtime,
            Self::Worker(_) => EngineKind::Worker,
        }
    }

    /// Takes one input; what comes of it is appended to the context's `out`.
    pub fn handle(&mut self, input: EngineInput, cx: &mut EngineContext<'_>) {
        match self {
            Self::Echo(spurts) => echo::handle(spurts, input, cx),
            Self::Relay(spurts) => relay::handle(spurts, input, cx),
            Self::Parrot(parrot) => parrot.handle(input, cx),
            Self::Realtime(realtime) => realtime.handle(input, cx),
            Self::Worker(worker) => worker.handle(input, cx),
        }
    }

    /// Takes news of an upstream session.
    pub fn upstream(&mut self, line: Line, news: UpstreamNews<'_>, cx: &mut EngineContext<'_>) {
        if let Self::Realtime(realtime) = self {
            realtime.upstream(line, news, cx);
        }
    }

    /// The end of what one turn brings: what was held back to go out as one, goes out.
    pub fn settle(&mut self, cx: &mut EngineContext<'_>) {
        if let Self::Realtime(realtime) = self {
            realtime.settle(cx);
        }
    }

    /// A [`EngineOutput::Flush`] was carried out: so many frames of the response's audio had not been given to the kernel,
    /// in the lane that had the fewest of them.
    pub fn flushed(&mut self, response: ResponseNumber, frames: usize, cx: &mut EngineContext<'_>) {
        if let Self::Realtime(realtime) = self {
            realtime.flushed(response, frames, cx);
        }
    }

    /// Takes what a worker says about a request.
    pub fn worked(&mut self, request: RequestId, news: WorkNews, cx: &mut EngineContext<'_>) {
        if let Self::Worker(worker) = self {
            worker.worked(request, news, cx);
        }
    }

    /// The request that workers are answering for it, if they are.
    pub fn open_request(&self) -> Option<RequestId> {
        match self {
            Self::Worker(worker) => worker.open_request(),
            Self::Echo(_) | Self::Relay(_) | Self::Parrot(_) | Self::Realtime(_) => None,
        }
    }

    /// When the engine wants an [`EngineInput::Tick`], if at all.
    pub fn deadline(&self) -> Option<Micros> {
        match self {
            Self::Echo(_) | Self::Relay(_) => None,
            Self::Parrot(parrot) => parrot.deadline(),
            Self::Realtime(realtime) => realtime.deadline(),
            Self::Worker(worker) => worker.deadline(),
        }
    }

    /// Whether a response is running.
    pub fn busy(&self) -> bool {
        match self {
            Self::Echo(_) | Self::Relay(_) => false,
            Self::Parrot(parrot) => parrot.busy(),
            Self::Realtime(realtime) => realtime.busy(),
            Self::Worker(worker) => worker.busy(),
        }
    }
}
