//! The oracle: what has to hold between turns, in every send, and when everything is over. It knows a shard only by
//! the answers that the control plane gets too.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use super::gate::USERS;
use super::keeping::brief;
use super::pipe::Holder;
use super::world::World;
use crate::core::audit::AuditRecord;
use crate::core::counters::Counters;
use crate::core::message::{Answer, AskId, Query, RoomDetail, RoomSummary, RoomsQuery, RoomsSort};
use crate::core::quota::Out;
use crate::core::{ConnKey, Effect, Effects, Input, Micros, ReceiveMode, SessionId};

/// Heartbeats are rounded up to about this.
const HEARTBEAT_GRAIN: Micros = Micros(131_072);
/// How long after the play the last connection may take to end.
const REST_MAX: Micros = Micros::from_s(600);

/// What the oracle remembers.
#[derive(Debug)]
pub(super) struct Oracle {
    eyes: Vec<Eye>,
}

/// What it remembers of one shard.
#[derive(Debug, Default)]
struct Eye {
    rooms: BTreeMap<String, Seen>,
    evicted: u64,
    opened: u64,
    /// Connections that were noted as opened and not yet as closed.
    noted: BTreeSet<ConnKey>,
    refusals_noted: u64,
    /// Times that a shard could not do with the store what it should.
    excuses: u64,
}

/// A room, when it was last looked at.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// The last time it had members.
    alive_at: Micros,
    /// Since when it has been seen without any.
    lingering_since: Option<Micros>,
}

impl Oracle {
    pub(super) fn new(shards: usize) -> Self {
        Self { eyes: (0..shards).map(|_| Eye::default()).collect() }
    }

    pub(super) fn excuses(&mut self, shard: usize) -> &mut u64 {
        &mut self.eyes[shard].excuses
    }
}

impl World {
    fn ask(&mut self, shard: usize, query: Query) -> Answer {
        let mut fx = Effects::new();
        self.nodes[shard].shard.handle(self.now, Input::Ask { id: AskId(0), query }, &mut fx);
        match fx.pop() {
            Some(Effect::Answer(_, answer)) if fx.is_empty() => answer,
            other => panic!("a question was answered with {other:?} after {fx:?}"),
        }
    }

    pub(super) fn counters(&mut self, shard: usize) -> Counters {
        match self.ask(shard, Query::Counters) {
            Answer::Counters(counters) => *counters,
            other => panic!("not counters: {other:?}"),
        }
    }

    pub(super) fn rooms(&mut self, shard: usize) -> Vec<RoomSummary> {
        match self.ask(shard, Query::Rooms(RoomsQuery { limit: usize::MAX, sort: RoomsSort::Id })) {
            Answer::Rooms(rooms) => rooms,
            other => panic!("not rooms: {other:?}"),
        }
    }

    fn room(&mut self, shard: usize, id: SessionId) -> Option<Box<RoomDetail>> {
        match self.ask(shard, Query::Room(id)) {
            Answer::Room(room) => room,
            other => panic!("not a room: {other:?}"),
        }
    }

    /// What opens is noted once, and as closed once.
    pub(super) fn check_record(&mut self, shard: usize, record: &AuditRecord) {
        let eye = &mut self.oracle.eyes[shard];
        let fits = match record {
            AuditRecord::Opened(opened) => eye.noted.insert(opened.connection.key),
            AuditRecord::Closed(closed) => eye.noted.remove(&closed.connection.key),
            AuditRecord::Refused(_) => {
                eye.refusals_noted += 1;
                true
            }
            AuditRecord::Managed(_) => false,
        };
        self.require(fits, || format!("shard {shard} noted {record:?}"));
    }

    /// Looks at a shard between two turns.
    pub(super) fn look(&mut self, shard: usize) {
        let late = self.now > self.scenario.play + REST_MAX;
        self.require(!late, || "the world does not come to rest".into());
        if !self.nodes[shard].turns.is_multiple_of(self.scenario.look_every) {
            return;
        }
        let counters = self.counters(shard);
        let rooms = self.rooms(shard);
        let mut details = Vec::new();
        for summary in &rooms {
            match self.room(shard, summary.id.clone()) {
                Some(detail) => details.push(*detail),
                None => self.fail(format!("room {} is in the list and can't be found", summary.id)),
            }
        }
        let names: Vec<String> = rooms.iter().map(|room| room.id.as_str().to_owned()).collect();
        self.look_at_beginnings(shard, &names);
        self.look_at_members(shard, &details);
        self.look_at_counters(shard, &counters, &details);
        self.look_at_lingering(shard, &counters, &rooms);
        self.look_at_quotas();
        self.look_at_deadlines(shard, &details);
    }

