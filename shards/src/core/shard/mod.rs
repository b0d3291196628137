//! One core's share of the rooms, with everything they need. One writer, no locks.
//!
//! [`Shard::handle`] takes what happened and gives what should happen; [`Shard::end_turn`] ends a turn: timers go
//! off, engines take what waits for them, and each dirty lane asks for one send. Between calls nothing of a shard is
//! borrowed and nothing runs. Everything it holds is bounded by [`ShardConfig`].

mod admin;
mod audio_forms;
mod audit;
mod channels;
mod client;
mod closing;
mod compatible;
mod compression;
mod conversation;
mod door;
mod drain;
mod event_forms;
mod feeds;
mod heads;
mod inbound;
mod joining;
mod limits;
mod metering;
mod outbound;
mod packed;
mod parcels;
mod places;
mod posted;
mod posts;
mod publishing;
mod recalling;
mod recovery;
mod remember;
mod reports;
mod rooms;
mod shedding;
mod store_wait;
mod streams;
mod subscribing;
mod timers;
mod upstream_conns;
mod upstream_dials;
#[cfg(test)]
mod upstream_tests;
mod upstreams;
mod welcome;
mod works;

use ::core::hint::black_box;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hashbrown::HashTable;

use super::allowance::Tariff;
use super::arrivals::Arrivals;
use super::config::ShardConfig;
use super::conn::{Conn, Open, Phase, Seat};
use super::counters::Counters;
use super::deflate::{Compressor, Inflater};
use super::effect::{Effect, Effects, Input, ReceiveMode, SendOutcome};
use super::engine::EngineOutput;
use super::event::{EventId, Scratch};
use super::frame::{FramePool, Gather};
use super::ids::{ConnKey, RoomKey, ShardId};
use super::lag::Lag;
use super::outbox::Message;
use super::paged::Paged;
use super::quota::Quotas;
use super::report::RoomReport;
use super::rng::SplitMix64;
use super::room::Room;
use super::spare::SpareQueues;
use super::time::Micros;
use super::timer::TimerWheel;
use super::upgrades::Upgrades;
use super::uplink::Stream;
use super::work::Work;
use channels::ChannelDesk;
use posts::Posts;
pub(crate) use recovery::Told;
pub(in crate::core) use remember::InStore;
use remember::Telling;
use store_wait::StoreWait;
use timers::Timer;
use upstreams::Upstreams;

/// A shard: its connections, its rooms, and what they wait for.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    config: Arc<ShardConfig>,
    /// What it shares with the other shards of its node.
    quotas: Arc<Quotas>,
    conns: Paged<Conn>,
    rooms: Paged<Room>,
    /// Room slots that are free, with the generation of their next holder.
    free_rooms: Vec<RoomKey>,
    /// From session id to room, hashed as routing hashes.
    directory: HashTable<RoomKey>,
    /// Lingering rooms with their ends, the earliest first; some may have come back to life since.
    lingering: VecDeque<(Micros, RoomKey)>,
    wheel: TimerWheel<Timer>,
    due: Vec<Timer>,
    /// Lanes whose events wait for company, the longest first; the wait is the same for all.
    waiting: VecDeque<(Micros, ConnKey)>,
    /// Lanes with something to send at the end of the turn.
    dirty: Vec<ConnKey>,
    /// Rooms whose engine has something to do at the end of the turn.
    runnable: Vec<RoomKey>,
    /// Connections that may be read again at the end of the turn.
    resuming: Vec<ConnKey>,
    /// Connections whose lanes control messages have filled: they end once what is being told is told.
    overflowed: Vec<ConnKey>,
    /// Connections whose heads are being read.
    heads: usize,
    lag: Lag,
    tariff: Tariff,
    upgrades: Upgrades,
    handshakes: Upgrades,
    pool: FramePool,
    lane_queues: SpareQueues<Message>,
    arrivals: Arrivals,
    scratch: Scratch,
    json: Vec<u8>,
    /// An event as MessagePack, or one that came so as JSON.
    packed: Vec<u8>,
    compressor: Compressor,
    inflater: Inflater,
    outputs: Vec<EngineOutput>,
    /// What rooms want of workers, until the end of the turn.
    works: Vec<Work>,
    /// Reports of ended rooms that nobody has taken yet, the oldest first.
    reports: VecDeque<Box<RoomReport>>,
    report_bytes: usize,
    listeners: Vec<ConnKey>,
    rng: SplitMix64,
    /// From which the numberings of rooms get their names.
    epochs: u64,
    /// Every numbered event since somebody last asked, where somebody does.
    told: Option<Vec<Told>>,
    counters: Counters,
    last_event: u64,
    /// When the last goodbye of a drain is due; nothing while the node does not drain.
    draining: Option<Micros>,
    upstreams: Upstreams,
    /// What the store is to be told.
    telling: Telling,
    /// Who waits for what it has.
    store_wait: StoreWait,
    channels: ChannelDesk,
    /// What connections have that hear a stream of events.
    streams: BTreeMap<ConnKey, Stream>,
    posts: Posts,
}

