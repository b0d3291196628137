//! What the server says.

use std::borrow::Cow;
use std::sync::Arc;

use super::Class;
use super::channel::Subscribed;
use super::client::ClientError;
use super::ids::{ItemId, ItemName, ResponseId};
use super::item::{Item, Response};
use super::session::{RestoredView, SessionView};
use crate::core::channel::Delivery;
use crate::core::ids::MemberNumber;
use crate::core::time::Micros;
use crate::core::usage::{ResponseUsage, Totals};

/// One event to a client.
#[derive(Clone, Debug)]
pub enum ServerEvent {
    /// `session.created`: the welcome.
    SessionCreated(Box<SessionView>),
    /// `session.updated`.
    SessionUpdated(Box<SessionView>),
    /// `session.restored`: what became of a wish to be told what was missed.
    SessionRestored(Box<RestoredView>),
    /// `session.draining`.
    SessionDraining {
        /// When to come back.
        reconnect_in_ms: u64,
    },
    /// `error`.
    Error(Box<ErrorEvent>),
    /// `pong`.
    Pong {
        /// Raw JSON, as the ping brought it.
        t: Option<Box<str>>,
    },
    /// `room.member_joined`.
    MemberJoined {
        /// Who.
        member: MemberNumber,
        /// Members now.
        members: usize,
    },
    /// `room.member_left`.
    MemberLeft {
        /// Who.
        member: MemberNumber,
        /// Members now.
        members: usize,
    },
    /// `room.message`.
    RoomMessage {
        /// Who sent it; 0 for the server itself.
        from: MemberNumber,
        /// Raw JSON.
        data: Box<str>,
    },
    /// `outbox.dropped`.
    OutboxDropped {
        /// Of which class.
        class: Class,
        /// How many messages.
        count: u64,
        /// The first and last sequence number among them, if any had one.
        seqs: Option<(u64, u64)>,
    },
    /// `rate_limits.updated`: a limit is near.
    RateLimits {
        /// What is limited.
        name: &'static str,
        /// The burst.
        limit: u64,
        /// What is left of it.
        remaining: u64,
        /// Until all of it is there again.
        reset: Micros,
        /// Messages refused in the meantime.
        refused: u32,
    },
    /// `input_audio_buffer.speech_started`.
    SpeechStarted {
        /// The item that the speech will become.
        item: ItemId,
        /// Where in the input it began, with its padding.
        audio_start_ms: u64,
    },
    /// `input_audio_buffer.speech_stopped`.
    SpeechStopped {
        /// The item that the speech becomes.
        item: ItemId,
        /// Where in the input it ended.
        audio_end_ms: u64,
    },
    /// `input_audio_buffer.committed`.
    Committed {
        /// The item it became.
        item: ItemId,
        /// The item before it.
        previous: Option<ItemName>,
    },
    /// `input_audio_buffer.cleared`.
    Cleared,
    /// `conversation.item.added`.
    ItemAdded {
        /// The item.
        item: Box<Item>,
        /// The item before it.
        previous: Option<ItemName>,
    },
    /// `conversation.item.done`.
    ItemDone {
        /// The item.
        item: Box<Item>,
        /// The item before it.
        previous: Option<ItemName>,
    },
    /// `response.created`.
    ResponseCreated(Box<Response>),
    /// `response.output_item.added`.
    OutputItemAdded {
        /// Of which response.
        response: ResponseId,
        /// The item.
        item: Box<Item>,
    },
    /// `response.output_item.done`.
    OutputItemDone {
        /// Of which response.
        response: ResponseId,
        /// The item.
        item: Box<Item>,
    },
    /// `response.content_part.added`.
    ContentPartAdded {
        /// Of which item.
        of: Part,
        /// What it is made of.
        audio: bool,
    },
    /// `response.content_part.done`.
    ContentPartDone {
        /// Of which item.
        of: Part,
        /// What it is made of.
        audio: bool,
        /// Its words.
        text: Box<str>,
    },
    /// `response.output_audio.done`.
    OutputAudioDone {
        /// Of which item.
        of: Part,
    },
    /// `response.output_audio_transcript.delta`.
    TranscriptDelta {
        /// Of which item.
        of: Part,
        /// More words.
        delta: Cow<'static, str>,
    },
    /// `response.output_audio_transcript.done`.
    TranscriptDone {
        /// Of which item.
        of: Part,
        /// All words.
        text: Box<str>,
    },
    /// `response.output_text.delta`.
    TextDelta {
        /// Of which item.
        of: Part,
        /// More words.
        delta: Cow<'static, str>,
    },
    /// `response.output_text.done`.
    TextDone {
        /// Of which item.
        of: Part,
        /// All words.
        text: Box<str>,
    },
    /// `response.done`.
    ResponseDone(Box<Response>),
    /// `output_audio_buffer.cleared`: what was queued of a response is gone.
    OutputCleared {
        /// Of which response.
        response: ResponseId,
    },
    /// `metrics`: what a response took and gave.
    Metrics(Box<Metrics>),
    /// `channel.subscribed`.
    ChannelSubscribed(Box<Subscribed>),
    /// `channel.unsubscribed`.
    ChannelUnsubscribed {
        /// The pattern.
        channel: Box<str>,
        /// Why, if it was not the client's wish.
        reason: Option<&'static str>,
    },
    /// `channel.message`.
    ChannelMessage(Arc<Delivery>),
    /// Any event of a model server, passed on.
    Passed(Box<Passed>),
}

