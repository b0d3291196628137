//! What a kill has lost, held against what the server said of itself just before.
//!
//! The server knows when every change was made that it has not saved, and says how old the oldest is. So nothing has to be
//! allowed for a machine that is slow: whatever was heard before that moment has to be there again.

use std::time::{Duration, Instant};

use crate::rig::until;
use crate::support::Server;

/// What a server said of what it had not saved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word {
    /// When it was asked.
    pub(crate) asked: Instant,
    /// Everything that was made before this is saved; nothing if that is before the machine's time.
    pub(crate) safe: Option<Instant>,
    /// How old the oldest was that was not.
    pub(crate) unsaved: Duration,
    /// What may be lost as it is configured, and as its disk is.
    pub(crate) window: Duration,
}

impl Word {
    pub(crate) fn of(server: &Server) -> Self {
        let mut word = None;
        // A shard that does not answer in time leaves it without an answer.
        until("every shard says what it has", || {
            let asked = Instant::now();
            let page = server.admin_get("/metrics");
            let value = |name: &str| {
                let row = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
                row.parse().ok().map(Duration::from_secs_f64)
            };
            let unsaved = value("voxhall_store_unsaved_seconds");
            word = unsaved.zip(value("voxhall_store_loss_window_seconds")).map(|(unsaved, window)| Self {
                asked,
                safe: asked.checked_sub(unsaved),
                unsaved,
                window,
            });
            word.is_some()
        });
        word.expect("just found")
    }

    /// How long before its kill the first event was heard that a room has lost, if it has lost any.
    pub(crate) fn judge(&self, seen: &[(Instant, u64)], saved: u64, killed: Instant) -> Option<Duration> {
        let &(heard, seq) = seen.iter().find(|(_, seq)| *seq > saved)?;
        let age = killed - heard;
        assert!(
            self.safe.is_none_or(|safe| heard >= safe),
            "{seq}, heard {age:?} before the kill, is lost, and {saved} was saved; {:?} before the server said {:?}",
            killed - self.asked,
            self.unsaved
        );
        Some(age)
    }
}

/// What many words and kills come to.
#[derive(Default)]
pub(crate) struct Ages {
    unsaved: Vec<Duration>,
    windows: Vec<Duration>,
    lost: Vec<Duration>,
    /// Words by which the server was later than its window.
    late: usize,
}

impl Ages {
    pub(crate) fn said(&mut self, word: &Word) {
        self.unsaved.push(word.unsaved);
        self.windows.push(word.window);
        self.late += usize::from(word.unsaved > word.window);
    }

    pub(crate) fn lost(&mut self, age: Option<Duration>) {
        self.lost.extend(age);
    }

    /// That nothing is late where nobody is late is proven without a clock, beside the store. Here the machine may be late,
    /// but a server that is later than it says most of the time is not held up by others.
    pub(crate) fn check(&self) {
        let words = self.unsaved.len();
        assert!(words > 0 && self.late * 2 <= words, "later than its window {} times of {words}", self.late);
    }

    #[expect(clippy::print_stderr, reason = "what was measured is worth as much as that it holds")]
    pub(crate) fn show(&mut self, what: &str) {
        let words = self.unsaved.len();
        eprintln!("{what}: {words} words, {} later than the window", self.late);
        for (name, ages) in [
            ("the window", &mut self.windows),
            ("the oldest unsaved, as the server says", &mut self.unsaved),
            ("the first lost of a room, before the kill", &mut self.lost),
        ] {
            ages.sort_unstable();
            let at =
                |percent: usize| ages.get((ages.len() * percent / 100).min(ages.len().saturating_sub(1)));
            eprintln!(
                "  {name}: p50 {:?}, p99 {:?}, max {:?} of {}",
                at(50),
                at(99),
                ages.last(),
                ages.len()
            );
        }
    }
}
