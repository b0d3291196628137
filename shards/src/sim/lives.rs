//! The lives of a node: it crashes, or ends in good order, and after a while another begins at the same address. What it knew is
//! lost; the store keeps what it has, and the clients keep theirs.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::control::ControlPlane;
use super::oracle::Oracle;
use super::pipe::{Holder, SocketId};
use super::pump::Node;
use super::recovery::Numbering;
use super::stored::Fate;
use super::world::{Event, World};
use crate::core::{Micros, Quotas, Shard, ShardId};

/// How long a shard that leaves tries to tell the store the rest.
const LAST_TRIES: Micros = Micros::from_ms(500);
const RETRY: Micros = Micros::from_ms(1);
/// The life of a connection that ended with it.
const GONE: u32 = u32::MAX;

/// Which life it is, and how far.
#[derive(Debug, Default)]
pub(super) struct Lives {
    seed: u64,
    /// How many there have been before.
    pub(super) number: u32,
    /// When the present one begins to listen.
    pub(super) up_at: Micros,
    /// How it ends, once that has begun.
    pub(super) ending: Option<Ending>,
    /// Rooms that have been seen in it.
    pub(super) seen: BTreeSet<String>,
    /// Rooms of which the store has been asked, and has not answered since.
    pub(super) asked: BTreeSet<String>,
    /// Rooms that began although it had not, or could not say.
    pub(super) unasked: BTreeSet<Numbering>,
    pub(super) before: Before,
}

/// A node that ends in good order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// Over which it drains.
    pub(super) window: Micros,
}

/// What earlier lives have counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    pub(super) crashes: u64,
    pub(super) clean_ends: u64,
    pub(super) frames_received: u64,
    pub(super) slow_closed: u64,
    pub(super) replayed: u64,
    pub(super) dropped: u64,
    pub(super) revived: u64,
    pub(super) lost: u64,
}

impl Lives {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }
}

