//! WebSocket echo servers to compare Voxhall with.
//!
//! Each runs on one thread, pinned to one core, and is written as its authors would write it: nothing here is
//! slow on purpose, and what all can share (allocator, `TCP_NODELAY`, backlog) they share with Voxhall.

mod asynchronous;
mod epoll;
mod frames;
mod handshake;

use std::io::Write;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections that may wait to be accepted. A storm of ten thousand handshakes overruns the usual 128 or
/// 1,024.
const BACKLOG: i32 = 4096;

/// The command line of `voxhall-peers`.
#[derive(Debug, Parser)]
#[command(name = "voxhall-peers", about = "WebSocket echo servers to compare Voxhall with")]
pub struct Args {
    /// Which server to run.
    pub server: Peer,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9001")]
    pub listen: SocketAddr,
    /// Core to run on.
    #[arg(long, default_value_t = 0)]
    pub core: usize,
}

/// A server to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// A bare epoll loop without any library between it and the kernel: the reference.
    Epoll,
    /// The `fastwebsockets` crate on tokio, upgraded through hyper as its documentation shows.
    Fastwebsockets,
    /// `tokio-tungstenite` with the small buffers its documentation recommends for many connections.
    TungsteniteTuned,
    /// `tokio-tungstenite` as it comes.
    TungsteniteDefault,
}

/// Runs the chosen server until it is killed; prints `ready ADDRESS` once it listens.
///
/// # Errors
/// If the core does not exist, the address is taken, or the server's own loop fails.
pub fn run(args: &Args) -> Result<()> {
    raise_descriptor_limit().context("raising the number of open files")?;
    if !core_affinity::set_for_current(core_affinity::CoreId { id: args.core }) {
        bail!("core {} can't be used: it does not exist or this process may not run on it", args.core);
    }
    match args.server {
        Peer::Epoll => epoll::serve(args.listen, announce),
        Peer::Fastwebsockets => asynchronous::fastwebsockets(args.listen, announce),
        Peer::TungsteniteTuned => {
            asynchronous::tungstenite(args.listen, asynchronous::small_buffers(), announce)
        }
        Peer::TungsteniteDefault => asynchronous::tungstenite(args.listen, Default::default(), announce),
    }
}

/// Tells whoever started the server that it listens, and where.
fn announce(address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {address}")?;
    out.flush()
}

fn raise_descriptor_limit() -> std::io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}
