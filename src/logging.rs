//! Logs: one line per event on standard error, as text or JSON, and no more of one kind than somebody can read.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::HashMap;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::LogConfig;

/// Lines of one kind in one [`PERIOD`]. A storm of ten thousand clients shows as twenty lines and a count.
const LINES_MAX: u32 = 20;
const PERIOD: Duration = Duration::from_secs(1);

static HELD_BACK: AtomicU64 = AtomicU64::new(0);

/// Begins to write logs, panics among them. Called once.
pub(crate) fn start(log: LogConfig) {
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let limit = RateLimit { level: LevelFilter::from_level(log.level), kinds: Mutex::new(HashMap::new()) };
    let registry = tracing_subscriber::registry();
    if log.json {
        registry.with(layer.json().flatten_event(true).with_filter(limit)).init();
    } else {
        let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
        registry.with(layer.with_ansi(colour).with_filter(limit)).init();
    }
    panic::set_hook(Box::new(report_panic));
}

/// One line like any other, instead of the several that the standard library writes.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    tracing::error!(
        thread = thread.name().unwrap_or("unnamed"),
        at = panic.location().map(ToString::to_string),
        cause = panic_message(panic.payload()),
        backtrace = trace,
        "a panic: this is a fault in voxhall, please report it"
    );
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// How many lines were held back so far.
pub(crate) fn held_back() -> u64 {
    HELD_BACK.load(Ordering::Relaxed)
}

/// Lets [`LINES_MAX`] events of each place in the code through in each [`PERIOD`]. Bounded by the places there are.
struct RateLimit {
    level: LevelFilter,
    kinds: Mutex<HashMap<Identifier, Window>>,
}

struct Window {
    since: Instant,
    lines: u32,
}

impl RateLimit {
    fn admits(&self, kind: Identifier, now: Instant) -> bool {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let window = kinds.entry(kind).or_insert(Window { since: now, lines: 0 });
        if now.saturating_duration_since(window.since) >= PERIOD {
            *window = Window { since: now, lines: 0 };
        }
        window.lines += 1;
        window.lines <= LINES_MAX
    }
}

impl<S: Subscriber> Filter<S> for RateLimit {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        metadata.level() <= &self.level
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        #[expect(
            clippy::disallowed_methods,
            reason = "how often lines come is measured by the ordinary clock"
        )]
        let now = Instant::now();
        let admitted = self.admits(event.metadata().callsite(), now);
        if !admitted {
            HELD_BACK.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_kind_is_cut_and_begins_anew_with_the_next_period() {
        struct Here;
        impl tracing::Callsite for Here {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &Metadata<'_> {
                unreachable!("nobody asks")
            }
        }
        static HERE: Here = Here;
        let kind = || Identifier(&HERE);
        let limit = RateLimit { level: LevelFilter::INFO, kinds: Mutex::new(HashMap::new()) };
        let start = tokio::time::Instant::now().into_std();
        let admitted = (0..100).filter(|_| limit.admits(kind(), start)).count();
        assert_eq!(admitted, LINES_MAX as usize);
        assert!(limit.admits(kind(), start + PERIOD));
    }
}
