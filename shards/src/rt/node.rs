//! A node: its shards' threads, from start to end, as the program sees them.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::WireConfig;
use super::audit::AuditLane;
use super::clock::{Clock, deadline_in, time_left};
use super::error::{Full, StartError};
use super::life::{Birth, Ending, Order, Roll, Shared};
use super::listen::{Listen, backlog, bind_group};
use super::mesh::{Endpoint, Message, wire_up};
use super::preflight::{check_descriptors, preflight};
use super::wire::accept::SocketCount;
use crate::core::{Destination, Quotas, ShardConfig, ShardId};

/// How long shards may take to leave once they were told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// What a node needs to start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The public address.
    pub listen: Listen,
    /// One for each shard: the core it is pinned to, if any.
    pub cores: Vec<Option<usize>>,
    /// How each shard's wire is dimensioned.
    pub wire: WireConfig,
    /// What each shard is told. Its number of shards must be that of the cores.
    pub shard: ShardConfig,
    /// Sockets that the shards may hold in all. While several accept at once near the mark, each may pass it by
    /// what it has asked for.
    pub descriptors_max: usize,
    /// What the shards' random numbers come from.
    pub seed: u64,
    /// Where each shard's audit records go: one for each, or none.
    pub audit: Vec<AuditLane>,
    /// The shards' clock, which whoever starts them may read too.
    pub clock: Clock,
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    at: Listen,
    threads: Vec<thread::JoinHandle<()>>,
    roll: Arc<Roll>,
    quotas: Arc<Quotas>,
    endings: Receiver<(ShardId, Ending)>,
}

/// How a node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Every connection was closed politely.
    Clean,
    /// Some were cut.
    Forced {
        /// How many were still open.
        connections: usize,
    },
    /// A shard's thread panicked, or the kernel refused to serve it.
    ShardDied {
        /// Which.
        shard: ShardId,
        /// What it said.
        message: String,
    },
}

/// The control plane's line to the shards and back. One task uses it at a time.
#[derive(Debug)]
pub struct ControlLine {
    endpoint: Endpoint,
}

/// Starts a node; returns when every shard listens.
///
/// # Errors
/// A sentence with the remedy. Nothing is left running.
pub fn start(config: NodeConfig) -> Result<(Node, ControlLine), StartError> {
    check(&config)?;
    let shards = config.cores.len();
    let backlog = backlog(&config.wire);
    let (listeners, at) = bind_group(&config.listen, shards, backlog)?;
    let mut endpoints = wire_up(shards, config.wire.mesh_queue_max).map_err(|cause| StartError::Host {
        found: format!("no descriptor for a doorbell: {cause}"),
        remedy: "raise the limit of open files".to_owned(),
    })?;
    let line = endpoints.pop().ok_or_else(|| StartError::Wiring("the mesh has no parties".to_owned()))?;
    let roll = Roll::new(endpoints.iter().map(Endpoint::waker).collect(), line.waker());
    let (ended, endings) = channel();
    let quotas = Arc::new(Quotas::new(&config.shard, config.seed));
    let mut node = Node { at, threads: Vec::new(), roll: Arc::new(roll), quotas, endings };
    let shared = Shared {
        quotas: Arc::clone(&node.quotas),
        config: Arc::new(config.shard),
        wire: config.wire,
        seed: config.seed,
        clock: config.clock,
        sockets: SocketCount::new(config.descriptors_max),
        roll: Arc::clone(&node.roll),
    };
    let (ready, readiness) = channel();
    for (index, ((core, listener), mesh)) in
        config.cores.into_iter().zip(listeners).zip(endpoints).enumerate()
    {
        let id = ShardId(index as u16);
        mesh.check(id, shards as u16)?;
        let birth = Birth {
            id,
            core,
            audit: config.audit.get(index).cloned(),
            listener,
            mesh,
            shared: shared.clone(),
            ready: ready.clone(),
            ended: ended.clone(),
        };
        let thread = thread::Builder::new().name(format!("shard-{id}")).spawn(move || birth.live());
        match thread {
            Ok(thread) => node.threads.push(thread),
            Err(cause) => {
                node.roll.order(Order::Stop);
                return Err(StartError::Shard { shard: id, cause: cause.to_string() });
            }
        }
    }
    drop((ready, ended));
    for _ in 0..shards {
        let failure = match readiness.recv() {
            Ok((_, Ok(()))) => continue,
            Ok((shard, Err(cause))) => StartError::Shard { shard, cause },
            Err(_) => StartError::Wiring("a shard's thread ended before it was ready".to_owned()),
        };
        // What the others say while they stop is of no interest beside it.
        let _ = node.join(deadline_in(Duration::ZERO));
        return Err(failure);
    }
    Ok((node, ControlLine { endpoint: line }))
}

