//! What is on its way to the store and back: what shards have told and nobody has written yet, what they ask, and which rooms
//! the store is behind with. A state machine: it knows neither thread nor store.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use shards::core::memory::{Memory, Recall, Remember};
use shards::core::{SessionId, ShardId};

use super::form::weight;

/// Ended rooms that wait to be forgotten by a store that is away. Past that they stay in it until they have lingered.
const FORGOTTEN_MAX: usize = 1 << 20;
/// Rooms asked for again at once: they come whole.
const AGAIN_AT_ONCE: usize = 128;

/// What has to become of a room in the store.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// It is as this says.
    Room(Box<Memory>),
    /// It has ended.
    Forget(SessionId),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    commit: Duration,
    bytes_max: usize,
    rooms: HashMap<SessionId, Change>,
    bytes: usize,
    /// When the oldest change came.
    since: Option<Instant>,
    recalls: Vec<Recall>,
    /// Rooms of which the store lacks something that was told: they have to be told whole.
    behind: HashSet<SessionId>,
    /// Nothing can be written.
    broken: bool,
    /// Shards that have left, and have told everything.
    complete: HashSet<ShardId>,
    ending: bool,
}

/// What the ledger made of what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Taken {
    /// It will be written.
    Waits,
    /// There is no room for it, or no store: it has to be told again.
    Dropped,
}

impl Ledger {
    pub(super) fn new(commit: Duration, bytes_max: usize) -> Self {
        Self {
            commit,
            bytes_max,
            rooms: HashMap::new(),
            bytes: 0,
            since: None,
            recalls: Vec::new(),
            behind: HashSet::new(),
            broken: false,
            complete: HashSet::new(),
            ending: false,
        }
    }

    /// Takes what a shard tells.
    pub(super) fn remember(&mut self, now: Instant, told: Remember) -> Taken {
        match told {
            Remember::Room(memory) => self.remember_room(now, memory),
            Remember::Forget(session) => {
                self.behind.remove(&session);
                if self.rooms.len() >= FORGOTTEN_MAX && !self.rooms.contains_key(&session) {
                    return Taken::Dropped;
                }
                self.put(now, Change::Forget(session));
                Taken::Waits
            }
            Remember::Complete(shard) => {
                self.complete.insert(shard);
                Taken::Waits
            }
        }
    }

    fn remember_room(&mut self, now: Instant, mut memory: Box<Memory>) -> Taken {
        if self.broken || self.bytes + weight(&memory) > self.bytes_max {
            self.drop_room(&memory.session);
            self.behind.insert(memory.session);
            return Taken::Dropped;
        }
        if let Some(Change::Room(before)) = self.rooms.get_mut(&memory.session) {
            self.bytes -= weight(before);
            if follows(&memory, (before.epoch, before.seq)) {
                let mut events = std::mem::take(&mut before.events);
                events.append(&mut memory.events);
                let kept = (memory.seq + 1 - memory.oldest) as usize;
                events.drain(..events.len().saturating_sub(kept));
                memory.events = events;
            }
            self.bytes += weight(&memory);
            *before = memory;
            return Taken::Waits;
        }
        self.put(now, Change::Room(memory));
        Taken::Waits
    }

    fn put(&mut self, now: Instant, change: Change) {
        let session = change.session().clone();
        self.drop_room(&session);
        self.bytes += change.weight();
        self.rooms.insert(session, change);
        self.since.get_or_insert(now);
    }

    fn drop_room(&mut self, session: &SessionId) {
        if let Some(before) = self.rooms.remove(session) {
            self.bytes -= before.weight();
        }
    }

    /// Takes a question.
    pub(super) fn recall(&mut self, recall: Recall) {
        self.recalls.push(recall);
    }

    /// The node ends: what waits is written at once.
    pub(super) fn end(&mut self) {
        self.ending = true;
    }

    /// Whether that was said.
    pub(super) fn ends(&self) -> bool {
        self.ending
    }

    /// How many shards have left and told everything.
    pub(super) fn complete(&self) -> usize {
        self.complete.len()
    }

