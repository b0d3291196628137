//! The node's end: what begins it, how long it may take, and what exit code it earns.
//!
//! SIGTERM, SIGINT and `POST /api/v1/drain` begin a drain. A second signal ends the process at once, with code 0:
//! it is what the operator asked for, not a fault. So is a drain whose window ran out with clients still connected.
//! A shard that dies, or the control plane itself, takes the node with it: the clients of what still lives are sent
//! away with 1012 within [`EVACUATION`], and the exit code says that the program was at fault.

use std::any::Any;
use std::io;
use std::time::Duration;

use shards::core::{Micros, ShardMessage};
use shards::rt::{DrainOutcome, Link, Node};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::lifecycle::Lifecycle;
use super::line::{Line, Takers};
use crate::logging::{self, panic_message};
use crate::notify::{self, Notice};

/// After the window, for closing handshakes that are on their way.
const GRACE: Duration = Duration::from_secs(5);
/// How long clients may take to say goodbye to a node that can't go on.
const EVACUATION: Duration = Duration::from_secs(2);
/// How long shards may take to leave when they are stopped.
const STOP: Duration = Duration::from_secs(1);
/// How often it is looked whether the shards live, and whether log lines were held back.
const TICK: Duration = Duration::from_millis(200);
/// How long a shard's full queue is tried again when the node ends.
const TELL: Duration = Duration::from_millis(500);

/// The signals that end the node.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on these signals no longer kill the process.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one. Safe to drop.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// What the control plane came back with: what it returned, or what it said when it panicked.
pub(crate) type Served = Result<io::Result<()>, Box<dyn Any + Send>>;

/// Watches over the node until nothing is left to wait for. Says whether there is still time for what comes behind it.
pub(crate) async fn supervise(
    node: &Node,
    line: Line,
    lifecycle: Lifecycle,
    signals: &mut Signals,
    window: Duration,
) -> bool {
    let told = serving(node, &lifecycle, signals).await;
    let mut patient = true;
    lifecycle.drain();
    notify::tell(Notice::Stopping);
    if told {
        tracing::info!(
            window_s = window.as_secs(),
            "draining: readiness is 503, clients are told to go over the window"
        );
        tell_all(&line, || ShardMessage::Drain { window: Micros(window.as_micros() as u64) }).await;
        patient = draining(node, signals, window + GRACE).await;
    }
    if node.has_lost_a_shard() {
        tracing::error!(
            "a shard died: the clients of the others are sent away with 1012, then the node ends"
        );
        evacuating(node, signals).await;
    } else if !node.has_ended() {
        tell_all(&line, || ShardMessage::Stop).await;
    }
    patient && !node.has_lost_a_shard()
}

/// Waits for what is left of the last rooms: until the shards have ended and handed over everything, Redis has taken the jobs
/// and the store has written what rooms remember, at most so long each. A signal ends that.
pub(crate) async fn deliver_last(
    node: &Node,
    line: &Line,
    signals: &mut Signals,
    takers: &Takers,
    (jobs_within, store_within): (Duration, Duration),
) {
    let Takers { jobs, stores, .. } = takers;
    if jobs.is_none() && stores.is_none() {
        return;
    }
    let deliver = async |within| {
        if let Some(jobs) = jobs {
            jobs.finish(Instant::now() + within).await;
        }
    };
    let write = async |within| {
        if let Some(stores) = stores {
            stores.finish(Instant::now() + within).await;
        }
    };
    let last = async {
        let mut ticks = tokio::time::interval(TICK / 10);
        let gone = Instant::now() + STOP;
        while !node.has_ended() && Instant::now() < gone {
            ticks.tick().await;
        }
        line.settle().await;
        tokio::join!(deliver(jobs_within), write(store_within));
    };
    tokio::select! {
        () = last => {}
        name = signals.next() => {
            tracing::warn!(signal = name, "told twice: ending at once");
            tokio::join!(deliver(Duration::ZERO), write(Duration::ZERO));
        }
    }
}

