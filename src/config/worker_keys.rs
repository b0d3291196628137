//! `worker.*`: where the workers are reached, and what bounds what they are asked.

use std::time::Duration;

use shards::core::Micros;
use shards::core::config::Workers;

use super::keys::{Default, Key, Kind};
use super::resolve::Resolver;
use super::rows::{choice, number};
use super::value::Secret;

const REDIS_URL: Key = Key {
    name: "worker.redis_url",
    kind: Kind::Secret,
    default: Default::NoSecret,
    reason: "The Redis (6.2 or newer) through which workers are reached, such as redis://127.0.0.1:6379/0 or \
             rediss://user:password@host:6379. Not set: there are no workers.",
};

const MODE: Key = choice(
    "worker.mode",
    &["streams", "pubsub"],
    "streams",
    "How requests travel: a stream keeps each until a worker has answered it; pubsub tells whoever listens and keeps nothing.",
);

const STREAM: Key = Key {
    name: "worker.stream",
    kind: Kind::Text,
    default: Default::Text("voxhall:requests"),
    reason: "The stream of the requests, or the channel where worker.mode is pubsub.",
};

const GROUP: Key = Key {
    name: "worker.group",
    kind: Kind::Text,
    default: Default::Text("workers"),
    reason: "The consumer group that the workers read the stream as.",
};

const STREAM_MAX: Key = number(
    "worker.stream_max",
    "entries",
    10_000,
    (1, 10_000_000),
    "Entries of the stream, and of its dead letters. Past that new requests are refused.",
);

const AGE_S: Key =
    number("worker.age_s", "seconds", 300, (1, 86_400), "Entries of the stream older than this are dropped.");

const IN_FLIGHT_MAX: Key = number(
    "worker.in_flight_max",
    "requests",
    4_096,
    (1, 1_000_000),
    "Requests of this node that workers have not answered yet. Past that new ones are refused.",
);

const DEADLINE_S: Key = number(
    "worker.deadline_s",
    "seconds",
    30,
    (1, 3_600),
    "How long a worker may be silent: until its answer begins, and between its parts. Then the response fails.",
);

const CLAIM_S: Key = number(
    "worker.claim_s",
    "seconds",
    8,
    (1, 3_600),
    "A worker that has a request and gives no sign for so long counts as lost, and the request is told again.",
);

const DELIVERIES_MAX: Key = number(
    "worker.deliveries_max",
    "deliveries",
    3,
    (1, 100),
    "A request that was delivered so often and never answered goes to the dead letters.",
);

/// How workers are reached.
#[derive(Clone, Debug)]
pub(crate) struct WorkerConfig {
    /// Where.
    pub(crate) redis_url: Secret,
    /// How requests travel.
    pub(crate) mode: WorkerMode,
    /// The stream, or the channel.
    pub(crate) stream: String,
    /// The group that reads it.
    pub(crate) group: String,
    /// Entries that it may have.
    pub(crate) stream_max: u64,
    /// How old they may be.
    pub(crate) age: Duration,
    /// Requests of this node that may be out.
    pub(crate) in_flight_max: usize,
    /// How long a worker may give no sign before it counts as lost.
    pub(crate) claim: Duration,
    /// How often a request is delivered at most.
    pub(crate) deliveries_max: u32,
}

/// How requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerMode {
    /// In a stream that a consumer group reads.
    Streams,
    /// On a channel.
    PubSub,
}

/// In the order in which they are shown.
pub(super) const KEYS: &[Key] =
    &[REDIS_URL, MODE, STREAM, GROUP, STREAM_MAX, AGE_S, IN_FLIGHT_MAX, DEADLINE_S, CLAIM_S, DELIVERIES_MAX];

impl Resolver<'_> {
    /// Whether the engine that is asked for has workers behind it, and the keys go together.
    pub(super) fn check_worker(&mut self) {
        let url = self.secret("worker.redis_url").reveal().to_owned();
        if url.is_empty() {
            if self.text("room.engine") == "worker" {
                let remedy = "set worker.redis_url, such as redis://127.0.0.1:6379, or choose another engine";
                self.blame("room.engine", "has no workers to ask".to_owned(), remedy.to_owned());
            }
            return;
        }
        if let Err(error) = redis::Client::open(url) {
            let remedy = "write redis://host:6379/0, rediss:// for TLS, or redis+unix:///path for a socket";
            self.blame("worker.redis_url", format!("can't be used: {error}"), remedy.to_owned());
            self.hide_blamed_value();
        }
        for name in ["worker.stream", "worker.group"] {
            if self.text(name).is_empty() {
                self.blame(name, "is empty".to_owned(), "give it a name".to_owned());
            }
        }
        let (claim, deliveries) = (self.number("worker.claim_s"), self.number("worker.deliveries_max"));
        let (needs, has) = (claim * deliveries, self.number("worker.deadline_s"));
        if needs >= has {
            let problem = format!(
                "does not go with worker.claim_s = {claim} and worker.deliveries_max = {deliveries}: a room must wait for \
                 all deliveries of its request"
            );
            self.blame(
                "worker.deadline_s",
                problem,
                format!("set it above {needs}, or lower one of the others"),
            );
        }
        self.check_below(
            "worker.deadline_s",
            "worker.age_s",
            1,
            "an entry must not be dropped while its room waits",
        );
    }

    /// What the control plane needs; nothing when there are no workers.
    pub(super) fn worker_config(&self) -> Option<WorkerConfig> {
        let redis_url = self.secret("worker.redis_url").clone();
        if redis_url.is_empty() {
            return None;
        }
        let seconds = |name| Duration::from_secs(self.number(name));
        Some(WorkerConfig {
            redis_url,
            mode: if self.text("worker.mode") == "pubsub" { WorkerMode::PubSub } else { WorkerMode::Streams },
            stream: self.text("worker.stream").to_owned(),
            group: self.text("worker.group").to_owned(),
            stream_max: self.number("worker.stream_max"),
            age: seconds("worker.age_s"),
            in_flight_max: self.number("worker.in_flight_max") as usize,
            claim: seconds("worker.claim_s"),
            deliveries_max: self.number("worker.deliveries_max") as u32,
        })
    }

    /// What a shard needs.
    pub(super) fn workers(&self) -> Workers {
        Workers {
            available: !self.secret("worker.redis_url").is_empty(),
            deadline: Micros::from_s(self.number("worker.deadline_s")),
        }
    }
}
