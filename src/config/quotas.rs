//! What the node gives out: the rows of the table for `limits.connections_*` and `limits.rooms_max`, and how many
//! connections the host allows.

use super::error::Place;
use super::keys::Key;
use super::resolve::Resolver;
use super::rows::{derived, number};
use super::value::Value;

/// Connections one node may be configured for: a shard names a connection with 24 bits.
const CONNECTIONS: u64 = (1 << 24) - 1;

/// Connections a node takes when only the descriptor limit would hold it back: more than one address and port can
/// serve to one client host, and few enough that a limit of "unlimited" does not size anything absurdly.
const CONNECTIONS_DEFAULT_MAX: u64 = 1 << 20;

pub(super) const CONNECTIONS_MAX: Key = derived(
    "limits.connections_max",
    "connections",
    "what the descriptor limit leaves, at most 1048576",
    (1, CONNECTIONS),
    "Connections of the node. Each is a descriptor.",
);

pub(super) const CONNECTIONS_PER_USER_MAX: Key = number(
    "limits.connections_per_user_max",
    "connections",
    10,
    (0, CONNECTIONS),
    "Connections of one user to the node, who is the sub of their tokens; 0 is no limit. Without tokens there are no users.",
);

pub(super) const CONNECTIONS_PER_IP_MAX: Key = number(
    "limits.connections_per_ip_max",
    "connections",
    0,
    (0, CONNECTIONS),
    "Connections from one address to the node; 0 is no limit. Connections from this host are not counted.",
);

pub(super) const ROOMS_MAX: Key = number(
    "limits.rooms_max",
    "rooms",
    1_000_000,
    (1, 1 << 28),
    "Rooms of the node, lingering ones included; past that the one that has lingered longest on the new one's shard goes.",
);

impl Resolver<'_> {
    /// Descriptors that are kept for model sessions, where there is a model server: as many as there may be of them, and
    /// half of what the host leaves at most.
    pub(super) fn model_session_sockets(&self, shards: usize) -> u64 {
        if self.text("realtime.url").is_empty() {
            return 0;
        }
        let max = match self.number("realtime.sessions_max") {
            0 => CONNECTIONS_DEFAULT_MAX,
            max => max,
        };
        let left =
            self.host.nofile.map(|nofile| nofile.hard.saturating_sub(tuning::descriptors_for(0, shards)));
        max.min(left.unwrap_or(u64::MAX) / 2)
    }

    pub(super) fn derive_connections(&mut self, shards: usize) {
        const KEY: &str = "limits.connections_max";
        let Some(nofile) = self.host.nofile else {
            let place = Place::Derived("the host does not tell its descriptor limit".to_owned());
            self.derive(KEY, Value::Number(CONNECTIONS_DEFAULT_MAX), place);
            return;
        };
        let reserve = tuning::descriptors_for(0, shards);
        let sessions = self.model_session_sockets(shards);
        let room = nofile.hard.saturating_sub(reserve + sessions).max(1);
        let beside = if sessions > 0 { format!(" and {sessions} for model sessions") } else { String::new() };
        let place =
            Place::Derived(format!("descriptor limit {} less {reserve} in reserve{beside}", nofile.hard));
        self.derive(KEY, Value::Number(room.min(CONNECTIONS_DEFAULT_MAX)), place);
        let wanted = self.number(KEY);
        if wanted > room {
            let descriptors = tuning::descriptors_for(wanted + sessions, shards);
            self.blame(
                KEY,
                format!("needs {descriptors} descriptors, and this process may open {}", nofile.hard),
                format!(
                    "set it to {room} or less, or raise the limit: `ulimit -n {descriptors}`, LimitNOFILE={descriptors} in \
                     the unit, or --ulimit nofile={descriptors} in Docker"
                ),
            );
        }
    }
}
