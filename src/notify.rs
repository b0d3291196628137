//! What a service manager is told of the node's life (`sd_notify(3)`): a datagram to the socket that it named. Without
//! one nothing happens.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

/// What there is to tell.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Notice<'a> {
    /// It serves, as this line says.
    Ready(&'a str),
    /// It is on its way out.
    Stopping,
    /// Every shard has answered.
    Alive,
}

impl Notice<'_> {
    fn words(self) -> String {
        match self {
            Self::Ready(line) => format!("READY=1\nSTATUS={line}"),
            Self::Stopping => "STOPPING=1\nSTATUS=clients are sent away".to_owned(),
            Self::Alive => "WATCHDOG=1".to_owned(),
        }
    }
}

/// Whether a service manager listens.
pub(crate) fn is_heard() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

/// Tells the service manager, if there is one. It may have gone, and it must not hold anybody up.
pub(crate) fn tell(notice: Notice<'_>) {
    if let Some(socket) = env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&socket, &notice.words())
    {
        tracing::warn!(%error, ?notice, "the service manager could not be told");
    }
}

fn send(socket: &OsStr, words: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(words.as_bytes(), &address).map(drop)
}

/// How often [`Notice::Alive`] is to be told, if the service manager waits for it: half of its patience.
pub(crate) fn alive_every() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let patience = number("WATCHDOG_USEC").filter(|&us| us > 1)?;
    // The variables are inherited: they may be meant for a parent.
    let is_for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
    is_for_us.then(|| Duration::from_micros(patience / 2))
}
