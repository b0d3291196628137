//! One connection, as its shard knows it.

use ::core::net::{IpAddr, SocketAddr};

use super::allowance::Allowance;
use super::audit::Asked;
use super::channel::Pattern;
use super::deflate::WindowBits;
use super::engine::EngineKind;
use super::event::Dialect;
use super::gate::{Channels, Pass};
use super::ids::{ConnKey, MemberNumber, RoomKey, SessionId};
use super::outbox::Lane;
use super::paged::Keyed;
use super::time::Micros;
use super::uplink::Post;
use super::upstream_conn::Upstream;
use super::ws::Decoder;

/// A connection from its acceptance to the closing of its descriptor.
///
/// Its fields stand in the order in which a message needs them: what is received touches the first cache line, what
/// is sent the next two.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Conn {
    /// What it is doing.
    pub(super) phase: Phase,
    /// When something last arrived.
    pub(super) heard: Micros,
    /// Tells this holder of the slot from earlier ones.
    pub(super) generation: u32,
    /// Whether receives are paused.
    pub(super) paused: bool,
    /// Whether it stands on the list of those that may read on.
    pub(super) resuming: bool,
    /// What it was told of its limits.
    pub(super) told: Told,
    /// Whether it is one of ours to a model server, whatever its phase.
    pub(super) upstream: bool,
    /// What it owes for what it sent.
    pub(super) allowance: Allowance,
    /// What is to be sent to it.
    pub(super) lane: Lane,
    /// When its timer in the wheel goes off; zero when there is none that counts.
    pub(super) armed: Micros,
    /// Received bytes that wait because the lane is too full to answer them.
    #[expect(
        clippy::box_collection,
        reason = "rarely there: eight bytes of an idle connection, not twenty-four"
    )]
    pub(super) held: Option<Box<Vec<u8>>>,
    /// Where it comes from.
    pub(super) peer: Peer,
    /// Messages refused since it was last told how many.
    pub(super) refused: u32,
}

impl Conn {
    /// A connection that begins now, in this phase.
    pub(super) fn new(now: Micros, key: ConnKey, peer: SocketAddr, phase: Phase) -> Self {
        Self {
            generation: key.generation,
            peer: peer.into(),
            upstream: matches!(phase, Phase::Upstream(_)),
            phase,
            lane: Lane::default(),
            heard: now,
            armed: Micros(0),
            held: None,
            paused: false,
            resuming: false,
            told: Told::Nothing,
            refused: 0,
            allowance: Allowance::default(),
        }
    }
}

impl Keyed for Conn {
    type Key = ConnKey;

    fn slot(key: ConnKey) -> (u32, u32) {
        (key.index, key.generation)
    }

    fn generation(&self) -> u32 {
        self.generation
    }
}

const _: () = assert!(size_of::<Option<Conn>>() == 192, "three cache lines for each connection");

/// What a connection was told of its limits, until it has used little of them for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    /// Nothing.
    #[default]
    Nothing,
    /// That it comes near one.
    Near,
    /// That it has passed one.
    Over,
}

/// Where a connection comes from: a socket address without what only its own host needs of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    ip: IpAddr,
    port: u16,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self { ip: address.ip(), port: address.port() }
    }
}

impl From<Peer> for SocketAddr {
    fn from(peer: Peer) -> Self {
        Self::new(peer.ip, peer.port)
    }
}

/// What a connection is doing.
#[derive(Debug)]
pub(super) enum Phase {
    /// Sending a request head.
    Head(Box<Head>),
    /// Sending the body of a request, or waiting for the answer, or silent between two requests.
    Post(Box<Post>),
    /// Talking WebSocket, or hearing a stream of events.
    Open(Open),
    /// Ours to a model server, until the last goodbye.
    Upstream(Box<Upstream>),
    /// Saying goodbye.
    Closing(Closing),
    /// Moved or closed: waits for the pump to say that the descriptor is gone.
    Gone,
}

/// A request head that has begun to arrive.
#[derive(Debug)]
pub(super) struct Head {
    /// What has arrived, if it was not the whole.
    pub(super) bytes: Vec<u8>,
    /// When it has to be complete.
    pub(super) deadline: Micros,
    /// How far it is known whose it is.
    pub(super) address: Address,
    /// Whether `peer` is a process of this host on a Unix-domain socket, whose word is taken.
    pub(super) local: bool,
    /// The proxy between, if one has named the client.
    pub(super) via: Option<IpAddr>,
    /// What it is for, as far as the audit log has to know.
    pub(super) asked: Asked,
    /// Whose it is, for the audit log.
    pub(super) user: Option<Box<str>>,
    /// It is complete, and waits until the store has said what it has of this room.
    pub(super) waits: Option<SessionId>,
    /// The page of another origin that may read what is answered over plain HTTP.
    pub(super) origin: Option<Box<str>>,
}

/// How far it is known where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A PROXY header has to come first.
    InProxyHeader,
    /// Its head may name a client behind the peer.
    InHead,
    /// Another shard has found out, and counted it for its address.
    Settled,
}