impl World {
    /// Shards of a life that begins, with nothing but what they are told from here on.
    pub(super) fn new_shards(&mut self) {
        let config = Arc::new(self.scenario.config.clone());
        let seed = self.lives.seed ^ u64::from(self.lives.number) << 32;
        self.quotas = Arc::new(Quotas::new(&config, seed));
        self.nodes.clear();
        for id in 0..config.shards {
            let mut shard = Shard::among(ShardId(id), Arc::clone(&config), Arc::clone(&self.quotas), seed);
            drop(shard.overheard());
            self.nodes.push(Node::new(shard));
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.now < self.lives.up_at
    }

    /// Whether a client may be turned out although it has kept every rule: its node ends, or has.
    pub(super) fn node_ends(&self, socket: SocketId) -> bool {
        self.lives.ending.is_some() || self.is_down() || self.sockets[socket.0].life != self.lives.number
    }

    /// What a seed has in store for the node.
    pub(super) fn fate(&mut self, number: usize) {
        let Some((_, fate)) = self.scenario.store.as_ref().and_then(|plan| plan.fates.get(number)) else {
            return;
        };
        match *fate {
            Fate::Crash => self.crash(),
            Fate::Shutdown { window, patience } if self.lives.ending.is_none() && !self.is_down() => {
                self.lives.ending = Some(Ending { window });
                self.schedule(self.now, Event::Drain);
                self.schedule(self.now + window + patience, Event::Stop(self.lives.number));
            }
            Fate::Shutdown { .. } => {}
        }
    }

    fn crash(&mut self) {
        if self.is_down() {
            return;
        }
        self.trace.step(self.now, "crash", 0, &[]);
        self.hear_all();
        self.look_at_loss();
        self.lives.before.crashes += 1;
        self.next_life(false);
    }

    /// The time for goodbyes is over: every shard leaves, whoever is still there.
    pub(super) fn stop(&mut self, life: u32) {
        if life != self.lives.number {
            return;
        }
        for shard in 0..self.nodes.len() {
            self.begin_to_leave(shard);
        }
    }

    /// A shard that drains leaves once it has nothing left to do.
    pub(super) fn go_on_leaving(&mut self, shard: usize) {
        let told = self.lives.ending.is_some() && self.nodes[shard].drained_at.is_some();
        let node = &self.nodes[shard];
        let done = node.shard.connections() == 0
            && !node.shard.has_remembers()
            && node.backlog.is_empty()
            && node.completions.is_empty()
            && self.mesh[shard].iter().all(VecDeque::is_empty);
        if told && done {
            self.begin_to_leave(shard);
        }
    }

    fn begin_to_leave(&mut self, shard: usize) {
        if self.nodes[shard].leaving.is_some() {
            return;
        }
        self.hear_all();
        self.nodes[shard].leaving = Some(self.now + LAST_TRIES);
        self.nodes[shard].shard.tell_store_all(self.now);
        for id in 0..self.sockets.len() {
            if matches!(self.sockets[id].holder, Holder::Slot(of, _) if of == shard) {
                self.cut_off(SocketId(id));
            }
        }
        for id in std::mem::take(&mut self.nodes[shard].backlog) {
            self.cut_off(id);
        }
        self.say_the_rest(shard);
    }

    /// A shard that leaves does nothing else than to tell the store the rest.
    pub(super) fn say_the_rest(&mut self, shard: usize) {
        let Some(until) = self.nodes[shard].leaving else { return };
        if self.deliver_remembers(shard) || self.now > until {
            self.nodes[shard].left = true;
            self.schedule(self.now, Event::Ended(self.lives.number));
        } else {
            self.wake_at(shard, self.now + RETRY);
        }
    }

    /// All shards have left, and the control plane has heard all that they had to say.
    pub(super) fn ended(&mut self, life: u32) {
        if life != self.lives.number || !self.nodes.iter().all(|node| node.left) {
            return;
        }
        let control = self.nodes.len();
        let rest = self.mesh[control].iter().flatten().map(|(at, _)| *at).max();
        if let Some(at) = rest {
            return self.schedule(at + Micros(1), Event::Ended(life));
        }
        let clean = self.store.finish(control);
        self.trace.step(self.now, if clean { "clean end" } else { "end" }, 0, &[]);
        self.look_at_clean_end(clean);
        self.lives.before.clean_ends += u64::from(clean);
        self.next_life(clean);
    }

    fn next_life(&mut self, clean: bool) {
        let Some(plan) = self.scenario.store.clone() else { return };
        for shard in 0..self.nodes.len() {
            self.count_life(shard);
        }
        let shards = self.nodes.len();
        for id in 0..self.sockets.len() {
            if self.sockets[id].holder != Holder::Closed {
                self.cut_off(SocketId(id));
            }
        }
        self.lives.number += 1;
        self.lives.ending = None;
        self.lives.seen.clear();
        self.lives.asked.clear();
        self.lives.up_at = self.now + Micros(self.dice.range(1, plan.down_max.0));
        self.new_shards();
        self.oracle = Oracle::new(shards);
        let closed_rooms = std::mem::take(&mut self.control.closed_rooms);
        self.control = ControlPlane::default();
        self.control.closed_rooms = closed_rooms;
        self.mesh.iter_mut().flatten().for_each(VecDeque::clear);
        self.agenda.retain(|Reverse((_, _, event))| event.outlives_the_node());
        let drop_at = self.lives.up_at + self.scenario.config.room.linger;
        self.store.begin(&plan, clean, drop_at);
        self.schedule(drop_at, Event::Store);
    }

    /// The server's end of a connection is gone.
    pub(super) fn cut_off(&mut self, id: SocketId) {
        let socket = &mut self.sockets[id.0];
        socket.holder = Holder::Closed;
        socket.reset = true;
        socket.life = GONE;
        let at = self.now + socket.latency;
        self.schedule(at, Event::Arrived(id, false));
    }

    fn count_life(&mut self, shard: usize) {
        let counters = self.counters(shard);
        let before = &mut self.lives.before;
        before.frames_received += counters.frames_received;
        before.slow_closed += counters.slow_closed;
        before.replayed += counters.history.replayed;
        before.dropped += counters.dropped.iter().take(3).flatten().sum::<u64>();
        before.revived += counters.store.revived;
    }
}
