//! The wire: everything that one shard has asked of the kernel, and what it needs to ask for more.
//!
//! It owns the shard's ring, receive buffers, sockets and listener, and lives on the shard's thread. It knows what
//! is in flight on each socket and keeps the rules that follow from it: one receive and one send at a time, a
//! socket leaves only when nothing is in flight, a slot is free only when its socket has gone. What bytes mean is
//! the core's business.
//!
//! Bounds: sixteen bytes for each connection, the buffer pool, one send slot for each submission queue entry. The
//! queues of connections that wait for a send or a buffer hold each connection at most once.

pub(crate) mod accept;
mod book;
pub(crate) mod buffers;
mod conns;
mod dial;
#[cfg(test)]
mod pins;
pub(crate) mod ring;
mod sealed;
mod send;
mod slots;
mod token;

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use self::accept::{Acceptor, SocketCount};
use self::buffers::Buffers;
use self::ring::{Completion, PeerAddress, Ring, Wait};
use self::sealed::Sealed;
use self::send::Sends;
use self::slots::Slots;
use self::token::{Kind, Token};
use super::WireConfig;
use super::listen::Listener;
use super::tls::{ClientTls, Tls};
use crate::core::{ConnKey, Micros};

pub(crate) use self::book::Event;
pub(crate) use self::sealed::Opened;

/// While turns stay under this, they read more of the connections that are behind.
const TURN_AIM: Micros = Micros(250);
/// How long the last completions are waited for when a shard leaves.
const FAREWELL: Micros = Micros::from_ms(10);
const FAREWELL_ROUNDS_MAX: usize = 200;

/// What the kernel may read or write while operations are in flight.
struct Memory {
    buffers: Buffers,
    sends: Sends,
    peers: Box<[PeerAddress]>,
    bell_count: Box<[u8; 8]>,
}

/// See the module.
pub(crate) struct Wire {
    ring: Ring,
    /// Leaked rather than freed should the wire be dropped with operations in flight.
    memory: ManuallyDrop<Memory>,
    slots: Slots,
    acceptor: Acceptor,
    sockets: Arc<SocketCount>,
    /// A descriptor of its own for the doorbell, open as long as it is read.
    bell: OwnedFd,
    /// Connections whose receive ended for want of a buffer.
    starved: VecDeque<ConnKey>,
    /// Connections that have more to read than fits into a buffer.
    behind: VecDeque<ConnKey>,
    /// How many of them are read in one turn.
    share: usize,
    /// Keys that have become free and were not reported yet.
    closed: Vec<ConnKey>,
    /// The TLS sessions of connections that have one.
    sealed: Box<Sealed>,
    /// What connections of clients are secured with; nothing when they are plain.
    server_tls: Option<Tls>,
    /// What connections to model servers are secured with; nothing when they are plain.
    client_tls: Option<ClientTls>,
    backlog_max: usize,
    /// Receives that found the pool empty.
    pub(crate) buffers_exhausted: u64,
}

impl Wire {
    /// Sets up ring and buffers; on the thread that will use them.
    pub(crate) fn new(
        config: &WireConfig,
        listener: Listener,
        bell: BorrowedFd<'_>,
        sockets: Arc<SocketCount>,
    ) -> io::Result<Self> {
        let ring = Ring::new(config.ring_entries)?;
        let buffers = Buffers::new(&ring, config.receive_buffers, config.receive_buffer_bytes)?;
        let memory = Memory {
            buffers,
            sends: Sends::default(),
            peers: (0..config.accept_burst.max(1)).map(|_| PeerAddress::new()).collect(),
            bell_count: Box::new([0; 8]),
        };
        let mut wire = Self {
            ring,
            memory: ManuallyDrop::new(memory),
            slots: Slots::default(),
            acceptor: Acceptor::new(listener, config.accept_burst, Arc::clone(&sockets)),
            sockets,
            bell: bell.try_clone_to_owned()?,
            starved: VecDeque::new(),
            behind: VecDeque::new(),
            share: 1,
            closed: Vec::new(),
            sealed: Box::default(),
            server_tls: config.tls.clone(),
            client_tls: config.client_tls.as_ref().map(ClientTls::of_shard),
            backlog_max: config.backlog as usize,
            buffers_exhausted: 0,
        };
        wire.listen_to_doorbell();
        Ok(wire)
    }

