//! The life of a shard's thread: how it is set up, what ends it, and what its death means for the others.
//!
//! A shard that panics, or whose ring the kernel refuses, is not started again: its state can't be trusted, and half
//! a node would look healthy. It takes the node with it. Its own sockets close; every other shard sends its clients
//! away with 1012 and leaves; whoever watches over the node ends the process. None of that needs the control plane
//! but the last step, and should nobody take that step within [`LAST_RESORT`], the dead shard's thread aborts the
//! process.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};

use super::WireConfig;
use super::audit::AuditLane;
use super::clock::Clock;
use super::listen::{Listener, backlog};
use super::mesh::{Endpoint, Waker};
use super::pump::{Pause, Pump};
use super::wire::Wire;
use super::wire::accept::SocketCount;
use crate::core::{Quotas, Shard, ShardConfig, ShardId};

/// What glommio may register with each of its rings; its default is 10 MiB.
const EXECUTOR_IO_MEMORY: usize = 64 << 10;
/// Entries of each of glommio's rings: sockets don't use them.
const EXECUTOR_RING_DEPTH: usize = 32;
/// How long glommio gives turns before it looks at its own descriptors, of which there are none that matter. When this
/// time is over between its setting the timer and its first turn after that, because the thread was kept from its core,
/// it sleeps although a task is ready, and nothing wakes it: the shard would hang. So it is longer than that can be.
const EXECUTOR_PREEMPT: Duration = Duration::from_secs(3_600);
/// How long after a shard's death the process may live at most.
const LAST_RESORT: Duration = Duration::from_secs(10);

/// What all shards are to do. It only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Serve.
    Serve,
    /// Send everybody away at once, and leave when they have gone.
    Evacuate,
    /// Leave, whatever is open.
    Stop,
}

/// What the threads of a node share with it.
#[derive(Debug)]
pub(super) struct Roll {
    order: AtomicU8,
    emptied: AtomicUsize,
    ended: AtomicUsize,
    died: AtomicBool,
    shards: Vec<Waker>,
    control: Waker,
}

impl Roll {
    pub(super) fn new(shards: Vec<Waker>, control: Waker) -> Self {
        let order = AtomicU8::new(Order::Serve as u8);
        let none = || AtomicUsize::new(0);
        Self { order, emptied: none(), ended: none(), died: AtomicBool::new(false), shards, control }
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// A shard that drains has no connection left. To be said once.
    pub(super) fn emptied(&self) {
        if self.emptied.fetch_add(1, Ordering::AcqRel) + 1 == self.shards() {
            self.shards.iter().for_each(Waker::wake);
        }
    }

    /// Whether that is so of all.
    pub(super) fn have_all_emptied(&self) -> bool {
        self.emptied.load(Ordering::Acquire) >= self.shards()
    }

    /// How many have ended, whichever way.
    pub(super) fn ended(&self) -> usize {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether one has died.
    pub(super) fn has_lost_one(&self) -> bool {
        self.died.load(Ordering::Acquire)
    }

    /// Tells every shard.
    pub(super) fn order(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.shards.iter().for_each(Waker::wake);
    }

    /// What shards are to do now. Looked at every turn, so it orders nothing else in memory.
    pub(super) fn current(&self) -> Order {
        match self.order.load(Ordering::Relaxed) {
            0 => Order::Serve,
            1 => Order::Evacuate,
            _ => Order::Stop,
        }
    }
}

/// How a shard's thread ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// As it was asked to.
    Left {
        /// Connections that were cut.
        connections: usize,
    },
    /// It died.
    Died {
        /// What it said.
        message: String,
        /// Dropped by whoever sees to it that the process ends.
        _attended: Sender<()>,
    },
}

/// What all shards of a node are given.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) config: Arc<ShardConfig>,
    pub(super) quotas: Arc<Quotas>,
    pub(super) wire: WireConfig,
    pub(super) seed: u64,
    pub(super) clock: Clock,
    pub(super) sockets: Arc<SocketCount>,
    pub(super) roll: Arc<Roll>,
}

/// What a shard's thread is born with.
pub(super) struct Birth {
    pub(super) id: ShardId,
    pub(super) core: Option<usize>,
    pub(super) audit: Option<AuditLane>,
    pub(super) listener: Listener,
    pub(super) mesh: Endpoint,
    pub(super) shared: Shared,
    pub(super) ready: Sender<(ShardId, Result<(), String>)>,
    pub(super) ended: Sender<(ShardId, Ending)>,
}

