//! How near the process is to the memory it may have. The control plane looks and tells the shards, which then take
//! nothing new on.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use shards::core::Quotas;
use tokio::time::{MissedTickBehavior, interval};

use super::process::resident_bytes;

/// How often it is looked at: a node that fills a gigabyte a second is caught before it has grown by much.
const EVERY: Duration = Duration::from_millis(250);

/// Watches for ever. Safe to drop.
pub(crate) async fn watch(mark: u64, quotas: Arc<Quotas>) -> std::io::Result<Infallible> {
    if mark == 0 {
        return std::future::pending().await;
    }
    let mut pressure = Pressure { mark, short: false };
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(resident) = resident_bytes() else { continue };
        let Some(short) = pressure.changes(resident) else { continue };
        quotas.set_memory_short(short);
        if short {
            tracing::warn!(resident, mark, "memory is short: new clients are turned away");
        } else {
            tracing::info!(resident, mark, "memory is no longer short: new clients are taken again");
        }
    }
}

/// Whether memory is short. It begins at a mark and ends a twentieth below it.
#[derive(Debug)]
struct Pressure {
    mark: u64,
    short: bool,
}

impl Pressure {
    /// Takes a reading, and says what is so from now on, if that changes.
    fn changes(&mut self, resident: u64) -> Option<bool> {
        let short = resident >= if self.short { self.mark - self.mark / 20 } else { self.mark };
        (std::mem::replace(&mut self.short, short) != short).then_some(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_the_mark_and_ends_below_a_lower_one() {
        let mut pressure = Pressure { mark: 1_000, short: false };
        let seen = [999, 1_000, 999, 950, 949, 999, 2_000, 0].map(|resident| pressure.changes(resident));
        assert_eq!(seen, [None, Some(true), None, None, Some(false), None, Some(true), Some(false)]);
    }
}
