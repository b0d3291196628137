//! Upstream sessions of rooms: what engines ask of them, and what they are told.
//!
//! A room's lines are kept with the room: one or two, found by their number. What an engine asks for takes effect at the
//! end of the turn, and what becomes of it is told there too, so that no engine is called while it asks. Bounded by the
//! node's sessions; a line that is refused costs an entry until the end of the turn.

use ::core::net::SocketAddr;

use smallvec::SmallVec;

use super::super::counters::{Counters, DropReason, HUNG_UP, UpstreamCounters, end_of};
use super::super::effect::Effect;
use super::super::frame::{Draft, TEXT};
use super::super::ids::{ConnKey, RoomKey, ShardId};
use super::super::outbox::{Books, Enqueue, Message, Shape};
use super::super::time::Micros;
use super::super::upstream::{Line, UpstreamEnd, UpstreamNews, UpstreamOrder};
use super::super::upstream_conn::{At, Known, Opening, Stage};
use super::{Effects, Shard};

/// How long an address is passed over that could not be connected to, if there is another.
const PASSED_OVER: Micros = Micros::from_s(30);

/// What a shard keeps of upstream sessions besides their connections.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    /// Lines to be dialled at the end of the turn.
    dials: Vec<(RoomKey, Line)>,
    /// Lines whose engines are to be told that they are over.
    ends: Vec<(RoomKey, Line)>,
    /// Connections whose engine or room wants no more of them, or that have been lost.
    pub(super) hangups: Vec<ConnKey>,
    /// Sessions reserved of the node.
    pub(super) reserved: usize,
    /// Which address has its turn.
    pub(super) turn: usize,
    /// Addresses that could not be connected to, and until when they are passed over.
    pub(super) passed_over: Vec<(SocketAddr, Micros)>,
    /// What their lanes count: apart from those of clients.
    books: Counters,
    /// What engines were told, for tests.
    #[cfg(test)]
    pub(in crate::core) told: Vec<(Line, String)>,
}

impl Upstreams {
    /// Of this shard: each begins with another address.
    pub(super) fn of(shard: ShardId) -> Self {
        Self { turn: shard.index(), ..Self::default() }
    }

    /// An address did not answer: it is passed over for a while.
    pub(super) fn pass_over(&mut self, now: Micros, address: SocketAddr) {
        self.passed_over.retain(|&(other, _)| other != address);
        self.passed_over.push((address, now + PASSED_OVER));
    }

    /// Whether there is something to do at the end of the turn.
    pub(super) fn has_more(&self) -> bool {
        !(self.dials.is_empty() && self.ends.is_empty() && self.hangups.is_empty())
    }

    /// Where a lane books its changes.
    pub(super) fn books_of<'a>(&'a mut self, upstream: bool, clients: &'a mut Counters) -> &'a mut Counters {
        if upstream { &mut self.books } else { clients }
    }

    /// Adds what the lanes have counted.
    pub(super) fn count_lanes(&self, into: &mut UpstreamCounters) {
        let books = &self.books;
        into.messages_sent = books.events_sent;
        into.bytes_sent = books.bytes_sent;
        into.dropped = books.dropped[DropReason::Full as usize].iter().sum::<u64>()
            + books.dropped[DropReason::Closed as usize].iter().sum::<u64>();
        into.queued_messages = books.queued_messages;
        into.queued_bytes = books.queued_bytes;
    }
}

impl Shard {
    /// Does what a room's engine asks of an upstream session.
    pub(in crate::core) fn carry_upstream(&mut self, now: Micros, key: RoomKey, order: UpstreamOrder) {
        match order {
            UpstreamOrder::Dial { line, target } => {
                let Some(room) = self.room(key) else { return };
                let opening =
                    Opening { target, began: now, address: None, tries: 0, asked: None, head: Vec::new() };
                let known = Known { line, at: At::Queued(Box::new(opening)) };
                room.kept.get_or_insert_default().lines.push(known);
                self.upstreams.dials.push((key, line));
            }
            UpstreamOrder::Send { line, message } => match self.known(key, line).map(|known| &known.at) {
                Some(&At::On(conn)) => self.send_upstream(now, conn, message),
                _ => self.pool.discard(message),
            },
            UpstreamOrder::Close { line } => {
                if let Some(at) = self.forget_line(key, line) {
                    self.let_go(at);
                }
            }
        }
    }

    fn send_upstream(&mut self, now: Micros, key: ConnKey, message: Draft) {
        if self.upstream(key).is_none_or(|upstream| upstream.stage != Stage::Open) {
            return self.pool.discard(message);
        }
        let frame = message.seal_masked(TEXT, mask_key(self.rng.next_u64()));
        self.push_upstream(now, key, Message::control(frame, now, Shape::Event));
    }

    /// Puts a message into the lane of an open session. One whose lane overflows is lost: what it missed can't be told.
    pub(super) fn push_upstream(&mut self, now: Micros, key: ConnKey, message: Message) {
        let Some((server, conn)) = self.config.model_server.as_ref().zip(self.conns.find_mut(key)) else {
            return self.pool.recycle(message.frame);
        };
        let counters = self.upstreams.books_of(true, &mut self.counters);
        let books = &mut Books { counters, pool: &mut self.pool, queues: &mut self.lane_queues };
        match conn.lane.push(message, None, &server.settings.outbox, books) {
            Enqueue::Queued | Enqueue::Displaced => self.mark_dirty(key),
            Enqueue::Dropped | Enqueue::Overflow => {
                self.over(now, key, lost("too much is waiting to be sent to it"));
                self.upstreams.hangups.push(key);
            }
        }
    }

