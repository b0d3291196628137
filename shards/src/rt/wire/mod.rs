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
pub(crate) mod buffers;
pub(crate) mod ring;
mod send;
mod slots;
mod token;

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, Socket};

use self::accept::{Acceptor, SocketCount};
use self::buffers::Buffers;
use self::ring::{Completion, PeerAddress, Ring, Wait};
use self::send::SendSlots;
use self::slots::{Slot, Slots, busy};
use self::token::{Kind, Token};
use super::WireConfig;
use crate::core::{CloseMode, ConnKey, Ended, Gather, Micros, ReceiveMode, SendOutcome};

/// How long the last completions are waited for when a shard leaves.
const FAREWELL: Micros = Micros::from_ms(10);
const FAREWELL_ROUNDS_MAX: usize = 200;

/// What one completion means for the shard.
#[derive(Debug)]
pub(crate) enum Event {
    /// Nothing that the core has to know.
    Nothing,
    /// Bytes are in a buffer, to be given back with [`Wire::give_back`].
    Received { conn: ConnKey, buffer: u16, len: usize },
    /// No more bytes will come.
    Ended { conn: ConnKey, how: Ended },
    /// A send has come back; its frames have been let go.
    Sent { conn: ConnKey, outcome: SendOutcome },
    /// A socket takes bytes again.
    Writable { conn: ConnKey },
    /// The doorbell rang.
    Doorbell,
}

/// What the kernel may read or write while operations are in flight.
struct Memory {
    buffers: Buffers,
    sends: SendSlots,
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
    bell: RawFd,
    /// Connections with something to send, oldest first.
    ready: VecDeque<ConnKey>,
    /// Connections whose receive ended for want of a buffer.
    starved: VecDeque<ConnKey>,
    /// Keys that have become free and were not reported yet.
    closed: Vec<ConnKey>,
    backlog_max: usize,
    /// Receives that found the pool empty.
    pub(crate) buffers_exhausted: u64,
}

impl Wire {
    /// Sets up ring and buffers; on the thread that will use them. `bell` stays open as long as the wire lives.
    pub(crate) fn new(
        config: &WireConfig,
        listener: Socket,
        bell: BorrowedFd<'_>,
        sockets: Arc<SocketCount>,
    ) -> io::Result<Self> {
        let ring = Ring::new(config.ring_entries)?;
        let buffers = Buffers::new(&ring, config.receive_buffers, config.receive_buffer_bytes)?;
        let memory = Memory {
            buffers,
            sends: SendSlots::default(),
            peers: (0..config.accept_burst.max(1)).map(|_| PeerAddress::new()).collect(),
            bell_count: Box::new([0; 8]),
        };
        let mut wire = Self {
            ring,
            memory: ManuallyDrop::new(memory),
            slots: Slots::default(),
            acceptor: Acceptor::new(listener, config.accept_burst, Arc::clone(&sockets)),
            sockets,
            bell: bell.as_raw_fd(),
            ready: VecDeque::new(),
            starved: VecDeque::new(),
            closed: Vec::new(),
            backlog_max: config.backlog as usize,
            buffers_exhausted: 0,
        };
        wire.listen_to_doorbell();
        Ok(wire)
    }

    fn listen_to_doorbell(&mut self) {
        self.ring.read_doorbell(self.bell, &mut self.memory.bell_count, Token::DOORBELL);
    }

    // ---- before the system call ----

    /// Asks for connections, if the shard takes any.
    pub(crate) fn arm_accepts(&mut self, now: Micros) {
        self.acceptor.arm(&mut self.ring, &mut self.memory.peers, now);
    }

