//! The model server that rooms have their sessions with: what it is told, where it is, and how much of it the shards of
//! a node may take together.
//!
//! The settings don't change. What does change are atomics that shards touch when a session comes or goes, and a list of
//! addresses behind an atomic pointer that the control plane replaces: nobody waits for anybody.

use ::core::fmt;
use ::core::net::SocketAddr;
use ::core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::config::Outbox;
use super::time::Micros;
use super::upstream::UpstreamEnd;

const SECOND: u64 = 1_000_000;

/// `realtime.*`, as far as connections go.
#[derive(Clone)]
pub struct ModelServerSettings {
    /// What `Host` says.
    pub host: Box<str>,
    /// The path of its address, with the query if it has one: what engines add to.
    pub path: Box<str>,
    /// Header lines of every request besides those of the handshake, each with its end. They hold the key.
    pub headers: Box<str>,
    /// How long connecting, TLS and the handshake may take together.
    pub connect: Micros,
    /// Longest message it may send, over all its fragments. Vendors send seconds of audio at once.
    pub message_bytes_max: usize,
    /// Bounds of the lane to it.
    pub outbox: Outbox,
    /// Sessions of the node, those that are being opened included; zero is no limit.
    pub sessions_max: usize,
    /// Sessions that the node may begin to open in a second, and at once; zero is no limit.
    pub connects_per_s: u64,
    /// Failed attempts in a row after which the node stops trying; zero is never.
    pub breaker_failures: u32,
    /// For how long.
    pub breaker: Micros,
}

impl Default for ModelServerSettings {
    fn default() -> Self {
        Self {
            host: "localhost".into(),
            path: "/v1/realtime".into(),
            headers: "".into(),
            connect: Micros::from_s(5),
            message_bytes_max: 16 << 20,
            outbox: Outbox {
                // Speech takes fifty a second, and is held for as long as a peer may take nothing.
                messages_max: 1_024,
                bytes_max: 4 << 20,
                audio_age_max: Micros::from_s(10),
                slow_client: Micros::from_s(10),
                coalesce: Micros(0),
            },
            sessions_max: 10_000,
            connects_per_s: 100,
            breaker_failures: 10,
            breaker: Micros::from_s(10),
        }
    }
}

impl ModelServerSettings {
    /// What is asked for: a path as it is, or a query behind the server's own path and query.
    pub(super) fn target(&self, asked: &str) -> Box<str> {
        if asked.starts_with('/') {
            return asked.into();
        }
        let between = if self.path.contains('?') { '&' } else { '?' };
        if asked.is_empty() { self.path.clone() } else { format!("{}{between}{asked}", self.path).into() }
    }
}

impl fmt::Debug for ModelServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the headers: the key is in them.
        f.debug_struct("ModelServerSettings").field("host", &self.host).finish_non_exhaustive()
    }
}

/// See the module.
#[derive(Debug)]
pub struct ModelServer {
    /// What it is told, and what holds for its connections.
    pub settings: ModelServerSettings,
    addresses: ArcSwap<Vec<SocketAddr>>,
    sessions: AtomicUsize,
    /// When the connects that were begun would have been over, had they been spread evenly.
    paced: AtomicU64,
    failures: AtomicU32,
    /// Until when nobody tries; zero while everybody may.
    broken_until: AtomicU64,
}

impl ModelServer {
    /// One without an address yet.
    #[must_use]
    pub fn new(settings: ModelServerSettings) -> Self {
        Self {
            settings,
            addresses: ArcSwap::default(),
            sessions: AtomicUsize::new(0),
            paced: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            broken_until: AtomicU64::new(0),
        }
    }

