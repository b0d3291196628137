//! Sockets and the poll set, by way of rustix: plain system calls, nothing kept.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::{Errno, Result};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::time::Timespec;

/// Events taken from the kernel at once; few enough that frames which fall due meanwhile wait well under a millisecond.
const EVENTS_MAX: usize = 128;

/// The receive buffer of a client that won't read: small, so that the server notices soon.
const SLOW_RECEIVE_BYTES: usize = 4096;

/// The segment size such a client announces: the kernel sizes the sender's buffer by it, which on loopback would
/// otherwise be megabytes.
const SLOW_SEGMENT_BYTES: u32 = 536;

/// The poll set: edge-triggered, so a connection is registered once and costs no call after.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    /// An empty one.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Registers a connection under a token.
    pub(crate) fn add(&self, socket: impl AsFd, token: u64) -> Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, socket, EventData::new_u64(token), flags)
    }

    /// Registers a pipe that is reported as long as it has something to read.
    pub(crate) fn add_pipe(&self, pipe: impl AsFd, token: u64) -> Result<()> {
        epoll::add(&self.epoll, pipe, EventData::new_u64(token), EventFlags::IN)
    }

    /// Waits for at most `timeout_us`; gives token and whether writing is what became possible.
    pub(crate) fn wait(&mut self, timeout_us: u64, into: &mut Vec<(u64, EventFlags)>) -> Result<()> {
        let timeout = Timespec {
            tv_sec: (timeout_us / 1_000_000) as i64,
            tv_nsec: (timeout_us % 1_000_000 * 1_000) as i64,
        };
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        into.extend(self.events.iter().map(|event| (event.data.u64(), event.flags)));
        Ok(())
    }
}

/// A socket on its way to the target; the n-th of several source addresses if there are any.
pub(crate) fn connect(target: SocketAddr, source: Option<u8>, slow: bool) -> Result<OwnedFd> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if slow {
        sockopt::set_socket_recv_buffer_size(&socket, SLOW_RECEIVE_BYTES)?;
        shrink_segments(&socket)?;
    }
    if let Some(n) = source {
        choose_port_late(&socket)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2 + n), 0))?;
    }
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// A connection from an address of this host; waits for it.
pub(crate) fn connect_from(source: IpAddr, target: SocketAddr) -> Result<OwnedFd> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    choose_port_late(&socket)?;
    rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    rustix::net::connect(&socket, &target)?;
    Ok(socket)
}

/// The port is chosen at connect, when the whole four-tuple is known: otherwise each source would be searched for a
/// port that is free towards everyone.
fn choose_port_late(socket: &OwnedFd) -> Result<()> {
    setsockopt(socket, IpBindAddressNoPort, &true).map_err(|errno| Errno::from_raw_os_error(errno as i32))
}

/// Reads what is there.
pub(crate) fn read(socket: BorrowedFd<'_>, into: &mut [u8]) -> Result<usize> {
    rustix::net::recv(socket, into, RecvFlags::empty()).map(|(n, _)| n)
}

/// Writes what fits.
pub(crate) fn write(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)
}

/// Says that nothing more will be written.
pub(crate) fn shut_down(socket: BorrowedFd<'_>) {
    // When it is gone already there is nobody left to tell.
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
}

/// Makes the coming close of the socket a reset, as when a cable is cut or a process dies with unread data. It also
/// leaves no TIME_WAIT behind, so that ten thousand clients can come back at once, and the next run can start.
pub(crate) fn close_by_reset(socket: BorrowedFd<'_>) {
    // A socket that is already gone can't be reset, which is what was wanted.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

fn shrink_segments(socket: &OwnedFd) -> Result<()> {
    let bytes = SLOW_SEGMENT_BYTES;
    setsockopt(socket, nix::sys::socket::sockopt::TcpMaxSeg, &bytes)
        .map_err(|errno| Errno::from_raw_os_error(errno as i32))
}