/// An open WebSocket, or a stream of events.
#[derive(Debug)]
pub(super) struct Open {
    /// Takes messages from bytes.
    pub(super) decoder: Decoder,
    /// What messages are for.
    pub(super) seat: Seat,
    /// How messages are framed.
    pub(super) subprotocol: Subprotocol,
    /// With which window messages may be compressed for it; nothing when permessage-deflate was not agreed on.
    pub(super) deflate: Option<WindowBits>,
    /// Whether a ping is out.
    pub(super) pinged: bool,
    /// When it opened.
    pub(super) since: Micros,
    /// When the draining node says goodbye; zero when it does not drain.
    pub(super) drain_at: Micros,
    /// Whose it is; nothing where nobody is asked.
    pub(super) identity: Option<Box<Identity>>,
}

/// What is kept of the token that a connection was opened or refreshed with.
#[derive(Debug)]
pub(super) struct Identity {
    /// Whose it was.
    pub(super) sub: Box<str>,
    /// The only engine it was for.
    pub(super) engine: Option<EngineKind>,
    /// What it allowed on which channels.
    pub(super) channels: Channels,
    /// What it subscribed its bearer to.
    pub(super) subscriptions: Box<[Pattern]>,
    /// When it expires, if it does.
    pub(super) until: Option<Micros>,
}

impl Identity {
    /// What to keep of a pass that was checked now.
    pub(super) fn new(now: Micros, pass: Pass) -> Box<Self> {
        let Pass { sub, valid_for, engine, channels, subscriptions, .. } = pass;
        Box::new(Self { sub, engine, channels, subscriptions, until: valid_for.map(|span| now + span) })
    }
}

impl Open {
    /// When its token expires, if it has one that does.
    pub(super) fn until(&self) -> Option<Micros> {
        self.identity.as_ref()?.until
    }
}

/// What a connection's messages are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// A member of a room.
    Member(RoomKey, MemberNumber),
    /// `/echo`.
    Echo,
    /// `/events`.
    Feed,
}

/// The end of a connection.
#[derive(Debug)]
pub(super) struct Closing {
    /// Where the goodbye stands.
    pub(super) stage: Goodbye,
    /// Understands the peer's close; nothing when what it sends can't be understood. Boxed so that an open connection
    /// stays within its cache lines.
    pub(super) decoder: Option<Box<Decoder>>,
    /// Whether permessage-deflate was agreed on.
    pub(super) deflate: bool,
    /// When the connection is cut.
    pub(super) deadline: Micros,
    /// Bytes that came since nothing was understood any more.
    pub(super) discarded: u32,
}

/// How far a goodbye has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goodbye {
    /// We said it first: once the lane is empty, wait for the peer's close.
    Said,
    /// The peer said it and our answer is in the lane: close once that is out.
    Answered,
    /// The last bytes are in the lane; once they are out shut down, and read until the peer has closed.
    Last,
    /// Shut down: reading until the peer has closed.
    Lingering,
}

/// What was agreed on in the opening handshake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// How messages are framed.
    pub(super) subprotocol: Subprotocol,
    /// With which window messages to the client may be compressed, if they may.
    pub(super) deflate: Option<WindowBits>,
}

/// How messages are framed for a client (PROTOCOL 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subprotocol {
    /// None negotiated: as `voxhall.v1.plain`.
    None,
    /// One JSON event a text frame, bare audio in binary frames.
    Plain,
    /// Newline-delimited JSON, binary frames with a header.
    V1,
    /// MessagePack in binary messages, both ways with a header.
    Msgpack,
    /// One JSON event a text frame, audio in base64, in the vendor's words of today.
    Realtime,
    /// The same in the words of its beta.
    RealtimeBeta,
    /// None: a stream of server-sent events over plain HTTP.
    Sse {
        /// Whether it comes in chunks.
        chunked: bool,
    },
}

impl Subprotocol {
    /// The first offered one that is spoken here; `beta` says which words `realtime` means.
    pub(super) fn choose<'a>(offered: impl Iterator<Item = &'a str>, beta: bool) -> Self {
        for name in offered {
            match name {
                "voxhall.v1" => return Self::V1,
                "voxhall.v1.msgpack" => return Self::Msgpack,
                "voxhall.v1.plain" => return Self::Plain,
                "realtime" => return Self::realtime(beta),
                _ => {}
            }
        }
        Self::None
    }

    /// What `/v1/realtime` speaks.
    pub(super) const fn realtime(beta: bool) -> Self {
        if beta { Self::RealtimeBeta } else { Self::Realtime }
    }

    /// As negotiated, or what it is called where nothing is.
    pub(super) const fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Plain => Some("voxhall.v1.plain"),
            Self::V1 => Some("voxhall.v1"),
            Self::Msgpack => Some("voxhall.v1.msgpack"),
            Self::Realtime | Self::RealtimeBeta => Some("realtime"),
            Self::Sse { .. } => Some("sse"),
        }
    }

    /// The words of its events.
    pub(super) const fn dialect(self) -> Dialect {
        match self {
            Self::None | Self::Plain | Self::V1 | Self::Msgpack | Self::Sse { .. } => Dialect::Native,
            Self::Realtime => Dialect::Ga,
            Self::RealtimeBeta => Dialect::Beta,
        }
    }

    /// Whether it is a stream of events, and no WebSocket.
    pub(super) const fn is_stream(self) -> bool {
        matches!(self, Self::Sse { .. })
    }

    /// Whether audio travels in events, and binary messages mean nothing.
    pub(super) const fn only_events(self) -> bool {
        matches!(self, Self::Realtime | Self::RealtimeBeta | Self::Sse { .. })
    }
}
