//! One room: its members, its engine, what waits for the engine, and its counts.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::engine::{Engine, EngineKind};
use super::event::SessionSettings;
use super::frame::Draft;
use super::ids::{ConnKey, MemberNumber, SessionId};
use super::time::Micros;

/// The server-side object of a session. An idle one has no engine, no queue and no settings of its own.
#[derive(Debug)]
pub(super) struct Room {
    /// Tells this holder of the slot from earlier ones.
    pub(super) generation: u32,
    /// Its name.
    pub(super) session_id: SessionId,
    /// Which engine answers in it.
    pub(super) kind: EngineKind,
    /// The engine, once there was something for it to do.
    pub(super) engine: Option<Engine>,
    /// Settings, once they differ from the default.
    pub(super) settings: SessionSettings,
    /// What clients want kept with the room: a JSON object.
    pub(super) state: Option<Box<str>>,
    /// Its members, in the order of joining.
    pub(super) members: SmallVec<[Member; 1]>,
    /// Audio that the engine has not taken yet.
    pub(super) inbound: VecDeque<(MemberNumber, Draft)>,
    /// Whether it stands on the list of rooms whose engine has something to do.
    pub(super) runnable: bool,
    /// The last member number given out.
    pub(super) last_member: u16,
    /// Events made so far.
    pub(super) seq: u64,
    /// Audio frames made so far.
    pub(super) audio_seq: u64,
    /// The last number used for an item or response.
    pub(super) last_id: u64,
    /// When it was made.
    pub(super) since: Micros,
    /// When it ends; zero while it has members.
    pub(super) ends_at: Micros,
    /// When the engine's timer in the wheel goes off; zero when there is none that counts.
    pub(super) armed: Micros,
    /// Frames received from members.
    pub(super) frames_received: u64,
    /// Frames put into members' lanes.
    pub(super) frames_sent: u64,
}

/// A member's place in its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its number.
    pub(super) number: MemberNumber,
    /// Its connection.
    pub(super) conn: ConnKey,
}

impl Room {
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
