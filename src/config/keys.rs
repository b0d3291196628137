//! The one table of every configuration key: what `default-config` prints, what a value is checked against, what
//! an error suggests, and which limits `/metrics` exports all come from here.

use super::rows::{address, choice, count, derived, joined, list, number, switch};
use super::value::{Secret, Value};
use super::{
    audit, auth_keys, channels_keys, history, jobs_keys, parrot_keys, places, publish_keys, quotas,
    realtime_keys, realtime_session_keys, shed, store_keys, tls, worker_keys,
};

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// `table.key`.
    pub(crate) name: &'static str,
    /// What it takes.
    pub(crate) kind: Kind,
    /// Its value when nobody sets it.
    pub(crate) default: Default,
    /// Why it exists, in a sentence or two.
    pub(crate) reason: &'static str,
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A whole number.
    Number {
        /// What is counted.
        unit: &'static str,
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// True or false.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An IP address and a port, or the path of a Unix-domain socket.
    Address,
    /// Core numbers: `[0, 2]`, or `"0,2-5"`.
    Cores,
    /// Any text; empty is none.
    Text,
    /// Texts: `["a", "b"]`, or `"a,b"`.
    List,
    /// Text that is never shown; empty is none.
    Secret,
    /// The path of a file.
    File,
}

/// The value of a key that nobody sets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Default {
    /// A number.
    Number(u64),
    /// Off.
    Off,
    /// A word or an address.
    Text(&'static str),
    /// No text in the list.
    NoList,
    /// No secret.
    NoSecret,
    /// Comes from the host or the profile; the text says how.
    Derived(&'static str),
    /// There is none.
    Unset,
}

impl Default {
    /// As a value; nothing when it is derived.
    pub(crate) fn value(&self) -> Option<Value> {
        match *self {
            Self::Number(number) => Some(Value::Number(number)),
            Self::Off => Some(Value::Switch(false)),
            Self::Text(text) => Some(Value::Text(text.to_owned())),
            Self::NoList => Some(Value::List(Vec::new())),
            Self::NoSecret => Some(Value::Secret(Secret::default())),
            Self::Derived(_) | Self::Unset => None,
        }
    }
}

impl Key {
    /// The table it is in.
    pub(crate) fn table(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(table, _)| table)
    }

    /// Its name within the table.
    pub(crate) fn leaf(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, leaf)| leaf)
    }

    /// The environment variable that sets it.
    pub(crate) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.replace('.', "__").to_ascii_uppercase())
    }
}

/// What every long environment name begins with.
pub(crate) const VARIABLE_PREFIX: &str = "VOXHALL_";

/// Environment names known in the field, and the keys they set.
pub(crate) const SHORT_VARIABLES: &[(&str, &str)] = &[
    ("WS_OUTGOING_MAX", "outbox.messages_max"),
    ("WS_INCOMING_AUDIO_MAX", "audio.inbound_frames_max"),
    ("WS_TTS_CHUNK_BYTES", "audio.chunk_bytes"),
    ("WS_COALESCE_MS", "outbox.coalesce_ms"),
];

/// The engines that exist.
pub(crate) const ENGINES: &[&str] = &["echo", "relay", "parrot", "realtime", "worker"];

const PROFILES: &[&str] = &["laptop", "container", "bare-metal", "latency"];
const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];
const FORWARDED: &[&str] = &["none", "x-forwarded-for", "forwarded"];
const FORMATS: &[&str] = &["text", "json"];

const FROM_PROFILE: &str = "from the profile";

/// Every key, table by table.
pub(crate) static KEYS: &[Key] = &joined::<{ count(FAMILIES) }>(FAMILIES);

const FAMILIES: &[&[Key]] = &[
    OF_THE_NODE,
    auth_keys::KEYS,
    jobs_keys::KEYS,
    publish_keys::KEYS,
    worker_keys::KEYS,
    store_keys::KEYS,
    parrot_keys::KEYS,
    channels_keys::KEYS,
    realtime_keys::KEYS,
    realtime_session_keys::KEYS,
];

