//! What goes into a shard and what comes out of it.

use ::core::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::audit::AuditRecord;
use super::channel::{DeadLetter, Parcel};
use super::ids::{ConnKey, RoomKey, SessionId, ShardId};
use super::memory::Recalled;
use super::message::{Answer, AskId, Query};
use super::time::Micros;
use super::upstream::{Line, UpstreamEnd};
use super::work::{Work, Worked};

/// Something that happened outside. The pump brings these one at a time to [`super::Shard::handle`].
#[derive(Debug)]
pub enum Input<'a> {
    /// A socket was accepted here; nothing has been read from it. Only brought while
    /// [`super::Shard::accepting`] says so.
    Accepted {
        /// The key the pump chose for it.
        conn: ConnKey,
        /// Who is at its other end.
        peer: Caller,
    },
    /// Another shard read the head and found that the room lives here.
    Adopted {
        /// The key the pump chose for it.
        conn: ConnKey,
        /// Where it comes from.
        peer: SocketAddr,
        /// The proxy between, if one has named the client.
        via: Option<IpAddr>,
        /// Every byte read so far: the head, and what came after it.
        head: &'a mut [u8],
    },
    /// Bytes arrived. They are unmasked and parsed in place; the slice is the pump's again after the call.
    Received {
        /// On this connection.
        conn: ConnKey,
        /// At least one byte.
        bytes: &'a mut [u8],
    },
    /// Nothing more will be received.
    Ended {
        /// On this connection.
        conn: ConnKey,
        /// The manner of it.
        how: Ended,
    },
    /// The send that [`Effect::Send`] asked for has come back.
    Sent {
        /// On this connection.
        conn: ConnKey,
        /// How far it got.
        outcome: SendOutcome,
    },
    /// A connection that [`Effect::AwaitWritable`] named takes bytes again.
    Writable {
        /// On this connection.
        conn: ConnKey,
    },
    /// The descriptor is closed and nothing is in flight: the key is free. Answers [`Effect::Close`] and
    /// [`Effect::Move`].
    Closed {
        /// This connection.
        conn: ConnKey,
    },
    /// Answers [`Effect::Dial`].
    Dialled {
        /// The room it was for.
        room: RoomKey,
        /// The line it was for.
        line: Line,
        /// The key of a socket that is being connected, or why there is none.
        outcome: Result<ConnKey, Box<str>>,
    },
    /// The socket of [`Input::Dialled`] is connected, and secured where that is asked for; or never will be, and then why.
    Connected {
        /// This connection.
        conn: ConnKey,
        /// Whether it takes bytes.
        outcome: Result<(), Box<str>>,
    },
    /// The control plane asks.
    Ask {
        /// Names the question in the answer.
        id: AskId,
        /// The question.
        query: Query,
    },
    /// A worker has answered a room's request, or there will be no answer.
    Worked(Box<Worked>),
    /// Another shard sends something about channels.
    Parcel {
        /// Who sends it.
        from: ShardId,
        /// What it is.
        parcel: Parcel,
    },
    /// Answers [`Effect::Recall`], never within that call.
    Recalled(Box<Recalled>),
    /// The store lacks something of the room: it has to be told all of it.
    RememberAgain(SessionId),
    /// End every connection within the window, politely.
    Drain {
        /// Over which the goodbyes are spread.
        window: Micros,
    },
    /// End every connection now: the node can't go on. A drain that has begun is cut short.
    Evacuate,
}

/// Who is at the other end of a socket that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody at this address.
    At(SocketAddr),
    /// A process of this host on a Unix-domain socket: it has no address, and who it is was settled by who may open
    /// the socket's file.
    Local,
}

impl Caller {
    /// Where the connection comes from, as far as the socket tells: of a local process, this host.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        match self {
            Self::At(address) => address,
            Self::Local => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        }
    }
}

/// How receiving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer shut its side down.
    Eof,
    /// Reset, timed out, or otherwise broken: sending has no use either.
    Broken,
    /// No secure channel came about: nothing was received, and nobody could read an answer.
    Unsecured,
}

/// How a send ended. Sends never wait in the kernel: what the socket does not take at once stays in the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// The kernel took this many bytes, at least one.
    Sent(usize),
    /// The socket's buffer is full; nothing was taken.
    WouldBlock,
    /// The connection is broken.
    Broken,
}

/// Something the pump has to do.
#[derive(Debug)]
pub enum Effect {
    /// Change how the connection is read.
    Receive(ConnKey, ReceiveMode),
    /// The lane has bytes: take them with [`super::Shard::gather`], send them as one, answer with
    /// [`Input::Sent`]. Never asked while one is out.
    Send(ConnKey),
    /// The socket is full: say [`Input::Writable`] when it isn't.
    AwaitWritable(ConnKey),
    /// Hand the socket to its owner, with every byte read so far. Nothing is in flight on it.
    Move {
        /// This connection; its key is free after [`Input::Closed`].
        conn: ConnKey,
        /// Its owner.
        to: Destination,
        /// Every byte read so far.
        head: Vec<u8>,
        /// Where the connection comes from.
        peer: SocketAddr,
        /// The proxy between, if one has named the client.
        via: Option<IpAddr>,
    },
    /// Connect to a model server; answered with [`Input::Dialled`], never within this call, and then with
    /// [`Input::Connected`] or [`Input::Ended`].
    Dial {
        /// For this room.
        room: RoomKey,
        /// For this line of it.
        line: Line,
        /// Where it is.
        address: SocketAddr,
    },
    /// An upstream session has failed in a way that the operator should read of.
    UpstreamFailed(Box<UpstreamEnd>),
    /// Shut our side down: everything that was to be said has been. Receiving goes on.
    Shutdown(ConnKey),
    /// End the connection: stop receives, shut down, close, then [`Input::Closed`].
    Close(ConnKey, CloseMode),
    /// Carry an answer to the control plane.
    Answer(AskId, Answer),
    /// Carry what a room wants of workers to the control plane. When there is no room for it there, a request is answered
    /// at once, with [`Input::Worked`] and [`super::work::WorkFailure::busy`].
    Work(Box<Work>),
    /// Ask the store for a room; answered with [`Input::Recalled`], also where nobody can say.
    Recall(SessionId),
    /// Carry it to the control plane, where the operator sees it.
    DeadLetter(Box<DeadLetter>),
    /// Write down what happened, if there is room for it where that waits.
    Audit(Box<AuditRecord>),
}

/// How a connection is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveMode {
    /// One single-shot receive: a head that may yet move to another shard. Asked again for each piece.
    Once,
    /// A standing multishot receive.
    Stream,
    /// No receive: the peer has to wait.
    Paused,
}

/// Who takes a moved connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The shard that owns the room.
    Shard(ShardId),
    /// The control plane's HTTP server.
    ControlPlane,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseMode {
    /// `shutdown`, then close: what was sent still arrives.
    Graceful,
    /// Close with a reset: the peer is gone, hostile or out of time.
    Reset,
}

/// What one or more calls of [`super::Shard::handle`] want done, in order.
pub type Effects = Vec<Effect>;