    /// When what waits is to be written; at once, if somebody asks for it.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let asked = || self.recalls.iter().any(|recall| self.rooms.contains_key(&recall.session));
        let hurry = self.ending || self.bytes > self.bytes_max / 2 || asked();
        self.since.map(|since| if hurry { now } else { since + self.commit })
    }

    /// Everything that waits to be written.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        (self.since, self.bytes) = (None, 0);
        std::mem::take(&mut self.rooms).into_values().collect()
    }

    /// Everything that is asked.
    pub(super) fn take_recalls(&mut self) -> Vec<Recall> {
        std::mem::take(&mut self.recalls)
    }

    /// Whether something is asked.
    pub(super) fn is_asked(&self) -> bool {
        !self.recalls.is_empty()
    }

    /// These could not be written, nor can anything else. Ended rooms still have to be forgotten; of the others it is
    /// enough to know their names: they are told again, whole, when there is a store.
    pub(super) fn broke(&mut self, now: Instant, unwritten: Vec<Change>) {
        self.broken = true;
        let waiting = self.take_changes();
        // What came later counts.
        for change in unwritten.into_iter().chain(waiting) {
            match change {
                Change::Room(memory) => {
                    self.drop_room(&memory.session);
                    self.behind.insert(memory.session);
                }
                Change::Forget(session) => {
                    self.behind.remove(&session);
                    self.put(now, Change::Forget(session));
                }
            }
        }
    }

    /// Something can be written again.
    pub(super) fn mended(&mut self) {
        self.broken = false;
    }

    /// Whether nothing can be written.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// The store lacks something of this room.
    pub(super) fn lacks(&mut self, session: SessionId) {
        if !matches!(self.rooms.get(&session), Some(Change::Forget(_))) {
            self.behind.insert(session);
        }
    }

    /// Some of the rooms that have to be told whole, if there is room for them.
    pub(super) fn ask_again(&mut self) -> Vec<SessionId> {
        if self.broken || self.bytes > self.bytes_max / 2 {
            return Vec::new();
        }
        let some: Vec<_> = self.behind.iter().take(AGAIN_AT_ONCE).cloned().collect();
        some.iter().for_each(|session| {
            self.behind.remove(session);
        });
        some
    }

    /// Rooms that the store is behind with.
    pub(super) fn behind(&self) -> usize {
        self.behind.len()
    }

    /// Changes that wait, and their bytes.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.rooms.len(), self.bytes)
    }
}

impl Change {
    /// Of which room it is.
    pub(super) fn session(&self) -> &SessionId {
        match self {
            Self::Room(memory) => &memory.session,
            Self::Forget(session) => session,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Room(memory) => weight(memory),
            Self::Forget(_) => 0,
        }
    }
}

/// Whether the events told come right behind what is there, which ends with this number of this numbering.
pub(super) fn follows(memory: &Memory, (epoch, seq): (u64, u64)) -> bool {
    let same = memory.epoch == epoch || memory.earlier.iter().any(|of| (of.epoch, of.seq) == (epoch, seq));
    same && seq + memory.events.len() as u64 == memory.seq
}

#[cfg(test)]
mod tests {
    use super::super::form::tests::memory;
    use super::*;

    const COMMIT: Duration = Duration::from_millis(100);

    fn room(session: &str, numbers: std::ops::RangeInclusive<u64>) -> Remember {
        Remember::Room(Box::new(memory(session, 1, numbers)))
    }

    fn session(name: &str) -> SessionId {
        SessionId::parse(name).expect("valid")
    }

    fn forget(name: &str) -> Remember {
        Remember::Forget(session(name))
    }

