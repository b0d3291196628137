//! The vocabulary: what clients say and what the server says, in the names of the OpenAI Realtime API (GA).
//!
//! Nothing here keeps state between events, apart from [`Scratch`], the parser's reused buffers: one per shard,
//! bounded by the longest message. [`parse`] turns one JSON event into a [`ClientEvent`]; [`ServerEvent::write`]
//! turns an event into one line of JSON.

mod base64;
mod channel;
mod client;
mod decode_item;
mod decode_session;
mod dialect;
mod extras;
mod feed;
mod fields;
mod ids;
mod item;
mod json;
mod msgpack;
#[cfg(test)]
mod msgpack_tests;
mod parse;
#[cfg(test)]
mod parse_tests;
mod scan;
mod server;
mod session;
mod settings;
mod several;
mod write;
mod write_metrics;
mod write_response;
mod write_session;
#[cfg(test)]
mod write_tests;

pub use channel::{ChannelWish, Subscribed};
pub use client::{ClientCommand, ClientError, ClientEvent, ResponseRequest, SessionUpdate};
pub use dialect::Dialect;
pub use feed::{FEED_NAMESPACE, feed_type, write_feed};
pub use ids::{ConversationId, EventId, ItemId, ItemName, ResponseId};
pub use item::{
    CancelReason, Content, Item, ItemKind, ItemStatus, NewContent, NewItem, Response, ResponseStatus, Role,
    Usage,
};
pub use msgpack::{MsgpackBounds, json_of, msgpack_of};
pub use parse::{Scratch, parse};
pub use server::{ErrorEvent, Metrics, NamedPart, Part, PartRef, Passed, ServerEvent};
pub use session::{RestoredView, ResumeView, SessionLimits, SessionView};
pub use settings::{
    AudioFormat, Changes, Codec, Modality, ServerVad, SessionPatch, SessionSettings, VadPatch,
};
pub use several::split;

pub(in crate::core) use extras::merge as merge_extras;
pub(in crate::core) use write_response::{AUDIO_DELTA_END, audio_delta_head};

/// What happens to a message when its lane is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Takes the place of droppable messages; if control alone overflows, the connection closes.
    Control,
    /// The oldest frame beyond the age limit goes first.
    Audio,
    /// Dropped and counted.
    Droppable,
}

impl Class {
    /// As written in `outbox.dropped` and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Audio => "audio",
            Self::Droppable => "droppable",
        }
    }
}
