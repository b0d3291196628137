//! Keys change: their files and the issuer's set are read again every so often, and at SIGHUP.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::JwtGate;
use super::keys::KeySet;
use super::sources::{self, KeyError};
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
        let count = take(&gate, move || sources::load(&of_the_thread, sources::fetch)).await;
        if let (true, Some(count)) = (asked, count) {
            tracing::info!(keys = count, "the keys for tokens were read again");
        }
    }
}

/// Reads on a thread of its own, and puts what was read in force: how many there are. A panic there is one more way
/// not to get keys.
async fn take(
    gate: &JwtGate,
    read: impl FnOnce() -> Result<KeySet, KeyError> + Send + 'static,
) -> Option<usize> {
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(keys)) => {
            let count = keys.len();
            gate.replace(keys);
            return Some(count);
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "the keys for tokens could not be read again: the old ones stay");
        }
        Err(error) => {
            tracing::error!(%error, "reading the keys for tokens failed: the old ones stay");
        }
    }
    gate.count_failure();
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FlagSetting, RawConfig, resolve};

    #[test]
    fn a_panic_while_keys_are_read_leaves_the_old_ones_in_force() {
        let setting = |key: &str, value: &str| FlagSetting {
            flag: "--set".into(),
            key: key.into(),
            value: value.into(),
        };
        let flags = [setting("auth.mode", "jwt"), setting("auth.hs256_secret", &"s".repeat(64))];
        let config = resolve(RawConfig::gather(None, [], &flags), &tuning::Host::read()).expect("valid");
        let gate = crate::auth::open(&config).expect("a good key").expect("asked for");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        assert_eq!(runtime.block_on(take(&gate, || panic!("the library is at fault"))), None);
        let report = gate.report();
        assert_eq!((report.keys, report.reads, report.failed_reads), (1, 0, 1));
    }
}