impl Shard {
    /// A shard without connections, alone in its node. The same seed and inputs give the same effects.
    pub fn new(id: ShardId, config: Arc<ShardConfig>, seed: u64) -> Self {
        let quotas = Arc::new(Quotas::new(&config, seed));
        Self::among(id, config, quotas, seed)
    }

    /// A shard without connections that shares what its node may give out. Where others take and give back too, the
    /// same seed and inputs give the same effects as long as they do so at the same moments.
    pub fn among(id: ShardId, config: Arc<ShardConfig>, quotas: Arc<Quotas>, seed: u64) -> Self {
        let channels = ChannelDesk::new(&config, id, seed);
        Self {
            id,
            quotas,
            lag: Lag::new(config.shed_lag),
            tariff: Tariff::of(&config.limits),
            upgrades: Upgrades::new(config.limits.upgrades_per_s_per_ip, seed),
            handshakes: Upgrades::new(config.limits.upgrades_per_s_per_ip, seed),
            config,
            conns: Paged::default(),
            rooms: Paged::default(),
            free_rooms: Vec::new(),
            directory: HashTable::new(),
            lingering: VecDeque::new(),
            wheel: TimerWheel::new(),
            due: Vec::new(),
            waiting: VecDeque::new(),
            dirty: Vec::new(),
            runnable: Vec::new(),
            resuming: Vec::new(),
            overflowed: Vec::new(),
            heads: 0,
            pool: FramePool::default(),
            lane_queues: SpareQueues::default(),
            arrivals: Arrivals::default(),
            scratch: Scratch::default(),
            json: Vec::new(),
            packed: Vec::new(),
            compressor: Compressor::default(),
            inflater: Inflater::default(),
            outputs: Vec::new(),
            works: Vec::new(),
            reports: VecDeque::new(),
            report_bytes: 0,
            listeners: Vec::new(),
            rng: SplitMix64::new(seed ^ u64::from(id.0)),
            epochs: SplitMix64::new(seed.rotate_left(32) ^ u64::from(id.0)).next_u64(),
            told: None,
            counters: Counters::default(),
            // The shard is part of the number, so that no two events of a node share an id.
            last_event: u64::from(id.0) << 48,
            draining: None,
            upstreams: Upstreams::of(id),
            telling: Telling::default(),
            store_wait: StoreWait::default(),
            channels,
            streams: BTreeMap::new(),
            posts: Posts::default(),
        }
    }

    /// Connection keys in use, unread heads and unfinished goodbyes included.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Takes one thing that happened. Runs to completion.
    pub fn handle(&mut self, now: Micros, input: Input<'_>, fx: &mut Effects) {
        match input {
            Input::Accepted { conn, peer } => self.accepted(now, conn, peer, fx),
            Input::Adopted { conn, peer, via, head } => self.adopted(now, conn, peer, via, head, fx),
            Input::Received { conn, bytes } => self.received(now, conn, bytes, fx),
            Input::Ended { conn, how } => self.ended(now, conn, how, fx),
            Input::Sent { conn, outcome } => self.sent(now, conn, outcome, fx),
            Input::Writable { conn } => self.writable(conn),
            Input::Closed { conn } => self.closed(conn),
            Input::Dialled { room, line, outcome } => self.dialled(now, room, line, outcome, fx),
            Input::Connected { conn, outcome } => self.connected(now, conn, outcome, fx),
            Input::Ask { id, query } => {
                let answer = self.answer(now, id, query, fx);
                fx.push(Effect::Answer(id, answer));
            }
            Input::Worked(worked) => self.worked(now, *worked),
            Input::Recalled(recalled) => self.recalled(now, *recalled, fx),
            Input::RememberAgain(session) => self.remember_again(session),
            Input::Parcel { from, parcel } => self.take_parcel(now, from, parcel, fx),
            Input::Drain { window } => self.drain(now, window),
            Input::Evacuate => self.evacuate(now, fx),
        }
        self.end_overflowed(now, fx);
    }

