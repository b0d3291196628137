//! The thread of a store: writes what waits, answers what is asked, looks whether the store is still what it was, and mends it.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use shards::core::memory::{Memory, Remembered};
use shards::core::{Micros, SessionId};

use super::ledger::{Change, Ledger, follows, is_whole};
use super::{Broken, Desk, Found, Living, Mended, Said, Store, Write, span};
use crate::backoff::Backoff;

/// How often it is looked whether the store is what it was.
const CHECK: Micros = Micros::from_s(1);
/// Rooms nobody has come back to that are dropped at once.
const DROPPED_AT_ONCE: usize = 1_024;

/// See the module.
pub(super) struct Keeper {
    store: Box<dyn Store>,
    desk: Arc<Desk>,
    shards: usize,
    living: Living,
    /// Those that came from a process that was killed, and that nobody has told of since: what they told last is not here.
    unsound: HashSet<SessionId>,
    /// Rooms of earlier processes.
    leftovers: HashSet<SessionId>,
    /// When those go that nobody has come back to.
    drop_at: Micros,
    check_at: Micros,
    retry_at: Micros,
    backoff: Backoff,
}

impl Keeper {
    /// For this store, which may be broken from the start.
    pub(super) fn new(
        mut store: Box<dyn Store>,
        desk: Arc<Desk>,
        shards: usize,
        linger: Duration,
        broken: Option<Broken>,
    ) -> Self {
        let now = desk.now();
        let found = broken.map_or_else(|| store.leftovers(), Err);
        let mut keeper = Self {
            store,
            desk,
            shards,
            living: Living::new(),
            unsound: HashSet::new(),
            leftovers: HashSet::new(),
            drop_at: now + span(linger),
            check_at: now + CHECK,
            retry_at: now,
            backoff: Backoff::default(),
        };
        match found {
            Ok(leftovers) => {
                tracing::info!(rooms = leftovers.len(), "the store is open");
                keeper.leftovers.extend(leftovers);
            }
            Err(broken) => keeper.broke(&broken, Vec::new()),
        }
        keeper
    }

