//! Listening sockets: one for each shard, in one `SO_REUSEPORT` group.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use super::error::StartError;

/// Binds one socket for each shard; none listens yet. With port 0 they share the port that the first was given.
///
/// # Errors
/// When the address is taken or can't be bound.
pub(super) fn bind_group(
    address: SocketAddr,
    shards: usize,
) -> Result<(Vec<Socket>, SocketAddr), StartError> {
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
        let (stale, address) =
            bind_group("127.0.0.1:0".parse().expect("an address"), 2).expect("a free port");
        for socket in &stale {
            socket.listen(1).expect("a bound socket listens");
        }
        let refused = bind_group(address, 1).expect_err("the port is taken");
        assert!(matches!(refused, StartError::AddressInUse(taken) if taken == address), "{refused}");
        drop(stale);
        bind_group(address, 2).expect("the port is free again");
    }
}
