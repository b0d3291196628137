//! What shards send each other for channels. Between two shards order holds.
//!
//! Parcels wait at their sender until the mesh has room for them: [`super::super::Shard::next_parcel`] says what becomes
//! of those that find no room to wait in.

use std::sync::Arc;

use super::super::ids::ConnKey;
use super::super::message::AskId;
use super::super::time::Micros;
use super::name::Pattern;
use super::stream::{After, Delivery, Position, Standing};
use super::{Publication, Undeliverable};

/// See the module.
#[derive(Debug)]
pub enum Parcel {
    /// A publication, to the owner of its stream. No room to wait in: its client is told, and the publication is a
    /// dead letter.
    Post(Box<Posted>),
    /// From the owner: it was not taken. The client's `error`.
    NotTaken(Box<NotTaken>),
    /// From the owner to a shard that may have subscribers. No room to wait in: the publication is a dead letter, and what
    /// follows in its stream waits for a [`Parcel::Gap`].
    Deliver {
        /// The message, shared by all shards.
        delivery: Arc<Delivery>,
        /// The question to answer with the number of subscribers; nothing when nobody wants to know.
        ask: Option<AskId>,
    },
    /// From the owner: messages were lost on the way to this shard, in their place in the order.
    Gap(Box<Gap>),
    /// To the owner: a subscription begins. No room to wait in: the client is told that it did not.
    Join(Box<Join>),
    /// From the owner: where the stream stands. Everything that came before it on the same way is past, everything that
    /// comes after it is news.
    Joined(Box<Joined>),
}

const _: () = assert!(size_of::<Parcel>() <= 32, "queues are full of them");

/// A publication on its way to the owner of its stream.
#[derive(Debug)]
pub struct Posted {
    /// What is published.
    pub publication: Publication,
    /// When it was.
    pub since: Micros,
    /// The connection to answer; nothing for what the server itself says.
    pub from: Option<ConnKey>,
    /// Its client's name for the event.
    pub event_id: Option<Box<str>>,
}

/// The owner's answer to a publication that it did not take.
#[derive(Debug)]
pub struct NotTaken {
    /// The connection to answer.
    pub to: ConnKey,
    /// Its client's name for the event.
    pub event_id: Option<Box<str>>,
    /// Why.
    pub reason: Undeliverable,
}

/// Messages that were lost between two shards.
#[derive(Debug)]
pub struct Gap {
    /// Of this stream.
    pub stream: Box<str>,
    /// What follows begins here.
    pub at: Position,
}

/// A subscription that begins.
#[derive(Debug)]
pub struct Join {
    /// The subscriber.
    pub conn: ConnKey,
    /// Names the subscription in the answer.
    pub ticket: u64,
    /// To what.
    pub pattern: Pattern,
    /// What it has heard last, if it wants to know what it missed.
    pub after: Option<After>,
}

/// The owner's answer.
#[derive(Debug)]
pub struct Joined {
    /// The subscriber.
    pub conn: ConnKey,
    /// Names the subscription.
    pub ticket: u64,
    /// Where the stream stands, and what was missed.
    pub standing: Standing,
}

impl Parcel {
    /// Bytes that it makes wait, about. What is shared counts wherever it waits.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Post(posted) => posted.publication.bytes(),
            Self::Deliver { delivery, .. } => delivery.bytes(),
            Self::NotTaken(_) | Self::Gap(_) | Self::Join(_) | Self::Joined(_) => 64,
        }
    }
}
