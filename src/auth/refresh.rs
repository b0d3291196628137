//! Keys change: their files and the issuer's set are read again every so often, and at SIGHUP.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval, sleep, sleep_until};

use tokens::KeySet;

use super::JwtGate;
use super::sources::{self, KeyError};
use crate::config::AuthConfig;

/// How long it takes at least from one reading for the sake of a key that is missing to the next: anybody can name a
/// key that there is not.
const EARLY_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether a key is missing.
const LOOK: Duration = Duration::from_millis(200);

/// Why the keys are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Time,
    Asked,
    MissingKey,
}

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
    let mut not_before = Instant::now();
    loop {
        let why = tokio::select! {
            _ = ticks.tick() => Why::Time,
            _ = hangup.recv() => Why::Asked,
            () = key_is_missing(&gate, not_before) => Why::MissingKey,
        };
        if why == Why::MissingKey {
            not_before = Instant::now() + EARLY_EVERY;
        }
        gate.begin_read(why == Why::MissingKey);
        let of_the_thread = config.clone();
        let count = take(&gate, move || sources::load(&of_the_thread, sources::fetch)).await;
        if let Some(count) = count.filter(|_| why != Why::Time) {
            tracing::info!(keys = count, ?why, "the keys for tokens were read again");
        }
    }
}

/// Waits until a token has named a key that is not known, and until then at least. Safe to drop.
async fn key_is_missing(gate: &JwtGate, not_before: Instant) {
    sleep_until(not_before).await;
    while !gate.misses_key() {
        sleep(LOOK).await;
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