    /// A member is in exactly one room, on the shard that owns it, and is an open connection to the client that asked
    /// for that room. Its lane keeps its bounds.
    fn look_at_members(&mut self, shard: usize, rooms: &[RoomDetail]) {
        let mut seen = BTreeSet::new();
        let mut limits = self.scenario.config.outbox.clone();
        // While the socket takes everything there may be more for a moment, and what is told again comes beyond.
        let history = &self.scenario.config.room;
        limits.messages_max = 4 * limits.messages_max + history.history_events_max;
        limits.bytes_max += history.history_bytes_max + 16 * history.history_events_max;
        let now = self.now;
        for room in rooms {
            let id = room.summary.id.as_str();
            let owner = crate::core::route::owner(id, self.nodes.len() as u16);
            self.require(owner.index() == shard, || format!("room {id} lives on shard {shard}"));
            let lingering = room.summary.lingering;
            self.require(lingering == room.connections.is_empty(), || {
                format!("{room:?} lingers with members")
            });
            let mut numbers = BTreeSet::new();
            for member in &room.connections {
                let key = member.id.key;
                let once = seen.insert(key) && numbers.insert(member.member);
                self.require(once, || format!("{member:?} is a member twice"));
                let open =
                    self.nodes[shard].live(key).is_some_and(|live| live.closing.is_none() && !live.head);
                self.require(open, || format!("{member:?} of {id} is not an open connection"));
                let bounded = member.queued_messages <= limits.messages_max
                    && (member.queued_bytes <= limits.bytes_max + 64 || member.queued_messages == 1);
                self.require(bounded, || format!("the lane of {member:?} is past its bounds: {limits:?}"));
                if let Some(live) = self.nodes[shard].live(key) {
                    live.heard_open = Some(live.received_at);
                    let unread = live.mode == ReceiveMode::Paused && member.queued_messages == 0;
                    live.unread_since = live.unread_since.or(Some(now)).filter(|_| unread);
                    if member.queued_messages == 0 {
                        (live.blocked_since, live.stuck_since) = (None, None);
                    }
                }
            }
            let members = room.connections.len();
            self.require(members == room.summary.members, || format!("{room:?} counts wrongly"));
            let most = self.scenario.config.limits.members_per_room_max;
            self.require(members <= most, || format!("{members} members in {id}"));
        }
    }

    fn look_at_counters(&mut self, shard: usize, counters: &Counters, rooms: &[RoomDetail]) {
        let members: u64 = rooms.iter().map(|room| room.connections.len() as u64).sum();
        let queued: u64 = rooms.iter().map(|room| room.summary.queued_bytes).sum();
        let lingering = rooms.iter().filter(|room| room.summary.lingering).count() as u64;
        let node = &self.nodes[shard];
        let heads = node.slots.iter().filter_map(|slot| slot.live.as_ref());
        let heads = heads.filter(|live| live.head && live.closing.is_none()).count() as u64;
        let live = node.slots.iter().filter(|slot| slot.live.is_some()).count();
        let counts = node.counts;
        let connections = node.shard.connections();
        let echo = self.scenario.config.echo_endpoint;
        let limits = &self.scenario.config.limits;
        let rooms_max = limits.rooms_max as u64;
        let eye = &self.oracle.eyes[shard];
        let checks = [
            ("open", counters.open == members || echo && counters.open > members),
            ("opened and closed", counters.opened - counters.closed == counters.open),
            ("noted as open", counters.open == eye.noted.len() as u64),
            ("noted as refused", counters.refused.iter().sum::<u64>() == eye.refusals_noted),
            ("rooms", counters.rooms == rooms.len() as u64 && counters.rooms <= rooms_max),
            ("lingering rooms", counters.rooms_lingering == lingering),
            ("heads", counters.heads == heads),
            ("connections", connections == live),
            ("queued bytes", counters.queued_bytes >= queued),
            ("inbound audio", counters.inbound_queued == 0),
            ("accepted", counters.accepted == counts.accepted),
            ("moved in", counters.moved_in == counts.moved_in),
            ("moved out", counters.moved_out == counts.moved_out),
            ("handed over", counters.handed_over == counts.handed_over),
            ("bytes received", counters.bytes_received == counts.bytes_received),
            ("bytes sent", counters.bytes_sent == counts.bytes_sent),
            ("frames received", self.babbled || counters.frames_received <= self.spoken),
        ];
        for (what, holds) in checks {
            self.require(holds, || {
                format!(
                    "{what}: {members} members, {lingering} lingering, {heads} heads, {live} slots, \
                     {queued} bytes in rooms, {counts:?}, but {counters:?}"
                )
            });
        }
    }

