//! The audit log: who came, was refused and was closed, a JSON object a line.
//!
//! Shards and the control plane put records into bounded queues ([`AuditLane`]) and never wait. One thread of its own
//! empties them, makes lines of them and writes those; only it ever waits for the disk. What finds its queue full, or
//! can't be written, is dropped and counted, and the log itself says later how many lines are missing.

mod file;
mod line;
mod time;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use shards::core::audit::{AuditRecord, Managed};
use shards::rt::AuditLane;

use crate::Failure;
use crate::config::{AuditConfig, Config, ConfigError, ConfigErrors, Place};
use file::LogFile;
pub(crate) use time::Utc;
use writer::Writer;

/// How long the end of the program waits for what is still to be written. A disk takes that in milliseconds, or hangs.
const FAREWELL: Duration = Duration::from_secs(5);

/// The log, for everybody on the control plane.
#[derive(Clone, Debug)]
pub(crate) struct Audit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    orders: Arc<Orders>,
    /// One for each shard, and the control plane's behind them.
    lanes: Vec<AuditLane>,
    writer: thread::Thread,
}

/// What the writer is told, and what it tells.
#[derive(Debug, Default)]
struct Orders {
    stop: AtomicBool,
    reopen: AtomicBool,
    written: AtomicU64,
}

/// How the log stands, for metrics and stats.
#[derive(Clone, Debug)]
pub(crate) struct AuditReport {
    /// Records written.
    pub(crate) written: u64,
    /// Records dropped, for each shard and the control plane.
    pub(crate) dropped: Vec<(String, u64)>,
}

/// The writer's thread.
#[derive(Debug)]
pub(crate) struct Ending {
    audit: Audit,
    ended: Receiver<()>,
}

/// Opens the log that the configuration names; nothing where it names none.
///
/// # Errors
/// A file that can't be written, or no thread to write it.
pub(crate) fn open(config: &Config) -> Result<Option<Ending>, Failure> {
    let Some(audit) = &config.audit else { return Ok(None) };
    let file = LogFile::open(audit).map_err(|error| unwritable(config, audit, &error))?;
    let orders = Arc::new(Orders::default());
    let (shards, tls) = (config.cores.len(), config.wire.tls.is_some());
    let (give, take) = channel::<Vec<AuditLane>>();
    let (say, ended) = channel();
    let of_the_thread = Arc::clone(&orders);
    let thread = thread::Builder::new().name("audit".to_owned()).spawn(move || {
        if let Ok(lanes) = take.recv() {
            Writer::new(file, lanes, of_the_thread, tls).run();
        }
        // The program may have given up waiting.
        let _ = say.send(());
    });
    let thread = thread.map_err(|error| Failure::Fault(format!("the audit log has no thread: {error}")))?;
    let writer = thread.thread().clone();
    let lane = || AuditLane::new(audit.queue_records_max, writer.clone());
    let lanes: Vec<AuditLane> = (0..=shards).map(|_| lane()).collect();
    // It waits for nothing else.
    let _ = give.send(lanes.clone());
    Ok(Some(Ending { audit: Audit(Arc::new(Shared { orders, lanes, writer })), ended }))
}

fn unwritable(config: &Config, audit: &AuditConfig, error: &std::io::Error) -> Failure {
    let set = config.effective.iter().find(|effective| effective.name == "audit.path");
    Failure::Configuration(ConfigErrors(vec![ConfigError {
        key: "audit.path".to_owned(),
        value: Some(format!("\"{}\"", audit.path.display())),
        place: set.map_or(Place::Default, |effective| effective.place.clone()),
        problem: format!("can't be written: {error}"),
        remedy: "name a file in a folder that exists and in which this user may make files".to_owned(),
    }]))
}

impl Audit {
    /// Each shard's way in, in their order.
    pub(crate) fn lanes_of_shards(&self) -> Vec<AuditLane> {
        self.0.lanes.split_last().map(|(_, shards)| shards.to_vec()).unwrap_or_default()
    }

    /// Notes what was done, or not allowed, through the management API.
    pub(crate) fn note(&self, managed: Managed) {
        if let Some(lane) = self.0.lanes.last() {
            lane.put(Box::new(AuditRecord::Managed(managed)));
        }
    }

    /// Opens the file anew: whoever renamed it wants the next lines in another.
    pub(crate) fn reopen(&self) {
        self.0.orders.reopen.store(true, Ordering::Release);
        self.0.writer.unpark();
    }

    /// How it stands.
    pub(crate) fn report(&self) -> AuditReport {
        let shards = self.0.lanes.len() - 1;
        let label = |at: usize| if at < shards { at.to_string() } else { "control".to_owned() };
        let dropped = self.0.lanes.iter().enumerate().map(|(at, lane)| (label(at), lane.dropped()));
        AuditReport { written: self.0.orders.written.load(Ordering::Relaxed), dropped: dropped.collect() }
    }
}

impl Ending {
    /// The log.
    pub(crate) fn audit(&self) -> Audit {
        self.audit.clone()
    }

    /// Everything that was put in is written; after this nothing is.
    pub(crate) fn finish(self) {
        self.audit.0.orders.stop.store(true, Ordering::Release);
        self.audit.0.writer.unpark();
        if self.ended.recv_timeout(FAREWELL).is_err() {
            tracing::error!("the end of the audit log could not be written in time");
        }
    }
}
