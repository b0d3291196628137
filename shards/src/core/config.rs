//! Every limit of a shard: its unit in its name, its default, its reason. Each can be set in the configuration,
//! and the effective values are exported.

use std::sync::Arc;

use super::channel::ChannelConfig;
use super::engine::EngineKind;
use super::gate::Gate;
use super::http::ForwardedBy;
use super::model_server::ModelServer;
use super::networks::Networks;
use super::origin::Origins;
use super::time::Micros;

/// What a shard is told when it starts. Whoever makes one sees to it that its limits agree with each other.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// How many shards the node has; with the session id it decides who owns a room.
    pub shards: u16,
    /// `limits.*`
    pub limits: Limits,
    /// `heartbeat.*`
    pub heartbeat: Heartbeat,
    /// `outbox.*`
    pub outbox: Outbox,
    /// `audio.*`
    pub audio: Audio,
    /// `room.*`
    pub room: RoomDefaults,
    /// `realtime.*`, as far as the engine is concerned.
    pub realtime: RealtimeDefaults,
    /// What is believed of proxies.
    pub proxies: Proxies,
    /// `deflate.*`
    pub deflate: Deflate,
    /// `parrot.*`
    pub parrot: Parrot,
    /// Past this turns are so late that new work is turned away (`shed.lag_ms`); zero when they never are.
    pub shed_lag: Micros,
    /// Whether `GET /echo` is served.
    pub echo_endpoint: bool,
    /// Who may come in; nothing when everybody may (`auth.mode = none`).
    pub gate: Option<Arc<dyn Gate>>,
    /// From which web pages (`server.allowed_origins`).
    pub origins: Origins,
    /// Whether what happens is written down (`audit.path`).
    pub audit: bool,
    /// Where upstream sessions are had (`realtime.url`); nothing when nowhere.
    pub model_server: Option<Arc<ModelServer>>,
    /// What reports of ended rooms hold; nothing when nobody takes them (`jobs.*`).
    pub reports: Option<Reports>,
    /// `worker.*`, as far as a shard is concerned.
    pub worker: Workers,
    /// `store.*`, as far as a shard is concerned; nothing when what rooms remember ends with the process.
    pub store: Option<Store>,
    /// `channels.*`.
    pub channels: ChannelConfig,
    /// Signs what members bring when they come back: whoever has it can come back as anybody.
    pub resume_key: [u8; 32],
}

/// `store.*`, as far as a shard is concerned.
#[derive(Clone, Debug)]
pub struct Store {
    /// How long a changed room may wait before the store is told.
    pub lag: Micros,
    /// How long the store may take to say what it has of a room, before the room begins without it.
    pub recall: Micros,
}

/// `jobs.*`, as far as shards are concerned.
#[derive(Clone, Debug)]
pub struct Reports {
    /// What may be kept of one room's transcript.
    pub transcript_bytes_max: usize,
}

/// `worker.*`, as far as a shard is concerned.
#[derive(Clone, Debug)]
pub struct Workers {
    /// Whether there is a way to any.
    pub available: bool,
    /// How long a worker may be silent: until its answer begins, and between its parts.
    pub deadline: Micros,
}

/// What is believed of proxies: `server.trusted_proxies`, `server.proxy_protocol`, `server.forwarded_by`.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// Whose word about a client's address is taken.
    pub trusted: Networks,
    /// Whether their connections begin with a PROXY header.
    pub protocol: bool,
    /// Which header line names the client.
    pub forwarded_by: ForwardedBy,
}

/// `limits.*`
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest request head. 8 KiB holds any browser's cookies and a large token.
    pub head_bytes_max: usize,
    /// How long a head may take to arrive, in all: a slow-loris gets no more.
    pub head: Micros,
    /// Heads being read at once on one shard; past that the listener waits.
    pub upgrades_in_flight_max: usize,
    /// Connections of the node, counted over all its shards.
    pub connections_max: usize,
    /// Connections of one user of the node, where there are tokens; zero is no limit.
    pub connections_per_user_max: usize,
    /// Connections from one address to the node; zero is no limit. The host itself has none.
    pub connections_per_ip_max: usize,
    /// Rooms of the node, lingering ones included; past that the one that has lingered longest on the new one's shard
    /// goes.
    pub rooms_max: usize,
    /// Members of one room.
    pub members_per_room_max: usize,
    /// Subscriptions of one connection.
    pub subscriptions_max: usize,
    /// Messages of one connection a second, over time; zero is no limit. Speech takes 50.
    pub messages_per_s: u64,
    /// Messages that one connection may send at once: what piled up on a phone that was out of reach for seconds.
    pub messages_burst: u64,
    /// Bytes of one connection a second, over time; zero is no limit. Each may send as many at once, and a message.
    pub bytes_per_s: u64,
    /// Upgrades from one address a second at one shard: the node's limit divided among the shards, with slack for an
    /// uneven hash; zero is no limit. The host itself has none.
    pub upgrades_per_s_per_ip: u64,
    /// Whether connections begin with a TLS handshake, which costs more than anything behind it: then the same number
    /// of those is allowed.
    pub handshakes: bool,
    /// Longest message, over all its fragments.
    pub message_bytes_max: usize,
    /// Deepest JSON nesting.
    pub json_depth_max: usize,
    /// How long a close handshake may take before the connection is cut.
    pub close: Micros,
}

/// `heartbeat.*`
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// A connection that was silent so long gets a ping. Under the 30 s at which many proxies cut.
    pub ping: Micros,
    /// A connection that was silent so long, pings unanswered, is closed.
    pub idle: Micros,
}

