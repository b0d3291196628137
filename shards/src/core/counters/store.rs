//! What a shard counts of what it tells a store and asks it.

use super::super::time::Micros;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct StoreCounters {
    /// Changes of rooms, and ends, that the store was told.
    pub told: u64,
    /// Rooms that the store was asked for.
    pub recalls: u64,
    /// Rooms that go on where the store had them.
    pub revived: u64,
    /// Rooms that began without the store: it failed, or took too long.
    pub failed: u64,
    /// Clients sent away for a moment, because too many waited for it.
    pub not_asked: u64,
    /// When the oldest change was made that the store has not been told yet, if there is one.
    pub untold_since: Option<Micros>,
}
