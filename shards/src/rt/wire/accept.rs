//! Accepting: single-shot accepts on the shard's own listening socket, or on its copy of one that all shards have, several
//! at a time.
//!
//! An accept is asked for only while the shard takes sockets and the node may hold more descriptors. One that was
//! already out when that changed may still bring a socket; it is held here until the shard takes it, so never more
//! than `burst` are. Without descriptors accepting rests and is tried again later: it neither spins nor accepts
//! what it would have to close.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use socket2::Domain;

use super::ring::{PeerAddress, Ring, caller};
use super::token::{Kind, Token};
use crate::core::{Caller, Micros};
use crate::rt::listen::Listener;
use crate::rt::tls::Link;

/// How long accepting rests for want of descriptors when none is freed here before.
const REST: Micros = Micros::from_ms(50);

/// What a connection gets that can't be served at all.
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\
    Connection: close\r\n\r\n";

/// Sockets held by all shards of the node, against the most it may hold.
#[derive(Debug)]
pub(crate) struct SocketCount {
    open: AtomicUsize,
    max: usize,
}

impl SocketCount {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), max })
    }

    pub(in crate::rt) fn add(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one less: closed, or no longer the shards'.
    pub(super) fn subtract(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the node may hold no more.
    pub(super) fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// How many are open.
    #[cfg(test)]
    pub(in crate::rt) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many more the node may hold.
    fn room(&self) -> usize {
        self.max.saturating_sub(self.open.load(Ordering::Relaxed))
    }
}

/// A socket that has been accepted and not yet been given to the shard.
type Held = (OwnedFd, Caller);

/// The listening side of a shard.
pub(crate) struct Acceptor {
    listener: Option<Listener>,
    /// Accept slots that are not out.
    free: Vec<u32>,
    burst: usize,
    held: VecDeque<Held>,
    resting_until: Option<Micros>,
    /// Times accepting began to rest.
    pub(crate) rests: u64,
    sockets: Arc<SocketCount>,
}

impl Acceptor {
    pub(super) fn new(listener: Listener, burst: u16, sockets: Arc<SocketCount>) -> Self {
        let burst = usize::from(burst.max(1));
        let free = (0..burst as u32).collect();
        let held = VecDeque::with_capacity(burst);
        Self { listener: Some(listener), free, burst, held, resting_until: None, rests: 0, sockets }
    }

    /// Accepts that are out.
    pub(super) fn out(&self) -> usize {
        self.burst - self.free.len()
    }

    /// Sockets held for the shard.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Asks for as many connections as there is room for.
    pub(super) fn arm(&mut self, ring: &mut Ring, peers: &mut [PeerAddress], now: Micros) {
        let Some(listener) = &self.listener else { return };
        if self.held.len() + self.out() >= self.burst {
            return;
        }
        if self.resting_until.is_some_and(|until| now < until) {
            return;
        }
        let room = self.sockets.room();
        if room == 0 {
            return self.rest(now);
        }
        self.resting_until = None;
        for _ in 0..room.saturating_sub(self.out()).min(self.burst - self.held.len() - self.out()) {
            let Some(slot) = self.free.pop() else { return };
            ring.accept(listener.socket.as_fd(), &mut peers[slot as usize], Token::at(Kind::Accept, slot));
        }
    }

    /// An accept has come back.
    pub(super) fn done(
        &mut self,
        slot: u32,
        socket: Option<OwnedFd>,
        peer: Option<Caller>,
        errno: i32,
        now: Micros,
    ) {
        self.free.push(slot);
        match (socket, peer) {
            (Some(socket), Some(peer)) => self.hold(socket, peer),
            (None, _) if matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                self.rest(now);
            }
            // The peer has gone already, or the accept was cancelled: the next one is asked for in its turn.
            _ => {}
        }
    }

    fn hold(&mut self, socket: OwnedFd, peer: Caller) {
        self.sockets.add();
        self.held.push_back((socket, peer));
    }

    fn rest(&mut self, now: Micros) {
        if self.resting_until.is_none() {
            self.rests += 1;
        }
        self.resting_until = Some(now + REST);
    }

    /// A descriptor was freed here: accepting may go on.
    pub(super) fn wake(&mut self) {
        if self.resting_until.is_some() {
            self.resting_until = Some(Micros(0));
        }
    }

    /// When accepting is to be tried again, if it rests.
    pub(super) fn deadline(&self) -> Option<Micros> {
        self.resting_until.filter(|_| self.listener.is_some())
    }

    /// The next socket for the shard.
    pub(super) fn next(&mut self) -> Option<Held> {
        self.held.pop_front()
    }

    /// Cancels the accepts that are out.
    pub(super) fn cancel(&self, ring: &mut Ring) {
        if let Some(listener) = &self.listener
            && self.out() > 0
        {
            ring.cancel_fd(listener.socket.as_fd());
        }
    }

    /// Takes what still waits in the kernel's queue and closes the listener: closing it with connections queued
    /// would reset them. At most `most` are taken. Of a listener that other shards have too they take what comes later,
    /// and what was offered to an accept that was cancelled is not lost in the queue until then.
    pub(super) fn close(&mut self, most: usize) -> io::Result<()> {
        debug_assert_eq!(self.out(), 0, "accepts are cancelled before the listener closes");
        let Some(Listener { file, socket: listener }) = self.listener.take() else { return Ok(()) };
        drop(file);
        // That of a Unix-domain socket is shared, and was given its patience when it was made.
        if listener.domain()? != Domain::UNIX {
            listener.set_nonblocking(true)?;
        }
        for _ in 0..most {
            let Ok((socket, address)) = listener.accept() else { break };
            socket.set_nonblocking(false)?;
            if let Some(peer) = caller(&address) {
                self.hold(socket.into(), peer);
            }
        }
        Ok(())
    }
}

/// Answers 503 on a connection that nobody can take, if it takes the answer at once, and closes it.
pub(crate) fn refuse(link: Link) {
    let mut stream = TcpStream::from(link.socket);
    // Each step is a courtesy: when one fails the peer sees the close that follows.
    let _ = stream.set_nonblocking(true);
    let _ = match link.tls {
        None => stream.write(UNAVAILABLE),
        Some(mut session) => stream.write(&session.last_words(UNAVAILABLE)),
    };
    let _ = stream.shutdown(Shutdown::Write);
}