    /// What all shards have is what is out, and within its bounds.
    fn look_at_quotas(&mut self) {
        let (mut open, mut rooms) = (0, 0);
        for shard in 0..self.nodes.len() {
            let counters = self.counters(shard);
            (open, rooms) = (open + counters.open as usize, rooms + counters.rooms as usize);
        }
        let out = self.quotas.out();
        let limits = &self.scenario.config.limits;
        let holds = (out.connections, out.rooms) == (open, rooms)
            && (open <= limits.connections_max && rooms <= limits.rooms_max)
            && (out.users <= USERS.min(open) && out.addresses <= open);
        self.require(holds, || format!("{open} connections and {rooms} rooms, but {out:?}"));
    }

    /// Rooms linger as long as they should: not less, not more.
    fn look_at_lingering(&mut self, shard: usize, counters: &Counters, rooms: &[RoomSummary]) {
        let now = self.now;
        let linger = self.scenario.config.room.linger;
        let patience = linger + self.scenario.faults.slack();
        let drained = self.nodes[shard].drained_at.is_some();
        let eye = &mut self.oracle.eyes[shard];
        let excused = drained || eye.evicted != counters.rooms_evicted;
        let came = eye.opened != counters.opened;
        (eye.evicted, eye.opened) = (counters.rooms_evicted, counters.opened);
        let before = std::mem::take(&mut eye.rooms);
        let mut overdue = None;
        for room in rooms {
            let name = room.id.as_str();
            let seen = before.get(name).copied();
            let seen = match seen {
                Some(seen) if room.lingering => {
                    let since = seen.lingering_since.filter(|_| !came).unwrap_or(now);
                    Seen { lingering_since: Some(since), ..seen }
                }
                // Found lingering: it has come and gone since the last look.
                _ if room.lingering => Seen { alive_at: Micros(0), lingering_since: Some(now) },
                _ => Seen { alive_at: now, lingering_since: None },
            };
            if seen.lingering_since.is_some_and(|since| now.since(since) > patience) {
                overdue = Some(name.to_owned());
            }
            eye.rooms.insert(name.to_owned(), seen);
        }
        let kept = &self.oracle.eyes[shard].rooms;
        let early = before.iter().find(|(name, seen)| {
            !excused
                && !kept.contains_key(*name)
                && !self.control.closed_rooms.contains(*name)
                && now < seen.alive_at + linger
        });
        let early =
            early.map(|(name, seen)| format!("room {name} ended early: {seen:?}, lingers {linger:?}"));
        self.require(early.is_none(), || early.unwrap_or_default());
        self.require(overdue.is_none(), || format!("room {overdue:?} lingers past {linger:?}"));
    }

    /// Heads end by their deadline, silent connections end, blocked lanes end, and so does everything once the node
    /// drains.
    fn look_at_deadlines(&mut self, shard: usize, rooms: &[RoomDetail]) {
        let now = self.now;
        let config = self.scenario.config.clone();
        let slack = self.scenario.faults.slack();
        let drained_at = self.nodes[shard].drained_at;
        let head = config.limits.head + config.store.as_ref().map_or(Micros(0), |store| store.recall);
        let mut wrong = None;
        for slot in &self.nodes[shard].slots {
            let Some(live) = &slot.live else { continue };
            if live.head && live.closing.is_none() && now.since(live.began) > head + slack {
                wrong = Some(format!("a head since {:?}", live.began));
            }
        }
        for member in rooms.iter().flat_map(|room| &room.connections) {
            let Some(live) = self.nodes[shard].live(member.id.key) else { continue };
            // Who waits for the store is not listened to.
            let here = Micros::from_ms(member.connected_ms + 1);
            let silent = now.since(live.received_at.max(live.began)).min(here);
            if silent > config.heartbeat.idle + HEARTBEAT_GRAIN + HEARTBEAT_GRAIN + slack {
                wrong = Some(format!("{member:?} is silent for {silent:?}"));
            }
            if live.unread_since.is_some_and(|since| now.since(since) > slack) {
                wrong = Some(format!("{member:?} is not read though nothing waits for it"));
            }
            let stuck = live.stuck_since.map(|since| now.since(since));
            if stuck.is_some_and(|stuck| stuck > config.outbox.slow_client + slack) {
                wrong = Some(format!("{member:?} is blocked for {stuck:?}"));
            }
            if drained_at.is_some_and(|(at, window)| now > at + window + slack) {
                wrong = Some(format!("{member:?} has outlived the drain of {drained_at:?}"));
            }
        }
        self.require(wrong.is_none(), || wrong.unwrap_or_default());
    }

