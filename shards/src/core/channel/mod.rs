//! Channels (PROTOCOL 7): names and patterns, who subscribed, and the streams with what they remember.
//!
//! A stream is what has one order, one history and one owner: the shard that [`owner`] says. Whoever publishes reaches
//! that shard; it sends each shard that may have subscribers one [`Delivery`], shared by all of them.

mod counters;
mod interest;
mod name;
mod namespace;
mod parcel;
mod stream;
mod streams;
mod tree;

pub use counters::{ChannelCounters, UNDELIVERABLES};
pub use interest::Interest;
pub use name::{BadName, ChannelName, NAME_BYTES_MAX, Pattern, SEGMENTS_MAX, owner, stream_of};
pub use namespace::{ChannelConfig, Importance, Namespace, Publishers, Rate, Subscribers, second_of};
pub use parcel::{Gap, Join, Joined, NotTaken, Parcel, Posted};
pub use stream::{After, Delivery, Lost, Position, Standing};
pub use streams::{Outcome, Refused, Streams};
pub use tree::Tree;

use super::ids::SessionId;
use super::time::Micros;

/// Something to be published on a channel.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The channel's name: segments between colons, none of them empty or a `*`.
    pub channel: Box<str>,
    /// Any JSON, already serialised and valid.
    pub data: Box<str>,
    /// What is delivered once: a repeated key within its channel's window is answered as the first was.
    pub dedupe: Option<Box<str>>,
    /// For how long it may be delivered; nothing for as long as its namespace keeps it.
    pub ttl: Option<Micros>,
    /// Whether it is a dead letter when nobody hears it.
    pub needs_subscriber: bool,
    /// The session that it is about, for those who filter.
    pub session: Option<SessionId>,
    /// Who publishes.
    pub by: Publisher,
}

impl Publication {
    /// A publication of which nothing special is asked.
    #[must_use]
    pub fn new(channel: &str, data: &str, by: Publisher) -> Self {
        let (channel, data) = (channel.into(), data.into());
        Self { channel, data, dedupe: None, ttl: None, needs_subscriber: false, session: None, by }
    }

    /// Bytes of its texts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.channel.len() + self.data.len() + self.dedupe.as_ref().map_or(0, |key| key.len())
    }
}

/// Who publishes, which decides where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publisher {
    /// The operator, through the admin API or the command line.
    Admin,
    /// The server itself, or an engine.
    Server,
    /// A connection of this user; nothing where nobody is asked who they are.
    User(Option<Box<str>>),
}

/// What became of a publication.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Published {
    /// Its name, also the position to ask for what comes after it.
    pub id: Box<str>,
    /// Its number in its stream.
    #[serde(rename = "offset")]
    pub seq: u64,
    /// Whether it is the repetition of one that was delivered before.
    pub duplicate: bool,
    /// How many shards took it.
    pub shards: usize,
    /// How many subscribers there.
    pub subscribers: usize,
}

/// Why a publication can't be delivered as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Undeliverable {
    /// Its time was over before it could be.
    Expired,
    /// The publisher may not, or there is no such namespace.
    Refused,
    /// Its channel has had too many of late.
    RateLimited,
    /// Nobody heard it, and somebody had to.
    NoSubscriber,
    /// There was no room for it on the way.
    Overloaded,
}

impl Undeliverable {
    /// As clients and metrics have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        UNDELIVERABLES[self as usize]
    }
}

/// A publication that could not be delivered, for the operator.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// What was to be published.
    pub publication: Publication,
    /// Why it was not.
    pub reason: Undeliverable,
}