const OF_THE_NODE: &[Key] = &[
    address(
        "server.listen",
        "127.0.0.1:8080",
        "Where clients connect; unix:/run/voxhall/public.sock is a Unix-domain socket, for a proxy on the same host.",
    ),
    address(
        "server.admin",
        "127.0.0.1:9090",
        "Where metrics, health and the management API are served. Keep it away from clients.",
    ),
    places::UNIX_MODE,
    derived(
        "server.shards",
        "shards",
        "one per core",
        (1, 1_024),
        "How many cores get a share of the rooms.",
    ),
    Key {
        name: "server.cores",
        kind: Kind::Cores,
        default: Default::Derived(FROM_PROFILE),
        reason: "Which cores the shards are bound to, as [0, 1] or \"0,2-5\".",
    },
    choice(
        "server.profile",
        PROFILES,
        "laptop",
        "The kind of host: decides cores, spinning, pools and ring sizes. `voxhall doctor` compares it with this one.",
    ),
    number(
        "server.drain_s",
        "seconds",
        30,
        (0, 3_600),
        "Over how long the goodbyes of a shutdown are spread, so that the next node is not stormed.",
    ),
    switch(
        "server.echo_endpoint",
        "Serves /echo, which returns every message as it came: for probes and conformance suites.",
    ),
    switch(
        "server.insecure",
        "Allows an address that other machines can reach although there is no authentication.",
    ),
    list(
        "server.trusted_proxies",
        "Networks of proxies whose word about a client's address is taken, such as 10.0.0.0/8 and fd00::/8.",
    ),
    switch(
        "server.proxy_protocol",
        "Connections from trusted proxies begin with a PROXY header, of version 1 or 2.",
    ),
    choice(
        "server.forwarded_by",
        FORWARDED,
        "x-forwarded-for",
        "The header line in which trusted proxies name the client. Clients can write the other one themselves.",
    ),
    list(
        "server.allowed_origins",
        "Web pages that may connect, such as https://app.example.com or https://*.example.com. None: any where \
         server.listen is a loopback address, otherwise those of the server's own host. \"*\": any.",
    ),
    choice("server.log_level", LEVELS, "info", "How much is logged."),
    choice(
        "server.log_format",
        FORMATS,
        "text",
        "How a log line is written: for people, or one JSON object each.",
    ),
    audit::PATH,
    audit::ROTATE_BYTES,
    audit::KEEP_FILES,
    audit::QUEUE_RECORDS_MAX,
    number(
        "limits.head_bytes_max",
        "bytes",
        8_192,
        (1_024, 65_536),
        "Longest request head. 8 KiB holds any browser's cookies and a large token.",
    ),
    number("limits.head_s", "seconds", 5, (1, 120), "How long a request head may take to arrive, in all."),
    number(
        "limits.upgrades_in_flight_max",
        "request heads per shard",
        1_024,
        (1, 65_536),
        "Heads being read at once; past that the listener waits.",
    ),
    quotas::CONNECTIONS_MAX,
    quotas::CONNECTIONS_PER_USER_MAX,
    quotas::CONNECTIONS_PER_IP_MAX,
    quotas::ROOMS_MAX,
    number("limits.members_per_room_max", "members", 64, (1, 65_535), "Members of one room."),
    channels_keys::SUBSCRIPTIONS_MAX,
    number(
        "limits.message_bytes_max",
        "bytes",
        1_048_576,
        (1_024, 1 << 26),
        "Longest message, over all its fragments, and longest body of a management request.",
    ),
    number(
        "limits.messages_per_s",
        "messages a second per connection",
        200,
        (0, 1_000_000),
        "What a client may send, over time; 0 is no limit. Speech takes 50.",
    ),
    number(
        "limits.messages_burst",
        "messages",
        400,
        (1, 1_000_000),
        "What a client may send at once, such as what piled up while it was out of reach.",
    ),
    number(
        "limits.bytes_per_s",
        "bytes a second per connection",
        2_097_152,
        (0, 1 << 32),
        "What a client may send, over time; 0 is no limit. As many, and one longest message, may come at once.",
    ),
    number(
        "limits.upgrades_per_s_per_ip",
        "upgrades a second",
        200,
        (0, 1_000_000),
        "WebSockets that one address may ask for, and under TLS as many handshakes; 0 is no limit. Connections from this host are not counted.",
    ),
    number("limits.json_depth_max", "levels", 64, (4, 512), "Deepest JSON nesting."),
    number(
        "limits.close_s",
        "seconds",
        15,
        (1, 120),
        "How long a close handshake may take before the connection is cut.",
    ),
    shed::LAG_MS,
    shed::MEMORY_BYTES,
    number(
        "heartbeat.ping_s",
        "seconds",
        25,
        (1, 3_600),
        "A connection that was silent so long gets a ping. Under the 30 s at which many proxies cut.",
    ),
    number(
        "heartbeat.idle_s",
        "seconds",
        60,
        (2, 86_400),
        "A connection that was silent so long, pings unanswered, is closed.",
    ),
    number(
        "outbox.messages_max",
        "messages",
        512,
        (8, 65_536),
        "Messages waiting for one client. Four times as many while its socket has refused nothing.",
    ),
    number(
        "outbox.bytes_max",
        "bytes",
        1_048_576,
        (4_096, 1 << 30),
        "Bytes waiting for one client. One that has nothing waiting takes one message of any allowed size.",
    ),
    number(
        "outbox.audio_age_ms_max",
        "milliseconds",
        2_000,
        (20, 600_000),
        "Audio older than this goes first when a client's queue is full: late speech is noise.",
    ),
    number(
        "outbox.slow_client_ms",
        "milliseconds",
        10_000,
        (100, 600_000),
        "A client that takes nothing for so long, counted from the first block, is closed with 1013.",
    ),
    number(
        "outbox.coalesce_ms",
        "milliseconds",
        25,
        (0, 1_000),
        "How long an event may wait for company where the client takes batches.",
    ),
    number(
        "audio.inbound_frames_max",
        "frames",
        32,
        (1, 4_096),
        "Audio frames waiting for one room's engine.",
    ),
    number(
        "audio.chunk_bytes",
        "bytes",
        4_096,
        (64, 65_536),
        "Bytes of audio per chunk where the format has no natural one.",
    ),
    number("room.linger_s", "seconds", 60, (0, 86_400), "How long a room outlives its last member."),
    history::EVENTS_MAX,
    history::BYTES_MAX,
    choice("room.engine", ENGINES, "parrot", "What answers in rooms that ask for no other engine."),
    switch("deflate.enabled", "Agrees to permessage-deflate. A whole shard waits while it compresses."),
    number(
        "deflate.threshold_bytes",
        "bytes",
        1_024,
        (0, 1 << 26),
        "Messages shorter than this are sent as they are: they would gain little.",
    ),
    tls::CERT,
    tls::KEY,
    tls::ADMIN_CERT,
    tls::ADMIN_KEY,
    derived(
        "wire.spin_us",
        "microseconds",
        FROM_PROFILE,
        (0, 100_000),
        "How long an idle shard polls before it sleeps.",
    ),
    derived(
        "wire.batch_us",
        "microseconds",
        FROM_PROFILE,
        (0, 10_000),
        "How long a shard may wait for more completions once one has arrived.",
    ),
    derived(
        "wire.receive_buffers",
        "buffers per shard, a power of two",
        FROM_PROFILE,
        (16, 32_768),
        "Buffers in a shard's receive pool.",
    ),
    derived(
        "wire.receive_buffer_bytes",
        "bytes",
        FROM_PROFILE,
        (2_048, 1 << 20),
        "Size of a receive buffer. A backlog should arrive in one.",
    ),
    derived(
        "wire.ring_entries",
        "entries, a power of two",
        FROM_PROFILE,
        (64, 32_768),
        "How many sends and re-arms of one turn go down in one system call.",
    ),
    derived(
        "wire.backlog",
        "connections",
        FROM_PROFILE,
        (16, 65_535),
        "Length of each listener's accept queue. The kernel cuts it to net.core.somaxconn.",
    ),
    derived(
        "wire.accept_burst",
        "connections per turn",
        FROM_PROFILE,
        (1, 1_024),
        "Connections a shard accepts before it looks at its rooms again.",
    ),
];

