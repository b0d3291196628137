//! What crosses cores.

use ::core::net::{IpAddr, SocketAddr};

use super::channel::{DeadLetter, Parcel, Publication, Published, Undeliverable};
use super::gate::Channels;
use super::ids::{ConnKey, ConnectionId, MemberNumber, SessionId, ShardId};
use super::memory::{Recall, Recalled, Remembers};
use super::report::RoomReport;
use super::time::Micros;
use super::work::{Work, Worked};

/// Everything that travels between shards and the control plane. `S` is a socket: a `Link` in the runtime,
/// a pipe's end in the simulation.
#[derive(Debug)]
pub enum ShardMessage<S> {
    /// From the shard that accepted to the shard that owns the room. When the queue is full the sender answers
    /// 503 itself; if the message is lost the socket closes with it and the client connects again.
    Adopt(Handoff<S>),
    /// From a shard to the control plane: a plain HTTP request. Lost: the socket closes, the client asks again.
    Serve(Handoff<S>),
    /// From the control plane to a shard. Lost: the asker's deadline passes and it says so.
    Ask {
        /// Names the question in the answer.
        id: AskId,
        /// The question.
        query: Query,
    },
    /// From a shard to the control plane. Lost: the asker's deadline passes and it says so.
    Answer {
        /// Who answers.
        from: ShardId,
        /// Which question.
        id: AskId,
        /// The answer.
        answer: Answer,
    },
    /// From a shard to the control plane: what a room wants of workers. When the queue is full the shard tells the room so,
    /// which is a retryable error for its clients; a cancel that is lost leaves a request to run into its deadline.
    Work(Box<Work>),
    /// From the control plane to the shard that asked: what a worker says. Lost: the room's own deadline for its worker
    /// passes, and its clients get a retryable error.
    Worked(Box<Worked>),
    /// From a shard to the control plane: a room has ended, for whoever works on it afterwards. When the queue is full
    /// the shard keeps it and tries again; if it is lost, so is the room's job, and that is counted.
    RoomEnded(Box<RoomReport>),
    /// From a shard to the control plane: something for the store. When the queue is full the shard keeps it and tries
    /// again; lost, the store lags until the room changes again.
    Remember(Remembers),
    /// From the control plane to the room's shard: the store lacks something of the room and has to be told all of it. When
    /// the queue is full it is tried again.
    RememberAgain(SessionId),
    /// From a shard to the control plane: what has the store of a room? When the queue is full, or it is lost, the shard
    /// goes on as if the store had failed.
    Recall(Box<Recall>),
    /// From the control plane to the shard that asked. Lost: as above.
    Recalled(Box<Recalled>),
    /// From a shard to the control plane: a publication that nobody will hear. Lost: it is counted, and can't be tried
    /// again.
    DeadLetter(Box<DeadLetter>),
    /// From one shard to another: something about channels. When the queue is full the sender keeps it and tries again, in
    /// order; what each is worth is said at [`Parcel`].
    Parcel {
        /// Who sends it.
        from: ShardId,
        /// What it is.
        parcel: Parcel,
    },
    /// From the control plane to every shard: end all connections within the window. Lost: the node's own
    /// deadline ends the shard.
    Drain {
        /// Over which the goodbyes are spread.
        window: Micros,
    },
    /// From the control plane to every shard: leave the loop now, whatever is open.
    Stop,
}

/// A connection on its way to its owner. Consumed by value; dropped, it closes.
#[derive(Debug)]
pub struct Handoff<S> {
    /// The socket, with nothing in flight on it.
    pub socket: S,
    /// Every byte read so far: the request head and whatever followed it.
    pub head: Vec<u8>,
    /// Where the connection comes from.
    pub peer: SocketAddr,
    /// The proxy between, if one has named the client.
    pub via: Option<IpAddr>,
}

/// Names a question; the asker chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AskId(pub u64);

/// What the control plane may ask of a shard.
#[derive(Debug)]
pub enum Query {
    /// Its counters.
    Counters,
    /// Its rooms.
    Rooms(RoomsQuery),
    /// One room in detail.
    Room(SessionId),
    /// Put a message into a room.
    Send(SessionId, RoomPost),
    /// Close every connection of a room and forget the room.
    CloseRoom(SessionId),
    /// Close one connection, with the code and reason given.
    CloseConnection(ConnKey, u16, String),
    /// Close every connection of the user whose tokens have this `sub`.
    DisconnectUser(Box<str>),
    /// Publish on a channel. Asked of the shard that owns the channel's stream: [`super::channel::owner`] says which.
    Publish(Box<Publication>),
    /// Break, so that a test sees what becomes of the node.
    #[cfg(debug_assertions)]
    Fault(Fault),
}

