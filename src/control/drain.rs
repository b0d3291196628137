//! The node's end: what begins it, how long it may take, and what exit code it earns.
//!
//! SIGTERM, SIGINT and `POST /api/v1/drain` begin a drain. A second signal ends the process at once, with code 0:
//! it is what the operator asked for, not a fault. So is a drain whose window ran out with clients still connected.
//! Code 1 is for shards that died.

use std::time::Duration;

use shards::core::{Micros, ShardMessage};
use shards::rt::{DrainOutcome, Link, Node};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::lifecycle::Lifecycle;
use super::line::Line;
use crate::logging;

/// After the window, for closing handshakes that are on their way.
const GRACE: Duration = Duration::from_secs(5);
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

/// How the node ended.
#[derive(Debug)]
pub(crate) enum End {
    /// As asked.
    Clean,
    /// A shard died; the sentence says which and how.
    ShardDied(String),
}

/// Watches over the node until its end.
pub(crate) async fn supervise(
    node: Node,
    line: Line,
    lifecycle: Lifecycle,
    mut signals: Signals,
    window: Duration,
) -> End {
    if let Some(died) = serving(&node, &lifecycle, &mut signals).await {
        tracing::error!(reason = died, "the node ends");
        stop(&line).await;
        return end(node);
    }
    lifecycle.drain();
    tracing::info!(
        window_s = window.as_secs(),
        "draining: readiness is 503, clients are told to go over the window"
    );
    tell_all(&line, || ShardMessage::Drain { window: Micros(window.as_micros() as u64) }).await;
    draining(&node, &mut signals, window + GRACE).await;
    if !node.finished() {
        stop(&line).await;
    }
    end(node)
}

/// Until somebody wants the node to end, or it can't go on: then the reason.
async fn serving(node: &Node, lifecycle: &Lifecycle, signals: &mut Signals) -> Option<&'static str> {
    let mut ticks = tokio::time::interval(TICK);
    let mut held_back = HeldBack::default();
    loop {
        tokio::select! {
            name = signals.next() => {
                tracing::info!(signal = name, "told to end");
                return None;
            }
            () = lifecycle.draining() => {
                tracing::info!("told to end by the management API");
                return None;
            }
            _ = ticks.tick() => {
                held_back.report();
                if node.finished() {
                    return Some("a shard left although nobody told it to");
                }
            }
        }
    }
}

/// Until the shards are done, the time is over, or the operator has no patience left.
async fn draining(node: &Node, signals: &mut Signals, within: Duration) {
    let mut ticks = tokio::time::interval(TICK / 10);
    let deadline = tokio::time::sleep(within);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            name = signals.next() => {
                tracing::warn!(signal = name, "told twice: ending at once");
                return;
            }
            () = &mut deadline => {
                tracing::warn!("the drain window is over");
                return;
            }
            _ = ticks.tick() => if node.finished() { return },
        }
    }
}

fn end(node: Node) -> End {
    match node.join((Instant::now() + STOP).into_std()) {
        DrainOutcome::Clean => {
            tracing::info!("drained: no connection is left");
            End::Clean
        }
        DrainOutcome::Forced { connections } => {
            tracing::warn!(connections, "connections were cut");
            End::Clean
        }
        DrainOutcome::ShardDied { shard, message } => End::ShardDied(format!(
            "shard {shard} died: {message}; restart the server, and report this with its log"
        )),
    }
}

async fn stop(line: &Line) {
    tell_all(line, || ShardMessage::Stop).await;
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
