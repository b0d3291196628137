//! Clients that wait while the store is asked for their room.
//!
//! The room is not made before the store has said what it has of it, or failed to within its time. Meanwhile the connection
//! is one whose head is being read: it counts as such, and nothing more is read from it.

use std::collections::HashMap;

use super::super::conn::{Conn, Phase};
use super::super::counters::{Refusal, Unrecovered};
use super::super::effect::Effect;
use super::super::ids::{ConnKey, SessionId};
use super::super::memory::{Recalled, Remembered, StoreFailed};
use super::super::time::Micros;
use super::door::{Refused, refused};
use super::heads::problem;
use super::joining::Joining;
use super::{Effects, Shard};

/// Those who wait, by the room that they wait for.
#[derive(Debug, Default)]
pub(super) struct StoreWait {
    rooms: HashMap<SessionId, Vec<Waiting>>,
    clients: usize,
    /// The room that those come into now for whom the store could not say.
    silent: Option<SessionId>,
}

#[derive(Debug)]
struct Waiting {
    conn: ConnKey,
    since: Micros,
    joining: Joining,
    /// What came in behind the head.
    rest: Vec<u8>,
}

impl StoreWait {
    /// Rooms that are waited for, and clients that wait.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.rooms.len(), self.clients)
    }
}

impl Shard {
    /// Whether the store has to be asked before this room can be joined.
    pub(super) fn may_be_stored(&self, session: &SessionId) -> bool {
        self.config.store.is_some() && self.find_room(session).is_none() && !self.is_being_forgotten(session)
    }

    /// The client waits, for so long at most. Where too many wait already it is sent away for a moment: the others, whose rooms
    /// are there, must still get in, and without asking its room would take the place of the one that the store has.
    pub(super) fn wait_for_store(
        &mut self,
        now: Micros,
        key: ConnKey,
        joining: Joining,
        rest: Vec<u8>,
        fx: &mut Effects,
    ) {
        let full = self.store_wait.clients > self.config.limits.upgrades_in_flight_max / 2;
        if full && !self.store_wait.rooms.contains_key(&joining.session) {
            self.counters.store.not_asked += 1;
            let after_s = Some(self.come_back_in(1));
            let answer = problem(503, "too many wait for the store", after_s);
            return self.refuse(now, key, Refusal::Unavailable, &answer, fx);
        }
        let recall = self.config.store.as_ref().map_or(Micros(0), |store| store.recall);
        let Some(Conn { phase: Phase::Head(head), .. }) = self.conn(key) else { return };
        head.deadline = now + recall;
        let session = joining.session.clone();
        head.waits = Some(session.clone());
        let waiting = self.store_wait.rooms.entry(session.clone()).or_default();
        if waiting.is_empty() {
            self.counters.store.recalls += 1;
            fx.push(Effect::Recall(session));
        }
        waiting.push(Waiting { conn: key, since: now, joining, rest });
        self.store_wait.clients += 1;
        self.arm(now, key);
    }

    /// The store has said what it has of a room, or that it can't: those who wait for it come in.
    pub(super) fn recalled(&mut self, now: Micros, recalled: Recalled, fx: &mut Effects) {
        let Recalled { session, memory } = recalled;
        // Where the time was over before, the room has begun without.
        let Some(waiting) = self.store_wait.rooms.remove(&session) else { return };
        self.store_wait.clients -= waiting.len();
        match memory {
            Ok(Some(room)) => self.revive(now, &session, room),
            Ok(None) => {}
            Err(StoreFailed) => {
                self.counters.store.failed += 1;
                self.store_wait.silent = Some(session.clone());
            }
        }
        for Waiting { conn, since, mut joining, mut rest } in waiting {
            let Some(Conn { phase: Phase::Head(head), heard, .. }) = self.conn(conn) else { continue };
            head.waits = None;
            // Nobody has listened meanwhile: it was not silent.
            *heard = now;
            if let Some(span) = joining.pass.as_mut().and_then(|pass| pass.valid_for.as_mut()) {
                *span = Micros(span.0.saturating_sub(now.since(since).0));
            }
            match self.still_admitted(&joining) {
                Err((refusal, answer)) => self.refuse(now, conn, refusal, &answer, fx),
                Ok(()) => self.join(now, conn, joining, &mut rest, fx),
            }
        }
        if self.store_wait.silent.take().is_some()
            && let Some(key) = self.find_room(&session)
        {
            self.began_unasked(key);
        }
    }

    /// Whether one who has waited may come in: the room is perhaps another one than it would have been.
    ///
    /// # Errors
    /// With 403 or 503.
    fn still_admitted(&mut self, joining: &Joining) -> Result<(), Refused> {
        if let Some(refused) = self.turns_away() {
            return Err(refused);
        }
        let Joining { session, wishes, pass, .. } = joining;
        pass.as_ref().map_or(Ok(()), |pass| self.admit(pass, session, wishes.kind)).map_err(refused)
    }

    /// Why a room is not there, or not the one that a client was in.
    pub(super) fn why_unknown(&self, session: &SessionId) -> Unrecovered {
        // Those who have waited come in one after the other, and only the first of them finds no room.
        let unasked = self.store_wait.silent.as_ref() == Some(session)
            || self.find_room(session).is_some_and(|key| self.has_begun_unasked(key));
        if unasked { Unrecovered::StoreFailed } else { Unrecovered::RoomEnded }
    }

    /// The store has taken too long.
    pub(super) fn waited_too_long(&mut self, now: Micros, session: SessionId, fx: &mut Effects) {
        self.recalled(now, Recalled { session, memory: Err(StoreFailed) }, fx);
    }

    fn revive(&mut self, now: Micros, session: &SessionId, room: Remembered) {
        let Remembered { memory, whole } = room;
        let seq = memory.seq;
        if self.draining.is_none()
            && self.recall(now, *memory, whole).is_ok()
            && let Some(key) = self.find_room(session)
        {
            self.counters.store.revived += 1;
            self.stored(key, seq);
            if !whole {
                // It has a numbering of its own, which the store has to know whatever becomes of those who wait for it.
                self.changed(key);
            }
        }
    }
}
