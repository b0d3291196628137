//! Attacks that only many connections make.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketType, bind, socket};

use crate::support::PATIENCE;
use crate::wire::{self, FIN, PING};

/// An attack, by what it does.
pub(crate) struct Crowd {
    pub(crate) name: &'static str,
    pub(crate) attack: fn(SocketAddr) -> io::Result<()>,
}

pub(crate) const CROWDS: &[Crowd] = &[
    Crowd { name: "20,000 connects without a request", attack: connects },
    Crowd { name: "3,000 heads that stop half-way", attack: half_heads },
    Crowd { name: "1,000 resets within a message", attack: resets },
    Crowd { name: "40 clients that ask and never read", attack: deaf },
];

/// In batches, since each is a descriptor here as well. Every other one is reset, the others closed.
fn connects(server: SocketAddr) -> io::Result<()> {
    const BATCH: usize = 2_000;
    for batch in 0..10 {
        for (at, stream) in connect(server, batch, BATCH)?.into_iter().enumerate() {
            if at % 2 == 0 {
                reset(&stream)?;
            }
        }
    }
    Ok(())
}

/// More than are read at once: the others wait for theirs to be refused. All are told.
fn half_heads(server: SocketAddr) -> io::Result<()> {
    let mut streams = Vec::new();
    for _ in 0..3_000 {
        let mut stream = connect(server, 20, 1)?.remove(0);
        stream.write_all(b"GET /ws/slow HTTP/1.1\r\nHost: h\r\n")?;
        streams.push(stream);
    }
    for mut stream in streams {
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if !answer.starts_with("HTTP/1.1 408 ") {
            return Err(io::Error::other(answer));
        }
    }
    Ok(())
}

fn resets(server: SocketAddr) -> io::Result<()> {
    let mut streams = connect(server, 21, 1_000)?;
    let unfinished = wire::claim(wire::BINARY, 60_000);
    for (at, stream) in streams.iter_mut().enumerate() {
        let mut bytes = wire::upgrade(&format!("/ws/reset-{}", at % 50), "");
        bytes.extend(&unfinished);
        bytes.extend([0; 5_000]);
        stream.write_all(&bytes)?;
        reset(stream)?;
    }
    Ok(())
}

/// Pings until the kernel takes no more: the server has stopped reading. Half of them are reset at the end.
fn deaf(server: SocketAddr) -> io::Result<()> {
    let pings = wire::frame(FIN | PING, &[0; 125]).repeat(100);
    let mut streams = Vec::new();
    for at in 0..40 {
        let mut stream = connect(server, 22, 1)?.remove(0);
        stream.write_all(&wire::upgrade(&format!("/ws/deaf-{at}"), ""))?;
        stream.set_write_timeout(Some(Duration::from_millis(20)))?;
        while stream.write_all(&pings).is_ok() {}
        if at % 2 == 0 {
            reset(&stream)?;
        }
        streams.push(stream);
    }
    Ok(())
}

/// Connections from an address of their own: a few thousand from one would run out of ports.
fn connect(server: SocketAddr, source: u8, count: usize) -> io::Result<Vec<TcpStream>> {
    let source = SocketAddr::from((Ipv4Addr::new(127, 66, 0, source + 1), 0));
    let connected = (0..count).map(|_| {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &source)?;
        rustix::net::connect(&socket, &server)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    });
    connected.collect()
}

/// What is dropped now ends in a reset.
fn reset(stream: &TcpStream) -> io::Result<()> {
    Ok(set_socket_linger(stream, Some(Duration::ZERO))?)
}
