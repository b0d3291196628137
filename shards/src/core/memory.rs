//! What a store keeps of a room: enough to go on with it after the process, or on another box.

use super::engine::{Audience, EngineKind};
use super::event::{Class, SessionSettings};
use super::ids::{MemberNumber, SessionId, ShardId};
use super::time::Micros;

/// What a shard tells the store at once.
#[derive(Debug)]
pub struct Remembers {
    /// When the oldest change among them was made, or before.
    pub since: Micros,
    /// In order.
    pub all: Vec<Remember>,
}

/// Something for the store.
#[derive(Debug)]
pub enum Remember {
    /// A room has changed.
    Room(Box<Memory>),
    /// A room has ended: nothing of it has to be kept.
    Forget(SessionId),
    /// The shard was asked for a room that it does not have: there is nothing to tell.
    Nothing(SessionId),
    /// The shard leaves, and has told everything of all its rooms.
    Complete(ShardId),
}

/// A room as a store has to keep it.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// Its name.
    pub session: SessionId,
    /// Which numbering its events are of.
    pub epoch: u64,
    /// Earlier numberings, the oldest first, each with what this one shares with it: what was numbered later was lost with a
    /// process that was killed.
    pub earlier: Vec<Earlier>,
    /// Events so far.
    pub seq: u64,
    /// The number of the oldest event that the room still remembers; what is older has no more to be kept. One more than
    /// `seq` when it remembers none.
    pub oldest: u64,
    /// The last member number given out.
    pub last_member: u16,
    /// The last number used for an item or response.
    pub last_id: u64,
    /// Which engine answers in it.
    pub engine: EngineKind,
    /// Its settings.
    pub settings: SessionSettings,
    /// What clients want kept with it: a JSON object.
    pub state: Option<Box<str>>,
    /// What clients said of their session that no setting holds: a JSON object.
    pub extras: Option<Box<str>>,
    /// The model that its first member asked for.
    pub model: Option<Box<str>>,
    /// The last `client_seq` of each member that numbers its events.
    pub client_seqs: Vec<(MemberNumber, u64)>,
    /// Events, in order, the last of them with the number `seq`. To the store: those since the last time, and when
    /// they don't follow what it has, what it has is of no use any more. From the store: all that it has.
    pub events: Vec<KeptEvent>,
}

impl Memory {
    /// Whether its numbering agrees with this one up to just that number.
    #[must_use]
    pub fn goes_on_from(&self, epoch: u64, seq: u64) -> bool {
        self.earlier.iter().any(|earlier| (earlier.epoch, earlier.seq) == (epoch, seq))
    }
}

/// An earlier numbering, up to where a later one agrees with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Its name.
    pub epoch: u64,
    /// The last event's number.
    pub seq: u64,
    /// The last member's number.
    pub members: u16,
}

/// An event as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptEvent {
    /// Whom it concerned.
    pub to: Audience,
    /// What it is worth when a lane is full.
    pub class: Class,
    /// The event, as JSON in today's words, with its id and number.
    pub json: Box<[u8]>,
}

/// A shard's question for what the store has of a room.
#[derive(Debug)]
pub struct Recall {
    /// Who asks.
    pub shard: ShardId,
    /// The room.
    pub session: SessionId,
}

/// What a store has of a room.
#[derive(Clone, Debug)]
pub struct Recalled {
    /// The room.
    pub session: SessionId,
    /// What it has, and nothing when it knows no such room.
    pub memory: Result<Option<Remembered>, StoreFailed>,
}

/// A room that a store has.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// What it has of it.
    pub memory: Box<Memory>,
    /// Whether that is all there was: the process that told it ended in good order.
    pub whole: bool,
}

/// The store can't say: it is broken, away, or too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFailed;
