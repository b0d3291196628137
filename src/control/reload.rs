//! SIGHUP: the certificates are read again. Without TLS the signal keeps its ordinary meaning, which is to end.

use std::convert::Infallible;
use std::io;

use shards::rt::Tls;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;

/// Waits for the signal.
pub(crate) struct Reload(Option<(Vec<(&'static str, Tls)>, Signal)>);

impl Reload {
    /// From now on the signal no longer kills a process that speaks TLS.
    pub(crate) fn listen(config: &Config) -> io::Result<Self> {
        let both = [("tls.cert", &config.wire.tls), ("tls.admin_cert", &config.admin_tls)];
        let tls: Vec<_> = both.into_iter().filter_map(|(key, tls)| Some((key, tls.clone()?))).collect();
        if tls.is_empty() {
            return Ok(Self(None));
        }
        Ok(Self(Some((tls, signal(SignalKind::hangup())?))))
    }

    /// Reads the certificates whenever the signal comes. One that can't be used is told in the log, and the one in
    /// force stays. Safe to drop.
    pub(crate) async fn run(self) -> io::Result<Infallible> {
        let Some((tls, mut hangups)) = self.0 else { return std::future::pending().await };
        while hangups.recv().await.is_some() {
            for (key, tls) in &tls {
                match tls.reload() {
                    Ok(()) => tracing::info!(key, "SIGHUP: new handshakes use the certificate as it is now"),
                    Err(error) => {
                        tracing::error!(
                            key,
                            %error,
                            "SIGHUP: the certificate can't be used; the one before stays in force"
                        );
                    }
                }
            }
        }
        Err(io::Error::other("no more signals can come"))
    }
}