    /// Until the node has ended and everything is written.
    pub(super) fn run(mut self) {
        let desk = Arc::clone(&self.desk);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            while !self.wait() {
                self.turn();
            }
            self.end();
        }));
        // The file is closed before anybody hears of it.
        drop(self);
        desk.gone.store(true, Ordering::Release);
        if ran.is_err() {
            tracing::error!(
                "the store's thread died: from here on rooms end with the process; restart the server soon"
            );
            let recalls = desk.lock().take_recalls();
            recalls.into_iter().for_each(|recall| desk.fail(recall));
        }
        desk.ended.notify_waiters();
    }

    /// Sleeps until there is something to do; `true` when the node has ended.
    fn wait(&self) -> bool {
        let mut ledger = self.desk.lock();
        loop {
            if ledger.ends() {
                return true;
            }
            let now = self.desk.now();
            let left = self.next(&ledger, now).since(now);
            if left == Micros(0) {
                return false;
            }
            let woken = self.desk.bell.wait_timeout(ledger, Duration::from_micros(left.0));
            ledger = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// When there is something to do.
    pub(super) fn next(&self, ledger: &Ledger, now: Micros) -> Micros {
        if ledger.is_asked() {
            return now;
        }
        let due = if ledger.is_broken() { Some(self.retry_at) } else { ledger.due(now) };
        let leftovers = (!ledger.is_broken() && !self.leftovers.is_empty()).then_some(self.drop_at);
        due.into_iter().chain(leftovers).fold(self.check_at, Micros::min)
    }

    /// Between any two things that take their time it is looked whether a write is due.
    pub(super) fn turn(&mut self) {
        if self.desk.lock().is_broken() && self.desk.now() >= self.retry_at {
            self.mend();
        }
        self.write_if_due();
        self.answer();
        self.write_if_due();
        let now = self.desk.now();
        if now >= self.check_at {
            self.check_at = now + CHECK;
            self.check();
        } else if now >= self.drop_at {
            self.drop_leftovers();
        }
        self.ask_again();
        if self.desk.lock().is_well_again() {
            self.backoff.reset();
            self.desk.counts.mended.add(1);
            tracing::info!("the store works again: everything is written");
        }
    }

    fn write_if_due(&mut self) {
        let (now, ledger) = (self.desk.now(), self.desk.lock());
        let is_due = !ledger.is_broken() && ledger.due(now).is_some_and(|due| due <= now);
        drop(ledger);
        if is_due {
            self.write();
        }
    }

    /// Writes everything that waits.
    fn write(&mut self) {
        let changes = {
            let (mut ledger, now) = (self.desk.lock(), self.desk.now());
            let (changes, loose): (Vec<_>, Vec<_>) =
                ledger.take_changes().into_iter().partition(|change| self.can_be_written(change));
            loose.into_iter().for_each(|change| ledger.put_aside(now, change.session().clone()));
            if changes.is_empty() {
                ledger.wrote();
                return;
            }
            changes
        };
        let began = self.desk.now();
        let writes: Vec<_> = changes.iter().map(|change| self.as_write(change)).collect();
        let committed = self.in_store(|store, _| store.commit(&writes));
        drop(writes);
        if let Err(broken) = committed {
            for change in &changes {
                // Nobody knows which of it is there.
                self.living.insert(change.session().clone(), None);
            }
            return self.broke(&broken, changes);
        }
        let (now, oldest) = (self.desk.now(), self.desk.lock().wrote());
        let age = now.since(oldest.unwrap_or(began));
        self.desk.counts.wrote(now.since(began), age, changes.len());
        for change in changes {
            self.leftovers.remove(change.session());
            self.unsound.remove(change.session());
            match change {
                Change::Room(memory) => {
                    let Memory { session, epoch, seq, .. } = *memory;
                    self.living.insert(session, Some((epoch, seq)));
                }
                Change::Forget(session) => drop(self.living.remove(&session)),
            }
        }
    }

    /// Whether the store has what this follows, if it has to follow anything.
    fn can_be_written(&self, change: &Change) -> bool {
        match change {
            Change::Room(memory) => is_whole(memory) || self.appends(memory),
            Change::Forget(_) => true,
        }
    }

    fn as_write<'a>(&self, change: &'a Change) -> Write<'a> {
        match change {
            Change::Room(memory) => Write::Room { memory, appends: self.appends(memory) },
            Change::Forget(session) => Write::Forget(session),
        }
    }

    fn appends(&self, memory: &Memory) -> bool {
        let base = self.living.get(&memory.session).copied().flatten();
        base.is_some_and(|base| follows(memory, base))
    }

    /// Answers everything that is asked.
    fn answer(&mut self) {
        let (recalls, broken) = {
            let mut ledger = self.desk.lock();
            (ledger.take_recalls(), ledger.is_broken())
        };
        if recalls.is_empty() {
            return;
        }
        let sessions: Vec<_> = recalls.iter().map(|recall| recall.session.clone()).collect();
        let found = if broken { None } else { Some(self.in_store(|store, _| store.recall(&sessions))) };
        let found = match found {
            Some(Ok(found)) => found,
            failed => {
                recalls.into_iter().for_each(|recall| self.desk.fail(recall));
                if let Some(Err(broken)) = failed {
                    self.broke(&broken, Vec::new());
                }
                return;
            }
        };
        for (recall, found) in recalls.into_iter().zip(found) {
            match found {
                Some(Found::Room(room)) => {
                    self.desk.counts.recalls_found.add(1);
                    let room = self.recalled(room);
                    self.desk.answer(recall, Ok(Some(room)));
                }
                None => {
                    self.desk.counts.recalls_absent.add(1);
                    self.desk.answer(recall, Ok(None));
                }
                Some(Found::Unreadable) => {
                    let session = recall.session.as_str();
                    tracing::error!(
                        session,
                        "what the store has of a room can't be read: the room begins anew"
                    );
                    self.desk.fail(recall);
                }
            }
        }
    }

    /// A room goes on: from here on the store has it from this process.
    fn recalled(&mut self, Remembered { memory, whole }: Remembered) -> Remembered {
        self.leftovers.remove(&memory.session);
        let before = self.living.insert(memory.session.clone(), Some((memory.epoch, memory.seq)));
        let whole = whole && before.is_none();
        if !whole {
            self.unsound.insert(memory.session.clone());
        }
        Remembered { memory, whole }
    }

    fn check(&mut self) {
        if self.desk.lock().is_broken() {
            return;
        }
        match self.in_store(|store, living| store.check(living)) {
            Ok(lost) if lost.is_empty() => {}
            Ok(lost) => {
                tracing::error!(rooms = lost.len(), "the store has lost rooms: they are written again");
                self.desk.counts.lost.add(lost.len() as u64);
                self.lack(lost);
            }
            Err(broken) => self.broke(&broken, Vec::new()),
        }
    }

    /// The store has nothing of these rooms.
    fn lack(&mut self, rooms: Vec<SessionId>) {
        let mut ledger = self.desk.lock();
        for session in rooms {
            self.living.insert(session.clone(), None);
            ledger.lacks(self.desk.now(), session);
        }
    }

    fn drop_leftovers(&mut self) {
        let some: HashSet<_> = self.leftovers.iter().take(DROPPED_AT_ONCE).cloned().collect();
        if some.is_empty() || self.desk.lock().is_broken() {
            return;
        }
        let writes: Vec<_> = some.iter().map(Write::Forget).collect();
        match self.in_store(|store, _| store.commit(&writes)) {
            Ok(()) => {
                self.desk.counts.expired.add(some.len() as u64);
                self.leftovers.retain(|session| !some.contains(session));
            }
            Err(broken) => self.broke(&broken, Vec::new()),
        }
    }

    /// Rooms that the store is behind with are told whole.
    fn ask_again(&self) {
        let rooms = self.desk.lock().ask_again();
        self.desk.counts.asked_again.add(rooms.len() as u64);
        for session in rooms {
            let _ = self.desk.voice.send(Said::Again(session));
        }
    }

    fn broke(&mut self, Broken(cause): &Broken, unwritten: Vec<Change>) {
        self.desk.counts.failures.add(1);
        let mut ledger = self.desk.lock();
        let already = !ledger.is_well();
        ledger.broke(self.desk.now(), unwritten);
        drop(ledger);
        if !already {
            tracing::error!(
                cause,
                "the store is broken: rooms live on in memory and would not survive a restart; it is tried to mend it"
            );
        }
        self.retry_at = self.desk.now() + span(self.backoff.next());
    }

    fn mend(&mut self) {
        match self.in_store(|store, _| store.mend()) {
            Err(broken) => {
                tracing::warn!(cause = broken.0, "the store is still broken");
                self.broke(&broken, Vec::new());
            }
            Ok(mended) => {
                self.desk.lock().try_again();
                if mended == Mended::Empty {
                    self.lack(self.living.keys().cloned().collect());
                }
                self.write();
            }
        }
    }

    /// The last write. Only if nothing is missing the next process may go on with the rooms as if nothing had been.
    fn end(&mut self) {
        let broken = self.desk.lock().is_broken();
        if !broken {
            self.write();
        }
        let ledger = self.desk.lock();
        let rooms = ledger.behind() + ledger.lost();
        let complete = ledger.complete() == self.shards && !ledger.is_broken() && rooms == 0;
        drop(ledger);
        if !complete {
            tracing::warn!(
                rooms,
                "the store ends without all that the rooms have told: they go on with what it has"
            );
            return;
        }
        self.living.retain(|session, _| !self.unsound.contains(session));
        match self.in_store(|store, sound| store.end(sound)) {
            Ok(()) => tracing::info!(rooms = self.living.len(), "the store has everything"),
            Err(Broken(cause)) => tracing::warn!(cause, "the store could not be ended in good order"),
        }
    }

    /// Does something with the store while everybody can see for how long.
    fn in_store<T>(
        &mut self,
        what: impl FnOnce(&mut dyn Store, &Living) -> Result<T, Broken>,
    ) -> Result<T, Broken> {
        self.desk.busy.store(self.desk.now().0.max(1), Ordering::Relaxed);
        let done = what(&mut *self.store, &self.living);
        self.desk.busy.store(0, Ordering::Relaxed);
        done
    }
}
