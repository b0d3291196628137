//! Background jobs: each room that has ended after a conversation is handed to whoever works on it afterwards, to a Redis
//! Stream, to Celery, or to both.
//!
//! Shards hand reports to the control plane and never wait. Here a job is made of each and put into the bounded queue of
//! each receiver; its courier delivers at least once, in order, and tries again for as long as Redis is away. A job leaves
//! its queue when Redis has said that it has it. What finds a queue full, or is not delivered when the process ends, is
//! lost, counted and logged.

mod celery;
mod courier;
mod job;
mod queue;

use std::convert::Infallible;
use std::sync::Arc;

use shards::core::report::RoomReport;
use tokio::time::{Instant, timeout_at};

use crate::Failure;
use crate::config::JobsConfig;
use courier::{Courier, Receiver};
use job::Job;
use queue::Queue;

/// The queues, for everybody on the control plane.
#[derive(Clone, Debug)]
pub(crate) struct Jobs(Arc<Vec<Line>>);

/// One receiver's queue and courier.
#[derive(Debug)]
struct Line {
    queue: Queue,
    courier: Courier,
}

/// How one receiver's jobs stand, for metrics.
#[derive(Clone, Debug)]
pub(crate) struct JobsReport {
    /// Who receives: `stream` or `celery`.
    pub(crate) receiver: &'static str,
    /// Jobs that Redis has taken.
    pub(crate) delivered: u64,
    /// Attempts that failed.
    pub(crate) failed: u64,
    /// Jobs that wait.
    pub(crate) waiting: u64,
    /// Jobs that were lost, by why.
    pub(crate) dropped: [(&'static str, u64); 2],
}

impl Jobs {
    /// Queues for the receivers that are configured. Nothing is connected yet.
    ///
    /// # Errors
    /// An address that can't be used.
    pub(crate) fn new(config: &JobsConfig) -> Result<Self, Failure> {
        let client = || {
            redis::Client::open(config.redis_url.reveal()).map_err(|_| {
                Failure::Fault("jobs.redis_url can't be used as the address of a Redis".to_owned())
            })
        };
        let mut lines = Vec::new();
        let mut add = |receiver: Receiver| {
            let queue = Queue::new(config.queue_max, config.queue_bytes_max);
            client().map(|client| lines.push(Line { queue, courier: Courier::new(receiver, client) }))
        };
        if let Some((key, length_max)) = config.stream.clone() {
            add(Receiver::Stream { key, length_max })?;
        }
        if let Some((task, queue)) = config.celery.clone() {
            add(Receiver::Celery { task, queue })?;
        }
        Ok(Self(Arc::new(lines)))
    }

    /// Makes a job of a report, for every receiver.
    pub(crate) fn take(&self, report: &RoomReport) {
        let job = Arc::new(Job::new(report));
        for line in self.0.iter() {
            if !line.queue.push(Arc::clone(&job)) {
                tracing::error!(
                    receiver = line.courier.receiver(),
                    session = job.session(),
                    "the queue of jobs is full: a job is lost"
                );
            }
        }
    }

    /// Delivers, for ever. Safe to drop: what is not delivered stays in its queue.
    pub(crate) async fn run(&self) -> Infallible {
        let deliver = async |at: usize| match self.0.get(at) {
            Some(Line { queue, courier }) => courier.run(queue).await,
            None => std::future::pending().await,
        };
        tokio::select! {
            never = deliver(0) => never,
            never = deliver(1) => never,
        }
    }

    /// Waits until everything is delivered, at most until the deadline; what is left then is given up.
    pub(crate) async fn finish(&self, deadline: Instant) {
        for line in self.0.iter() {
            line.queue.hurry();
        }
        for line in self.0.iter() {
            let _ = timeout_at(deadline, line.queue.emptied()).await;
            let lost = line.queue.give_up();
            let receiver = line.courier.receiver();
            if lost > 0 {
                tracing::error!(
                    receiver,
                    jobs = lost,
                    "jobs could not be delivered before the end: they are lost"
                );
            } else {
                tracing::info!(receiver, jobs = line.queue.delivered(), "all jobs are delivered");
            }
        }
    }

    /// How they stand.
    pub(crate) fn report(&self) -> Vec<JobsReport> {
        let of = |line: &Line| JobsReport {
            receiver: line.courier.receiver(),
            delivered: line.queue.delivered(),
            failed: line.courier.failed(),
            waiting: line.queue.len() as u64,
            dropped: line.queue.dropped(),
        };
        self.0.iter().map(of).collect()
    }
}
