//! Configuration: from what was typed ([`RawConfig`]) to what holds ([`Config`]), once, before anything starts.

mod audit;
mod auth;
mod auth_keys;
mod blame;
mod channels_keys;
mod error;
mod families;
mod history;
mod jobs_keys;
mod keys;
mod layers;
mod parrot_keys;
mod places;
mod print;
mod proxies;
mod publish_keys;
mod quotas;
mod realtime;
mod realtime_keys;
mod realtime_session_keys;
mod resolve;
mod rows;
mod shed;
mod spelling;
mod store_keys;
mod tls;
mod value;
mod worker_keys;

use std::time::Duration;

use shards::core::ShardConfig;
use shards::rt::{Listen, Tls, WireConfig};
use tuning::Profile;

pub(crate) use audit::AuditConfig;
pub(crate) use auth::{AuthConfig, JwtConfig};
pub(crate) use error::{ConfigError, ConfigErrors, Place};
pub(crate) use jobs_keys::JobsConfig;
pub(crate) use keys::{ENGINES, may_be_shown};
pub(crate) use layers::{FlagSetting, RawConfig};
pub(crate) use print::{default_config, effective_config};
pub(crate) use publish_keys::PublishConfig;
pub(crate) use realtime::RealtimeConfig;
pub(crate) use resolve::resolve;
pub(crate) use store_keys::{StoreConfig, StorePlace};
pub(crate) use value::{Secret, Value};
pub(crate) use worker_keys::{WorkerConfig, WorkerMode};

/// A configuration that is valid as a whole, on this host.
#[derive(Debug)]
pub(crate) struct Config {
    /// The public address.
    pub(crate) listen: Listen,
    /// The management address.
    pub(crate) admin: Listen,
    /// What it is secured with; nothing when it is plain.
    pub(crate) admin_tls: Option<Tls>,
    /// The profile, with the operator's changes in [`Config::wire`].
    pub(crate) profile: Profile,
    /// One core per shard.
    pub(crate) cores: Vec<usize>,
    /// Whether shards are bound to them.
    pub(crate) pinned: bool,
    /// Over how long a shutdown is spread.
    pub(crate) drain: Duration,
    /// What is logged, and how.
    pub(crate) log: LogConfig,
    /// Whether and how clients say who they are.
    pub(crate) auth: AuthConfig,
    /// Where it is written down who comes and goes, if it is.
    pub(crate) audit: Option<AuditConfig>,
    /// Who is told of rooms that have ended, if anybody is.
    pub(crate) jobs: Option<JobsConfig>,
    /// What rooms remember beyond the process, if anything.
    pub(crate) store: Option<StoreConfig>,
    /// How much may be published from outside, and what is kept of it.
    pub(crate) publish: PublishConfig,
    /// How workers are reached, if they are.
    pub(crate) worker: Option<WorkerConfig>,
    /// Where model sessions are had, if anywhere.
    pub(crate) realtime: Option<RealtimeConfig>,
    /// Connections of the node.
    pub(crate) connections_max: u64,
    /// Resident memory with which the node turns new clients away; zero: never.
    pub(crate) shed_memory_bytes: u64,
    /// For each shard's wire.
    pub(crate) wire: WireConfig,
    /// For each shard.
    pub(crate) shard: ShardConfig,
    /// What resume tokens are signed with, if the operator says so.
    pub(crate) resume_key: Option<[u8; 32]>,
    /// Every key with its value and where that comes from, in the order of the table.
    pub(crate) effective: Vec<Effective>,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogConfig {
    /// The least important level that is written.
    pub(crate) level: tracing::Level,
    /// JSON objects instead of text.
    pub(crate) json: bool,
}

/// A key's value in force.
#[derive(Clone, Debug)]
pub(crate) struct Effective {
    /// The key's name.
    pub(crate) name: &'static str,
    /// What it counts; empty if it counts nothing.
    pub(crate) unit: &'static str,
    /// Its value.
    pub(crate) value: Value,
    /// Where it comes from.
    pub(crate) place: Place,
}

impl Config {
    /// The numbers in force, for gauges.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.effective.iter().filter_map(|effective| match effective.value {
            Value::Number(number) => Some((effective.name, number)),
            _ => None,
        })
    }
}
