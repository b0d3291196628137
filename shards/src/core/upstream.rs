//! Upstream sessions: what an engine asks of a model server, and what it hears from there.
//!
//! An upstream session is a connection of the room's own shard in client role. The engine says when to make one and what to
//! send; the shard (`shard/upstreams`) finds an address, keeps the node's limits, shakes hands, frames and unframes.

use super::frame::Draft;
use super::time::Micros;

/// One upstream session of a room. Its engine numbers them and uses no number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line(pub u32);

/// What an engine asks for.
#[derive(Debug)]
pub enum UpstreamOrder {
    /// Connect and shake hands. Answered by [`UpstreamNews::Open`] or [`UpstreamNews::Over`], in time, always; never within
    /// the call that asked.
    Dial {
        /// The session to be.
        line: Line,
        /// What the request adds to the path of `realtime.url`: a query, as in `model=gpt-realtime`; or instead of it path
        /// and query, as in `/v1/realtime?model=gpt-realtime`.
        target: Box<str>,
    },
    /// Send a text message on an open line. Without effect on one that is over.
    Send {
        /// The session.
        line: Line,
        /// JSON, unframed.
        message: Draft,
    },
    /// Say goodbye. Nothing more is heard of the line.
    Close {
        /// The session.
        line: Line,
    },
}

/// What an engine hears of a line.
#[derive(Debug)]
pub enum UpstreamNews<'a> {
    /// The handshake is done: it takes messages.
    Open,
    /// One whole text message, to be parsed in place.
    Message(&'a mut [u8]),
    /// There is no such session, or not any more. The last news of a line.
    Over(UpstreamEnd),
}

/// Why a line is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamEnd {
    /// Not tried: the node has as many sessions as it may, or has opened as many within a second.
    Limited,
    /// Not tried: the last attempts failed, and the circuit breaker closes no earlier than this.
    Broken {
        /// When it lets somebody try again.
        until: Micros,
    },
    /// No address, no connection, or no secure channel.
    Unreachable {
        /// A sentence for the log.
        why: Box<str>,
    },
    /// The deadline of the handshake passed.
    TimedOut,
    /// It answered with something else than 101.
    Refused {
        /// The status.
        status: u16,
        /// `Retry-After`, if it said so: a span from now.
        retry_after: Option<Micros>,
    },
    /// It was open, and said goodbye, broke a rule of the protocol (1002, 1007, 1009), or was lost (1006).
    Closed {
        /// The close code.
        code: u16,
        /// What it said, shortened.
        reason: Box<str>,
    },
}

impl UpstreamEnd {
    /// Whether it says something about the server or the way to it, and not about our own limits or a goodbye as usual.
    pub(super) fn is_failure(&self) -> bool {
        match self {
            Self::Limited | Self::Broken { .. } => false,
            Self::Unreachable { .. } | Self::TimedOut | Self::Refused { .. } => true,
            Self::Closed { code, .. } => !matches!(code, 1000 | 1001),
        }
    }
}