    /// Ends a turn: timers, engines, reading on, and one send for each lane that has something due.
    pub fn end_turn(&mut self, now: Micros, fx: &mut Effects) {
        self.timers(now, fx);
        if self.draining.is_some() {
            self.end_lingering(now);
        }
        self.end_waits(now);
        self.run_engines(now);
        self.resume(now, fx);
        self.run_engines(now);
        self.run_upstreams(now, fx);
        self.end_overflowed(now, fx);
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            let Some(conn) = self.conn(key) else { continue };
            conn.lane.dirty = false;
            if conn.lane.ready() {
                conn.lane.sending = true;
                fx.push(Effect::Send(key));
            }
        }
        self.dirty = dirty;
        self.send_works(fx);
        self.note_changed(now);
        self.send_letters(fx);
    }

    /// Whether another turn has work to do already.
    pub fn has_more(&self) -> bool {
        !(self.dirty.is_empty() && self.runnable.is_empty() && self.resuming.is_empty())
            || self.upstreams.has_more()
    }

    /// When `end_turn` has to be called again at the latest, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Micros> {
        if !self.resuming.is_empty() || self.upstreams.has_more() {
            return Some(Micros(0));
        }
        let waiting = self.waiting.front().map(|&(until, _)| until);
        [self.wheel.next_deadline(), waiting, self.lag.deadline(), self.telling_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Names what the send of a lane carries, after [`Effect::Send`]. Nothing when the connection has ended since.
    pub fn gather(&mut self, key: ConnKey, into: &mut Gather) {
        if let Some(conn) = self.conns.find_mut(key) {
            conn.lane.gather(into, self.upstreams.books_of(conn.upstream, &mut self.counters));
        }
    }

    /// Looks at what an input for a connection will need, so that it is in the cache by then: the misses of all
    /// inputs of a turn overlap instead of following one another.
    pub fn expect(&self, key: ConnKey) {
        let Some(conn) = self.conns.get(key.index) else { return };
        black_box(conn.lane.bytes());
        let room = match &conn.phase {
            Phase::Open(Open { seat: Seat::Member(room, _), .. }) => room,
            Phase::Upstream(upstream) => &upstream.room,
            _ => return,
        };
        black_box(self.rooms.get(room.index).map(|room| (room.frames_received, room.frames_sent)));
    }

    fn conn(&mut self, key: ConnKey) -> Option<&mut Conn> {
        self.conns.find_mut(key)
    }

    fn room(&mut self, key: RoomKey) -> Option<&mut Room> {
        self.rooms.find_mut(key)
    }

    fn mark_dirty(&mut self, key: ConnKey) {
        if let Some(conn) = self.conn(key)
            && !conn.lane.dirty
        {
            conn.lane.dirty = true;
            self.dirty.push(key);
        }
    }

    fn next_event_id(&mut self) -> EventId {
        self.last_event += 1;
        EventId(self.last_event)
    }

    /// A send has come back: what was taken leaves the lane, and what follows from it happens.
    fn sent(&mut self, now: Micros, key: ConnKey, outcome: SendOutcome, fx: &mut Effects) {
        let Some(conn) = self.conns.find_mut(key) else {
            return;
        };
        let books = &mut super::outbox::Books {
            counters: self.upstreams.books_of(conn.upstream, &mut self.counters),
            pool: &mut self.pool,
            queues: &mut self.lane_queues,
        };
        match outcome {
            SendOutcome::Sent(bytes) => {
                books.counters.bytes_sent += bytes as u64;
                let short = conn.lane.sent(now, bytes, books);
                if short {
                    conn.lane.block(now);
                    books.counters.sends_blocked += 1;
                    fx.push(Effect::AwaitWritable(key));
                }
            }
            SendOutcome::WouldBlock => {
                conn.lane.block(now);
                books.counters.sends_blocked += 1;
                fx.push(Effect::AwaitWritable(key));
            }
            SendOutcome::Broken => {
                books.counters.send_errors += 1;
                self.cut(now, key, "the connection broke", fx);
                return;
            }
        }
        self.after_send(now, key, fx);
    }

    /// What a lane's new room allows: telling of drops, reading on, the next step of a goodbye.
    fn after_send(&mut self, now: Micros, key: ConnKey, fx: &mut Effects) {
        let outbox = &self.config.outbox;
        let Some(conn) = self.conns.find_mut(key) else {
            return;
        };
        let drops = conn.lane.take_drops(outbox);
        let (empty, ready, blocked) = (conn.lane.is_empty(), conn.lane.ready(), conn.lane.blocked);
        self.may_read_on(key);
        if let Some(drops) = drops {
            self.tell_drops(now, key, &drops);
        }
        if ready {
            self.mark_dirty(key);
        }
        if blocked {
            self.arm(now, key);
        }
        if empty {
            self.goodbye_sent(now, key, fx);
        }
    }

    /// A paused connection whose lane has emptied far enough is read on at the end of the turn.
    fn may_read_on(&mut self, key: ConnKey) {
        let outbox = &self.config.outbox;
        let conn = self.conns.find_mut(key);
        if let Some(conn) = conn
            && conn.paused
            && !conn.resuming
            && !conn.lane.quarter_full_of_answers(outbox)
            && matches!(conn.phase, Phase::Open(_))
        {
            conn.resuming = true;
            self.resuming.push(key);
        }
    }

    fn writable(&mut self, key: ConnKey) {
        if let Some(conn) = self.conn(key) {
            conn.lane.unblock();
            self.mark_dirty(key);
        }
    }

    /// The descriptor is gone: so is the connection.
    fn closed(&mut self, key: ConnKey) {
        let Some(conn) = self.conn(key) else { return };
        debug_assert!(matches!(conn.phase, Phase::Gone), "only what was moved or closed here is gone");
        if let Some(mut conn) = self.conns.remove(key.index) {
            conn.lane.clear(&mut super::outbox::Books {
                counters: self.upstreams.books_of(conn.upstream, &mut self.counters),
                pool: &mut self.pool,
                queues: &mut self.lane_queues,
            });
        }
    }

    /// Asks for a change of how a connection is read.
    fn receive(&self, key: ConnKey, mode: ReceiveMode, fx: &mut Effects) {
        fx.push(Effect::Receive(key, mode));
    }
}
