//! What is counted of a store.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use shards::core::Micros;
use shards::core::counters::Histogram;

/// Upper bounds of `voxhall_store_save_seconds`, in microseconds: around what the defaults make of it, and beyond.
const SAVE_BOUNDS_US: [u64; 10] =
    [50_000, 100_000, 250_000, 500_000, 600_000, 700_000, 1_000_000, 2_500_000, 10_000_000, 60_000_000];

/// A number that anybody adds to and a scrape reads.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Every number.
#[derive(Debug)]
pub(super) struct Counts {
    /// How long shards gather.
    lag: Micros,
    /// How long the store does.
    commit: Micros,
    /// The time of the slowest write of late, in microseconds.
    slowest: AtomicU64,
    /// From a change to its being saved: the oldest of each write.
    saves: Mutex<Histogram<10>>,
    commits: Count,
    commit_us: Count,
    written: Count,
    pub(super) failures: Count,
    pub(super) mended: Count,
    pub(super) dropped: Count,
    pub(super) lost: Count,
    pub(super) asked_again: Count,
    pub(super) expired: Count,
    pub(super) recalls_found: Count,
    pub(super) recalls_absent: Count,
    pub(super) recalls_failed: Count,
}

impl Counts {
    pub(super) fn new(lag: Micros, commit: Micros) -> Self {
        Self {
            lag,
            commit,
            slowest: AtomicU64::new(0),
            saves: Mutex::new(Histogram::new(SAVE_BOUNDS_US)),
            commits: Count::default(),
            commit_us: Count::default(),
            written: Count::default(),
            failures: Count::default(),
            mended: Count::default(),
            dropped: Count::default(),
            lost: Count::default(),
            asked_again: Count::default(),
            expired: Count::default(),
            recalls_found: Count::default(),
            recalls_absent: Count::default(),
            recalls_failed: Count::default(),
        }
    }

    /// So many rooms are written, and it took so long; so old was the oldest change. The slowest write is forgotten little by
    /// little.
    pub(super) fn wrote(&self, took: Micros, age: Micros, rooms: usize) {
        let before = self.slowest.load(Ordering::Relaxed);
        self.slowest.store(took.0.max(before - before / 256), Ordering::Relaxed);
        self.saves.lock().unwrap_or_else(PoisonError::into_inner).observe(age.0);
        self.commits.add(1);
        self.commit_us.add(took.0);
        self.written.add(rooms as u64);
    }

    /// What a crash may lose when nobody is late: what a shard gathers, what comes while the store gathers or still writes what
    /// came before, and what is being written.
    fn window(&self, busy_for: Micros) -> Micros {
        let slowest = busy_for.max(Micros(self.slowest.load(Ordering::Relaxed)));
        self.lag + self.commit.max(slowest) + slowest
    }

    pub(super) fn report(
        &self,
        degraded: bool,
        busy_for: Micros,
        waiting: (usize, usize),
        behind: usize,
        unsaved: Option<Micros>,
    ) -> StoreReport {
        StoreReport {
            gauges: [
                f64::from(u8::from(degraded)),
                seconds(self.window(busy_for).0),
                waiting.0 as f64,
                waiting.1 as f64,
                behind as f64,
            ],
            unsaved: unsaved.map(|age| seconds(age.0)),
            saves: self.saves.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            commit_seconds: seconds(self.commit_us.get()),
            counters: [
                self.commits.get(),
                self.written.get(),
                self.failures.get(),
                self.mended.get(),
                self.dropped.get(),
                self.lost.get(),
                self.asked_again.get(),
                self.expired.get(),
            ],
            recalls: [self.recalls_found.get(), self.recalls_absent.get(), self.recalls_failed.get()],
        }
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// The numbers at one moment, in the order of the tables below.
#[derive(Clone, Debug)]
pub(crate) struct StoreReport {
    pub(super) gauges: [f64; 5],
    /// The age of the oldest change that is not saved; nothing when a shard has not said what it has.
    pub(super) unsaved: Option<f64>,
    saves: Histogram<10>,
    commit_seconds: f64,
    counters: [u64; 8],
    recalls: [u64; 3],
}

const GAUGES: [(&str, &str); 5] = [
    ("voxhall_store_degraded", "Whether the store does not work: rooms live in memory alone"),
    (
        "voxhall_store_loss_window_seconds",
        "What a crash may lose as configured: the lag of shards, the commit interval or the slowest write, and that write",
    ),
    ("voxhall_store_waiting_rooms", "Changed rooms that wait to be written"),
    ("voxhall_store_waiting_bytes", "Bytes of changed rooms that wait to be written"),
    ("voxhall_store_behind_rooms", "Rooms of which the store lacks something, and that are to be told whole"),
];

const COUNTERS: [(&str, &str); 8] = [
    ("voxhall_store_commits", "Writes, of everything that waited"),
    ("voxhall_store_rooms_written", "Changes of rooms that were written"),
    ("voxhall_store_failures", "Attempts to use or mend the store that failed"),
    ("voxhall_store_mended", "How often it worked again after that"),
    ("voxhall_store_dropped", "Changes that were not taken: the store was broken, or too much waited"),
    ("voxhall_store_lost_rooms", "Rooms that the store has lost, such as when a Redis was emptied"),
    ("voxhall_store_asked_again", "Rooms that shards were asked to tell whole"),
    ("voxhall_store_expired_rooms", "Rooms dropped because nobody came back to them after a start"),
];

const RECALLS: [&str; 3] = ["found", "absent", "failed"];

/// Writes them as metrics.
pub(crate) fn describe(report: &StoreReport, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
    for ((name, help), value) in GAUGES.iter().zip(report.gauges) {
        out.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
    }
    if let Some(age) = report.unsaved {
        let help = "Age of the oldest change that is not saved, and that a crash would lose now; 0 when there is none";
        out.encode_descriptor("voxhall_store_unsaved_seconds", help, None, MetricType::Gauge)?
            .encode_gauge(&age)?;
    }
    let help = "From a change to its being saved, of the oldest change in each write";
    let mut metric =
        out.encode_descriptor("voxhall_store_save_seconds", help, None, MetricType::Histogram)?;
    let saves = &report.saves;
    let bounds = saves.buckets().map(|(bound, count)| (seconds(bound), count));
    let buckets: Vec<(f64, u64)> = bounds.chain([(f64::INFINITY, saves.above())]).collect();
    metric.encode_histogram::<NoLabelSet>(seconds(saves.sum()), saves.count(), &buckets, None)?;
    let help = "Time that writes took, in all";
    let mut metric =
        out.encode_descriptor("voxhall_store_commit_seconds", help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, f64, f64>(&report.commit_seconds, None)?;
    for ((name, help), value) in COUNTERS.iter().zip(report.counters) {
        let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
    }
    let help = "Rooms that the store was asked for, by what it had of them";
    let mut family = out.encode_descriptor("voxhall_store_recalls", help, None, MetricType::Counter)?;
    for (result, value) in RECALLS.iter().zip(report.recalls) {
        let labels = [("result", *result)];
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
    }
    Ok(())
}
