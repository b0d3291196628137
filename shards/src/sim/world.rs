//! The world: virtual time, everything that will happen, and everybody it happens to.
//!
//! Single-threaded and free of real time and real randomness: the same seed gives the same world, step by step.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::client::Client;
use super::control::ControlPlane;
use super::dice::Dice;
use super::lives::Lives;
use super::oracle::Oracle;
use super::pipe::{Holder, Socket, SocketId};
use super::pump::Node;
use super::recovery::Annals;
use super::scenario::Scenario;
use super::store::Store;
use super::trace::Trace;
use crate::core::{ConnKey, Micros, Quotas, ShardMessage};

/// Steps after which clients stop making new ones, so that no seed takes much longer than others.
const STEPS_MAX: u64 = 60_000;
/// The same for small worlds.
const SMALL_STEPS_MAX: u64 = 2_000;

/// Something that will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A shard wakes, if it has not woken since this was set.
    Turn(usize),
    /// The kernel completes a receive.
    Receive(usize, ConnKey),
    /// The kernel reports a send.
    Sent(usize, ConnKey),
    /// The kernel reports a socket writable, or that the question was withdrawn.
    Polled(usize, ConnKey),
    /// Bytes or an end arrived: at the server if `true`.
    Arrived(SocketId, bool),
    /// A connection reaches the listeners.
    Arrival(SocketId),
    /// A client does something.
    ClientWake(usize, u64),
    /// A client reads on.
    ClientRead(usize, u16),
    /// A message between two parties may be taken.
    Mesh(usize),
    /// The control plane does something.
    Control,
    /// The node drains.
    Drain,
    /// A share of the connections is cut.
    Storm,
    /// The store does something.
    Store,
    /// Something happens to the node.
    Fate(usize),
    /// A node of this life that drains has no more time.
    Stop(u32),
    /// A node of this life may have ended.
    Ended(u32),
}

impl Event {
    /// Whether it happens all the same when the node has ended.
    pub(super) fn outlives_the_node(self) -> bool {
        match self {
            Self::Turn(_) | Self::Receive(..) | Self::Sent(..) | Self::Polled(..) => false,
            Self::Mesh(_) | Self::Drain | Self::Store | Self::Stop(_) | Self::Ended(_) => false,
            Self::Arrived(..) | Self::Arrival(_) | Self::ClientWake(..) | Self::ClientRead(..) => true,
            Self::Control | Self::Storm | Self::Fate(_) => true,
        }
    }
}

impl PartialOrd for SocketId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SocketId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// A bounded queue between two parties; order holds within it, not between two of them.
pub(super) type MeshQueue = VecDeque<(Micros, ShardMessage<SocketId>)>;

/// See the module.
#[derive(Debug)]
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) now: Micros,
    pub(super) dice: Dice,
    pub(super) trace: Trace,
    pub(super) agenda: BinaryHeap<Reverse<(Micros, u64, Event)>>,
    scheduled: u64,
    pub(super) nodes: Vec<Node>,
    /// What the shards share.
    pub(super) quotas: Arc<Quotas>,
    pub(super) sockets: Vec<Socket>,
    pub(super) clients: Vec<Client>,
    pub(super) control: ControlPlane,
    /// By receiver, then sender; the last of both is the control plane.
    pub(super) mesh: Vec<Vec<MeshQueue>>,
    pub(super) oracle: Oracle,
    violation: Option<String>,
    steps_max: u64,
    /// Binary frames that clients have begun to say.
    pub(super) spoken: u64,
    /// Whether a client has sent bytes that a script gave it: nobody has counted what frames those are.
    pub(super) babbled: bool,
    /// Connections whose books were found in order.
    pub(super) settled: u64,
    /// Times that a client was told that it hears what it has missed.
    pub(super) restored: u64,
    /// What rooms have told.
    pub(super) annals: Annals,
    /// What lasts of rooms, where there is a store.
    pub(super) store: Store,
    /// The node's life, and those before.
    pub(super) lives: Lives,
}

impl World {
    pub(super) fn new(seed: u64, line: Option<fn(&str)>) -> Self {
        Self::make(seed, Scenario::new(seed), Dice::new(seed), STEPS_MAX, line)
    }

    /// A world whose rooms have a store, and whose node ends now and then.
    pub(super) fn stored(seed: u64, line: Option<fn(&str)>) -> Self {
        Self::make(seed, Scenario::stored(seed), Dice::new(seed), STEPS_MAX, line)
    }

    /// A small world whose conditions and clients follow a script. What network, kernel and scheduler do follows from
    /// the seed: a script could have them starve somebody, and that would be nobody's fault.
    pub(super) fn scripted(seed: u64, script: &[u8], line: Option<fn(&str)>) -> Self {
        let mut dice = Dice::scripted(seed, script);
        let scenario = Scenario::small(&mut dice);
        Self::make(seed, scenario, dice, SMALL_STEPS_MAX, line)
    }