    /// Says where it is from now on. Open sessions stay where they are.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.addresses.store(Arc::new(addresses));
    }

    /// Where it is; nothing when nobody knows.
    #[must_use]
    pub fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.addresses.load_full()
    }

    /// Sessions of the node, those that are being opened included.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.load(Relaxed)
    }

    /// Whether the node has stopped trying.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken_until.load(Relaxed) > 0
    }

    /// Reserves a session before it is dialled.
    ///
    /// # Errors
    /// Why it may not be; nothing is reserved then.
    pub(super) fn reserve(&self, now: Micros) -> Result<(), UpstreamEnd> {
        let until = Micros(self.broken_until.load(Relaxed));
        if now < until {
            return Err(UpstreamEnd::Broken { until });
        }
        if !self.take_session() {
            return Err(UpstreamEnd::Limited);
        }
        let refused = if !self.keeps_pace(now) {
            UpstreamEnd::Limited
        } else if until.0 > 0
            && let Some(until) = self.somebody_tries(now, until)
        {
            UpstreamEnd::Broken { until }
        } else {
            return Ok(());
        };
        self.give_back(1);
        Err(refused)
    }

    /// Gives back sessions that were reserved.
    pub(super) fn give_back(&self, sessions: usize) {
        let before = self.sessions.fetch_sub(sessions, Relaxed);
        debug_assert!(before >= sessions, "more came back than was out");
    }

    /// A session has opened: all is well.
    pub(super) fn succeeded(&self) {
        self.failures.store(0, Relaxed);
        self.broken_until.store(0, Relaxed);
    }

    /// An attempt has failed in a way that the next one is likely to.
    pub(super) fn failed(&self, now: Micros) {
        let max = self.settings.breaker_failures;
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if max > 0 && failures >= max {
            self.broken_until.store((now + self.settings.breaker).0.max(1), Relaxed);
        }
    }

    fn take_session(&self) -> bool {
        let max = match self.settings.sessions_max {
            0 => usize::MAX,
            max => max,
        };
        self.sessions.fetch_update(Relaxed, Relaxed, |out| (out < max).then_some(out + 1)).is_ok()
    }

    /// The generic cell rate algorithm, with a burst of a second's worth.
    fn keeps_pace(&self, now: Micros) -> bool {
        let Some(interval) = SECOND.checked_div(self.settings.connects_per_s) else { return true };
        let next = |paced: u64| {
            let after = paced.max(now.0) + interval;
            (after <= now.0 + SECOND).then_some(after)
        };
        self.paced.fetch_update(Relaxed, Relaxed, next).is_ok()
    }

    /// The time is over for which nobody tried: one may, and the others wait as long again for what becomes of it.
    /// Nothing for that one.
    fn somebody_tries(&self, now: Micros, until: Micros) -> Option<Micros> {
        let again = now + self.settings.breaker;
        let taken = self.broken_until.compare_exchange(until.0, again.0.max(1), Relaxed, Relaxed);
        // Zero: meanwhile it has turned out that all is well.
        taken.err().filter(|&until| until > 0).map(Micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(change: impl FnOnce(&mut ModelServerSettings)) -> ModelServer {
        let mut settings = ModelServerSettings::default();
        change(&mut settings);
        ModelServer::new(settings)
    }

    #[test]
    fn sessions_are_bounded_and_come_back() {
        let server = server(|settings| settings.sessions_max = 2);
        let now = Micros(1);
        assert_eq!((server.reserve(now), server.reserve(now)), (Ok(()), Ok(())));
        assert_eq!(server.reserve(now), Err(UpstreamEnd::Limited));
        assert_eq!(server.sessions(), 2, "who is refused has reserved nothing");
        server.give_back(1);
        assert_eq!(server.reserve(now), Ok(()));
    }

    #[test]
    fn connects_are_spread_with_a_burst_of_a_second() {
        let server = server(|settings| settings.connects_per_s = 4);
        let begun = |now| (0..20).take_while(|_| server.reserve(Micros(now)).is_ok()).count();
        assert_eq!(begun(10 * SECOND), 4);
        assert_eq!(begun(10 * SECOND + SECOND / 4 - 1), 0);
        assert_eq!(begun(10 * SECOND + SECOND / 2), 2);
        assert_eq!(begun(20 * SECOND), 4);
        assert_eq!(server.sessions(), 10, "who came too early has reserved nothing");
    }

    #[test]
    fn after_failures_in_a_row_nobody_tries_and_then_one() {
        let server = server(|settings| settings.breaker_failures = 3);
        let later = |s: u64| Micros::from_s(100 + s);
        for _ in 0..2 {
            server.failed(later(0));
        }
        server.succeeded();
        for _ in 0..3 {
            assert_eq!(server.reserve(later(0)), Ok(()));
            server.failed(later(0));
        }
        let broken = |until| Err(UpstreamEnd::Broken { until: later(until) });
        assert_eq!(server.reserve(later(9)), broken(10));
        assert_eq!(server.reserve(later(10)), Ok(()), "one tries");
        assert_eq!(server.reserve(later(11)), broken(20), "the others wait for what becomes of it");
        server.failed(later(12));
        assert_eq!(server.reserve(later(13)), broken(22), "one more failure is enough");
        assert_eq!(server.reserve(later(22)), Ok(()));
        assert!(server.is_broken());
        server.succeeded();
        assert!(!server.is_broken());
        assert_eq!((server.reserve(later(22)), server.reserve(later(22))), (Ok(()), Ok(())));
    }

    #[test]
    fn a_query_goes_behind_the_path_of_the_address() {
        let mut settings =
            ModelServerSettings { path: "/v1/realtime".into(), ..ModelServerSettings::default() };
        assert_eq!(&*settings.target("/other?a=b"), "/other?a=b");
        assert_eq!(&*settings.target("model=m"), "/v1/realtime?model=m");
        assert_eq!(&*settings.target(""), "/v1/realtime");
        settings.path = "/openai?api-version=1".into();
        assert_eq!(&*settings.target("model=m"), "/openai?api-version=1&model=m");
    }

    #[test]
    fn the_key_is_not_shown() {
        let server = server(|settings| settings.headers = "Authorization: Bearer sk-secret\r\n".into());
        assert!(!format!("{server:?}").contains("sk-secret"));
    }
}