/// A key that the contract names and this release does not serve.
#[derive(Debug)]
pub(crate) struct Later {
    /// A whole name, or a table's with its dot.
    pub(crate) name: &'static str,
    /// The value at which it changes nothing, and so is accepted.
    pub(crate) neutral: Option<&'static str>,
}

/// Such keys are refused rather than ignored: somebody who sets a limit must not believe in it.
pub(crate) const LATER: &[Later] = &[Later { name: "cluster.", neutral: None }];

/// The key of that name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Whether a value of the key of that name may be seen. One of no key may have been meant for a secret.
pub(crate) fn may_be_shown(name: &str) -> bool {
    find(name).is_some_and(|key| !matches!(key.kind, Kind::Secret))
}

/// The later key that the name is, or whose table it is in.
pub(crate) fn find_later(name: &str) -> Option<&'static Later> {
    LATER
        .iter()
        .find(|later| later.name == name || (later.name.ends_with('.') && name.starts_with(later.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_within_its_own_bounds() {
        for key in KEYS {
            match (&key.kind, &key.default) {
                (Kind::Number { min, max, .. }, Default::Number(value)) => {
                    assert!(min <= value && value <= max, "{}", key.name);
                }
                (Kind::Choice(of), Default::Text(word)) => assert!(of.contains(word), "{}", key.name),
                (Kind::Address, Default::Text(text)) => {
                    assert!(text.parse::<std::net::SocketAddr>().is_ok(), "{}", key.name);
                }
                (Kind::Switch, Default::Off) | (Kind::File, Default::Unset) | (_, Default::Derived(_)) => {}
                (Kind::Text, Default::Text(_)) | (Kind::List, Default::NoList) => {}
                (Kind::Secret, Default::NoSecret) => {}
                (kind, default) => panic!("{}: {default:?} is no value of {kind:?}", key.name),
            }
        }
    }

    #[test]
    fn names_are_unique_and_not_also_later_ones() {
        for (at, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..at].iter().all(|other| other.name != key.name), "{} is there twice", key.name);
            assert!(find_later(key.name).is_none(), "{} is served and refused", key.name);
        }
        for (_, key) in SHORT_VARIABLES {
            assert!(find(key).is_some(), "{key}");
        }
    }

    #[test]
    fn the_profiles_and_engines_named_here_are_those_that_exist() {
        let known: Vec<&str> = tuning::ProfileName::ALL.iter().map(|name| name.as_str()).collect();
        assert_eq!(PROFILES, known);
        assert!(ENGINES.iter().all(|name| name.parse::<shards::core::engine::EngineKind>().is_ok()));
    }
}
