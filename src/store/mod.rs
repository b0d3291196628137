//! Stores: what rooms remember beyond the process, in a file or in Redis. Where there is none, nothing leaves the process.
//!
//! Shards tell what has changed and ask for rooms that come back, through the mesh, and never wait. Here what they tell goes
//! into a [`ledger`], and a thread of the store's own ([`keeper`]) takes everything that waits and writes it at once. So what a
//! crash can lose is bounded: `store.lag_ms`, in which a shard gathers, `store.commit_ms`, in which the ledger does, or the write
//! before if that takes longer, and the time of the write itself. Every change has its moment by the node's clock until it is saved:
//! how old the oldest is that is not can be asked at any time.
//!
//! A store that breaks stops nobody. Rooms live on in memory, the ledger remembers the names of those that have changed, and
//! the thread tries to mend the store; then shards are asked for these rooms again, whole.

mod file;
mod form;
mod keeper;
#[cfg(test)]
mod keeper_tests;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod redis;
mod report;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod window_tests;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shards::core::memory::{Memory, Recall, Recalled, Remembered, Remembers, StoreFailed};
use shards::core::{Micros, SessionId, ShardId, ShardMessage, route};
use shards::rt::Clock;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout_at;

pub(crate) use report::{StoreReport, describe};

use crate::Failure;
use crate::config::{StoreConfig, StorePlace};
use crate::control::Line;
use file::FileStore;
use keeper::Keeper;
use ledger::{Ledger, Taken};
use redis::RedisStore;
use report::Counts;

/// How long a shard's full queue is left alone before it is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// A store. Everything here may take its time: it is called on the store's own thread.
trait Store: Send {
    /// The key that signs resume tokens: the same for everybody who uses the store, and after every restart. Of a store that
    /// has not been reached yet, the one that it will be given if it has none.
    fn resume_key(&mut self) -> [u8; 32];
    /// Rooms of earlier processes that don't go by themselves.
    fn leftovers(&mut self) -> Result<Vec<SessionId>, Broken>;
    /// What it has of these rooms, in their order.
    fn recall(&mut self, sessions: &[SessionId]) -> Result<Vec<Option<Found>>, Broken>;
    /// Writes all of it; it lasts when this returns.
    fn commit(&mut self, writes: &[Write<'_>]) -> Result<(), Broken>;
    /// Whether it still has what was written, and keeps it: the rooms that it has lost.
    fn check(&mut self, living: &Living) -> Result<Vec<SessionId>, Broken>;
    /// Makes it work again.
    fn mend(&mut self) -> Result<Mended, Broken>;
    /// Everything has been written: whoever comes next goes on where this process ends, with these rooms. Of others it has what
    /// it had before.
    fn end(&mut self, sound: &Living) -> Result<(), Broken>;
}

/// Why a store does not work, for the log.
#[derive(Debug, PartialEq, Eq)]
struct Broken(String);

/// What is written of a room.
#[derive(Debug)]
enum Write<'a> {
    Room {
        memory: &'a Memory,
        /// Its events come behind those that are there; otherwise they take their place.
        appends: bool,
    },
    /// It has ended.
    Forget(&'a SessionId),
}

impl Write<'_> {
    fn session(&self) -> &SessionId {
        match self {
            Self::Room { memory, .. } => &memory.session,
            Self::Forget(session) => session,
        }
    }
}

/// What a store has of a room.
#[derive(Debug, PartialEq)]
enum Found {
    Room(Remembered),
    /// Something that is no room, or one of another release.
    Unreadable,
}

/// What a store that works again has of what was written before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mended {
    /// All of it.
    Whole,
    /// Nothing that can be relied on.
    Empty,
}

/// Rooms that live, with the numbering and the last number that the store is known to have.
type Living = HashMap<SessionId, Option<(u64, u64)>>;

/// A store for everybody on the control plane.
#[derive(Clone, Debug)]
pub(crate) struct Stores(Arc<Desk>);

/// A store that has been opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The store.
    pub(crate) stores: Stores,
    /// The key that signs resume tokens.
    pub(crate) resume_key: [u8; 32],
    /// What it says to shards.
    pub(crate) voice: Voice,
}

/// What a store says to shards.
#[derive(Debug)]
pub(crate) struct Voice {
    said: mpsc::UnboundedReceiver<Said>,
    /// How long shards wait for an answer.
    patience: Duration,
}

#[derive(Debug)]
enum Said {
    Recalled(ShardId, Box<Recalled>),
    Again(SessionId),
}

/// What the control plane and the store's thread share.
#[derive(Debug)]
struct Desk {
    ledger: Mutex<Ledger>,
    /// There is something to do.
    bell: Condvar,
    voice: mpsc::UnboundedSender<Said>,
    counts: Counts,
    /// How long a question may wait for a store that does not come back from what it does.
    patience: Micros,
    time: Time,
    /// When the store's thread began what it does; 0 while it does nothing.
    busy: AtomicU64,
    /// The thread has ended.
    gone: AtomicBool,
    ended: Notify,
}

/// The node's clock, or one that a test sets.
struct Time(Box<dyn Fn() -> Micros + Send + Sync>);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0)().fmt(f)
    }
}