    pub(super) fn listen_to_doorbell(&mut self) {
        self.ring.read_doorbell(self.bell.as_fd(), &mut self.memory.bell_count, Token::DOORBELL);
    }

    /// Asks for connections, if the shard takes any.
    pub(crate) fn arm_accepts(&mut self, now: Micros) {
        self.acceptor.arm(&mut self.ring, &mut self.memory.peers, now);
    }

    /// Asks for the receives that had to wait for a buffer, as many as there are buffers, the rest next turn. Those
    /// that are behind get one each, and together a share: reading one lets its sender go on, in our time, which can
    /// cost more than ten frames of others. So the share follows what the last turn took.
    pub(crate) fn feed_waiting(&mut self, last_turn: Micros) {
        let buffers = self.memory.buffers.count();
        self.share = if last_turn > TURN_AIM { self.share / 2 } else { self.share + 1 };
        self.share = self.share.clamp(1, (buffers / 4).max(1));
        let pieces = self.share.min(self.behind.len());
        for _ in 0..pieces {
            let Some(conn) = self.behind.pop_front() else { break };
            self.receive_piece(conn);
        }
        for _ in 0..(buffers - pieces).min(self.starved.len()) {
            let Some(conn) = self.starved.pop_front() else { break };
            self.arm_receive(conn);
        }
    }

    /// Whether there is work that must not wait for a completion.
    pub(crate) fn is_pressed(&self) -> bool {
        self.is_sending() || !self.starved.is_empty() || !self.behind.is_empty() || self.ring.has_backlog()
    }

    /// When the wire itself wants to be woken.
    pub(crate) fn deadline(&self) -> Option<Micros> {
        self.acceptor.deadline()
    }

    /// Whether entering now would bring completions or submit something: no reason to spin.
    pub(crate) fn has_news(&mut self) -> bool {
        self.ring.has_submissions() || self.ring.has_news()
    }

    /// The system call of the turn.
    pub(crate) fn enter(&mut self, wait: Option<Wait>) -> io::Result<()> {
        self.memory.buffers.publish();
        self.ring.enter(wait)
    }

    /// Moves all completions to the end of `taken`.
    pub(crate) fn take(&mut self, taken: &mut VecDeque<Completion>) {
        let before = taken.len();
        self.ring.take(taken, usize::MAX);
        for send in taken.range(before..).filter(|completion| completion.token.kind == Kind::Send) {
            self.memory.sends.came_back(send.token.index, send.result);
        }
    }

    /// Cancels the accepts that are out.
    pub(crate) fn cancel_accepts(&mut self) {
        self.acceptor.cancel(&mut self.ring);
    }

    /// Whether no accept is out.
    pub(crate) fn accepts_are_back(&self) -> bool {
        self.acceptor.out() == 0
    }

    /// Takes what waits in the listener's queue and closes it.
    pub(crate) fn close_listener(&mut self) -> io::Result<()> {
        self.acceptor.close(self.backlog_max.saturating_mul(2))
    }

    /// Ends everything: sockets close, operations are cancelled and waited for.
    pub(crate) fn leave(&mut self) -> io::Result<()> {
        self.ring.cancel_all();
        let mut taken = VecDeque::new();
        let wait = Wait { timeout: Some(FAREWELL), want: 1, batch: Micros(0) };
        for _ in 0..FAREWELL_ROUNDS_MAX {
            if self.ring.in_flight() == 0 {
                break;
            }
            self.ring.enter(Some(wait))?;
            self.ring.take(&mut taken, usize::MAX);
            for completion in taken.drain(..) {
                if completion.token.kind == Kind::Accept {
                    drop(completion.accepted());
                }
            }
        }
        Ok(())
    }

    /// Descriptors held.
    pub(crate) fn descriptors(&self) -> usize {
        self.slots.len() + self.acceptor.held()
    }

    /// Operations in flight.
    pub(crate) fn in_flight(&self) -> u64 {
        self.ring.in_flight()
    }

    /// Times accepting had to rest for want of descriptors.
    pub(crate) fn accept_rests(&self) -> u64 {
        self.acceptor.rests
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.ring.in_flight() == 0 && !self.ring.has_submissions() {
            // SAFETY: dropped once, here, and not used afterwards. Everything asked of the kernel is over: what waits in
            // the backlog counts as in flight, sends are over with the call that submits them, and the queue is empty.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}