    fn make(seed: u64, scenario: Scenario, mut dice: Dice, steps_max: u64, line: Option<fn(&str)>) -> Self {
        let shards = usize::from(scenario.config.shards);
        let quotas = Arc::new(Quotas::new(&scenario.config, seed));
        let trace = Trace::new(line);
        trace.say(Micros(0), format_args!("seed {seed}: {scenario:?}"));
        let clients = (0..scenario.clients).map(|_| Self::new_client(&mut dice)).collect();
        let store = Store::new(&mut dice.clone());
        let mut world = Self {
            now: Micros(0),
            trace,
            agenda: BinaryHeap::new(),
            scheduled: 0,
            nodes: Vec::new(),
            quotas,
            sockets: Vec::new(),
            clients,
            control: ControlPlane::default(),
            mesh: (0..=shards).map(|_| (0..=shards).map(|_| VecDeque::new()).collect()).collect(),
            oracle: Oracle::new(shards),
            violation: None,
            steps_max,
            spoken: 0,
            babbled: false,
            settled: 0,
            restored: 0,
            annals: Annals::default(),
            store,
            lives: Lives::new(seed),
            scenario,
            dice: dice.without_script(),
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.new_shards();
        for client in 0..self.clients.len() {
            let first = Micros(self.dice.range(1, 500_000));
            self.client_wake_in(client, first);
        }
        if let Some((at, _)) = self.scenario.drain {
            self.schedule(at, Event::Drain);
        }
        if let Some(at) = self.scenario.storm {
            self.schedule(at, Event::Storm);
        }
        if self.scenario.control_every.0 > 0 {
            self.schedule(self.scenario.control_every, Event::Control);
        }
        let fates = self.scenario.store.iter().flat_map(|plan| &plan.fates);
        let fates: Vec<Micros> = fates.map(|&(at, _)| at).collect();
        for (number, at) in fates.into_iter().enumerate() {
            self.schedule(at, Event::Fate(number));
        }
    }

    /// Lets everything happen, to the end; a sentence when something happened that may not.
    pub(super) fn run(&mut self) -> Result<(), String> {
        while let Some(Reverse((at, _, event))) = self.agenda.pop() {
            debug_assert!(at >= self.now, "time goes forward");
            self.now = at;
            self.happen(event);
            if let Some(violation) = self.violation.take() {
                return Err(format!("at {}.{:03} ms: {violation}", at.0 / 1_000, at.0 % 1_000));
            }
            if self.trace.steps() > self.steps_max {
                self.scenario.play = self.scenario.play.min(self.now);
            }
        }
        self.look_at_the_end()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn(shard) => self.turn(shard),
            Event::Receive(shard, key) => self.kernel_received(shard, key),
            Event::Sent(shard, key) => self.kernel_sent(shard, key),
            Event::Polled(shard, key) => self.kernel_polled(shard, key),
            Event::Arrived(id, at_server) => self.arrived(id, at_server),
            Event::Arrival(id) => self.arrival(id),
            Event::ClientWake(client, alarm) => self.client_wake(client, alarm),
            Event::ClientRead(client, number) => self.client_read(client, number),
            Event::Mesh(to) => self.mesh_ready(to),
            Event::Control => self.control_acts(),
            Event::Drain => self.control_drains(),
            Event::Storm => self.storm(),
            Event::Store => self.store_turn(),
            Event::Fate(number) => self.fate(number),
            Event::Stop(life) => self.stop(life),
            Event::Ended(life) => self.ended(life),
        }
    }

    pub(super) fn schedule(&mut self, at: Micros, event: Event) {
        self.scheduled += 1;
        self.agenda.push(Reverse((at.max(self.now), self.scheduled, event)));
    }

    /// Remembers the first thing that may not happen.
    pub(super) fn fail(&mut self, why: String) {
        self.violation.get_or_insert(why);
    }

    pub(super) fn require(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.fail(why());
        }
    }

    fn arrived(&mut self, id: SocketId, at_server: bool) {
        let now = self.now;
        let socket = &mut self.sockets[id.0];
        socket.up.arrive(now);
        socket.down.arrive(now);
        if at_server {
            self.server_notice(id);
        } else {
            self.client_notice(id);
        }
    }

    /// A connection stands in one listener's queue: the kernel's choice.
    fn arrival(&mut self, id: SocketId) {
        if self.sockets[id.0].holder == Holder::Closed {
            return;
        }
        let shard = self.dice.size(0, self.nodes.len() - 1);
        if self.is_down() || self.nodes[shard].leaving.is_some() {
            // Nobody listens.
            return self.cut_off(id);
        }
        self.nodes[shard].backlog.push_back(id);
        self.wake(shard);
    }

    fn client_read(&mut self, client: usize, number: u16) {
        if self.clients[client].number == number {
            self.client_hear(client);
        }
    }
}
