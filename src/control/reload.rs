//! SIGHUP: the certificate is read again. Where there is none the signal keeps its ordinary meaning, which is to end,
//! but not under a service manager: there it can only be meant for reloading.

use std::convert::Infallible;
use std::io;

use shards::rt::Tls;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::notify;

/// Waits for the signal.
pub(crate) struct Reload {
    tls: Option<Tls>,
    hangups: Option<Signal>,
}

impl Reload {
    /// From now on the signal no longer kills the process, if it has something to reload or is managed.
    pub(crate) fn listen(tls: Option<Tls>) -> io::Result<Self> {
        let wanted = tls.is_some() || notify::is_heard();
        let hangups = wanted.then(|| signal(SignalKind::hangup())).transpose()?;
        Ok(Self { tls, hangups })
    }

    /// Reads the certificate whenever the signal comes. One that can't be used is told in the log, and the one in
    /// force stays. Safe to drop.
    pub(crate) async fn run(self) -> io::Result<Infallible> {
        let Some(mut hangups) = self.hangups else { return std::future::pending().await };
        while hangups.recv().await.is_some() {
            match self.tls.as_ref().map(Tls::reload) {
                None => tracing::info!("SIGHUP: there is no certificate to read again"),
                Some(Ok(())) => tracing::info!("SIGHUP: new handshakes use the certificate as it is now"),
                Some(Err(error)) => {
                    tracing::error!(%error, "SIGHUP: the certificate can't be used; the one before stays in force");
                }
            }
        }
        Err(io::Error::other("no more signals can come"))
    }
}
