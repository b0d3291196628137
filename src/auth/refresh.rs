//! Keys change: their files and the issuer's set are read again every so often, and at SIGHUP.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::JwtGate;
use super::sources;
use crate::config::AuthConfig;

/// Reads the keys again and again. What can't be read leaves the old keys in force. Safe to drop.
///
/// # Errors
/// When signals can't be listened to.
pub(crate) async fn keep_fresh(
    config: AuthConfig,
    gate: Option<Arc<JwtGate>>,
) -> std::io::Result<Infallible> {
    let (AuthConfig::Jwt(config), Some(gate)) = (config, gate) else {
        return std::future::pending().await;
    };
    let mut hangup = signal(SignalKind::hangup())?;
    let mut ticks = interval(config.refresh);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await; // The first is now, and they have just been read.
    loop {
        let asked = tokio::select! {
            _ = ticks.tick() => false,
            _ = hangup.recv() => true,
        };
        let of_the_thread = config.clone();
        let read = tokio::task::spawn_blocking(move || sources::load(&of_the_thread, sources::fetch));
        match read.await {
            Ok(Ok(keys)) => {
                let count = keys.len();
                gate.replace(keys);
                if asked {
                    tracing::info!(keys = count, "the keys for tokens were read again");
                }
            }
            Ok(Err(error)) => {
                gate.count_failure();
                tracing::warn!(%error, "the keys for tokens could not be read again: the old ones stay");
            }
            Err(error) => {
                gate.count_failure();
                tracing::error!(%error, "reading the keys for tokens failed: the old ones stay");
            }
        }
    }
}