    /// Looks at what one send carries: what is said because time has passed is not said early.
    pub(super) fn look_at_send(&mut self, shard: usize, key: ConnKey, parts: &[&[u8]]) {
        let now = self.now;
        let config = &self.scenario.config;
        let (head, idle, slow) = (config.limits.head, config.heartbeat.idle, config.outbox.slow_client);
        let Some(live) = self.nodes[shard].live(key) else { return };
        let close = parts.last().filter(|part| part.first() == Some(&0x88) && part.len() > 4);
        let reason = close.map_or(&b""[..], |part| &part[4..]);
        let heard = live.heard_open.filter(|_| self.scenario.look_every == 1);
        let early = match reason {
            b"too slow" => live.blocked_since.is_none_or(|since| now.since(since) < slow),
            b"no answer to pings" => heard.is_some_and(|heard| now.since(heard) < idle),
            _ => parts.iter().any(|part| part.starts_with(b"HTTP/1.1 408")) && now.since(live.began) < head,
        };
        if early {
            let why = String::from_utf8_lossy(reason).into_owned();
            let blocked = live.blocked_since;
            let what =
                format!("{key:?} of shard {shard} ends early: {why:?}, heard {heard:?}, blocked {blocked:?}");
            self.fail(what);
        }
        let draining = self.nodes[shard].drained_at.is_some_and(|(at, _)| at < now);
        let began = self.nodes[shard].live(key).map_or(now, |live| live.began);
        let welcome = parts.iter().any(|part| part.starts_with(b"HTTP/1.1 101"));
        let late = draining && welcome && self.nodes[shard].drained_at.is_some_and(|(at, _)| began > at);
        self.require(!late, || format!("{key:?} of shard {shard} was let in though the node drains"));
    }

    /// Everybody has gone and time has passed: nothing may be left.
    pub(super) fn look_at_the_end(&mut self) -> Result<(), String> {
        let mut frames = 0;
        for shard in 0..self.nodes.len() {
            let c = self.counters(shard);
            frames += c.frames_received;
            let waits = self.nodes[shard].shard.left_for_store();
            if waits != [0; 4] {
                return Err(format!("shard {shard} keeps {waits:?} of what the store is told and asked"));
            }
            let kept = c.history.events + c.history.bytes;
            let left =
                [c.open + kept, c.heads, c.rooms, c.rooms_lingering, c.queued_messages, c.queued_bytes];
            let rest = self.nodes[shard].shard.connections() + self.nodes[shard].ready.len();
            if left != [0; 6] || c.inbound_queued + c.timers != 0 || rest != 0 || c.opened != c.closed {
                return Err(format!("shard {shard} keeps {rest} connections and {c:?}"));
            }
        }
        if self.quotas.out() != Out::default() {
            return Err(format!("nobody is left, but {:?}", self.quotas.out()));
        }
        if let Some(open) = self.sockets.iter().position(|socket| socket.holder != Holder::Closed) {
            return Err(format!("socket {open} was never closed: {:?}", self.sockets[open].holder));
        }
        if !self.control.pending.is_empty() {
            return Err(format!("questions without an answer: {:?}", self.control.pending));
        }
        // One that was asked for and found no place is kept for the next that comes.
        let kept = self.store.rooms().find(|(name, _)| self.lives.seen.contains(*name));
        if let Some((name, memory)) = kept {
            return Err(format!("the store keeps {name}: {}", brief(memory)));
        }
        frames += self.lives.before.frames_received;
        let more = frames > self.spoken && !self.babbled;
        if more || self.scenario.gentle && self.lives.number == 0 && frames != self.spoken {
            return Err(format!("{} frames were said, {frames} were received", self.spoken));
        }
        Ok(())
    }

    /// What there is to say of a world that went well.
    pub(super) fn report(&mut self) -> Report {
        let before = self.lives.before;
        let mut report = Report {
            hash: self.trace.hash(),
            steps: self.trace.steps(),
            virtual_ms: self.now.as_ms(),
            connections: self.sockets.len() as u64,
            settled: self.settled,
            slow_closed: before.slow_closed,
            dropped: before.dropped,
            restored: self.restored,
            replayed: before.replayed,
            crashes: before.crashes,
            clean_ends: before.clean_ends,
            revived: before.revived,
            lost: before.lost,
        };
        for shard in 0..self.nodes.len() {
            let counters = self.counters(shard);
            report.slow_closed += counters.slow_closed;
            report.replayed += counters.history.replayed;
            report.revived += counters.store.revived;
            report.dropped += counters.dropped.iter().take(3).flatten().sum::<u64>();
        }
        report
    }
}
