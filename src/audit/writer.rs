//! The thread that writes: it sleeps until a record comes, waits a moment for its company, and writes them as one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, SystemTime};

use shards::core::ShardId;
use shards::rt::AuditLane;

use super::Orders;
use super::file::{LogFile, Unwritten};
use super::line::{self, Origin};

/// How long the first record waits for others: a storm of connections becomes a few hundred writes a second.
const GATHER: Duration = Duration::from_millis(5);
/// Bytes written at once, about.
const BATCH_BYTES: usize = 64 << 10;
/// Records taken from one queue before the next has its turn.
const TURN: usize = 256;

/// See the module.
pub(super) struct Writer {
    file: LogFile,
    queues: Vec<Queue>,
    orders: Arc<Orders>,
    /// Lines that wait to be written together.
    batch: Vec<u8>,
    /// What each of them is.
    lines: Vec<Line>,
    /// Whether the last attempt to write failed.
    failing: bool,
}

/// A queue, and what is known of it.
struct Queue {
    lane: AuditLane,
    origin: Origin,
    /// How many of its records the log says, or is about to say, are missing.
    told: u64,
    /// How many it says for certain.
    written_down: u64,
}

/// A line of the batch.
enum Line {
    /// A record of this queue.
    Record(usize),
    /// Says that so many of this queue's records have been dropped so far.
    Missing(usize, u64),
}

impl Writer {
    /// The control plane's queue is the last.
    pub(super) fn new(file: LogFile, lanes: Vec<AuditLane>, orders: Arc<Orders>, tls: bool) -> Self {
        let shards = lanes.len() - 1;
        let queue = |(at, lane)| {
            let shard = (at < shards).then_some(ShardId(at as u16));
            Queue { lane, origin: Origin { shard, tls }, told: 0, written_down: 0 }
        };
        let queues = lanes.into_iter().enumerate().map(queue).collect();
        Self { file, queues, orders, batch: Vec::new(), lines: Vec::new(), failing: false }
    }

    /// Writes until it is told to stop and nothing is left.
    pub(super) fn run(mut self) {
        loop {
            // Whoever stops this has seen to it that nothing is put in any more: what is there now is all.
            let stopping = self.orders.stop.load(Ordering::Acquire);
            if self.orders.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            let took = self.take();
            self.flush();
            if !took {
                if stopping {
                    return;
                }
                thread::park();
                #[expect(clippy::disallowed_methods, reason = "this thread is there to wait")]
                thread::sleep(GATHER);
            }
        }
    }

    /// Takes from every queue in turn; whether there was anything.
    fn take(&mut self) -> bool {
        let mut took = false;
        for at in 0..self.queues.len() {
            self.tell_missing(at);
            for _ in 0..TURN {
                let Some(stamped) = self.queues[at].lane.take() else { break };
                let from = self.batch.len();
                line::write(&stamped, self.queues[at].origin, &mut self.batch);
                self.added(from, Line::Record(at));
                took = true;
            }
        }
        took
    }

    /// Where records of a queue were dropped, the log has to say so.
    fn tell_missing(&mut self, at: usize) {
        let Queue { lane, origin, told, .. } = &mut self.queues[at];
        let dropped = lane.dropped();
        if dropped > *told {
            let from = self.batch.len();
            #[expect(clippy::disallowed_methods, reason = "lines are dated as people date them")]
            let now = SystemTime::now();
            line::write_missing(now, dropped - *told, origin.shard, &mut self.batch);
            *told = dropped;
            self.added(from, Line::Missing(at, dropped));
        }
    }

    /// A line was put into the batch, from `from` on. One that the file has no room for goes into the next file.
    fn added(&mut self, from: usize, what: Line) {
        if !self.file.takes(self.batch.len()) {
            let line = self.batch.split_off(from);
            self.flush();
            if !self.file.takes(line.len())
                && !self.file.is_empty()
                && let Err(error) = self.file.rotate()
            {
                tracing::error!(%error, "the audit log could not be renamed: it goes on as it is");
            }
            self.batch = line;
        }
        self.lines.push(what);
        if self.batch.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// Writes the batch. What can't be written is dropped: a disk that is full stays so for longer than records can
    /// wait.
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let outcome = self.file.write(&self.batch);
        let written = outcome.as_ref().err().map_or(self.lines.len(), |unwritten| unwritten.lines);
        for (index, line) in self.lines.drain(..).enumerate() {
            match line {
                Line::Record(_) if index < written => {
                    self.orders.written.fetch_add(1, Ordering::Relaxed);
                }
                Line::Record(at) => self.queues[at].lane.drop_records(1),
                Line::Missing(at, dropped) if index < written => self.queues[at].written_down = dropped,
                Line::Missing(at, _) => self.queues[at].told = self.queues[at].written_down,
            }
        }
        self.batch.clear();
        match outcome {
            Err(Unwritten { error, .. }) if !self.failing => {
                self.failing = true;
                tracing::error!(%error, "the audit log can't be written: records are dropped and counted until it can");
            }
            Err(_) => {}
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    let dropped: u64 = self.queues.iter().map(|queue| queue.lane.dropped()).sum();
                    tracing::info!(dropped, "the audit log is written again; dropped is since the start");
                }
            }
        }
    }

    fn reopen(&mut self) {
        self.flush();
        match self.file.reopen() {
            Ok(()) => tracing::info!("SIGHUP: the audit log was opened again"),
            Err(error) => {
                tracing::error!(%error, "SIGHUP: the audit log can't be opened again: the file before stays in use");
            }
        }
    }
}