/// What can be known to be impossible before anything is made.
fn check(config: &NodeConfig) -> Result<(), StartError> {
    let shards = config.cores.len();
    if shards == 0 || shards > usize::from(u16::MAX) || shards != usize::from(config.shard.shards) {
        return Err(StartError::Configuration(format!(
            "{shards} cores for {} shards: give each shard one core, and at least one shard",
            config.shard.shards
        )));
    }
    if let Some(fatal) = preflight().into_iter().find(|probe| probe.fatal && !probe.ok) {
        let remedy = fatal.remedy.unwrap_or_else(|| "run `voxhall doctor`".to_owned());
        return Err(StartError::Host { found: format!("{}: {}", fatal.name, fatal.found), remedy });
    }
    let cores: Vec<usize> = core_affinity::get_core_ids().into_iter().flatten().map(|core| core.id).collect();
    if let Some(&core) = config.cores.iter().flatten().find(|core| !cores.contains(core)) {
        let available = cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(StartError::ImpossibleCore { core, available });
    }
    check_descriptors(config.descriptors_max, shards)
}

impl Node {
    /// Where the node listens: under TCP with the port that it was given.
    #[must_use]
    pub fn listens_at(&self) -> &Listen {
        &self.at
    }

    /// What its shards share.
    #[must_use]
    pub fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }

    /// How many shards it has.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.roll.shards()
    }

    /// Whether every shard has ended. The control plane's doorbell rings when that may have changed.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.roll.ended() == self.shards()
    }

    /// Whether a shard has died. The others are on their way out then: they have sent their clients away.
    #[must_use]
    pub fn has_lost_a_shard(&self) -> bool {
        self.roll.has_lost_one()
    }

    /// Makes every shard send its clients away at once, with 1012, and leave: for whoever can't go on.
    pub fn evacuate(&self) {
        self.roll.order(Order::Evacuate);
    }

    /// Waits for the shards to end, stops at `deadline` those that have not, and says how it went. Blocks.
    #[must_use]
    pub fn join(self, mut deadline: Instant) -> DrainOutcome {
        let (mut left, mut connections, mut stopped, mut death) = (self.threads.len(), 0, false, None);
        while left > 0 {
            match self.endings.recv_timeout(time_left(deadline)) {
                Ok((_, Ending::Left { connections: cut })) => {
                    (left, connections) = (left - 1, connections + cut)
                }
                Ok((shard, Ending::Died { message, .. })) => {
                    left -= 1;
                    death.get_or_insert(DrainOutcome::ShardDied { shard, message });
                }
                Err(RecvTimeoutError::Timeout) if stopped => break,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !stopped && (death.is_some() || time_left(deadline).is_zero()) {
                stopped = true;
                deadline = deadline_in(STOP_PATIENCE);
                self.roll.order(Order::Stop);
            }
        }
        if left == 0 && death.is_none() {
            // They have said that they end; this waits for the last of their memory and descriptors. What a dead
            // shard leaves behind may not even be fit for that.
            self.threads.into_iter().for_each(|thread| drop(thread.join()));
        }
        match (death, connections) {
            (Some(death), _) => death,
            (None, 0) if left == 0 => DrainOutcome::Clean,
            (None, connections) => DrainOutcome::Forced { connections },
        }
    }
}

impl ControlLine {
    /// Sends a message to a shard.
    ///
    /// # Errors
    /// The message, when the shard's queue is full or the shard has left.
    pub fn tell(&self, to: ShardId, message: Message) -> Result<(), Full<Message>> {
        self.endpoint.try_send(Destination::Shard(to), message)
    }

    /// The next message from a shard.
    pub fn receive(&self) -> Option<Message> {
        self.endpoint.receive()
    }

    /// Announces that its user waits for the doorbell: after `true` nothing is waiting and it will ring; after
    /// `false` there is something to receive.
    #[must_use]
    pub fn prepare_to_sleep(&self) -> bool {
        self.endpoint.prepare_to_sleep()
    }

    /// What becomes readable when a shard has sent something while its user slept, or has ended.
    #[must_use]
    pub fn doorbell(&self) -> BorrowedFd<'_> {
        self.endpoint.doorbell()
    }

    /// Silences the doorbell, before receiving.
    pub fn clear_doorbell(&self) {
        self.endpoint.clear_doorbell();
        self.endpoint.woke();
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.endpoint.shards()
    }
}
