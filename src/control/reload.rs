//! SIGHUP: the certificates are read again, and the audit log is opened again. Where there is neither the signal keeps its
//! ordinary meaning, which is to end, but not under a service manager: there it can only be meant for reloading.

use std::convert::Infallible;
use std::io;

use shards::rt::Tls;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::audit::Audit;
use crate::config::Config;
use crate::notify;

/// Waits for the signal.
pub(crate) struct Reload {
    tls: Vec<(&'static str, Tls)>,
    audit: Option<Audit>,
    hangups: Option<Signal>,
}

impl Reload {
    /// From now on the signal no longer kills the process, if it has something to reload or is managed.
    pub(crate) fn listen(config: &Config, audit: Option<Audit>) -> io::Result<Self> {
        let both = [("tls.cert", &config.wire.tls), ("tls.admin_cert", &config.admin_tls)];
        let tls: Vec<_> = both.into_iter().filter_map(|(key, tls)| Some((key, tls.clone()?))).collect();
        let wanted = !tls.is_empty() || audit.is_some() || notify::is_heard();
        let hangups = wanted.then(|| signal(SignalKind::hangup())).transpose()?;
        Ok(Self { tls, audit, hangups })
    }

    /// Reloads whenever the signal comes. A certificate that can't be used is told in the log, and the one in force
    /// stays. Safe to drop.
    pub(crate) async fn run(self) -> io::Result<Infallible> {
        let Self { tls, audit, hangups: Some(mut hangups) } = self else {
            return std::future::pending().await;
        };
        while hangups.recv().await.is_some() {
            if tls.is_empty() {
                tracing::info!("SIGHUP: there is no certificate to read again");
            }
            if let Some(audit) = &audit {
                audit.reopen();
            }
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