impl Stores {
    /// Opens the store and begins to keep it.
    ///
    /// # Errors
    /// When a file can't be used. A Redis that is away is waited for in the background.
    pub(crate) fn open(config: &StoreConfig, shards: usize, clock: Clock) -> Result<Opened, Failure> {
        let (mut store, broken): (Box<dyn Store>, _) = match &config.place {
            StorePlace::File(path) => (Box::new(FileStore::open(path).map_err(Failure::Fault)?), None),
            StorePlace::Redis { url, prefix, ttl } => {
                let mut store = RedisStore::new(url, prefix, *ttl).map_err(Failure::Fault)?;
                let broken = store.mend().err();
                (Box::new(store), broken)
            }
        };
        let resume_key = store.resume_key();
        let (voice, heard) = mpsc::unbounded_channel();
        let desk = Arc::new(Desk::new(config, voice, move || clock.now()));
        let keeper = Keeper::new(store, Arc::clone(&desk), shards, config.linger, broken);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || keeper.run())
            .map_err(|error| Failure::Fault(format!("the store's thread can't be started: {error}")))?;
        Ok(Opened { stores: Self(desk), resume_key, voice: Voice { said: heard, patience: config.recall } })
    }

    /// Takes what a shard tells.
    pub(crate) fn remember(&self, told: Remembers) {
        let (now, Remembers { since, all }) = (self.0.now(), told);
        let mut ledger = self.0.lock();
        for told in all {
            if ledger.remember(now, since, told) == Taken::Dropped {
                self.0.counts.dropped.add(1);
            }
        }
        drop(ledger);
        self.0.bell.notify_one();
    }

    /// Takes a shard's question. It is answered in every case, at once where nobody can say.
    pub(crate) fn recall(&self, recall: Recall) {
        let desk = &self.0;
        let mut ledger = desk.lock();
        if ledger.is_broken() || desk.is_stuck() || desk.is_gone() {
            drop(ledger);
            return desk.fail(recall);
        }
        ledger.recall(recall);
        drop(ledger);
        desk.bell.notify_one();
    }

    /// Writes what waits, and ends the store, at most until the deadline.
    pub(crate) async fn finish(&self, deadline: tokio::time::Instant) {
        let ended = self.0.ended.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        self.0.lock().end();
        self.0.bell.notify_one();
        if !self.0.is_gone() && timeout_at(deadline, ended).await.is_err() {
            let (rooms, _) = self.0.lock().waiting();
            tracing::error!(rooms, "the store did not end in time: what it has not written is lost");
        }
    }

    /// How it stands, for metrics. What the shards had not told when they were asked is theirs to say: when the oldest change
    /// of it was made, for each. Of one that has not said it, nobody knows.
    pub(crate) fn report(&self, untold: impl Iterator<Item = Option<Option<Micros>>>) -> StoreReport {
        let desk = &self.0;
        let untold: Option<Vec<_>> = untold.collect();
        let ledger = desk.lock();
        let degraded = !ledger.is_well() || desk.is_stuck() || desk.is_gone();
        let (waiting, behind, unsaved) = (ledger.waiting(), ledger.behind(), ledger.unsaved_since());
        drop(ledger);
        let now = desk.now();
        let oldest = untold.map(|untold| untold.into_iter().flatten().chain(unsaved).min());
        let age = oldest.map(|oldest| oldest.map_or(Micros(0), |oldest| now.since(oldest)));
        desk.counts.report(degraded, desk.busy_for(now), waiting, behind, age)
    }
}

impl Voice {
    /// Brings shards what the store says to them, for ever.
    pub(crate) async fn speak(mut self, line: Line) {
        let shards = line.shards().count() as u16;
        while let Some(said) = self.said.recv().await {
            match said {
                // Once the shard has lost its patience, the room has begun without.
                Said::Recalled(shard, recalled) => {
                    let until = tokio::time::Instant::now() + self.patience;
                    while !line.tell(shard, ShardMessage::Recalled(recalled.clone())).await
                        && tokio::time::Instant::now() < until
                    {
                        tokio::time::sleep(RETRY).await;
                    }
                }
                Said::Again(session) => {
                    let shard = route::owner(session.as_str(), shards);
                    while !line.tell(shard, ShardMessage::RememberAgain(session.clone())).await {
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }
    }
}

impl Desk {
    fn new(
        config: &StoreConfig,
        voice: mpsc::UnboundedSender<Said>,
        time: impl Fn() -> Micros + Send + Sync + 'static,
    ) -> Self {
        let (lag, commit) = (span(config.lag), span(config.commit));
        Self {
            ledger: Mutex::new(Ledger::new(lag, commit, config.queue_bytes_max)),
            bell: Condvar::new(),
            voice,
            counts: Counts::new(lag, commit),
            patience: span(config.recall),
            time: Time(Box::new(time)),
            busy: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            ended: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // Nothing that is done under the lock can be left half done.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Micros {
        (self.time.0)()
    }

    /// For how long the thread has not come back from the store.
    fn busy_for(&self, now: Micros) -> Micros {
        match self.busy.load(Ordering::Relaxed) {
            0 => Micros(0),
            since => now.since(Micros(since)),
        }
    }

    /// Whether that is too long.
    fn is_stuck(&self) -> bool {
        self.busy_for(self.now()) > self.patience
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn answer(&self, recall: Recall, memory: Result<Option<Remembered>, StoreFailed>) {
        let Recall { shard, session } = recall;
        // Nobody listens when the node has ended.
        let _ = self.voice.send(Said::Recalled(shard, Box::new(Recalled { session, memory })));
    }

    fn fail(&self, recall: Recall) {
        self.counts.recalls_failed.add(1);
        self.answer(recall, Err(StoreFailed));
    }
}

fn span(duration: Duration) -> Micros {
    Micros(duration.as_micros() as u64)
}

/// A key that nobody can guess.
fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    let read = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut key));
    read.expect("the system has random numbers");
    key
}
