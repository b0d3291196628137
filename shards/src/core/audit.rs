//! What an operator may have to account for later: who came in, who was sent away, who was closed and why.
//!
//! A shard says it with [`super::Effect::Audit`], and only where [`super::ShardConfig::audit`] asks for it. How it is
//! written down is the program's business. No token, no query and nothing of a message is in a record.

use ::core::net::{IpAddr, SocketAddr};

use super::ids::{ConnectionId, SessionId};
use super::time::Micros;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditRecord {
    /// From a shard: a WebSocket was opened.
    Opened(Opened),
    /// From a shard: somebody was sent away.
    Refused(Refused),
    /// From a shard: an open WebSocket is being closed, or was lost. Once for each that was opened.
    Closed(Closed),
    /// From the control plane: somebody used the management API to end something, or was not allowed to use it.
    Managed(Managed),
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The client.
    pub client: SocketAddr,
    /// The trusted proxy that named it, if one did.
    pub via: Option<IpAddr>,
}

/// What a request is for, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// It did not get so far.
    #[default]
    Unknown,
    /// A room; nothing when what should be its name can't be one.
    Room(Option<SessionId>),
    /// `/echo`.
    Echo,
    /// `/events`.
    Feed,
}

/// A WebSocket was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its name.
    pub connection: ConnectionId,
    /// Where it comes from.
    pub source: Source,
    /// What it is for.
    pub asked: Asked,
    /// Whose it is, where that was asked.
    pub user: Option<Box<str>>,
    /// Its subprotocol, if one was agreed on.
    pub subprotocol: Option<&'static str>,
    /// What answers in its room.
    pub engine: Option<&'static str>,
}

/// Somebody was sent away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where they came from.
    pub source: Source,
    /// What they were answered; nothing when nobody could be answered.
    pub status: Option<u16>,
    /// Why: one of [`super::counters::REFUSALS`], `queue_full`, or `tls_handshake`.
    pub reason: &'static str,
    /// What they asked for.
    pub asked: Asked,
    /// Who they were, if they brought a good token.
    pub user: Option<Box<str>>,
}

/// An open WebSocket is no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Its name.
    pub connection: ConnectionId,
    /// Where it came from.
    pub client: SocketAddr,
    /// What it was for.
    pub asked: Asked,
    /// Whose it was, where that was asked.
    pub user: Option<Box<str>>,
    /// The close code: sent, received, or that which stands for none.
    pub code: u16,
    /// Why: a sentence of ours, or what the operator wrote.
    pub reason: Box<str>,
    /// Who ended it.
    pub by: By,
    /// How long it was open.
    pub lasted: Micros,
    /// Messages dropped from its lane.
    pub dropped: u64,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// It said goodbye.
    Client,
    /// We did.
    Server,
    /// Nobody said anything: the connection ended or broke.
    Network,
}

impl By {
    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Network => "network",
        }
    }
}

/// Somebody used the management API to end something, or was not allowed to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    /// What was to be done.
    pub action: &'static str,
    /// To what or whom.
    pub target: Option<Box<str>>,
    /// By whom, where that is asked.
    pub user: Option<Box<str>>,
    /// What it came to: the HTTP status.
    pub status: Option<u16>,
}
