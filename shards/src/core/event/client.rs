//! What clients say.

use super::channel::ChannelWish;
use super::item::NewItem;
use super::settings::{Modality, SessionPatch};
use crate::core::ids::MemberNumber;

/// One event from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientEvent {
    /// The client's name for it, repeated in the error that answers it.
    pub event_id: Option<Box<str>>,
    /// The client's count, so that an event sent twice is done once.
    pub client_seq: Option<u64>,
    /// What it wants.
    pub command: ClientCommand,
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCommand {
    /// Append the bytes in [`super::Scratch::audio`] to the input buffer, as a binary frame would.
    Append,
    /// End the utterance.
    Commit,
    /// Empty the input buffer.
    Clear,
    /// Add an item to the conversation.
    ItemCreate(Box<NewItem>),
    /// Take an item out of the conversation.
    ItemDelete {
        /// Its name.
        item: Box<str>,
    },
    /// Tell an item as it is.
    ItemRetrieve {
        /// Its name.
        item: Box<str>,
    },
    /// Cut what the engine has said down to what was heard.
    ItemTruncate {
        /// Its name.
        item: Box<str>,
        /// The part.
        content_index: u32,
        /// So much of it was heard.
        audio_end_ms: u64,
    },
    /// Flush what is queued of the response that runs, and let it run.
    OutputClear,
    /// Ask for a response.
    ResponseCreate(ResponseRequest),
    /// Interrupt a response: the one named, or the one that runs.
    ResponseCancel {
        /// The one.
        response_id: Option<Box<str>>,
    },
    /// Change settings, token or state.
    SessionUpdate(Box<SessionUpdate>),
    /// Send to the other members, or to one.
    RoomSend {
        /// Raw JSON, as it came.
        data: Box<str>,
        /// The one.
        to: Option<MemberNumber>,
    },
    /// Something about a channel.
    Channel(Box<ChannelWish>),
    /// Answer with a pong.
    Ping {
        /// Raw JSON number or string, as it came.
        t: Option<Box<str>>,
    },
}

/// What a client says about the response it asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseRequest {
    /// What it should be made of, if not what the session says.
    pub modality: Option<Modality>,
    /// The client's own data, raw JSON, given back with the response.
    pub metadata: Option<Box<str>>,
    /// All of it, a raw JSON object, for a model server.
    pub raw: Option<Box<str>>,
}

/// What `session.update` may bring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionUpdate {
    /// Settings.
    pub session: Option<SessionPatch>,
    /// What else the client says of its session, for the room to keep: a raw JSON object in the GA shape.
    pub extras: Option<Box<str>>,
    /// A fresh token.
    pub token: Option<Box<str>>,
    /// Raw JSON object to merge into the room's state.
    pub state: Option<Box<str>>,
    /// The last event that the client has: it wants to be told again what came after.
    pub after: Option<u64>,
}

/// Why an event was refused. The connection stays; the client gets an `error` event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    /// Which kind of mistake.
    pub code: &'static str,
    /// A sentence for a human.
    pub message: String,
    /// The path of the field at fault.
    pub param: Option<Box<str>>,
    /// The event at fault, if it can be read.
    pub event_id: Option<Box<str>>,
    /// Its number, if the client counts and it can be read.
    pub client_seq: Option<u64>,
    /// Whether the same event may succeed later.
    pub retryable: bool,
}

impl ClientError {
    /// A mistake without a field or event to name.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            param: None,
            event_id: None,
            client_seq: None,
            retryable: false,
        }
    }

    /// A field whose value can't be taken.
    pub fn invalid_value(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new("invalid_value", message) }
    }

    /// The same, naming the event at fault.
    #[must_use]
    pub fn about(mut self, event_id: Option<Box<str>>) -> Self {
        self.event_id = event_id;
        self
    }
}
