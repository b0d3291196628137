//! Sockets of our own: connections to model servers.
//!
//! The connect is an ordinary call on a socket that does not wait, so no address has to be kept for the kernel; the ring
//! says when it is through. From then on the connection is as any other, behind a TLS handshake if there has to be one.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Wire;
use super::book::Event;
use super::slots::busy;
use super::token::{Kind, Token};
use crate::core::{ConnKey, ReceiveMode};

impl Wire {
    /// Begins to connect.
    ///
    /// # Errors
    /// When it is clear at once that nothing will come of it: why, as the end of a sentence.
    pub(crate) fn dial(&mut self, address: SocketAddr) -> Result<ConnKey, Box<str>> {
        if self.sockets.is_full() {
            return Err("this node has as many sockets as it may".into());
        }
        let socket = connecting(address).map_err(|cause| told(address, &cause))?;
        let Ok(conn) = self.slots.insert(socket.into()) else {
            return Err("this shard has as many connections as it may".into());
        };
        self.sockets.add();
        if let Some(slot) = self.slots.get(conn) {
            slot.busy |= busy::CONNECT;
            self.ring.poll_writable(slot.fd(), Token::of(Kind::Connect, conn));
        }
        Ok(conn)
    }

    pub(super) fn book_connect(&mut self, conn: ConnKey) -> Event {
        let Some(slot) = self.slots.get(conn) else { return Event::Nothing };
        slot.busy &= !busy::CONNECT;
        if slot.closing.is_some() {
            self.go_on_closing(conn);
            return Event::Nothing;
        }
        let fd = slot.fd();
        let socket = SockRef::from(&fd);
        let failed = match (socket.take_error(), socket.peer_addr()) {
            (Ok(None), Ok(_)) => None,
            (Ok(Some(cause)) | Err(cause), _) | (Ok(None), Err(cause)) => Some(cause),
        };
        if let Some(cause) = failed {
            return Event::Connected {
                conn,
                outcome: Err(format!("it can't be connected to: {cause}").into()),
            };
        }
        let Some(tls) = &self.client_tls else { return Event::Connected { conn, outcome: Ok(()) } };
        match tls.session() {
            Ok(session) => {
                self.settle(conn, session);
                self.receive(conn, ReceiveMode::Stream);
                Event::Nothing
            }
            Err(cause) => Event::Connected { conn, outcome: Err(cause.to_string().into()) },
        }
    }
}

/// A socket on its way to the address.
fn connecting(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Frames of audio are small, and each is sent when it is due.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(cause) if cause.raw_os_error() != Some(libc::EINPROGRESS) => return Err(cause),
        _ => {}
    }
    // The ring waits for bytes only on sockets that would.
    socket.set_nonblocking(false)?;
    Ok(socket)
}

fn told(address: SocketAddr, cause: &io::Error) -> Box<str> {
    format!("{address} can't be connected to: {cause}").into()
}