    /// Turns waiting sends into operations, as many as the submission queue takes. A lane that has nothing left
    /// to send by then is named in `empty`.
    pub(crate) fn fill_sends(&mut self, empty: &mut Vec<ConnKey>, mut gather: impl FnMut(ConnKey, &mut Gather)) {
        if self.ready.is_empty() {
            return;
        }
        for _ in 0..self.ring.room() {
            let Some(conn) = self.ready.pop_front() else { return };
            let Some(slot) = self.slots.get(conn) else { continue };
            if slot.closing.is_some() {
                slot.busy &= !busy::SEND;
                self.go_on_closing(conn);
                continue;
            }
            let (index, send) = self.memory.sends.take();
            send.conn = conn;
            gather(conn, &mut send.gather);
            if send.gather.is_empty() {
                empty.push(conn);
                slot.busy &= !busy::SEND;
                self.memory.sends.release(index);
                continue;
            }
            self.ring.send(slot.fd(), send, Token::at(Kind::Send, index));
        }
    }

    /// Asks again for receives that found no buffer: no more than there are buffers, the rest next turn.
    pub(crate) fn feed_starved(&mut self) {
        for _ in 0..self.memory.buffers.count().min(self.starved.len()) {
            if let Some(conn) = self.starved.pop_front() {
                self.arm_receive(conn);
            }
        }
    }

