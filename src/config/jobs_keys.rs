//! `jobs.*`: who is told of rooms that have ended, and how much may wait for that.

use std::time::Duration;

use redis::IntoConnectionInfo as _;
use shards::core::config::Reports;

use super::keys::{Default, Key, Kind};
use super::resolve::Resolver;
use super::rows::{number, text};
use super::value::Secret;

const REDIS_URL_NAME: &str = "jobs.redis_url";

const REDIS_URL: Key = Key {
    name: REDIS_URL_NAME,
    kind: Kind::Secret,
    default: Default::NoSecret,
    reason: "The Redis that gets a job for each room that ends, such as redis://127.0.0.1:6379/0. Not set: there are no jobs. \
             It may hold a password, so it is never shown.",
};

const STREAM: Key = Key {
    name: "jobs.stream",
    kind: Kind::Text,
    default: Default::Text("voxhall:rooms"),
    reason: "The Redis Stream that jobs are added to. Empty: none.",
};

const STREAM_MAX: Key = number(
    "jobs.stream_max",
    "jobs",
    100_000,
    (1, 1 << 32),
    "Jobs that the stream keeps, about: older ones go, read or not.",
);

const CELERY_TASK: Key = text(
    "jobs.celery_task",
    "The Celery task that is called with each job, such as voxhall.room_ended. Not set: none.",
);

const CELERY_QUEUE: Key = Key {
    name: "jobs.celery_queue",
    kind: Kind::Text,
    default: Default::Text("celery"),
    reason: "The Celery queue that the task is put into.",
};

const QUEUE_MAX: Key = number(
    "jobs.queue_max",
    "jobs",
    10_000,
    (1, 1 << 24),
    "Jobs that wait for Redis, for the stream and for Celery each. Past that new ones are dropped and counted.",
);

const QUEUE_BYTES_MAX: Key = number(
    "jobs.queue_bytes_max",
    "bytes",
    67_108_864,
    (1 << 20, 1 << 36),
    "Bytes of jobs that wait for Redis, for the stream and for Celery each.",
);

const TRANSCRIPT_BYTES_MAX: Key = number(
    "jobs.transcript_bytes_max",
    "bytes",
    65_536,
    (0, 1 << 20),
    "What is kept of one room's transcript while it lives. Past that the oldest goes; 0 keeps none.",
);

const FLUSH_S: Key = number(
    "jobs.flush_s",
    "seconds",
    5,
    (0, 600),
    "How long the end of the server waits for Redis to take the last jobs. What is left then is lost, and the log says so.",
);

/// Where jobs go.
#[derive(Clone, Debug)]
pub(crate) struct JobsConfig {
    /// The Redis.
    pub(crate) redis_url: Secret,
    /// The stream with its length.
    pub(crate) stream: Option<(String, u64)>,
    /// The Celery task and its queue.
    pub(crate) celery: Option<(String, String)>,
    /// Jobs that may wait for each.
    pub(crate) queue_max: usize,
    /// Their bytes.
    pub(crate) queue_bytes_max: usize,
    /// How long the end waits.
    pub(crate) flush: Duration,
}

/// In the order in which they are shown.
pub(super) const KEYS: &[Key] = &[
    REDIS_URL,
    STREAM,
    STREAM_MAX,
    CELERY_TASK,
    CELERY_QUEUE,
    QUEUE_MAX,
    QUEUE_BYTES_MAX,
    TRANSCRIPT_BYTES_MAX,
    FLUSH_S,
];

impl Resolver<'_> {
    pub(super) fn check_jobs(&mut self) {
        let url = self.secret(REDIS_URL_NAME).reveal().to_owned();
        let (stream, task) = (self.text("jobs.stream"), self.text("jobs.celery_task"));
        let (no_stream, no_task) = (stream.is_empty(), task.is_empty());
        if url.is_empty() {
            if !no_task {
                let problem = format!("has no effect without {REDIS_URL_NAME}");
                self.blame("jobs.celery_task", problem, format!("set {REDIS_URL_NAME} too"));
            }
            return;
        }
        if url.as_str().into_connection_info().is_err() {
            // What the library says may repeat the URL, which may hold a password.
            self.blame(
                REDIS_URL_NAME,
                "is no address of a Redis".to_owned(),
                "write it like redis://127.0.0.1:6379/0, rediss://… for TLS, or redis+unix:///run/redis.sock"
                    .to_owned(),
            );
        }
        if no_stream && no_task {
            self.blame(
                "jobs.stream",
                "is empty, and so is jobs.celery_task: nobody gets the jobs".to_owned(),
                format!("set one of them, or leave {REDIS_URL_NAME} out"),
            );
        }
        if !no_task && self.text("jobs.celery_queue").is_empty() {
            let remedy = "write \"celery\", or the name of the queue that its workers read".to_owned();
            self.blame("jobs.celery_queue", "is empty".to_owned(), remedy);
        }
    }

    pub(super) fn jobs_config(&self) -> Option<JobsConfig> {
        let redis_url = self.secret(REDIS_URL_NAME);
        let named = |name| Some(self.text(name).to_owned()).filter(|text: &String| !text.is_empty());
        (!redis_url.is_empty()).then(|| JobsConfig {
            redis_url: redis_url.clone(),
            stream: named("jobs.stream").map(|stream| (stream, self.number("jobs.stream_max"))),
            celery: named("jobs.celery_task").map(|task| (task, self.text("jobs.celery_queue").to_owned())),
            queue_max: self.number("jobs.queue_max") as usize,
            queue_bytes_max: self.number("jobs.queue_bytes_max") as usize,
            flush: Duration::from_secs(self.number("jobs.flush_s")),
        })
    }

    /// What shards keep of rooms: only where somebody is told of it.
    pub(super) fn reports(&self) -> Option<Reports> {
        let transcript_bytes_max = self.number("jobs.transcript_bytes_max") as usize;
        (!self.secret(REDIS_URL_NAME).is_empty()).then_some(Reports { transcript_bytes_max })
    }
}