/// A fault on purpose. Release builds know none.
#[cfg(debug_assertions)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The core panics.
    Core,
    /// It panics, and again while what it held is dropped.
    Twice,
    /// The runtime around it panics.
    Runtime,
    /// The kernel refuses the turn's system call.
    Kernel,
    /// The control plane panics where it takes the question.
    ControlPlane,
}

#[cfg(debug_assertions)]
impl Fault {
    /// Panics.
    pub fn panic(self) -> ! {
        struct Fragile;
        impl Drop for Fragile {
            fn drop(&mut self) {
                panic!("a panic in a panic was asked for");
            }
        }
        let _fragile = (self == Self::Twice).then(|| Fragile);
        panic!("a fault was asked for: {self:?}");
    }
}

/// Which rooms, how many, in which order.
#[derive(Clone, Copy, Debug)]
pub struct RoomsQuery {
    /// At most so many.
    pub limit: usize,
    /// The order, largest first.
    pub sort: RoomsSort,
}

/// By what rooms are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomsSort {
    /// By name, ascending.
    Id,
    /// By number of members.
    Members,
    /// By bytes waiting in the members' lanes.
    Queued,
    /// By age, oldest first.
    Age,
    /// By frames received.
    Frames,
}

/// A message for a room from outside.
#[derive(Debug)]
pub struct RoomPost {
    /// Any JSON, already serialised and valid.
    pub data: Box<str>,
    /// One member, or all.
    pub to: Option<MemberNumber>,
}

/// What a shard answers.
#[derive(Debug)]
pub enum Answer {
    /// To [`Query::Counters`].
    Counters(Box<super::counters::Counters>),
    /// To [`Query::Rooms`].
    Rooms(Vec<RoomSummary>),
    /// To [`Query::Room`]: nothing when there is no such room.
    Room(Option<Box<RoomDetail>>),
    /// To [`Query::Send`]: how many members it was queued for; nothing when there is no such room.
    Sent(Option<usize>),
    /// To [`Query::CloseRoom`]: how many connections were told; nothing when there is no such room.
    RoomClosed(Option<usize>),
    /// To [`Query::CloseConnection`]: whether there was one.
    ConnectionClosed(bool),
    /// To [`Query::DisconnectUser`]: how many connections were told.
    UserDisconnected(usize),
    /// To [`Query::Publish`], from the stream's owner: `shards` counts those that were sent it, and the owner itself if it
    /// has subscribers; `subscribers` are those of the owner. Each other shard that was sent it answers the same question with [`Answer::Delivered`].
    Published(Result<Published, Undeliverable>),
    /// To [`Query::Publish`], from another shard than the owner: how many subscribers it has there.
    Delivered(usize),
}

/// A room in a list.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RoomSummary {
    /// Its session id.
    pub id: SessionId,
    /// Its shard.
    pub shard: ShardId,
    /// Its engine.
    pub engine: &'static str,
    /// Members now.
    pub members: usize,
    /// Milliseconds since it was made.
    pub age_ms: u64,
    /// Binary frames and appends received from members.
    pub frames_received: u64,
    /// Frames put into members' lanes.
    pub frames_sent: u64,
    /// Bytes waiting in members' lanes.
    pub queued_bytes: u64,
    /// Whether the engine has been started.
    pub engine_started: bool,
    /// Whether it only waits for a member to come back.
    pub lingering: bool,
}

/// A room with its members.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RoomDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub summary: RoomSummary,
    /// Events the room has made so far.
    pub seq: u64,
    /// Its members.
    pub connections: Vec<MemberDetail>,
}

/// A member of a room.
#[derive(Clone, Debug, serde::Serialize)]
pub struct MemberDetail {
    /// The connection's name, for `POST /connections/{id}/close`.
    pub id: ConnectionId,
    /// The member's number.
    pub member: MemberNumber,
    /// Whose it is; nothing where nobody is asked.
    pub user: Option<Box<str>>,
    /// What its token allows on which channels; nothing where it says nothing.
    pub channels: Channels,
    /// Its subprotocol.
    pub subprotocol: &'static str,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Milliseconds since it joined.
    pub connected_ms: u64,
    /// Messages waiting in its lane.
    pub queued_messages: usize,
    /// Bytes waiting in its lane.
    pub queued_bytes: usize,
    /// Messages dropped from its lane so far.
    pub dropped: u64,
}