    /// Whether there is work that must not wait for a completion.
    pub(crate) fn is_pressed(&self) -> bool {
        !self.ready.is_empty() || !self.starved.is_empty() || self.ring.has_backlog()
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

    /// Copies completions; whether more are there.
    pub(crate) fn take(&mut self, taken: &mut Vec<Completion>, budget: usize) -> bool {
        self.ring.take(taken, budget)
    }

    // ---- completions ----

    /// Books a completion and says what it means.
    pub(crate) fn book(&mut self, completion: Completion, now: Micros) -> Event {
        let token = completion.token;
        match token.kind {
            Kind::Receive => self.book_receive(completion),
            Kind::Send => self.book_send(token.index, completion.result),
            Kind::Writable => self.book_writable(token.conn()),
            Kind::Accept => {
                let peer = self.memory.peers[token.index as usize].read();
                self.acceptor.done(token.index, completion.accepted(), peer, -completion.result, now);
                Event::Nothing
            }
            Kind::Doorbell => {
                self.listen_to_doorbell();
                Event::Doorbell
            }
            Kind::Cancel => Event::Nothing,
        }
    }

    fn book_receive(&mut self, completion: Completion) -> Event {
        let event = self.classify_receive(completion);
        match (&event, completion.buffer()) {
            // Its bytes are read first.
            (Event::Received { .. }, _) | (_, None) => {}
            (_, Some(unused)) => self.memory.buffers.give_back(unused),
        }
        event
    }

    fn classify_receive(&mut self, completion: Completion) -> Event {
        let conn = completion.token.conn();
        let Some(slot) = self.slots.get(conn) else { return Event::Nothing };
        if !completion.more() {
            slot.busy &= !busy::RECEIVE;
            slot.ending = false;
        }
        if slot.closing.is_some() {
            self.go_on_closing(conn);
            return Event::Nothing;
        }
        match (completion.result, completion.buffer()) {
            (len @ 1.., Some(buffer)) => {
                if slot.mode == ReceiveMode::Once {
                    slot.mode = ReceiveMode::Paused;
                }
                Event::Received { conn, buffer, len: len as usize }
            }
            (0, _) => {
                slot.mode = ReceiveMode::Paused;
                Event::Ended { conn, how: Ended::Eof }
            }
            (error, _) => match -error {
                libc::ENOBUFS => {
                    self.buffers_exhausted += 1;
                    self.starved.push_back(conn);
                    Event::Nothing
                }
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {
                    self.arm_receive(conn);
                    Event::Nothing
                }
                _ => {
                    slot.mode = ReceiveMode::Paused;
                    Event::Ended { conn, how: Ended::Broken }
                }
            },
        }
    }

    fn book_send(&mut self, index: u32, result: i32) -> Event {
        let conn = self.memory.sends.release(index);
        let Some(slot) = self.slots.get(conn) else { return Event::Nothing };
        slot.busy &= !busy::SEND;
        if slot.closing.is_some() {
            self.go_on_closing(conn);
            return Event::Nothing;
        }
        let outcome = match result {
            sent @ 1.. => SendOutcome::Sent(sent as usize),
            again if -again == libc::EAGAIN => SendOutcome::WouldBlock,
            _ => SendOutcome::Broken,
        };
        Event::Sent { conn, outcome }
    }

    fn book_writable(&mut self, conn: ConnKey) -> Event {
        let Some(slot) = self.slots.get(conn) else { return Event::Nothing };
        slot.busy &= !busy::WRITABLE;
        if slot.closing.is_some() {
            self.go_on_closing(conn);
            return Event::Nothing;
        }
        Event::Writable { conn }
    }

    /// The bytes of [`Event::Received`].
    pub(crate) fn bytes(&mut self, buffer: u16, len: usize) -> &mut [u8] {
        self.memory.buffers.filled(buffer, len)
    }

    /// Returns the buffer of [`Event::Received`] to the kernel.
    pub(crate) fn give_back(&mut self, buffer: u16) {
        self.memory.buffers.give_back(buffer);
    }

    /// After [`Event::Received`]: a standing receive that has ended goes on.
    pub(crate) fn read_on(&mut self, conn: ConnKey) {
        self.arm_receive(conn);
    }

    // ---- what the core asks for ----

    /// Makes a socket that the node counts already this shard's; it is refused when every key is in use.
    pub(crate) fn adopt(&mut self, socket: OwnedFd) -> Option<ConnKey> {
        match self.slots.insert(socket) {
            Ok(conn) => Some(conn),
            Err(socket) => {
                self.sockets.subtract();
                accept::refuse(socket);
                None
            }
        }
    }

    /// The next accepted socket that the shard may take.
    pub(crate) fn next_accepted(&mut self) -> Option<(OwnedFd, SocketAddr)> {
        self.acceptor.next()
    }

    /// Whether accepted sockets wait.
    pub(crate) fn holds_accepted(&self) -> bool {
        self.acceptor.held() > 0
    }

    /// Changes how a connection is read.
    pub(crate) fn receive(&mut self, conn: ConnKey, mode: ReceiveMode) {
        let Some(slot) = self.slots.get(conn).filter(|slot| slot.closing.is_none()) else { return };
        slot.mode = mode;
        if mode != ReceiveMode::Paused {
            self.arm_receive(conn);
        } else if slot.is_busy(busy::RECEIVE) && !slot.ending {
            slot.ending = true;
            self.ring.cancel(Token::of(Kind::Receive, conn));
        }
    }

    fn arm_receive(&mut self, conn: ConnKey) {
        let Some(slot) = self.slots.get(conn) else { return };
        if slot.is_busy(busy::RECEIVE) || slot.closing.is_some() {
            return;
        }
        let token = Token::of(Kind::Receive, conn);
        match slot.mode {
            ReceiveMode::Paused => return,
            ReceiveMode::Once => self.ring.receive_once(slot.fd(), token),
            ReceiveMode::Stream => self.ring.receive_stream(slot.fd(), token),
        }
        slot.busy |= busy::RECEIVE;
    }

    /// Queues a connection for sending.
    pub(crate) fn send(&mut self, conn: ConnKey) {
        let Some(slot) = self.slots.get(conn).filter(|slot| slot.closing.is_none()) else { return };
        assert!(!slot.is_busy(busy::SEND), "one send at a time on a connection");
        slot.busy |= busy::SEND;
        self.ready.push_back(conn);
    }

    /// Says when a full socket takes bytes again.
    pub(crate) fn await_writable(&mut self, conn: ConnKey) {
        let Some(slot) = self.slots.get(conn).filter(|slot| slot.closing.is_none()) else { return };
        if !slot.is_busy(busy::WRITABLE) {
            slot.busy |= busy::WRITABLE;
            self.ring.poll_writable(slot.fd(), Token::of(Kind::Writable, conn));
        }
    }

    /// Shuts our side down.
    pub(crate) fn shut_down(&mut self, conn: ConnKey) {
        if let Some(slot) = self.slots.get(conn).filter(|slot| slot.closing.is_none()) {
            debug_assert!(!slot.is_busy(busy::SEND), "our side is shut down when everything has been sent");
            // When the peer has gone already there is nobody left to tell.
            let _ = SockRef::from(&slot.fd()).shutdown(Shutdown::Write);
        }
    }

    /// Takes a socket away from this shard; its key is free. Nothing when something is in flight on it, which
    /// would be a fault of the core: the connection is closed then.
    pub(crate) fn take_away(&mut self, conn: ConnKey, stays_in_node: bool) -> Option<OwnedFd> {
        let slot = self.slots.get(conn).filter(|slot| slot.closing.is_none())?;
        debug_assert_eq!(slot.busy, 0, "a socket moves only when nothing is in flight on it");
        if slot.busy != 0 {
            self.close(conn, CloseMode::Reset);
            return None;
        }
        let socket = self.slots.remove(conn)?;
        if !stays_in_node {
            self.sockets.subtract();
        }
        self.closed.push(conn);
        Some(socket)
    }

    /// Counts out and refuses a socket whose way to another party was closed.
    pub(crate) fn refuse(&mut self, socket: OwnedFd, still_counted: bool) {
        if still_counted {
            self.sockets.subtract();
        }
        accept::refuse(socket);
        self.acceptor.wake();
    }

    /// Begins to end a connection.
    pub(crate) fn close(&mut self, conn: ConnKey, mode: CloseMode) {
        let Some(slot) = self.slots.get(conn).filter(|slot| slot.closing.is_none()) else { return };
        slot.closing = Some(mode);
        slot.ending = false;
        if mode == CloseMode::Reset {
            // Should it fail the peer gets an orderly end instead.
            let _ = SockRef::from(&slot.fd()).set_linger(Some(Duration::ZERO));
        }
        self.go_on_closing(conn);
    }

    /// Ends what is in flight on a closing connection, then closes it.
    fn go_on_closing(&mut self, conn: ConnKey) {
        let Some(slot) = self.slots.get(conn) else { return };
        let Some(mode) = slot.closing else { return };
        if slot.busy == 0 {
            // Nothing else refers to the socket, so this ends the TCP connection too.
            drop(self.slots.remove(conn));
            self.sockets.subtract();
            self.acceptor.wake();
            self.closed.push(conn);
            return;
        }
        // A send is on its way and comes back in this turn or the next: shutting down now would cut it off.
        if slot.is_busy(busy::SEND) || slot.ending {
            return;
        }
        slot.ending = true;
        // A shutdown tells the peer at once, and ends what waits on the socket without being cancelled.
        let told = mode == CloseMode::Graceful && SockRef::from(&slot.fd()).shutdown(Shutdown::Both).is_ok();
        if !told {
            cancel_busy(&mut self.ring, slot, conn);
        }
    }

    /// The next key that has become free.
    pub(crate) fn next_closed(&mut self) -> Option<ConnKey> {
        self.closed.pop()
    }

    // ---- leaving ----

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
        let mut taken = Vec::new();
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

fn cancel_busy(ring: &mut Ring, slot: &Slot, conn: ConnKey) {
    if slot.is_busy(busy::RECEIVE) {
        ring.cancel(Token::of(Kind::Receive, conn));
    }
    if slot.is_busy(busy::WRITABLE) {
        ring.cancel(Token::of(Kind::Writable, conn));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.ring.in_flight() == 0 {
            // SAFETY: dropped once, here; nothing is in flight that could use the memory.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}
