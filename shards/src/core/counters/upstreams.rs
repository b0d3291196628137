//! What a shard counts of upstream sessions, which are no clients.

use super::Histogram;
use crate::core::upstream::UpstreamEnd;

/// Upper bounds of `voxhall_upstream_connect_seconds`, in microseconds.
pub const CONNECT_BOUNDS_US: [u64; 9] =
    [5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000];

/// The labels of how upstream sessions end.
pub const UPSTREAM_ENDS: [&str; 8] =
    ["limited", "broken", "unreachable", "timed_out", "refused", "closed", "lost", "hung_up"];

/// Of a session that we ended ourselves.
pub(in crate::core) const HUNG_UP: usize = 7;

/// See the module. Gauges are marked; the rest only grows.
#[derive(Clone, Debug)]
pub struct UpstreamCounters {
    /// Sessions being opened (gauge).
    pub connecting: u64,
    /// Sessions open (gauge).
    pub open: u64,
    /// Connections that were begun.
    pub dialled: u64,
    /// Sessions that opened.
    pub opened: u64,
    /// Sessions, and attempts at one, that ended: by [`UPSTREAM_ENDS`].
    pub ended: [u64; UPSTREAM_ENDS.len()],
    /// Messages received.
    pub messages_received: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Messages sent completely.
    pub messages_sent: u64,
    /// Bytes the kernel took.
    pub bytes_sent: u64,
    /// Messages that were not sent, because their session ended.
    pub dropped: u64,
    /// Messages waiting to be sent (gauge).
    pub queued_messages: u64,
    /// Bytes of them (gauge).
    pub queued_bytes: u64,
    /// From the order to dial to the session being open.
    pub connect_us: Histogram<9>,
}

impl Default for UpstreamCounters {
    fn default() -> Self {
        Self {
            connecting: 0,
            open: 0,
            dialled: 0,
            opened: 0,
            ended: [0; UPSTREAM_ENDS.len()],
            messages_received: 0,
            bytes_received: 0,
            messages_sent: 0,
            bytes_sent: 0,
            dropped: 0,
            queued_messages: 0,
            queued_bytes: 0,
            connect_us: Histogram::new(CONNECT_BOUNDS_US),
        }
    }
}

/// The place of an end among [`UPSTREAM_ENDS`].
pub(in crate::core) fn end_of(end: &UpstreamEnd) -> usize {
    match end {
        UpstreamEnd::Limited => 0,
        UpstreamEnd::Broken { .. } => 1,
        UpstreamEnd::Unreachable { .. } => 2,
        UpstreamEnd::TimedOut => 3,
        UpstreamEnd::Refused { .. } => 4,
        UpstreamEnd::Closed { code: 1002 | 1003 | 1006 | 1007 | 1009, .. } => 6,
        UpstreamEnd::Closed { .. } => 5,
    }
}
