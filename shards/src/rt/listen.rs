//! Where a node listens: TCP, with a socket for each shard in one `SO_REUSEPORT` group, or a Unix-domain socket, which all
//! shards accept from. The kernel wakes one of the accepts that wait on it for each connection, and has them take turns.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::WireConfig;
use super::error::StartError;
use super::unix::{SocketFile, bind_unix};

/// What an address begins with that is the path of a Unix-domain socket.
pub const UNIX_PREFIX: &str = "unix:";

/// A place to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and a port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix-domain socket.
    Unix {
        /// Its file.
        path: PathBuf,
        /// Who may connect: the file's permission bits.
        mode: u32,
    },
}

impl Listen {
    /// The address, if it is one.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }

    /// Whether only this host can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.tcp().is_none_or(|address| address.ip().is_loopback())
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// As it is configured.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

/// How many connections the kernel may hold for a listener.
pub(super) fn backlog(wire: &WireConfig) -> i32 {
    i32::try_from(wire.backlog).unwrap_or(i32::MAX)
}

/// What a shard accepts from.
#[derive(Debug)]
pub(super) struct Listener {
    /// Of a Unix-domain socket: its file, which all shards hold. The last to leave removes it, and before it closes the
    /// socket, so that nobody can come any more when it looks who waits for the last time.
    pub(super) file: Option<Arc<SocketFile>>,
    /// The socket, or a copy of the one for all.
    pub(super) socket: Socket,
}

impl From<Socket> for Listener {
    fn from(socket: Socket) -> Self {
        Self { file: None, socket }
    }
}

/// Binds a socket for each shard, and says where. Those of TCP do not listen yet; with port 0 they share the port that
/// the first was given. `backlog` is how many connections may wait.
///
/// # Errors
/// When the address is taken or can't be bound.
pub(super) fn bind_group(
    listen: &Listen,
    shards: usize,
    backlog: i32,
) -> Result<(Vec<Listener>, Listen), StartError> {
    match listen {
        Listen::Tcp(address) => {
            let (sockets, actual) = bind_tcp(*address, shards)?;
            Ok((sockets.into_iter().map(Listener::from).collect(), actual.into()))
        }
        Listen::Unix { path, mode } => {
            let (socket, file) = bind_unix(path, *mode, backlog)?;
            let failed = |cause| StartError::Socket { path: path.clone(), cause };
            let file = Arc::new(file);
            let copy = |_| Ok(Listener { file: Some(Arc::clone(&file)), socket: socket.try_clone()? });
            let copies = (0..shards).map(copy).collect::<io::Result<_>>().map_err(failed)?;
            Ok((copies, listen.clone()))
        }
    }
}

fn bind_tcp(address: SocketAddr, shards: usize) -> Result<(Vec<Socket>, SocketAddr), StartError> {
    let failed = |cause: io::Error| match cause.raw_os_error() {
        Some(libc::EADDRINUSE) => StartError::AddressInUse(address),
        _ => StartError::Listen { address, cause },
    };
    // A socket of the group would be let in beside those of a stale process that runs under the same user, and
    // the two would share the connections. A plain one is not.
    if address.port() != 0 {
        bind(address, false).map_err(failed)?;
    }
    let mut sockets = Vec::with_capacity(shards);
    let mut actual = address;
    for _ in 0..shards {
        let socket = bind(actual, true).map_err(failed)?;
        if actual.port() == 0 {
            actual = socket.local_addr().map_err(failed)?.as_socket().unwrap_or(actual);
        }
        sockets.push(socket);
    }
    Ok((sockets, actual))
}

fn bind(address: SocketAddr, group: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier run that linger in TIME_WAIT don't keep the address.
    socket.set_reuse_address(true)?;
    if group {
        socket.set_reuse_port(true)?;
    }
    // Accepted sockets inherit it: what a turn has for a connection leaves in one send, so there is nothing to
    // wait for.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_process_can_not_share_the_port() {
        let any = Listen::Tcp("127.0.0.1:0".parse().expect("an address"));
        let (listeners, at) = bind_group(&any, 2, 1).expect("a free port");
        for listener in &listeners {
            listener.socket.listen(1).expect("a bound socket listens");
        }
        let refused = bind_group(&at, 1, 1).expect_err("the port is taken");
        let address = at.tcp().expect("an address");
        assert!(matches!(refused, StartError::AddressInUse(taken) if taken == address), "{refused}");
        drop(listeners);
        bind_group(&at, 2, 1).expect("the port is free again");
    }
}
