//! Channels as others see them: what is published, and what became of it.

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

/// A publication that could not be delivered, for the operator.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// What was to be published.
    pub publication: Publication,
    /// Why it was not.
    pub reason: Undeliverable,
}