/// `outbox.*`
#[derive(Clone, Debug)]
pub struct Outbox {
    /// Messages in one lane (`WS_OUTGOING_MAX`).
    pub messages_max: usize,
    /// Bytes in one lane. A lane that is empty takes one message of any allowed size.
    pub bytes_max: usize,
    /// Audio older than this goes first when a lane is full: late speech is noise.
    pub audio_age_max: Micros,
    /// A lane blocked so long, counted from its first block, is closed with 1013.
    pub slow_client: Micros,
    /// How long an event may wait for company (`WS_COALESCE_MS`).
    pub coalesce: Micros,
}

/// `audio.*`
#[derive(Clone, Debug)]
pub struct Audio {
    /// Frames in one room's inbound queue (`WS_INCOMING_AUDIO_MAX`).
    pub inbound_frames_max: usize,
    /// Bytes of audio per chunk where the format has no natural one (`WS_TTS_CHUNK_BYTES`).
    pub chunk_bytes: usize,
}

/// `room.*`
#[derive(Clone, Debug)]
pub struct RoomDefaults {
    /// How long a room outlives its last member.
    pub linger: Micros,
    /// The engine of rooms that don't ask for another.
    pub engine: EngineKind,
    /// Events that a room remembers for members that come back.
    pub history_events_max: usize,
    /// Bytes of them.
    pub history_bytes_max: usize,
}

/// `realtime.*`, as far as the engine is concerned: what a model session is told, and how long it lives.
#[derive(Clone, Debug)]
pub struct RealtimeDefaults {
    /// The model that rooms get whose token names no other.
    pub model: Box<str>,
    /// The voice; empty for the model server's own.
    pub voice: Box<str>,
    /// The instructions; empty for the model server's own.
    pub instructions: Box<str>,
    /// The model that writes down what members say; empty for none. Without it a fresh session learns only the answers.
    pub transcription: Box<str>,
    /// How the model server spells the protocol.
    pub dialect: Dialect,
    /// Samples per second of pcm16 there; zero for the room's own rate. The vendor takes 24,000 and nothing else.
    pub pcm16_rate: u16,
    /// A session in which nothing happened for so long is closed, and opened again when it is needed.
    pub idle: Micros,
    /// A session of this age is replaced between two turns: before the vendor's own limit of 60 minutes.
    pub age: Micros,
    /// For how long a session that can't be had is tried for, before what waits for it is given up.
    pub retry: Micros,
    /// For how long a model server may be silent that owes a response.
    pub stall: Micros,
}

/// How a model server spells the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// As generally available.
    Ga,
    /// As it was before.
    Beta,
}

impl Default for RealtimeDefaults {
    fn default() -> Self {
        Self {
            model: "gpt-realtime".into(),
            voice: "".into(),
            instructions: "".into(),
            transcription: "".into(),
            dialect: Dialect::Ga,
            pcm16_rate: 24_000,
            idle: Micros::from_s(300),
            age: Micros::from_s(3_300),
            retry: Micros::from_s(20),
            stall: Micros::from_s(30),
        }
    }
}

/// `deflate.*`
#[derive(Clone, Debug)]
pub struct Deflate {
    /// Whether permessage-deflate is agreed to. Off: it costs time that a room has to wait for.
    pub enabled: bool,
    /// Messages shorter than this are never compressed: they would gain little.
    pub threshold_bytes: usize,
}

/// `parrot.*`: how the parrot answers, so that clients can be tested with it.
#[derive(Clone, Debug)]
pub struct Parrot {
    /// How long it thinks before an answer.
    pub delay: Micros,
    /// How much of its speech comes at once, a multiple of 20 ms; zero: 20 ms, or 100 ms where all members take audio in
    /// events.
    pub chunk: Micros,
    /// How many times as fast as speech it answers; zero: as fast as possible.
    pub pace: u64,
    /// After so many answers of a room one fails; zero: none.
    pub fail_after: u64,
}

impl Default for Parrot {
    fn default() -> Self {
        Self { delay: Micros(0), chunk: Micros(0), pace: 1, fail_after: 0 }
    }
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            shards: 1,
            limits: Limits {
                head_bytes_max: 8_192,
                head: Micros::from_s(5),
                upgrades_in_flight_max: 1_024,
                connections_max: 100_000,
                connections_per_user_max: 10,
                connections_per_ip_max: 0,
                rooms_max: 1_000_000,
                members_per_room_max: 64,
                subscriptions_max: 128,
                messages_per_s: 200,
                messages_burst: 400,
                bytes_per_s: 2_097_152,
                upgrades_per_s_per_ip: 200,
                handshakes: false,
                message_bytes_max: 1_048_576,
                json_depth_max: 64,
                close: Micros::from_s(15),
            },
            heartbeat: Heartbeat { ping: Micros::from_s(25), idle: Micros::from_s(60) },
            outbox: Outbox {
                messages_max: 512,
                bytes_max: 1_048_576,
                audio_age_max: Micros::from_ms(2_000),
                slow_client: Micros::from_ms(10_000),
                coalesce: Micros::from_ms(25),
            },
            audio: Audio { inbound_frames_max: 32, chunk_bytes: 4_096 },
            room: RoomDefaults {
                linger: Micros::from_s(60),
                engine: EngineKind::Parrot,
                history_events_max: 256,
                history_bytes_max: 65_536,
            },
            realtime: RealtimeDefaults::default(),
            proxies: Proxies::default(),
            deflate: Deflate { enabled: false, threshold_bytes: 1_024 },
            parrot: Parrot::default(),
            shed_lag: Micros::from_ms(250),
            echo_endpoint: false,
            gate: None,
            origins: Origins::Any,
            audit: false,
            model_server: None,
            worker: Workers { available: false, deadline: Micros::from_s(30) },
            reports: None,
            store: None,
            channels: ChannelConfig::default(),
            resume_key: [0; 32],
        }
    }
}
