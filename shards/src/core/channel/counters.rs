//! What a shard counts of channels.

/// The labels of [`super::Undeliverable`], in its order.
pub const UNDELIVERABLES: [&str; 5] = ["expired", "refused", "rate_limited", "no_subscriber", "overloaded"];

/// See the module. Gauges are marked; the rest only grows.
#[derive(Clone, Debug, Default)]
pub struct ChannelCounters {
    /// Subscriptions of this shard's connections (gauge).
    pub subscriptions: u64,
    /// Streams that it owns (gauge).
    pub streams: u64,
    /// Bytes that they remember (gauge).
    pub history_bytes: u64,
    /// Publications that it gave a place, as their owner.
    pub published: u64,
    /// Those that were repeated within their window, and not delivered again.
    pub duplicates: u64,
    /// Messages put into lanes.
    pub delivered: u64,
    /// Messages told to subscribers that had missed them.
    pub recovered: u64,
    /// Subscribers that asked for what they had missed and could not be told.
    pub not_recovered: u64,
    /// Publications that could not be delivered, by [`super::Undeliverable`]: the dead letters.
    pub dead_letters: [u64; UNDELIVERABLES.len()],
    /// Times that subscribers were told of a gap that overload between shards had made.
    pub gaps: u64,
    /// Parcels sent to other shards.
    pub parcels_sent: u64,
    /// Those that wait for room on their way (gauge).
    pub parcels_waiting: u64,
}
