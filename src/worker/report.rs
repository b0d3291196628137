//! What is counted of workers.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// A number that one task writes and a scrape reads.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counts {
    ($($growth:ident, $field:ident, $metric:literal, $help:literal;)*) => {
        /// Every number.
        #[derive(Debug, Default)]
        pub(super) struct Counts {
            $(pub(super) $field: Count,)*
        }

        /// The numbers at one moment.
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct WorkerReport {
            $($field: u64,)*
        }

        impl Counts {
            pub(super) fn report(&self) -> WorkerReport {
                WorkerReport { $($field: self.$field.get(),)* }
            }
        }

        /// Writes them as metrics.
        pub(crate) fn describe(report: &WorkerReport, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
            $($growth(out, $metric, $help, report.$field)?;)*
            Ok(())
        }
    };
}

counts! {
    gauge, redis_up, "voxhall_worker_redis_up", "Whether the connection to the workers' Redis stands";
    gauge, in_flight, "voxhall_worker_in_flight", "Requests that workers have not answered yet";
    gauge, depth, "voxhall_worker_queue_depth", "Entries in the workers' stream when it was last looked at";
    counter, connects, "voxhall_worker_connects", "Connections made to the workers' Redis";
    counter, requests, "voxhall_worker_requests", "Requests taken for workers";
    counter, answered, "voxhall_worker_answered", "Requests that a worker has answered to the end";
    counter, failed, "voxhall_worker_failed", "Requests that ended with an error";
    counter, cancelled, "voxhall_worker_cancelled", "Requests that their rooms no longer wanted";
    counter, refused, "voxhall_worker_refused", "Requests refused at once: too many were out, or Redis was away";
    counter, retold, "voxhall_worker_retold", "Requests told again because their worker was lost, or Redis had lost them";
    counter, buried, "voxhall_worker_dead_letters", "Requests moved to the dead letters";
    counter, ignored, "voxhall_worker_answers_ignored", "Answers that came too late, twice, or to nothing that was asked";
    counter, unreadable, "voxhall_worker_answers_unreadable", "Messages on the answers' channels that are no answers";
    counter, shard_full, "voxhall_worker_shard_full", "Answers lost because a shard's queue was full: their requests failed";
}

fn gauge(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    out.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&(value as f64))
}

fn counter(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)
}
