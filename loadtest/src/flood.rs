//! One address that asks for rooms as fast as it can: what `flood` adds to a run.
//!
//! Plain blocking threads, one for each handshake that is on its way, at the lowest priority, so that the clients
//! that are measured are not kept waiting by the generator itself. Each connection ends by reset as soon as it has
//! an answer.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;

use crate::clock::now_us;
use crate::socket;
use crate::tally::{Counts, count};

/// After this an attempt is given up.
const PATIENCE: Duration = Duration::from_secs(2);
/// What gives way to everything else.
const LOWEST_PRIORITY: i32 = 19;
/// As much of an answer as its status needs.
const STATUS_BYTES: usize = 12;

/// A flood, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Flood {
    target: SocketAddr,
    from: IpAddr,
    request: Arc<str>,
    concurrency: u32,
}

/// What a flood met.
#[derive(Clone, Debug)]
pub(crate) struct Met {
    pub(crate) from: IpAddr,
    /// By status code, or by what happened instead of an answer.
    pub(crate) answers: Counts,
    pub(crate) seconds: f64,
}

/// A flood that goes on until it is ended.
pub(crate) struct Flooding {
    from: IpAddr,
    since_us: u64,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Counts>>,
}

impl Flood {
    /// Without `from` it comes from the first address of this host that is not loopback: servers tend to trust that.
    pub(crate) fn new(
        target: SocketAddr,
        host: &str,
        from: Option<IpAddr>,
        concurrency: u32,
    ) -> Result<Self, String> {
        let from = from.or_else(|| outer_address(target)).ok_or(
            "flood: this host has no address but loopback, which servers tend not to limit; add one, \
             as in `ip address add 198.51.100.1/32 dev lo`, and name it with --flood-from",
        )?;
        let request = format!(
            "GET /ws/flood?engine=echo HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dm94aGFsbC1sb2FkdGVzdA==\r\n\r\n"
        );
        Ok(Self { target, from, request: request.into(), concurrency })
    }

    /// Begins.
    pub(crate) fn begin(&self) -> Flooding {
        let over = Arc::new(AtomicBool::new(false));
        let threads = (0..self.concurrency).map(|_| {
            let (flood, over) = (self.clone(), Arc::clone(&over));
            thread::spawn(move || flood.run(&over))
        });
        Flooding { from: self.from, since_us: now_us(), threads: threads.collect(), over }
    }

    fn run(&self, over: &AtomicBool) -> Counts {
        // Without it the figures of the others are worse than they need be, which is no reason to give up.
        let _ = rustix::process::setpriority_process(None, LOWEST_PRIORITY);
        let mut answers = Counts::default();
        while !over.load(Ordering::Relaxed) {
            let answer = self.ask().unwrap_or_else(|error| format!("{:?}", error.kind()));
            count(&mut answers, &answer);
        }
        answers
    }

    /// One handshake; gives the status of the answer.
    fn ask(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::from(socket::connect_from(self.from, self.target)?);
        stream.set_read_timeout(Some(PATIENCE))?;
        let answer = stream.write_all(self.request.as_bytes()).and_then(|()| {
            let mut status = [0; STATUS_BYTES];
            stream.read_exact(&mut status).map(|()| status)
        });
        socket::close_by_reset(stream.as_fd());
        let status = answer?;
        Ok(String::from_utf8_lossy(&status[STATUS_BYTES - 3..]).into_owned())
    }
}

impl Flooding {
    /// Ends it.
    pub(crate) fn end(self) -> Met {
        self.over.store(true, Ordering::Relaxed);
        let seconds = (now_us() - self.since_us) as f64 / 1e6;
        let mut answers = Counts::default();
        for counts in self.threads.into_iter().filter_map(|thread| thread.join().ok()) {
            counts.into_iter().for_each(|(answer, n)| *answers.entry(answer).or_default() += n);
        }
        Met { from: self.from, answers, seconds }
    }
}

/// The first address of this host that is not loopback, of the target's family.
fn outer_address(target: SocketAddr) -> Option<IpAddr> {
    let addresses = getifaddrs().ok()?.filter_map(|interface| {
        let address = interface.address?;
        match address.as_sockaddr_in() {
            Some(four) => Some(IpAddr::V4(four.ip())),
            None => address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())),
        }
    });
    let usable = |address: &IpAddr| match address {
        IpAddr::V4(four) => !four.is_loopback(),
        IpAddr::V6(six) => !six.is_loopback() && !six.is_unicast_link_local(),
    };
    addresses.filter(|address| address.is_ipv4() == target.is_ipv4()).find(usable)
}
