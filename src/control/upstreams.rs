//! What the node knows of its model server, for stats and metrics.

use serde_json::{Map, Value, json};
use shards::core::ModelServer;
use shards::core::counters::{UPSTREAM_ENDS, UpstreamCounters};

/// One look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance {
    /// Sessions, those that are being opened included.
    pub(crate) sessions: usize,
    /// Whether nobody tries for a while, because so many have failed.
    pub(crate) broken: bool,
    /// Addresses that its name has.
    pub(crate) addresses: usize,
}

impl Glance {
    pub(crate) fn at(server: &ModelServer) -> Self {
        let addresses = server.addresses().len();
        Self { sessions: server.sessions(), broken: server.is_broken(), addresses }
    }

    /// With names and explanations.
    pub(crate) fn gauges(self) -> [(&'static str, &'static str, f64); 3] {
        [
            (
                "voxhall_upstream_sessions",
                "Model sessions of the node, those being opened included",
                self.sessions as f64,
            ),
            (
                "voxhall_upstream_breaker_open",
                "Whether the node has stopped trying to open model sessions",
                f64::from(u8::from(self.broken)),
            ),
            ("voxhall_upstream_addresses", "Addresses of the model server", self.addresses as f64),
        ]
    }
}

/// For stats: null where there is none.
pub(crate) fn of_node(server: Option<&ModelServer>) -> Value {
    let Some(Glance { sessions, broken, addresses }) = server.map(Glance::at) else { return Value::Null };
    json!({ "sessions": sessions, "breaker_open": broken, "addresses": addresses })
}

/// For stats: how sessions of a shard ended.
pub(crate) fn ends(counters: &UpstreamCounters) -> Map<String, Value> {
    UPSTREAM_ENDS.iter().zip(counters.ended).map(|(how, count)| ((*how).to_owned(), count.into())).collect()
}