impl Birth {
    /// The whole life of a shard's thread. A panic ends here, and is reported.
    pub(super) fn live(self) {
        let registrar = Registrar {
            id: self.id,
            roll: Arc::clone(&self.shared.roll),
            ready: self.ready.clone(),
            ended: self.ended.clone(),
        };
        let death = match catch_unwind(AssertUnwindSafe(|| self.serve(&registrar))) {
            Ok(Ok(connections)) => return registrar.left(connections),
            Ok(Err(death)) => death,
            Err(panic) => registrar.died(panic_message(&*panic)),
        };
        // Nothing is left for this thread but to see that the process ends.
        if death.unattended.recv_timeout(LAST_RESORT) == Err(RecvTimeoutError::Timeout) {
            std::process::abort();
        }
    }

    /// Serves until the shard leaves: how many connections were cut.
    fn serve(self, registrar: &Registrar) -> Result<usize, Death> {
        let (id, ready) = (self.id, self.ready.clone());
        let ready = &ready;
        let failed = |cause: String| {
            // `start` hears it, or has failed already.
            let _ = ready.send((id, Err(cause)));
            Ok(0)
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
                        drive(pump, registrar).await
                    }
                }
            }),
        }
    }

    fn set_up(self) -> Result<Pump, String> {
        let Shared { config, quotas, wire: wire_config, seed, clock, sockets, roll } = self.shared;
        let shard = Shard::among(self.id, config, quotas, seed);
        // One of a Unix-domain socket does so already.
        self.listener
            .socket
            .listen(backlog(&wire_config))
            .map_err(|cause| format!("it can't listen: {cause}"))?;
        let wire = Wire::new(&wire_config, self.listener, self.mesh.doorbell(), sockets)
            .map_err(|cause| format!("its io_uring can't be made: {cause}"))?;
        Ok(Pump::new(self.id, shard, wire, self.mesh, clock, roll, &wire_config).audited(self.audit))
    }
}

/// Runs the pump to its end. A panic is caught here so that it does not unwind through the executor.
async fn drive(mut pump: Pump, registrar: &Registrar) -> Result<usize, Death> {
    let message = loop {
        match catch_unwind(AssertUnwindSafe(|| pump.run())) {
            Ok(Ok(Pause::Executor)) => glommio::executor().yield_task_queue_now().await,
            Ok(Ok(Pause::Left { connections })) => return Ok(connections),
            Ok(Err(cause)) => break format!("io_uring_enter failed: {cause}"),
            Err(panic) => break panic_message(&*panic),
        }
    };
    // Whatever becomes of this thread from here on, the others know.
    let death = registrar.died(message);
    // Its clients learn of it as their sockets close. Pieces that are no longer whole may not even fall apart well.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(pump)));
    Err(death)
}

/// A shard's death, announced.
struct Death {
    /// Disconnected once somebody sees to it that the process ends.
    unattended: Receiver<()>,
}

/// Writes the end of a shard into the node's books.
struct Registrar {
    id: ShardId,
    roll: Arc<Roll>,
    ready: Sender<(ShardId, Result<(), String>)>,
    ended: Sender<(ShardId, Ending)>,
}

impl Registrar {
    fn left(&self, connections: usize) {
        self.end(Ending::Left { connections });
    }

    /// Announces a death: first to those who act on it, last to the log, which may block.
    fn died(&self, message: String) -> Death {
        let (attended, unattended) = channel();
        self.roll.died.store(true, Ordering::Release);
        self.roll.shards[self.id.index()].leave();
        self.roll.order(Order::Evacuate);
        // In case it died before it was ready; later nobody listens.
        let _ = self.ready.send((self.id, Err(message.clone())));
        self.end(Ending::Died { message: message.clone(), _attended: attended });
        tracing::error!(shard = self.id.0, cause = message, "a shard died: the node ends");
        Death { unattended }
    }

    fn end(&self, ending: Ending) {
        // A node that was given up listens no more.
        let _ = self.ended.send((self.id, ending));
        self.roll.ended.fetch_add(1, Ordering::AcqRel);
        self.roll.control.wake();
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