/// What a response took and gave, and all of its room's together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// The response.
    pub response: ResponseUsage,
    /// The room so far.
    pub session: Totals,
}

/// An event of a model server as it is passed on: in the GA name, with a number of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Its `type`, in the GA name.
    pub name: Box<str>,
    /// Its other members but `event_id`, raw JSON without the braces, as in `"a":1,"b":2`; perhaps none.
    pub members: Box<str>,
}

impl Passed {
    /// Whether it is a piece of something that its end tells whole.
    fn is_delta(&self) -> bool {
        self.name.ends_with(".delta")
    }
}

/// A part of a response, by whoever named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartRef {
    /// We numbered it.
    Numbered(Part),
    /// A model server named it.
    Named(Arc<NamedPart>),
}

/// A part of a response under the names of a model server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPart {
    /// The response.
    pub response: Box<str>,
    /// The item.
    pub item: Box<str>,
    /// The item's place in the response.
    pub output_index: u32,
    /// The part's place in the item.
    pub content_index: u32,
}

/// The only part of the only item of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The response.
    pub response: ResponseId,
    /// The item.
    pub item: ItemId,
}

/// What an `error` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorEvent {
    /// `invalid_request_error` when the client is at fault, `server_error` when we are.
    pub kind: &'static str,
    /// Which kind of mistake.
    pub code: &'static str,
    /// A sentence for a human.
    pub message: Cow<'static, str>,
    /// The path of the field at fault.
    pub param: Option<Box<str>>,
    /// The client's event at fault.
    pub event_id: Option<Box<str>>,
    /// Whether the same event may succeed later.
    pub retryable: bool,
}

impl From<ClientError> for ErrorEvent {
    fn from(error: ClientError) -> Self {
        Self {
            kind: "invalid_request_error",
            code: error.code,
            message: error.message.into(),
            param: error.param,
            event_id: error.event_id,
            retryable: error.retryable,
        }
    }
}

impl From<ClientError> for ServerEvent {
    fn from(error: ClientError) -> Self {
        Self::Error(Box::new(error.into()))
    }
}

impl ServerEvent {
    /// What happens to it when a lane is full.
    pub fn class(&self) -> Class {
        match self {
            Self::TranscriptDelta { .. } | Self::TextDelta { .. } | Self::Metrics(_) => Class::Droppable,
            Self::Passed(passed) if passed.is_delta() => Class::Droppable,
            Self::ChannelMessage(delivery) => delivery.class(),
            _ => Class::Control,
        }
    }

    /// Whether it may wait for company in a batch.
    pub fn waits(&self) -> bool {
        match self {
            Self::Passed(passed) => passed.is_delta(),
            Self::ChannelMessage(_) => !self.goes_first(),
            Self::SessionCreated(_)
            | Self::SessionUpdated(_)
            | Self::SessionRestored(_)
            | Self::SessionDraining { .. }
            | Self::Error(_)
            | Self::Pong { .. }
            | Self::RateLimits { .. }
            | Self::SpeechStarted { .. }
            | Self::SpeechStopped { .. }
            | Self::Committed { .. }
            | Self::Cleared
            | Self::ResponseCreated(_)
            | Self::ResponseDone(_)
            | Self::OutputCleared { .. } => false,
            Self::MemberJoined { .. }
            | Self::MemberLeft { .. }
            | Self::RoomMessage { .. }
            | Self::OutboxDropped { .. }
            | Self::Metrics(_)
            | Self::ChannelSubscribed(_)
            | Self::ChannelUnsubscribed { .. }
            | Self::ItemAdded { .. }
            | Self::ItemDone { .. }
            | Self::OutputItemAdded { .. }
            | Self::OutputItemDone { .. }
            | Self::ContentPartAdded { .. }
            | Self::ContentPartDone { .. }
            | Self::OutputAudioDone { .. }
            | Self::TranscriptDelta { .. }
            | Self::TranscriptDone { .. }
            | Self::TextDelta { .. }
            | Self::TextDone { .. } => true,
        }
    }
}