    /// At the end of the turn: engines hear which lines are over, connections that nobody wants end, and others begin.
    pub(super) fn run_upstreams(&mut self, now: Micros, fx: &mut Effects) {
        if !self.upstreams.has_more() {
            return;
        }
        self.tell_ends(now, fx);
        let mut hangups = std::mem::take(&mut self.upstreams.hangups);
        for key in hangups.drain(..) {
            self.hang_up(now, key, fx);
        }
        self.upstreams.hangups = hangups;
        let mut dials = std::mem::take(&mut self.upstreams.dials);
        for (room, line) in dials.drain(..) {
            self.dial(now, room, line, fx);
        }
        self.upstreams.dials = dials;
    }

    /// What engines answer to that is for this turn's dials and hang-ups, or for the ends of the next.
    fn tell_ends(&mut self, now: Micros, fx: &mut Effects) {
        let mut ends = std::mem::take(&mut self.upstreams.ends);
        for (room, line) in ends.drain(..) {
            match self.forget_line(room, line) {
                Some(At::Over(end)) => {
                    if end.is_failure() {
                        fx.push(Effect::UpstreamFailed(end.clone()));
                    }
                    self.upstream_news(now, room, line, UpstreamNews::Over(*end));
                }
                // The engine has let go of it, and has used its number again, which it must not.
                Some(at) => self.let_go(at),
                None => {}
            }
        }
        ends.append(&mut self.upstreams.ends);
        self.upstreams.ends = ends;
    }

    /// Tells a room's engine what became of a line.
    pub(super) fn upstream_news(&mut self, now: Micros, key: RoomKey, line: Line, news: UpstreamNews<'_>) {
        #[cfg(test)]
        self.upstreams.told.push((line, super::upstream_tests::told_as(&news)));
        self.with_engine(now, key, |engine, cx| engine.upstream(line, news, cx));
    }

    /// A line is over: its engine hears so at the end of the turn.
    pub(super) fn note_end(&mut self, room: RoomKey, line: Line, end: UpstreamEnd) {
        self.counters.upstreams.ended[end_of(&end)] += 1;
        if let Some(known) = self.known_mut(room, line) {
            known.at = At::Over(Box::new(end));
            self.upstreams.ends.push((room, line));
        }
    }

    pub(super) fn known(&self, room: RoomKey, line: Line) -> Option<&Known> {
        let kept = self.rooms.find(room)?.kept.as_ref()?;
        kept.lines.iter().find(|known| known.line == line)
    }

    pub(super) fn known_mut(&mut self, room: RoomKey, line: Line) -> Option<&mut Known> {
        let kept = self.rooms.find_mut(room)?.kept.as_mut()?;
        kept.lines.iter_mut().find(|known| known.line == line)
    }

    fn forget_line(&mut self, room: RoomKey, line: Line) -> Option<At> {
        let lines = &mut self.rooms.find_mut(room)?.kept.as_mut()?.lines;
        let place = lines.iter().position(|known| known.line == line)?;
        Some(lines.remove(place).at)
    }

    /// The lines of a room that has ended.
    pub(super) fn forget_lines(&mut self, lines: SmallVec<[Known; 2]>) {
        lines.into_iter().for_each(|known| self.let_go(known.at));
    }

    /// Nobody wants to hear of it any more.
    fn let_go(&mut self, at: At) {
        match at {
            At::On(conn) => self.upstreams.hangups.push(conn),
            // The socket that comes will find nobody.
            At::Asked(_) => {
                self.counters.upstreams.connecting -= 1;
                self.counters.upstreams.ended[HUNG_UP] += 1;
                self.release_session();
            }
            At::Queued(opening) if opening.tries > 0 => {
                self.counters.upstreams.connecting -= 1;
                self.counters.upstreams.ended[HUNG_UP] += 1;
                self.release_session();
            }
            At::Queued(_) | At::Over(_) => {}
        }
    }

    /// A session that was reserved is one no more.
    pub(super) fn release_session(&mut self) {
        self.upstreams.reserved -= 1;
        if let Some(server) = &self.config.model_server {
            server.give_back(1);
        }
    }

    /// The shard ends, and its sessions with it.
    pub(super) fn give_back_sessions(&self) {
        if let Some(server) = &self.config.model_server {
            server.give_back(self.upstreams.reserved);
        }
    }

    /// A line that waits to be dialled again.
    pub(super) fn queue_dial(&mut self, room: RoomKey, line: Line) {
        self.upstreams.dials.push((room, line));
    }
}

/// The end of a session that was open and is not heard of any more.
pub(super) fn lost(reason: &str) -> UpstreamEnd {
    UpstreamEnd::Closed { code: 1006, reason: reason.into() }
}

/// A masking key (RFC 6455 section 5.3) from a random number.
pub(super) fn mask_key(random: u64) -> [u8; 4] {
    ((random >> 32) as u32).to_ne_bytes()
}
