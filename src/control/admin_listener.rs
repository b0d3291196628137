//! The management address as a listening socket, TCP or a file.

use std::io;
use std::net::TcpListener as PlainListener;
use std::os::unix::net::UnixListener as PlainUnixListener;

use shards::rt::{Listen, SocketFile, listen_unix};
use tokio::net::{TcpListener, UnixListener};

use super::socket::Socket;

/// Connections that may wait on a socket file.
const BACKLOG: i32 = 128;

/// Bound, and not served yet.
pub(crate) struct AdminListener {
    at: Listen,
    kind: Kind,
}

enum Kind {
    Tcp(PlainListener),
    /// The file goes before its socket.
    Unix(SocketFile, PlainUnixListener),
}

impl AdminListener {
    /// Binds the management address.
    ///
    /// # Errors
    /// A sentence with the remedy.
    pub(crate) fn bind(at: &Listen) -> Result<Self, String> {
        let kind = match at {
            Listen::Tcp(address) => {
                Kind::Tcp(PlainListener::bind(address).map_err(|error| sentence(at, &error))?)
            }
            Listen::Unix { path, mode } => {
                let (socket, file) = listen_unix(path, *mode, BACKLOG)
                    .map_err(|error| format!("the management address: {error}"))?;
                Kind::Unix(file, socket.into())
            }
        };
        Ok(Self { at: at.clone(), kind })
    }

    /// Where it listens: under TCP with the port that it was given.
    pub(crate) fn listens_at(&self) -> io::Result<Listen> {
        match &self.kind {
            Kind::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Kind::Unix(..) => Ok(self.at.clone()),
        }
    }

    /// As something that the control plane's thread accepts from.
    pub(super) fn serve(self) -> io::Result<Accepting> {
        match self.kind {
            Kind::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Ok(Accepting::Tcp(TcpListener::from_std(listener)?))
            }
            Kind::Unix(file, listener) => {
                listener.set_nonblocking(true)?;
                Ok(Accepting::Unix(file, UnixListener::from_std(listener)?))
            }
        }
    }
}

/// See [`AdminListener::serve`].
pub(super) enum Accepting {
    Tcp(TcpListener),
    Unix(#[expect(dead_code, reason = "removed with the listener, and before it")] SocketFile, UnixListener),
}

impl Accepting {
    /// The next connection. Safe to drop.
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => Ok(Socket::Tcp(listener.accept().await?.0)),
            Self::Unix(_, listener) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }
}

fn sentence(at: &Listen, error: &io::Error) -> String {
    let port = at.tcp().map_or(0, |address| address.port());
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "the management address {at} is taken by another process; stop it (`ss -ltnp 'sport = :{port}'` names it) \
             or choose another with --admin"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "the management address {at} needs a privilege; choose a port from 1024 up with --admin, or grant \
             CAP_NET_BIND_SERVICE"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("the management address {at} is not of this host; choose one that is with --admin")
        }
        _ => {
            format!("the management address {at} can't be listened on: {error}; choose another with --admin")
        }
    }
}
