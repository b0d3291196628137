//! An upstream session as its shard knows it: a line of a room, and the connection that it has.

use ::core::net::SocketAddr;

use super::http::Asked;
use super::ids::{ConnKey, RoomKey};
use super::time::Micros;
use super::upstream::{Line, UpstreamEnd};
use super::ws::Decoder;

/// A line that its room's engine has not heard the last of.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) line: Line,
    pub(super) at: At,
}

/// Where a line is.
#[derive(Debug)]
pub(super) enum At {
    /// To be dialled at the end of the turn.
    Queued(Box<Opening>),
    /// The runtime was asked for a socket.
    Asked(Box<Opening>),
    /// It has a connection.
    On(ConnKey),
    /// It is over; the engine hears so at the end of the turn.
    Over(Box<UpstreamEnd>),
}

/// What is known of a session until it is open.
#[derive(Debug)]
pub(super) struct Opening {
    /// Path and query of the request.
    pub(super) target: Box<str>,
    /// When the engine asked for it.
    pub(super) began: Micros,
    /// Where it is being tried; nothing before the first attempt.
    pub(super) address: Option<SocketAddr>,
    /// Addresses tried.
    pub(super) tries: usize,
    /// The request, once it was sent.
    pub(super) asked: Option<Asked>,
    /// The head of the answer so far.
    pub(super) head: Vec<u8>,
}

/// A connection in client role.
#[derive(Debug)]
pub(super) struct Upstream {
    /// Whose it is.
    pub(super) room: RoomKey,
    /// Which of its lines.
    pub(super) line: Line,
    /// How far it has come.
    pub(super) stage: Stage,
    /// Whether a ping is out.
    pub(super) pinged: bool,
    /// When it must have opened, or have ended.
    pub(super) deadline: Micros,
    /// Takes messages from bytes.
    pub(super) decoder: Decoder<false>,
    /// Until it is open.
    pub(super) opening: Option<Box<Opening>>,
}

/// How far a connection in client role has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No connection, or no secure channel, yet.
    Connecting,
    /// The request is out.
    Shaking,
    /// It takes messages.
    Open,
    /// We said goodbye, and wait for the server's.
    Leaving,
    /// It is of no use any more: to be cut at the end of the turn.
    Lost,
}

impl Stage {
    /// Whether it counts as a session of the node.
    pub(super) const fn is_live(self) -> bool {
        matches!(self, Self::Connecting | Self::Shaking | Self::Open)
    }
}
