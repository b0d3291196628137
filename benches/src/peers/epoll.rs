//! A bare epoll echo loop: the reference for what the kernel's sockets cost.
//!
//! One thread owns everything. A connection is read until a read comes up short, each read's frames are
//! answered by one write. While an answer is stuck its connection isn't read, so TCP pushes back and no queue
//! grows: a connection holds at most one unfinished frame and the rest of one answer. Registration is
//! edge-triggered for both directions, so nothing but accepting calls `epoll_ctl`.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::frames::{FRAME_BYTES_MAX, HEADER_BYTES_MAX, echo_in_place};
use super::{BACKLOG, handshake};

/// What one read takes at most.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 1024;
/// The listener's mark among the events; connections are marked with their descriptor.
const LISTENER: u64 = u64::MAX;

/// Listens on `address` and echoes for ever.
pub(super) fn serve(address: SocketAddr, announce: fn(SocketAddr) -> std::io::Result<()>) -> Result<()> {
    let mut server = Server::bind(address).with_context(|| format!("listening on {address}"))?;
    announce(SocketAddr::try_from(net::getsockname(&server.listener)?)?)?;
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        match epoll::wait(&server.epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for events"),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => server.accept().context("accepting")?,
                descriptor => server.turn(descriptor as usize, event.flags),
            }
        }
    }
}

struct Server {
    epoll: OwnedFd,
    listener: OwnedFd,
    /// Indexed by descriptor.
    connections: Vec<Option<Connection>>,
    /// Where every read lands: an unfinished frame from before, then what the read brought.
    scratch: Box<[u8]>,
}

impl Server {
    fn bind(address: SocketAddr) -> Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let listener = net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        // Accepted sockets inherit it, which saves each handshake a system call.
        sockopt::set_tcp_nodelay(&listener, true)?;
        net::bind(&listener, &address)?;
        net::listen(&listener, BACKLOG)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let scratch = vec![0; FRAME_BYTES_MAX + HEADER_BYTES_MAX + READ_BYTES_MAX].into_boxed_slice();
        Ok(Self { epoll, listener, connections: Vec::new(), scratch })
    }

    /// Takes every connection that waits.
    fn accept(&mut self) -> Result<(), Errno> {
        loop {
            let socket = match net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
            {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => return Err(error),
            };
            let descriptor = socket.as_raw_fd() as usize;
            let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, &socket, EventData::new_u64(descriptor as u64), interest)?;
            if self.connections.len() <= descriptor {
                self.connections.resize_with(descriptor + 1, || None);
            }
            self.connections[descriptor] = Some(Connection::new(socket));
        }
    }

    /// Serves a connection that became readable or writable. One whose descriptor changed hands within a
    /// batch of events gets a turn too many, which finds nothing to read.
    fn turn(&mut self, descriptor: usize, ready: EventFlags) {
        let slot = &mut self.connections[descriptor];
        let Some(connection) = slot else { return };
        if let Err(Over) = connection.turn(ready, &mut self.scratch) {
            *slot = None;
        }
    }
}

struct Connection {
    socket: OwnedFd,
    upgraded: bool,
    closing: bool,
    /// The start of a head or frame whose end has not come yet.
    unfinished: Vec<u8>,
    /// The end of an answer that the socket did not take yet.
    unsent: Vec<u8>,
}

/// The connection is over and can be dropped.
struct Over;

impl Connection {
    const fn new(socket: OwnedFd) -> Self {
        Self { socket, upgraded: false, closing: false, unfinished: Vec::new(), unsent: Vec::new() }
    }

    fn turn(&mut self, ready: EventFlags, scratch: &mut [u8]) -> Result<(), Over> {
        if !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            self.send(&unsent)?;
        }
        // After a hang-up the read that says so must not be skipped, however short the one before it was.
        let ended = ready.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        while self.unsent.is_empty() {
            if self.closing {
                return Err(Over);
            }
            let kept = self.unfinished.len();
            let read = match net::recv(
                &self.socket,
                &mut scratch[kept..kept + READ_BYTES_MAX],
                RecvFlags::empty(),
            ) {
                Ok((_, 0)) => return Err(Over),
                Ok((_, read)) => read,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(_) => return Err(Over),
            };
            scratch[..kept].copy_from_slice(&self.unfinished);
            self.answer(&mut scratch[..kept + read])?;
            if read < READ_BYTES_MAX && !ended && !self.closing {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Answers what `input` completes and keeps the rest.
    fn answer(&mut self, input: &mut [u8]) -> Result<(), Over> {
        let head = if self.upgraded { 0 } else { self.upgrade(input)? };
        let frames = &mut input[head..];
        if self.closing {
            return Ok(());
        }
        if !self.upgraded {
            self.unfinished = frames.to_vec();
            return Ok(());
        }
        let echo = echo_in_place(frames).map_err(|_| Over)?;
        self.closing = echo.closing;
        let rest = &frames[echo.consumed..];
        if !(rest.is_empty() && self.unfinished.is_empty()) {
            self.unfinished = rest.to_vec();
        }
        if echo.answer.is_empty() { Ok(()) } else { self.send(&frames[echo.answer]) }
    }

    /// Answers the request head if it is complete; returns its length.
    fn upgrade(&mut self, input: &[u8]) -> Result<usize, Over> {
        let Some(length) = handshake::head_length(input) else {
            return if input.len() > handshake::HEAD_BYTES_MAX { Err(Over) } else { Ok(0) };
        };
        self.upgraded = true;
        match handshake::answer(&input[..length]) {
            Some(answer) => self.send(answer.as_bytes())?,
            None => {
                self.closing = true;
                self.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
            }
        }
        Ok(length)
    }

    /// Sends, and keeps aside what the socket does not take. A new edge tells when it takes more.
    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Over> {
        if self.unsent.is_empty() {
            match rustix::io::retry_on_intr(|| net::send(&self.socket, bytes, SendFlags::NOSIGNAL)) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::AGAIN) => {}
                Err(_) => return Err(Over),
            }
        }
        if !bytes.is_empty() {
            self.unsent.extend_from_slice(bytes);
        }
        Ok(())
    }
}
