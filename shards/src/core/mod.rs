//! The sans-IO core: rooms, connections, protocol, engines, outbox, timers.
//!
//! Everything here is synchronous and runs to completion inside one call of [`Shard::handle`]. Time comes in as
//! [`Micros`], bytes as mutable slices, randomness as a seed; what should happen comes out as [`Effect`]s. No
//! socket, clock, thread, random source or runtime is known here, and `tests/tidy.rs` keeps it so.

mod allowance;
mod arrivals;
pub mod audit;
pub mod channel;
pub mod config;
mod conn;
pub mod counters;
pub mod deflate;
pub mod effect;
pub mod engine;
pub mod event;
pub mod frame;
pub mod gate;
pub mod http;
pub mod ids;
mod lag;
pub mod memory;
pub mod message;
pub mod model_server;
pub mod networks;
mod origin;
pub mod outbox;
mod paged;
mod past;
pub mod quota;
mod recall;
pub mod report;
mod resume;
pub(crate) mod rng;
mod room;
pub mod route;
mod shard;
pub mod spare;
pub mod time;
pub mod timer;
mod upgrades;
mod uplink;
pub mod upstream;
mod upstream_conn;
pub mod usage;
pub mod work;
pub mod ws;

pub use config::ShardConfig;
pub use effect::{Caller, CloseMode, Destination, Effect, Effects, Ended, Input, ReceiveMode, SendOutcome};
pub use frame::{Draft, Frame, FramePool, Gather};
pub use gate::{Channels, Denied, Gate, Pass, Right, Rights, Role};
pub use ids::{ConnKey, ConnectionId, MemberNumber, RoomKey, SessionId, ShardId};
pub use lag::Shedding;
pub use message::{Handoff, ShardMessage};
pub use model_server::{ModelServer, ModelServerSettings};
pub use origin::Origins;
pub use quota::Quotas;
pub use resume::resume_key;
pub use shard::Shard;
pub(crate) use shard::Told;
pub use time::Micros;
