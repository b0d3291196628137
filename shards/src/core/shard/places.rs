//! Places: what a shard reserves of its node before it lets somebody in, what it says when there is none left, and how
//! it gives them back.

use ::core::net::SocketAddr;

use super::super::conn::{Conn, Open, Phase};
use super::super::counters::{Refusal, ShedCause};
use super::super::gate::Pass;
use super::super::ids::ConnKey;
use super::super::quota::Exhausted;
use super::Shard;
use super::door::Refused;
use super::heads::problem;

impl Shard {
    /// What is said to everybody, if nobody new is taken now. It comes before tokens are checked: that costs time.
    pub(super) fn turns_away(&mut self) -> Option<Refused> {
        let (refusal, detail) = if self.draining.is_some() {
            (Refusal::Unavailable, "this node is draining")
        } else if self.quotas.is_full() {
            (Refusal::Unavailable, "this node is full")
        } else {
            match self.sheds_for()? {
                ShedCause::Lag => (Refusal::Shedding, "this shard has too much to do"),
                ShedCause::Memory => (Refusal::Shedding, "this node is short of memory"),
            }
        };
        Some((refusal, problem(503, detail, Some(self.come_back_in(2)))))
    }

    /// Reserves a connection of the node for one who may come in, and for the user and the address that are theirs.
    ///
    /// # Errors
    /// With 429 or 503; nothing is reserved then.
    pub(super) fn reserve(&mut self, key: ConnKey, pass: Option<&Pass>) -> Result<(), Refused> {
        let Some(peer) = self.conn(key).map(|conn| SocketAddr::from(conn.peer)) else { return Ok(()) };
        let user = pass.map(|pass| &*pass.sub);
        let Err(exhausted) = self.quotas.take_connection(user, peer.ip()) else { return Ok(()) };
        let (refusal, status, detail) = match exhausted {
            Exhausted::Connections => (Refusal::Unavailable, 503, "this node is full"),
            Exhausted::User => (Refusal::UserFull, 429, "this user has as many connections as one may have"),
            Exhausted::Address => {
                (Refusal::AddressFull, 429, "this address has as many connections as one may have")
            }
        };
        Err((refusal, problem(status, detail, Some(self.come_back_in(5)))))
    }

    /// Gives back what was reserved for one who was then refused all the same.
    pub(super) fn give_back(&mut self, key: ConnKey, pass: Option<&Pass>) {
        if let Some(peer) = self.conn(key).map(|conn| SocketAddr::from(conn.peer)) {
            self.quotas.give_back_connection(pass.map(|pass| &*pass.sub), peer.ip());
        }
    }

    /// Gives back what an open connection has. Its user and its address have not changed since: a fresh token has to
    /// be the same user's.
    pub(super) fn release(&self, key: ConnKey) {
        let conn = self.conns.find(key);
        if let Some((conn, open)) = conn.and_then(opened) {
            let user = open.identity.as_ref().map(|identity| &*identity.sub);
            self.quotas.give_back_connection(user, SocketAddr::from(conn.peer).ip());
        }
    }

    /// How many seconds one should wait who is sent away: who is sent away together should not come back together.
    pub(super) fn come_back_in(&mut self, least_s: u64) -> u32 {
        (least_s + self.rng.below(4)) as u32
    }

    pub(super) fn too_often(&mut self) -> Refused {
        let detail = "too many connections from this address at once";
        (Refusal::TooOften, problem(429, detail, Some(self.come_back_in(1))))
    }

    /// The answer to one for whom there was no seat.
    pub(super) fn no_seat(&mut self, refusal: Refusal) -> Vec<u8> {
        let after_s = Some(self.come_back_in(5));
        match refusal {
            Refusal::RoomFull => problem(429, "this room has as many members as it may", after_s),
            _ => problem(503, "this node has as many rooms as it may", after_s),
        }
    }
}

fn opened(conn: &Conn) -> Option<(&Conn, &Open)> {
    match &conn.phase {
        Phase::Open(open) => Some((conn, open)),
        _ => None,
    }
}

/// What it had goes back to the node, whatever its end was.
impl Drop for Shard {
    fn drop(&mut self) {
        for (index, conn) in self.conns.iter() {
            self.release(ConnKey { index, generation: conn.generation });
        }
        self.quotas.give_back_rooms(self.rooms.len());
        self.give_back_sessions();
    }
}
