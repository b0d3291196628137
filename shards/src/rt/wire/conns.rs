//! What the core asks for on its connections: how they are read, sent to, moved and closed.

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::SockRef;

use super::ring::Ring;
use super::slots::{Slot, busy};
use super::token::{Kind, Token};
use super::{Wire, accept};
use crate::core::{Caller, CloseMode, ConnKey, ReceiveMode};
use crate::rt::tls::Link;

impl Wire {
    /// Makes a connection that the node counts already this shard's; it is refused when every key is in use.
    pub(crate) fn adopt(&mut self, link: Link) -> Option<ConnKey> {
        let Link { socket, tls } = link;
        match self.slots.insert(socket) {
            Ok(conn) => {
                if let Some(session) = tls {
                    self.settle(conn, session);
                }
                Some(conn)
            }
            Err(socket) => {
                self.sockets.subtract();
                accept::refuse(Link { socket, tls });
                None
            }
        }
    }

    /// Makes a socket this shard's that was accepted here: under TLS with a session that begins, behind a PROXY header of so
    /// many bytes at most where there has to be one.
    pub(crate) fn admit(&mut self, socket: OwnedFd, proxy_header_max: Option<usize>) -> Option<ConnKey> {
        let tls = match &self.server_tls {
            None => None,
            Some(tls) => match tls.session(proxy_header_max) {
                Some(session) => Some(session),
                None => {
                    self.sockets.subtract();
                    return None;
                }
            },
        };
        self.adopt(Link { socket, tls })
    }

