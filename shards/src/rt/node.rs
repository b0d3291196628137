//! A node: its shards' threads, from start to end.

use std::any::Any;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};

use super::WireConfig;
use super::audit::AuditLane;
use super::clock::{Clock, deadline_in, time_left};
use super::error::{Full, StartError};
use super::listen::{Listen, Listener, bind_group};
use super::mesh::{Endpoint, Message, Waker, wire_up};
use super::preflight::{check_descriptors, preflight};
use super::pump::{Pause, Pump};
use super::wire::Wire;
use super::wire::accept::SocketCount;
use crate::core::{Destination, Quotas, Shard, ShardConfig, ShardId};

/// What glommio may register with each of its rings; its default is 10 MiB.
const EXECUTOR_IO_MEMORY: usize = 64 << 10;
/// Entries of each of glommio's rings: sockets don't use them.
const EXECUTOR_RING_DEPTH: usize = 32;
/// How long glommio gives turns before it looks at its own descriptors, of which there are none that matter. When this
/// time is over between its setting the timer and its first turn after that, because the thread was kept from its core,
/// it sleeps although a task is ready, and nothing wakes it: the shard would hang. So it is longer than that can be.
const EXECUTOR_PREEMPT: Duration = Duration::from_secs(3_600);
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
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    at: Listen,
    threads: Vec<thread::JoinHandle<()>>,
    roll: Arc<Roll>,
    quotas: Arc<Quotas>,
    endings: Receiver<(ShardId, Ending)>,
    wakers: Vec<Waker>,
}

/// What the threads of a node share with it.
#[derive(Debug, Default)]
struct Roll {
    stop: Arc<AtomicBool>,
    ended: AtomicUsize,
    died: AtomicBool,
}

/// How a shard's thread ended.
#[derive(Debug)]
enum Ending {
    Left { connections: usize },
    Died(String),
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
    /// A shard's thread panicked.
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
    let wakers = endpoints.iter().map(Endpoint::waker).collect();
    let (ended, endings) = channel();
    let quotas = Arc::new(Quotas::new(&config.shard.limits, config.seed));
    let mut node = Node { at, threads: Vec::new(), roll: Arc::default(), quotas, endings, wakers };
    let shared = Shared {
        quotas: Arc::clone(&node.quotas),
        config: Arc::new(config.shard),
        wire: config.wire,
        seed: config.seed,
        clock: Clock::start(),
        sockets: SocketCount::new(config.descriptors_max),
        roll: Arc::clone(&node.roll),
        control: line.waker(),
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
                node.stop();
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

fn backlog(wire: &WireConfig) -> i32 {
    i32::try_from(wire.backlog).unwrap_or(i32::MAX)
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
        self.wakers.len()
    }

    /// Whether there is nothing left to wait for: every shard has ended, or one died. The control plane's
    /// doorbell rings when that may have changed.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.roll.died.load(Ordering::Acquire) || self.roll.ended.load(Ordering::Acquire) == self.shards()
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
                Ok((shard, Ending::Died(message))) => {
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
                self.stop();
            }
        }
        if left == 0 {
            // They have said that they end; this waits for the last of their memory and descriptors.
            self.threads.into_iter().for_each(|thread| drop(thread.join()));
        }
        match (death, connections) {
            (Some(death), _) => death,
            (None, 0) if left == 0 => DrainOutcome::Clean,
            (None, connections) => DrainOutcome::Forced { connections },
        }
    }

    fn stop(&self) {
        self.roll.stop.store(true, Ordering::Release);
        self.wakers.iter().for_each(Waker::wake);
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

/// What all shards of a node are given.
#[derive(Clone)]
struct Shared {
    config: Arc<ShardConfig>,
    quotas: Arc<Quotas>,
    wire: WireConfig,
    seed: u64,
    clock: Clock,
    sockets: Arc<SocketCount>,
    roll: Arc<Roll>,
    control: Waker,
}

/// What a shard's thread is born with.
struct Birth {
    id: ShardId,
    core: Option<usize>,
    audit: Option<AuditLane>,
    listener: Listener,
    mesh: Endpoint,
    shared: Shared,
    ready: Sender<(ShardId, Result<(), String>)>,
    ended: Sender<(ShardId, Ending)>,
}

impl Birth {
    /// The whole life of a shard's thread. A panic ends here, and is reported.
    fn live(self) {
        let (id, ended, control) = (self.id, self.ended.clone(), self.shared.control.clone());
        let (roll, ready) = (Arc::clone(&self.shared.roll), self.ready.clone());
        let ending = match catch_unwind(AssertUnwindSafe(|| self.serve())) {
            Ok(ending) => ending,
            Err(panic) => Ending::Died(panic_message(&*panic)),
        };
        if let Ending::Died(message) = &ending {
            tracing::error!(shard = id.0, message, "a shard died");
            // In case it died before it was ready; later nobody listens.
            let _ = ready.send((id, Err(message.clone())));
            roll.died.store(true, Ordering::Release);
        }
        roll.ended.fetch_add(1, Ordering::AcqRel);
        // A node that was given up listens no more.
        let _ = ended.send((id, ending));
        control.wake();
    }

    fn serve(self) -> Ending {
        let (id, ready) = (self.id, self.ready.clone());
        let ready = &ready;
        let failed = |cause: String| {
            // `start` hears it, or has failed already.
            let _ = ready.send((id, Err(cause)));
            Ending::Left { connections: 0 }
        };
        if let Some(core) = self.core
            && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
        {
            return failed(format!("it can't be pinned to core {core}"));
        }
        let executor = LocalExecutorBuilder::new(self.core.map_or(Placement::Unbound, Placement::Fixed))
            .name(&format!("shard-{id}"))
            .io_memory(EXECUTOR_IO_MEMORY)
            .ring_depth(EXECUTOR_RING_DEPTH)
            .preempt_timer(EXECUTOR_PREEMPT)
            .make();
        match executor {
            Err(cause) => failed(format!("its executor can't be made: {cause}")),
            Ok(executor) => executor.run(async move {
                match self.set_up() {
                    Err(cause) => failed(cause),
                    Ok(pump) => {
                        let _ = ready.send((id, Ok(())));
                        drive(pump).await
                    }
                }
            }),
        }
    }

    fn set_up(self) -> Result<Pump, String> {
        let Shared { config, quotas, wire: wire_config, seed, clock, sockets, roll, .. } = self.shared;
        let shard = Shard::among(self.id, config, quotas, seed);
        // One of a Unix-domain socket does so already.
        self.listener
            .socket
            .listen(backlog(&wire_config))
            .map_err(|cause| format!("it can't listen: {cause}"))?;
        let wire = Wire::new(&wire_config, self.listener, self.mesh.doorbell(), sockets)
            .map_err(|cause| format!("its io_uring can't be made: {cause}"))?;
        let stop = Arc::clone(&roll.stop);
        Ok(Pump::new(self.id, shard, wire, self.mesh, clock, stop, &wire_config).audited(self.audit))
    }
}

/// Runs the pump to its end. A panic is caught here so that it does not unwind through the executor.
async fn drive(mut pump: Pump) -> Ending {
    loop {
        match catch_unwind(AssertUnwindSafe(|| pump.run())) {
            Ok(Ok(Pause::Executor)) => glommio::executor().yield_task_queue_now().await,
            Ok(Ok(Pause::Left { connections })) => return Ending::Left { connections },
            Ok(Err(cause)) => return Ending::Died(format!("io_uring_enter failed: {cause}")),
            Err(panic) => return Ending::Died(panic_message(&*panic)),
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