    fn only(ledger: &mut Ledger) -> Box<Memory> {
        match ledger.take_changes().pop() {
            Some(Change::Room(memory)) => memory,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_told_of_a_room_grows_together_while_it_waits_and_keeps_to_what_the_room_keeps() {
        let (mut ledger, now) = (Ledger::new(COMMIT, 1 << 20), Instant::now());
        assert_eq!(ledger.remember(now, room("a", 1..=3)), Taken::Waits);
        let mut second = memory("a", 1, 4..=5);
        second.oldest = 1;
        assert_eq!(ledger.remember(now + COMMIT, Remember::Room(Box::new(second))), Taken::Waits);
        assert_eq!(ledger.due(now), Some(now + COMMIT), "counted from the first");
        let mut third = memory("a", 1, 6..=6);
        third.oldest = 3;
        assert_eq!(ledger.remember(now, Remember::Room(Box::new(third))), Taken::Waits);
        let whole = only(&mut ledger);
        assert_eq!((whole.events.len(), whole.seq, whole.oldest), (4, 6, 3));
        assert_eq!(ledger.waiting(), (0, 0));
        assert_eq!(ledger.due(now), None);
    }

    #[test]
    fn what_does_not_follow_takes_the_place_of_what_waits() {
        let (mut ledger, now) = (Ledger::new(COMMIT, 1 << 20), Instant::now());
        for numbers in [1..=3, 5..=6] {
            assert_eq!(ledger.remember(now, room("a", numbers)), Taken::Waits);
        }
        assert_eq!(only(&mut ledger).events.len(), 2);
        assert_eq!(ledger.remember(now, room("a", 1..=3)), Taken::Waits);
        assert_eq!(ledger.remember(now, forget("a")), Taken::Waits);
        assert_eq!(ledger.take_changes(), [Change::Forget(session("a"))]);
    }

    #[test]
    fn what_is_too_much_is_asked_for_again_when_there_is_room() {
        let bytes_max = weight(&memory("a", 1, 1..=3)) * 5 / 2;
        let (mut ledger, now) = (Ledger::new(COMMIT, bytes_max), Instant::now());
        let taken: Vec<_> = ["a", "b", "c"].map(|name| ledger.remember(now, room(name, 1..=3))).into();
        assert_eq!(taken, [Taken::Waits, Taken::Waits, Taken::Dropped]);
        assert_eq!(ledger.due(now), Some(now), "it is time to write");
        assert_eq!((ledger.behind(), ledger.ask_again()), (1, Vec::new()));
        assert_eq!(ledger.take_changes().len(), 2);
        assert_eq!(ledger.ask_again(), [session("c")]);
        assert_eq!(ledger.behind(), 0);
    }

    #[test]
    fn a_store_that_breaks_leaves_names_and_what_is_to_be_forgotten() {
        let (mut ledger, now) = (Ledger::new(COMMIT, 1 << 20), Instant::now());
        let unwritten = vec![Change::Room(Box::new(memory("a", 1, 1..=3))), Change::Forget(session("b"))];
        for told in [room("c", 1..=1), room("b", 1..=1), forget("a")] {
            assert_eq!(ledger.remember(now, told), Taken::Waits);
        }
        ledger.broke(now, unwritten);
        assert_eq!(ledger.remember(now, room("d", 1..=1)), Taken::Dropped);
        assert_eq!(ledger.remember(now, forget("d")), Taken::Waits);
        assert_eq!(ledger.ask_again(), [], "there is nowhere to write it");
        ledger.mended();
        let mut again = ledger.ask_again();
        again.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        assert_eq!(again, [session("b"), session("c")]);
        let mut forgotten: Vec<_> =
            ledger.take_changes().iter().map(|change| change.session().to_string()).collect();
        forgotten.sort();
        assert_eq!(forgotten, ["a", "d"]);
    }

    #[test]
    fn a_question_about_what_waits_hurries_the_writing() {
        let (mut ledger, now) = (Ledger::new(COMMIT, 1 << 20), Instant::now());
        let ask = |name: &str| Recall { shard: ShardId(0), session: session(name) };
        assert_eq!(ledger.remember(now, room("a", 1..=1)), Taken::Waits);
        ledger.recall(ask("b"));
        assert_eq!(ledger.due(now), Some(now + COMMIT));
        ledger.recall(ask("a"));
        assert_eq!(ledger.due(now), Some(now));
        assert_eq!(ledger.take_recalls().len(), 2);
        assert_eq!(ledger.remember(now, Remember::Complete(ShardId(1))), Taken::Waits);
        assert_eq!((ledger.complete(), ledger.ends()), (1, false));
    }
}
