//! What a shard counts of rooms' histories and of those who come back to them.

/// Why a client is not told what it has missed. The order is that of [`UNRECOVERED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrecovered {
    /// The resume token was not made for this room and user, or with another key.
    InvalidToken,
    /// The room that the token is of has ended.
    RoomEnded,
    /// The store could not say what it had of the room, which began anew.
    StoreFailed,
    /// What the client saw last was lost with a process that was killed.
    Lost,
    /// Not all of it is kept any more.
    TooOld,
    /// There has been no such event yet.
    Ahead,
}

/// The labels of [`Unrecovered`], in its order.
pub const UNRECOVERED: [&str; 6] =
    ["invalid_token", "room_ended", "store_failed", "lost", "too_old", "ahead"];

impl Unrecovered {
    /// As in events and metrics.
    pub const fn name(self) -> &'static str {
        UNRECOVERED[self as usize]
    }
}

/// What is kept, and what became of it.
#[derive(Clone, Debug, Default)]
pub struct HistoryCounters {
    /// Events kept in all rooms (gauge).
    pub events: u64,
    /// Bytes of their JSON (gauge).
    pub bytes: u64,
    /// Times that a client was told all that it had missed, or that it had missed nothing.
    pub recovered: u64,
    /// Times that it was not, by [`Unrecovered`].
    pub not_recovered: [u64; UNRECOVERED.len()],
    /// Events told again.
    pub replayed: u64,
    /// Connections closed because a newer one of their member came.
    pub taken_over: u64,
    /// Client events that had been seen before, and were not done again.
    pub repeated: u64,
}
