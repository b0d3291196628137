//! The `session` object of `session.created` and `session.updated`.

use super::settings::SessionSettings;
use crate::core::config::ShardConfig;
use crate::core::counters::Unrecovered;
use crate::core::engine::EngineKind;
use crate::core::ids::{ConnectionId, MemberNumber, SessionId};

/// What a client is told of its session.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// The connection's name.
    pub id: ConnectionId,
    /// The room.
    pub room: SessionId,
    /// What answers there.
    pub engine: EngineKind,
    /// Which member the client is.
    pub member: MemberNumber,
    /// The settings in force.
    pub settings: SessionSettings,
    /// The model that the room's first member asked for.
    pub model: Option<Box<str>>,
    /// What clients said of their session that no setting holds: a raw JSON object.
    pub extras: Option<Box<str>>,
    /// The room's state, raw JSON, once a client has set one.
    pub state: Option<Box<str>>,
    /// How to come back, where that is offered.
    pub resume: Option<ResumeView>,
    /// What the client has to keep to.
    pub limits: SessionLimits,
}

/// How to come back after a lost connection.
#[derive(Clone, Debug)]
pub struct ResumeView {
    /// The token to bring.
    pub token: Box<str>,
    /// The room's epoch.
    pub epoch: u64,
    /// The last event so far.
    pub seq: u64,
}

/// What a client is told that wants to know what it has missed.
#[derive(Clone, Debug)]
pub struct RestoredView {
    /// How many events follow; or why they don't.
    pub missed: Result<usize, Unrecovered>,
    /// The room's state, raw JSON, once a client has set one.
    pub state: Option<Box<str>>,
    /// The room's epoch.
    pub epoch: u64,
    /// The last event so far.
    pub seq: u64,
    /// The last of the member's own events that was taken, where it numbers them.
    pub client_seq: Option<u64>,
    /// Whether the room has been recalled from a store.
    pub restarted: bool,
}

/// The limits that concern a client.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// Longest message.
    pub message_bytes_max: usize,
    /// Deepest JSON nesting.
    pub json_depth_max: usize,
    /// Messages a second, over time; zero is no limit.
    pub messages_per_s: u64,
    /// Messages at once.
    pub messages_burst: u64,
    /// Bytes a second, over time; zero is no limit.
    pub bytes_per_s: u64,
    /// Frames that wait for the engine.
    pub inbound_frames_max: usize,
    /// Messages that wait for the client.
    pub outgoing_messages_max: usize,
    /// How long the client may stop reading.
    pub slow_client_ms: u64,
    /// How long a silent connection lives.
    pub idle_ms: u64,
    /// How long the room outlives its last member.
    pub linger_ms: u64,
    /// Members of one room.
    pub members_max: usize,
}

impl From<&ShardConfig> for SessionLimits {
    fn from(config: &ShardConfig) -> Self {
        Self {
            message_bytes_max: config.limits.message_bytes_max,
            json_depth_max: config.limits.json_depth_max,
            messages_per_s: config.limits.messages_per_s,
            messages_burst: config.limits.messages_burst,
            bytes_per_s: config.limits.bytes_per_s,
            inbound_frames_max: config.audio.inbound_frames_max,
            outgoing_messages_max: config.outbox.messages_max,
            slow_client_ms: config.outbox.slow_client.as_ms(),
            idle_ms: config.heartbeat.idle.as_ms(),
            linger_ms: config.room.linger.as_ms(),
            members_max: config.limits.members_per_room_max,
        }
    }
}