/// Until somebody wants the node to end, or it can't go on: then `false`.
async fn serving(node: &Node, lifecycle: &Lifecycle, signals: &mut Signals) -> bool {
    let mut ticks = tokio::time::interval(TICK);
    let mut held_back = HeldBack::default();
    loop {
        tokio::select! {
            name = signals.next() => {
                tracing::info!(signal = name, "told to end");
                return true;
            }
            () = lifecycle.draining() => {
                tracing::info!("told to end by the management API");
                return true;
            }
            _ = ticks.tick() => {
                held_back.report();
                if node.has_lost_a_shard() || node.has_ended() {
                    return false;
                }
            }
        }
    }
}

/// Until the shards are done, the time is over, or the operator has no patience left: then `false`.
async fn draining(node: &Node, signals: &mut Signals, within: Duration) -> bool {
    let mut ticks = tokio::time::interval(TICK / 10);
    let deadline = tokio::time::sleep(within);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            name = signals.next() => {
                tracing::warn!(signal = name, "told twice: ending at once");
                return false;
            }
            () = &mut deadline => {
                tracing::warn!("the drain window is over");
                return true;
            }
            _ = ticks.tick() => if node.has_ended() || node.has_lost_a_shard() { return true },
        }
    }
}

/// Until the clients of the shards that live have gone, the time is over, or the operator has no patience left.
async fn evacuating(node: &Node, signals: &mut Signals) {
    let mut ticks = tokio::time::interval(TICK / 10);
    let deadline = tokio::time::sleep(EVACUATION);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            _ = signals.next() => return,
            () = &mut deadline => return,
            _ = ticks.tick() => if node.has_ended() { return },
        }
    }
}

/// Ends the node, and says why if that was not what anybody asked for. Outside the control plane's runtime, so that
/// what became of that does not matter.
pub(crate) fn end(node: Node, served: Served) -> Result<(), String> {
    let broken = match served {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(panic) => Some(panic_message(&*panic).to_owned()),
    };
    let within = if let Some(message) = &broken {
        tracing::error!(
            cause = message,
            "the control plane died: all clients are sent away with 1012, then the node ends"
        );
        notify::tell(Notice::Stopping);
        node.evacuate();
        EVACUATION
    } else {
        STOP
    };
    let (what, message) = match (node.join((Instant::now() + within).into_std()), broken) {
        (DrainOutcome::ShardDied { shard, message }, _) => (format!("shard {shard}"), message),
        (_, Some(message)) => ("the control plane".to_owned(), message),
        (DrainOutcome::Clean, None) => {
            tracing::info!("drained: no connection is left");
            return Ok(());
        }
        (DrainOutcome::Forced { connections }, None) => {
            tracing::warn!(connections, "connections were cut");
            return Ok(());
        }
    };
    Err(format!("{what} died: {message}; restart the server, and report this with its log"))
}

/// Tells every shard, and tries full queues again for a moment.
async fn tell_all(line: &Line, message: impl Fn() -> ShardMessage<Link>) {
    let deadline = Instant::now() + TELL;
    for shard in line.shards() {
        while !line.tell(shard, message()).await {
            if Instant::now() >= deadline {
                tracing::warn!(%shard, "the shard's queue is full: it was not told");
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Says from time to time how many log lines were held back.
#[derive(Default)]
struct HeldBack {
    told: u64,
    ticks: u32,
}

impl HeldBack {
    /// Ticks between reports: ten seconds.
    const EVERY: u32 = 50;

    fn report(&mut self) {
        self.ticks += 1;
        let now = logging::held_back();
        if self.ticks >= Self::EVERY && now > self.told {
            tracing::warn!(lines = now - self.told, "log lines of a kind that came too often were held back");
            self.told = now;
            self.ticks = 0;
        }
    }
}
