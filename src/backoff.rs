//! How long to wait before trying again: longer each time, and never in step with others.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The waits between attempts that fail.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait: between half of what is due and all of it.
    pub(crate) fn next(&mut self) -> Duration {
        let due = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let due = due.as_micros() as u64;
        Duration::from_micros(due / 2 + RandomState::new().hash_one(self.failures) % (due / 2 + 1))
    }

    /// It has worked; says whether it had not before.
    pub(crate) fn reset(&mut self) -> bool {
        std::mem::take(&mut self.failures) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew_after_success() {
        let mut backoff = Backoff::default();
        assert!(!backoff.reset());
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!((FIRST / 2..=FIRST).contains(&waits[0]), "{waits:?}");
        assert!((FIRST..=FIRST * 2).contains(&waits[1]), "{waits:?}");
        assert!(waits[8..].iter().all(|wait| (LONGEST / 2..=LONGEST).contains(wait)), "{waits:?}");
        assert!(waits[8..].windows(2).any(|two| two[0] != two[1]), "they differ");
        assert!(backoff.reset());
        assert!(backoff.next() <= FIRST);
    }
}
