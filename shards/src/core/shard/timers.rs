//! What happens because time has passed.
//!
//! Each connection and each room has at most one timer that counts: the earliest of its deadlines. A deadline that
//! moves further away leaves the timer where it is; when that goes off, the new deadline is looked up. So traffic
//! never touches the wheel.

use super::super::conn::{Goodbye, Open, Phase};
use super::super::engine::EngineInput;
use super::super::frame::PING;
use super::super::ids::{ConnKey, RoomKey};
use super::super::report::RoomEnd;
use super::super::time::Micros;
use super::super::upstream_conn::Stage;
use super::{Effects, Shard};

/// Heartbeats are rounded up to this, so that ten thousand of them wake the shard ten times a second and not four
/// hundred times.
const HEARTBEAT_GRAIN: u64 = 131_072;

/// What a timer in the wheel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timer(u64);

const ROOM: u64 = 1 << 63;

impl Timer {
    pub(super) const fn conn(key: ConnKey) -> Self {
        Self((key.index as u64) << 32 | key.generation as u64)
    }

    pub(super) const fn room(key: RoomKey) -> Self {
        Self(ROOM | (key.index as u64) << 32 | key.generation as u64)
    }
}

impl Shard {
    /// Sets a connection's timer to its earliest deadline, if none goes off before.
    pub(super) fn arm(&mut self, now: Micros, key: ConnKey) {
        let Some(conn) = self.conns.find_mut(key) else {
            return;
        };
        let blocked = conn.lane.blocked_since().map(|since| since + self.config.outbox.slow_client);
        let deadline = match &conn.phase {
            Phase::Head(head) => Some(head.deadline),
            Phase::Post(post) => Some(post.deadline),
            Phase::Open(open) => {
                let heartbeat = match self.streams.get(&key) {
                    None => heartbeat_due(open, conn.heard, &self.config.heartbeat),
                    Some(stream) => rounded(Self::stream_due(stream)),
                };
                let drain = (open.drain_at.0 > 0).then_some(open.drain_at);
                [Some(heartbeat), drain, blocked, open.until()].into_iter().flatten().min()
            }
            Phase::Upstream(upstream) if upstream.stage == Stage::Open => {
                let heartbeat = &self.config.heartbeat;
                let due = if upstream.pinged { heartbeat.idle } else { heartbeat.ping };
                let due = rounded(conn.heard + due);
                Some(blocked.map_or(due, |blocked| blocked.min(due)))
            }
            Phase::Upstream(upstream) => Some(upstream.deadline),
            Phase::Closing(closing) => Some(closing.deadline),
            Phase::Gone => None,
        };
        let Some(at) = deadline.map(|at| at.max(now)) else { return };
        if conn.armed.0 == 0 || at < conn.armed {
            conn.armed = at;
            self.wheel.schedule(at, Timer::conn(key));
        }
    }

    /// Sets a room's timer to its earliest deadline, if none goes off before.
    pub(super) fn arm_room(&mut self, key: RoomKey) {
        let Some(room) = self.rooms.find_mut(key) else {
            return;
        };
        let engine = room.engine.as_ref().and_then(|engine| engine.deadline());
        let end = (room.ends_at.0 > 0).then_some(room.ends_at);
        let Some(at) = [engine, end].into_iter().flatten().min() else { return };
        if room.armed.0 == 0 || at < room.armed {
            room.armed = at;
            self.wheel.schedule(at, Timer::room(key));
        }
    }

    /// Everything that is due.
    pub(super) fn timers(&mut self, now: Micros, fx: &mut Effects) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now, &mut due);
        for Timer(what) in due.drain(..) {
            let (index, generation) = ((what & !ROOM) >> 32, what as u32);
            if what & ROOM == 0 {
                self.conn_timer(now, ConnKey { index: index as u32, generation }, fx);
            } else {
                self.room_timer(now, RoomKey { index: index as u32, generation });
            }
        }
        self.due = due;
    }

    fn conn_timer(&mut self, now: Micros, key: ConnKey, fx: &mut Effects) {
        let heartbeat = self.config.heartbeat.clone();
        let slow_client = self.config.outbox.slow_client;
        let Some(conn) = self.conn(key) else { return };
        if conn.armed > now {
            return; // An earlier setting of this timer.
        }
        conn.armed = Micros(0);
        let slow = conn.lane.blocked_since().is_some_and(|since| now.since(since) >= slow_client);
        let silent = now.since(conn.heard);
        match &mut conn.phase {
            Phase::Head(head) if head.deadline <= now => self.head_timeout(now, key, fx),
            Phase::Upstream(_) => self.upstream_timer(now, key, slow, silent, fx),
            Phase::Open(_) if slow => self.too_slow(now, key, fx),
            Phase::Open(open) if open.until().is_some_and(|at| at <= now) => self.token_expired(now, key, fx),
            Phase::Open(open) if open.drain_at.0 > 0 && open.drain_at <= now => {
                self.drain_goodbye(now, key, fx)
            }
            Phase::Open(open) if open.subprotocol.is_stream() => self.stream_timer(now, key),
            Phase::Post(post) if post.deadline <= now => self.post_timeout(now, key, fx),
            Phase::Open(open) if open.pinged && silent >= heartbeat.idle => self.idle_too_long(now, key, fx),
            Phase::Open(open) if !open.pinged && silent >= heartbeat.ping => {
                open.pinged = true;
                let ping = self.pool.copy(b"").seal(PING);
                self.enqueue_control_frame(now, key, ping);
            }
            Phase::Closing(closing) if closing.deadline <= now => {
                let lingering = closing.stage == Goodbye::Lingering;
                self.cut_with(key, lingering, fx);
            }
            _ => {}
        }
        self.arm(now, key);
    }

    fn room_timer(&mut self, now: Micros, key: RoomKey) {
        let Some(room) = self.room(key) else { return };
        if room.armed > now {
            return;
        }
        room.armed = Micros(0);
        if room.ends_at.0 > 0 && room.ends_at <= now {
            self.end_room(now, key, RoomEnd::Lingered);
            return;
        }
        if room.engine.as_ref().and_then(|engine| engine.deadline()).is_some_and(|at| at <= now) {
            self.drive_engine(now, key, Some(EngineInput::Tick));
        }
        self.arm_room(key);
    }

    /// Lanes whose events have waited long enough become due.
    pub(super) fn end_waits(&mut self, now: Micros) {
        while let Some(&(until, key)) = self.waiting.front()
            && until <= now
        {
            self.waiting.pop_front();
            let counters = &mut self.counters;
            let conn = self.conns.find_mut(key);
            if let Some(conn) = conn
                && conn.lane.wait_until().is_some_and(|at| at <= now)
            {
                conn.lane.end_wait(now, counters);
                self.mark_dirty(key);
            }
        }
    }
}

/// When an open connection next needs a ping, or is given up.
fn heartbeat_due(open: &Open, heard: Micros, heartbeat: &super::super::config::Heartbeat) -> Micros {
    rounded(heard + if open.pinged { heartbeat.idle } else { heartbeat.ping })
}

fn rounded(due: Micros) -> Micros {
    Micros(due.0.next_multiple_of(HEARTBEAT_GRAIN))
}
