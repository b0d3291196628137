//! Brings one receiver its jobs over a connection to Redis of its own, and tries again when that fails.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult};
use tokio::time::sleep;

use super::celery;
use super::job::Job;
use super::queue::Queue;
use crate::backoff::Backoff;

/// Jobs sent at once.
const BATCH_MAX: usize = 16;
/// How long Redis may take to connect, and to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest wait between attempts when the end is near.
const HURRIED: Duration = Duration::from_millis(50);

/// Who gets jobs, and in which form.
#[derive(Clone, Debug)]
pub(super) enum Receiver {
    /// Whoever reads a Redis Stream.
    Stream {
        /// The stream.
        key: String,
        /// What it keeps, about.
        length_max: u64,
    },
    /// Celery's workers.
    Celery {
        /// What they run.
        task: String,
        /// Where they look.
        queue: String,
    },
}

impl Receiver {
    const fn name(&self) -> &'static str {
        match self {
            Self::Stream { .. } => "stream",
            Self::Celery { .. } => "celery",
        }
    }

    /// Redis has taken all of them, or it is not known which.
    async fn give(&self, connection: &mut MultiplexedConnection, jobs: &[Arc<Job>]) -> RedisResult<()> {
        match self {
            Self::Stream { key, length_max } => {
                let mut pipe = redis::pipe();
                for job in jobs {
                    pipe.cmd("XADD").arg(key).arg("MAXLEN").arg("~").arg(*length_max).arg("*");
                    pipe.arg("type").arg("room_ended").arg("job_id").arg(job.id());
                    pipe.arg("session_id").arg(job.session()).arg("job").arg(job.payload()).ignore();
                }
                pipe.exec_async(connection).await
            }
            Self::Celery { task, queue } => {
                let mut push = redis::cmd("LPUSH");
                push.arg(queue);
                for job in jobs {
                    push.arg(celery::message(job, task, queue));
                }
                push.exec_async(connection).await
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Courier {
    receiver: Receiver,
    client: Client,
    failed: AtomicU64,
}

impl Courier {
    pub(super) fn new(receiver: Receiver, client: Client) -> Self {
        Self { receiver, client, failed: AtomicU64::new(0) }
    }

    /// Whose it is.
    pub(super) fn receiver(&self) -> &'static str {
        self.receiver.name()
    }

    /// Attempts that failed.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Delivers what is in the queue, for ever. Dropped in the middle of an attempt, it leaves the jobs in the queue although
    /// Redis may have them.
    pub(super) async fn run(&self, queue: &Queue) -> Infallible {
        let mut backoff = Backoff::default();
        let mut connection = None;
        loop {
            let jobs = queue.first(BATCH_MAX).await;
            match self.attempt(&mut connection, &jobs).await {
                Ok(()) => {
                    queue.done(jobs.len());
                    if backoff.reset() {
                        tracing::info!(receiver = self.receiver(), "jobs are delivered again");
                    }
                }
                Err(error) => {
                    connection = None;
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    let wait = backoff.next();
                    tracing::warn!(
                        receiver = self.receiver(),
                        cause = %error,
                        waiting = queue.len(),
                        "jobs can't be delivered; they are kept, and it is tried again"
                    );
                    rest(queue, wait).await;
                }
            }
        }
    }

    async fn attempt(
        &self,
        connection: &mut Option<MultiplexedConnection>,
        jobs: &[Arc<Job>],
    ) -> Result<(), RedisError> {
        if connection.is_none() {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(PATIENCE))
                .set_response_timeout(Some(PATIENCE));
            *connection = Some(self.client.get_multiplexed_async_connection_with_config(&config).await?);
        }
        match connection {
            Some(connection) => self.receiver.give(connection, jobs).await,
            None => unreachable!("it has just been made"),
        }
    }
}

/// Waits so long, or less when there is no time for that.
async fn rest(queue: &Queue, wait: Duration) {
    if queue.hurries() {
        return sleep(wait.min(HURRIED)).await;
    }
    tokio::select! {
        () = sleep(wait) => {}
        () = queue.hurried() => {}
    }
}
