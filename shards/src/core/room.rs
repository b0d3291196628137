//! One room: its members, its engine, what waits for the engine, and its counts.

use smallvec::SmallVec;

use super::arrivals::Queue;
use super::engine::{Engine, EngineKind};
use super::event::SessionSettings;
use super::gate::RealtimeClaim;
use super::ids::{ConnKey, MemberNumber, RoomKey, SessionId};
use super::paged::Keyed;
use super::past::{Held, Past};
use super::report::Record;
use super::shard::InStore;
use super::time::Micros;
use super::upstream_conn::Known;
use super::usage::Meter;

/// The server-side object of a session. An idle one has no engine, no queue and no settings of its own.
///
/// As in a connection, what a frame of audio needs stands first.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Room {
    /// Tells this holder of the slot from earlier ones.
    pub(super) generation: u32,
    /// Audio that the engine has not taken yet.
    pub(super) inbound: Queue,
    /// Frames received from members.
    pub(super) frames_received: u64,
    /// Its members, in the order of joining.
    pub(super) members: SmallVec<[Member; 1]>,
    /// Audio frames made so far.
    pub(super) audio_seq: u64,
    /// The engine, once there was something for it to do.
    pub(super) engine: Option<Engine>,
    /// Frames put into members' lanes.
    pub(super) frames_sent: u64,
    /// The last number used for an item or response.
    pub(super) last_id: u64,
    /// Settings.
    pub(super) settings: SessionSettings,
    /// The last member number given out.
    pub(super) last_member: u16,
    /// Which engine answers in it.
    pub(super) kind: EngineKind,
    /// Whether all of its members take audio in events.
    pub(super) only_events: bool,
    /// Events so far: the number of the last. What of them is kept, [`Kept::past`] has.
    pub(super) seq: u64,
    /// When it was made.
    pub(super) since: Micros,
    /// When it ends; zero while it has members.
    pub(super) ends_at: Micros,
    /// When the engine's timer in the wheel goes off; zero when there is none that counts.
    pub(super) armed: Micros,
    /// Its name.
    pub(super) session_id: SessionId,
    /// What is kept with it that most rooms never have.
    pub(super) kept: Option<Box<Kept>>,
}

/// What is kept with a room that most rooms never have.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// What clients want kept with the room: a JSON object.
    pub(super) state: Option<Box<str>>,
    /// What clients said of their session that only a model server heeds; see [`super::engine::EngineContext::extras`].
    pub(super) extras: Option<Box<str>>,
    /// The model that its first member asked for.
    pub(super) model: Option<Box<str>>,
    /// Its upstream sessions: one, or two while one takes over from the other.
    pub(super) lines: SmallVec<[Known; 2]>,
    /// What the token of the room's first member says of its model session.
    pub(super) claim: Option<Box<RealtimeClaim>>,
    /// Counts what its responses take and give.
    pub(super) meter: Meter,
    /// What was said in it, where somebody takes reports.
    pub(super) record: Option<Box<Record>>,
    /// How much of it the store has been told, where there is one.
    pub(super) in_store: InStore,
    /// What it remembers for members that come back, from its first event on.
    pub(super) past: Option<Box<Past>>,
}

impl Keyed for Room {
    type Key = RoomKey;

    fn slot(key: RoomKey) -> (u32, u32) {
        (key.index, key.generation)
    }

    fn generation(&self) -> u32 {
        self.generation
    }
}

const _: () = assert!(size_of::<Option<Room>>() == 192, "three cache lines for each room");

/// A member's place in its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its number.
    pub(super) number: MemberNumber,
    /// Its connection.
    pub(super) conn: ConnKey,
}

impl Room {
    /// What clients want kept with the room: a JSON object.
    pub(super) fn state(&self) -> Option<&str> {
        self.kept.as_ref()?.state.as_deref()
    }

    /// What it remembers for members that come back, if it has had any event.
    pub(super) fn past(&self) -> Option<&Past> {
        self.kept.as_ref()?.past.as_deref()
    }

    /// The same, to be added to.
    pub(super) fn past_mut(&mut self) -> &mut Past {
        self.kept.get_or_insert_default().past.get_or_insert_default()
    }

    /// How much it remembers.
    pub(super) fn held(&self) -> Held {
        self.past().map(Past::held).unwrap_or_default()
    }

    /// The next free member number, from 1.
    pub(super) fn next_member(&mut self) -> MemberNumber {
        loop {
            self.last_member = self.last_member.checked_add(1).unwrap_or(1);
            let number = MemberNumber(self.last_member);
            if self.members.iter().all(|member| member.number != number) {
                return number;
            }
        }
    }
}
