//! SIGHUP: the certificate is read again. Without TLS the signal keeps its ordinary meaning, which is to end.

use std::convert::Infallible;
use std::io;

use shards::rt::Tls;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for the signal.
pub(crate) struct Reload(Option<(Tls, Signal)>);

impl Reload {
    /// From now on the signal no longer kills a process that speaks TLS.
    pub(crate) fn listen(tls: Option<Tls>) -> io::Result<Self> {
        tls.map(|tls| Ok((tls, signal(SignalKind::hangup())?))).transpose().map(Self)
    }

    /// Reads the certificate whenever the signal comes. One that can't be used is told in the log, and the one in
    /// force stays. Safe to drop.
    pub(crate) async fn run(self) -> io::Result<Infallible> {
        let Some((tls, mut hangups)) = self.0 else { return std::future::pending().await };
        while hangups.recv().await.is_some() {
            match tls.reload() {
                Ok(()) => tracing::info!("SIGHUP: new handshakes use the certificate as it is now"),
                Err(error) => {
                    tracing::error!(%error, "SIGHUP: the certificate can't be used; the one before stays in force");
                }
            }
        }
        Err(io::Error::other("no more signals can come"))
    }
}
