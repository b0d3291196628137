//! What is counted of a store.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

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
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// What a crash may lose besides the time of a write, in microseconds.
    window: u64,
    /// The time of the slowest write of late.
    slowest: AtomicU64,
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
    pub(super) fn new(window: Duration) -> Self {
        Self { window: window.as_micros() as u64, ..Self::default() }
    }

    /// So many rooms are written, and it took so long. The slowest write is forgotten little by little.
    pub(super) fn wrote(&self, took: Duration, rooms: usize) {
        let took = took.as_micros() as u64;
        let before = self.slowest.load(Ordering::Relaxed);
        self.slowest.store(took.max(before - before / 256), Ordering::Relaxed);
        self.commits.add(1);
        self.commit_us.add(took);
        self.written.add(rooms as u64);
    }

    pub(super) fn report(&self, degraded: bool, waiting: (usize, usize), behind: usize) -> StoreReport {
        let seconds = |us: u64| us as f64 / 1e6;
        StoreReport {
            gauges: [
                f64::from(u8::from(degraded)),
                seconds(self.window + self.slowest.load(Ordering::Relaxed)),
                waiting.0 as f64,
                waiting.1 as f64,
                behind as f64,
            ],
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

/// The numbers at one moment, in the order of the tables below.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreReport {
    gauges: [f64; 5],
    commit_seconds: f64,
    counters: [u64; 8],
    recalls: [u64; 3],
}

const GAUGES: [(&str, &str); 5] = [
    ("voxhall_store_degraded", "Whether the store does not work: rooms live in memory alone"),
    (
        "voxhall_store_loss_window_seconds",
        "What a crash may lose: the lag of shards, the commit interval, and the slowest write of late",
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
