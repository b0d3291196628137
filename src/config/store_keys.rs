//! `store.*`: what rooms remember beyond the process, where, and how soon.

use std::path::PathBuf;
use std::time::Duration;

use redis::IntoConnectionInfo as _;
use shards::core::Micros;
use shards::core::config::Store;

use super::keys::{Default, Key, Kind};
use super::resolve::Resolver;
use super::rows::{choice, file, number};
use super::value::Secret;

const KINDS: &[&str] = &["memory", "file", "redis"];

const KIND: Key = choice(
    "store.kind",
    KINDS,
    "memory",
    "How far the memory of rooms reaches. memory: it ends with the process. file: a restart, or a crash, of the server. redis: \
     another box too.",
);

const PATH: Key = file(
    "store.path",
    "The file of the store of kind file. It is made if it is not there; one server can have it open.",
);

const URL: Key = Key {
    name: "store.url",
    kind: Kind::Secret,
    default: Default::NoSecret,
    reason: "The Redis of the store of kind redis, such as redis://127.0.0.1:6379/0. It may hold a password, so it is never shown.",
};

const PREFIX: Key = Key {
    name: "store.prefix",
    kind: Kind::Text,
    default: Default::Text("voxhall:store"),
    reason: "What the names of the store's keys in Redis begin with.",
};

const LAG_MS: Key = number(
    "store.lag_ms",
    "milliseconds",
    500,
    (10, 60_000),
    "How long a changed room waits before the store is told, so that a busy room is told of twice a second and not with each \
     event. A part of what a crash may lose.",
);

const COMMIT_MS: Key = number(
    "store.commit_ms",
    "milliseconds",
    100,
    (0, 60_000),
    "How long the store gathers what it is told before it writes all of it at once and waits for the disk. The other part of what \
     a crash may lose.",
);

const RECALL_MS: Key = number(
    "store.recall_ms",
    "milliseconds",
    2_000,
    (10, 60_000),
    "How long a client waits while the store is asked for a room that is not there. Then the room begins without what was kept of it.",
);

const TTL_S: Key = number(
    "store.ttl_s",
    "seconds",
    3_600,
    (10, 2_592_000),
    "How long Redis keeps a room that no server looks after any more. Refreshed while the room lives.",
);

const QUEUE_BYTES_MAX: Key = number(
    "store.queue_bytes_max",
    "bytes",
    67_108_864,
    (1 << 20, 1 << 36),
    "Bytes of changed rooms that wait for the store. What is too much is written later, when the room is asked for it again.",
);

/// A store that outlives the process.
#[derive(Clone, Debug)]
pub(crate) struct StoreConfig {
    /// Where it is.
    pub(crate) place: StorePlace,
    /// How long it gathers before it writes.
    pub(crate) commit: Duration,
    /// How long shards gather before they tell it.
    pub(crate) lag: Duration,
    /// How long it may take to say what it has of a room.
    pub(crate) recall: Duration,
    /// How long rooms wait for their first member after a start.
    pub(crate) linger: Duration,
    /// Bytes that may wait for it.
    pub(crate) queue_bytes_max: usize,
}

/// Where a store is.
#[derive(Clone, Debug)]
pub(crate) enum StorePlace {
    /// In a file.
    File(PathBuf),
    /// In a Redis.
    Redis {
        /// Its address.
        url: Secret,
        /// What names of keys begin with.
        prefix: String,
        /// How long it keeps what nobody looks after.
        ttl: Duration,
    },
}

/// In the order in which they are shown.
pub(super) const KEYS: &[Key] =
    &[KIND, PATH, URL, PREFIX, LAG_MS, COMMIT_MS, RECALL_MS, TTL_S, QUEUE_BYTES_MAX];

impl Resolver<'_> {
    pub(super) fn check_store(&mut self) {
        let kind = self.text("store.kind").to_owned();
        let (path, url) = (self.store_path().is_some(), self.secret("store.url").reveal().to_owned());
        match (&*kind, path, !url.is_empty()) {
            ("file", false, _) => {
                let remedy = "set store.path to a file on a local disk, such as /var/lib/voxhall/rooms.redb";
                self.blame("store.kind", "needs store.path".to_owned(), remedy.to_owned());
            }
            ("redis", _, false) => {
                let remedy = "set store.url to the address of a Redis, such as redis://127.0.0.1:6379/0";
                self.blame("store.kind", "needs store.url".to_owned(), remedy.to_owned());
            }
            _ => {}
        }
        if path && kind != "file" {
            let problem = format!("has no effect with store.kind = \"{kind}\"");
            self.blame("store.path", problem, "set store.kind = \"file\", or leave it out".to_owned());
        }
        if !url.is_empty() && kind != "redis" {
            let problem = format!("has no effect with store.kind = \"{kind}\"");
            self.blame("store.url", problem, "set store.kind = \"redis\", or leave it out".to_owned());
        } else if !url.is_empty() && url.as_str().into_connection_info().is_err() {
            // What the library says may repeat the URL, which may hold a password.
            let remedy =
                "write it like redis://127.0.0.1:6379/0, rediss://… for TLS, or redis+unix:///run/redis.sock";
            self.blame("store.url", "is no address of a Redis".to_owned(), remedy.to_owned());
        }
        if kind == "redis" && self.text("store.prefix").is_empty() {
            let remedy = "write \"voxhall:store\", or another name for each server's clients".to_owned();
            self.blame("store.prefix", "is empty".to_owned(), remedy);
        }
        if kind != "memory" && self.number("room.linger_s") == 0 {
            self.blame(
                "store.kind",
                "does not go with room.linger_s = 0: rooms end with their last member, and a restart sends all of them away"
                    .to_owned(),
                "set room.linger_s to the time that clients may take to come back, or store.kind = \"memory\""
                    .to_owned(),
            );
        }
    }

    pub(super) fn store_config(&self) -> Option<StoreConfig> {
        let milliseconds = |name| Duration::from_millis(self.number(name));
        let place = match self.text("store.kind") {
            "file" => StorePlace::File(self.store_path()?),
            "redis" => StorePlace::Redis {
                url: self.secret("store.url").clone(),
                prefix: self.text("store.prefix").to_owned(),
                ttl: Duration::from_secs(self.number("store.ttl_s")),
            },
            _ => return None,
        };
        Some(StoreConfig {
            place,
            commit: milliseconds("store.commit_ms"),
            lag: milliseconds("store.lag_ms"),
            recall: milliseconds("store.recall_ms"),
            linger: Duration::from_secs(self.number("room.linger_s")),
            queue_bytes_max: self.number("store.queue_bytes_max") as usize,
        })
    }

    /// What shards know of it: nothing where nothing leaves the process.
    pub(super) fn shard_store(&self) -> Option<Store> {
        (self.text("store.kind") != "memory").then(|| Store {
            lag: Micros::from_ms(self.number("store.lag_ms")),
            recall: Micros::from_ms(self.number("store.recall_ms")),
        })
    }

    fn store_path(&self) -> Option<PathBuf> {
        self.settings.get("store.path")?;
        Some(PathBuf::from(self.text("store.path"))).filter(|path| !path.as_os_str().is_empty())
    }
}