    /// The next accepted socket that the shard may take.
    pub(crate) fn next_accepted(&mut self) -> Option<(OwnedFd, Caller)> {
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
            return;
        }
        // Nobody knows how much will wait by the time it goes on.
        slot.behind = true;
        if slot.is_busy(busy::RECEIVE) && !slot.ending {
            slot.ending = true;
            self.ring.cancel(Token::of(Kind::Receive, conn));
        }
    }

    pub(super) fn arm_receive(&mut self, conn: ConnKey) {
        let Some(slot) = self.slots.get(conn) else { return };
        let waits = slot.sealed && slot.mode == ReceiveMode::Once && self.must_speak_first(conn);
        let Some(slot) = self.slots.get(conn) else { return };
        if slot.is_busy(busy::RECEIVE) || slot.closing.is_some() {
            return;
        }
        let token = Token::of(Kind::Receive, conn);
        match slot.mode {
            ReceiveMode::Paused => return,
            ReceiveMode::Once if waits => return,
            ReceiveMode::Once => self.ring.receive_once(slot.fd(), token),
            ReceiveMode::Stream if slot.behind => {
                if !std::mem::replace(&mut slot.queued, true) {
                    self.behind.push_back(conn);
                }
                return;
            }
            ReceiveMode::Stream => self.ring.receive_stream(slot.fd(), token),
        }
        slot.busy |= busy::RECEIVE;
    }

    /// Reads one buffer of a connection that is behind.
    pub(super) fn receive_piece(&mut self, conn: ConnKey) {
        let Some(slot) = self.slots.get(conn) else { return };
        slot.queued = false;
        if slot.mode == ReceiveMode::Stream && !slot.is_busy(busy::RECEIVE) && slot.closing.is_none() {
            slot.busy |= busy::RECEIVE;
            self.ring.receive_once(slot.fd(), Token::of(Kind::Receive, conn));
        }
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
            debug_assert!(
                slot.sealed || !slot.is_busy(busy::SEND),
                "our side is shut down when everything of the core has been sent"
            );
            self.say_farewell(conn);
            let Some(slot) = self.slots.get(conn) else { return };
            // When the peer has gone already there is nobody left to tell.
            let _ = SockRef::from(&slot.fd()).shutdown(Shutdown::Write);
        }
    }

    /// Takes a socket away from this shard; its key is free. Nothing when something is in flight on it, which
    /// would be a fault of the core: the connection is closed then.
    pub(crate) fn take_away(&mut self, conn: ConnKey, stays_in_node: bool) -> Option<Link> {
        let slot = self.slots.get(conn).filter(|slot| slot.closing.is_none())?;
        debug_assert_eq!(slot.busy, 0, "a socket moves only when nothing is in flight on it");
        if slot.busy != 0 {
            self.close(conn, CloseMode::Reset);
            return None;
        }
        let link = self.link(conn)?;
        if !stays_in_node {
            self.sockets.subtract();
        }
        self.closed.push(conn);
        Some(link)
    }

    /// Counts out and refuses a connection whose way to another party was closed.
    pub(crate) fn refuse(&mut self, link: Link, still_counted: bool) {
        if still_counted {
            self.sockets.subtract();
        }
        accept::refuse(link);
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
    pub(super) fn go_on_closing(&mut self, conn: ConnKey) {
        let Some(slot) = self.slots.get(conn) else { return };
        let Some(mode) = slot.closing else { return };
        if slot.busy == 0 {
            if mode == CloseMode::Graceful && !slot.ending {
                self.say_farewell(conn);
            }
            self.forget_session(conn);
            // Nothing else refers to the socket, so this ends the TCP connection too.
            drop(self.slots.remove(conn));
            self.sockets.subtract();
            self.acceptor.wake();
            self.closed.push(conn);
            return;
        }
        // A send is over with the next system call: shutting down before would cut it off.
        if slot.is_busy(busy::SEND) || slot.ending {
            return;
        }
        slot.ending = true;
        if mode == CloseMode::Graceful {
            self.say_farewell(conn);
        }
        let Some(slot) = self.slots.get(conn) else { return };
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
}

fn cancel_busy(ring: &mut Ring, slot: &Slot, conn: ConnKey) {
    if slot.is_busy(busy::RECEIVE) {
        ring.cancel(Token::of(Kind::Receive, conn));
    }
    if slot.is_busy(busy::WRITABLE) {
        ring.cancel(Token::of(Kind::Writable, conn));
    }
    if slot.is_busy(busy::CONNECT) {
        ring.cancel(Token::of(Kind::Connect, conn));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use socket2::Socket;

    use super::*;
    use crate::core::Micros;
    use crate::rt::WireConfig;
    use crate::rt::sys;
    use crate::rt::wire::Event;
    use crate::rt::wire::accept::SocketCount;

    const FLOODS: usize = 40;
    const FLOOD_BYTES: usize = 64 << 10;

    fn client_of(wire: &mut Wire, listener: &TcpListener) -> (TcpStream, ConnKey) {
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (server, _) = listener.accept().expect("somebody connects");
        (client, wire.adopt(OwnedFd::from(server).into()).expect("room"))
    }

    /// One turn of a pump that only counts: what each connection brought, in order.
    fn turn(wire: &mut Wire) -> Vec<(ConnKey, usize)> {
        wire.feed_waiting(Micros(0));
        wire.enter(None).expect("the ring works");
        let mut taken = VecDeque::new();
        wire.take(&mut taken);
        let mut brought = Vec::new();
        for completion in taken {
            if let Event::Received { conn, buffer, len } = wire.book(completion, Micros(0)) {
                brought.push((conn, len));
                wire.give_back(buffer);
                wire.read_on(conn);
            }
        }
        brought
    }

    #[test]
    fn those_with_much_to_read_leave_buffers_to_those_with_little() {
        let bell = sys::eventfd(false).expect("an eventfd");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let own = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let config =
            WireConfig { receive_buffers: 8, receive_buffer_bytes: 1 << 10, ..WireConfig::default() };
        let mut wire = Wire::new(&config, Socket::from(own).into(), bell.as_fd(), SocketCount::new(100))
            .expect("a wire");
        // All are paused while their bytes pile up, and go on at once, as when many slow clients are let go.
        let mut clients = Vec::new();
        for index in 0..=FLOODS {
            let (mut client, conn) = client_of(&mut wire, &listener);
            wire.receive(conn, ReceiveMode::Paused);
            let bytes = if index < FLOODS { FLOOD_BYTES } else { 10 };
            client.write_all(&vec![7; bytes]).expect("the kernel holds it");
            clients.push((client, conn, bytes));
        }
        // And one that is read all the time, and says little every now and then.
        let (mut lively, lively_conn) = client_of(&mut wire, &listener);
        wire.receive(lively_conn, ReceiveMode::Stream);
        turn(&mut wire);
        clients.iter().for_each(|&(_, conn, _)| wire.receive(conn, ReceiveMode::Stream));

        let mut left: usize = clients.iter().map(|&(.., bytes)| bytes).sum();
        let mut waits = 0;
        let mut said = false;
        while left > 0 {
            if !said {
                lively.write_all(b"hello").expect("connected");
                (said, waits) = (true, 0);
            }
            let brought = turn(&mut wire);
            if brought.iter().any(|&(conn, _)| conn == lively_conn) {
                said = false;
            }
            waits += 1;
            assert!(waits <= 3, "five bytes waited for {waits} turns behind {left} bytes of others");
            let read = brought.iter().filter(|&&(conn, _)| conn != lively_conn);
            left -= read.map(|&(_, len)| len).sum::<usize>();
        }
        for _ in 0..=FLOODS {
            turn(&mut wire);
        }
        assert_eq!(wire.behind.len() + wire.starved.len(), 0, "all wait in the kernel again");
    }
}
