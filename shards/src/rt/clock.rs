//! The only place of the data plane that reads a clock. The pump reads it once or twice a turn and hands the
//! number on; nothing below asks again.

use std::time::{Duration, Instant, SystemTime};

use crate::core::Micros;

/// The node's clock: microseconds since the node started, the same epoch on every shard.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { epoch: instant() }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Micros {
        Micros(self.epoch.elapsed().as_micros() as u64)
    }
}

/// How long it is until `deadline`; zero when it has passed.
pub(super) fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(instant())
}

/// The moment `span` from now.
pub(super) fn deadline_in(span: Duration) -> Instant {
    instant() + span
}

/// What a clock on the wall shows: for what people read, never to measure by.
#[expect(clippy::disallowed_methods, reason = "records for people are dated as people date them")]
pub(super) fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
fn instant() -> Instant {
    Instant::now()
}
