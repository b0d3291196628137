//! What can keep a node from starting, as sentences with the remedy: they are shown to the operator as they are.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::core::ShardId;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address is taken.
    #[error(
        "{0} is already in use: stop the process that listens there (`ss -ltnp 'sport = :{port}'` names it) or \
         choose another address with --listen", port = .0.port()
    )]
    AddressInUse(SocketAddr),
    /// The address can't be bound for another reason.
    #[error(
        "can't listen on {address}: {cause}; choose an address of this host, and a port that this user may bind, \
         with --listen"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        cause: io::Error,
    },
    /// Somebody listens on the Unix-domain socket.
    #[error(
        "somebody is listening on {path}: stop that process (`ss -lxp` names it) or choose another path",
        path = .0.display()
    )]
    SocketInUse(PathBuf),
    /// What stands at the path of the Unix-domain socket is something else.
    #[error(
        "{path} is there already and is no socket, so it was left alone: move it away or choose another path",
        path = .0.display()
    )]
    NotASocket(PathBuf),
    /// The Unix-domain socket can't be made for another reason.
    #[error(
        "can't listen on {path}: {cause}; its folder has to exist, and this user needs to be able to write there",
        path = path.display()
    )]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// A shard was to be pinned to a core that this process can't run on.
    #[error("core {core} is not one this process may run on ({available}): name others with --cores")]
    ImpossibleCore {
        /// The core asked for.
        core: usize,
        /// The cores there are, as a list.
        available: String,
    },
    /// A number of the configuration can't work.
    #[error("{0}")]
    Configuration(String),
    /// The host falls short.
    #[error("{found}: {remedy}")]
    Host {
        /// What was found.
        found: String,
        /// What mends it.
        remedy: String,
    },
    /// The process may not hold as many descriptors as the configuration needs.
    #[error(
        "{needed} descriptors are needed but this process may hold {allowed}: raise it (`ulimit -n {needed}`, or \
         LimitNOFILE={needed} in the systemd unit) or lower limits.connections_max"
    )]
    Descriptors {
        /// Sockets and everything else.
        needed: u64,
        /// The soft limit, after it was raised as far as the hard one allows.
        allowed: u64,
    },
    /// A shard could not be set up.
    #[error("shard {shard} did not start: {cause}; run `voxhall doctor`")]
    Shard {
        /// Which.
        shard: ShardId,
        /// What went wrong.
        cause: String,
    },
    /// The channels between the shards are not wired as the configuration says: a fault of the program.
    #[error("{0}; this is a fault in voxhall, please report it")]
    Wiring(String),
}

/// The receiver's queue is full, or the receiver has left. The message comes back.
#[derive(Debug)]
pub struct Full<T>(pub T);
