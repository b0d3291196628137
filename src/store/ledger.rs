//! What is on its way to the store and back: what shards have told and nobody has written yet, what they ask, and which rooms
//! the store is behind with. A state machine: it knows neither thread nor store.

use std::collections::{HashMap, HashSet};

use shards::core::memory::{Memory, Recall, Remember};
use shards::core::{Micros, SessionId, ShardId};

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
    /// How long a shard may gather before it tells.
    lag: Micros,
    commit: Micros,
    bytes_max: usize,
    rooms: HashMap<SessionId, Change>,
    bytes: usize,
    /// When what waits is to be written.
    due: Option<Micros>,
    /// When the oldest change was made of those that wait.
    oldest: Option<Micros>,
    /// Of those that are being written.
    writing: Option<Micros>,
    recalls: Vec<Recall>,
    /// Rooms of which the store lacks something that was told, and since when: they have to be told whole.
    behind: HashMap<SessionId, Micros>,
    /// Those of them that shards have been asked for and have not told yet.
    asked: HashMap<SessionId, Micros>,
    /// Rooms that are gone from their shards before those could be asked for what the store lacks of them.
    lost: usize,
    health: Health,
    /// Shards that have left, and have told everything.
    complete: HashSet<ShardId>,
    ending: bool,
}

/// What is known of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    /// It writes.
    Well,
    /// Nothing can be written.
    Broken,
    /// It can be reached again. Whether it writes, only writing shows: all that it lacks has to be told, and then written.
    Trying(Trial),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    Telling,
    Writing,
    Written,
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
    pub(super) fn new(lag: Micros, commit: Micros, bytes_max: usize) -> Self {
        Self {
            lag,
            commit,
            bytes_max,
            rooms: HashMap::new(),
            bytes: 0,
            due: None,
            oldest: None,
            writing: None,
            recalls: Vec::new(),
            behind: HashMap::new(),
            asked: HashMap::new(),
            lost: 0,
            health: Health::Well,
            complete: HashSet::new(),
            ending: false,
        }
    }

    /// Takes what a shard tells of changes that were made since this moment.
    pub(super) fn remember(&mut self, now: Micros, since: Micros, told: Remember) -> Taken {
        match told {
            Remember::Room(memory) => self.remember_room(now, since, memory),
            Remember::Forget(session) => {
                self.behind.remove(&session);
                self.asked.remove(&session);
                if self.rooms.len() >= FORGOTTEN_MAX && !self.rooms.contains_key(&session) {
                    return Taken::Dropped;
                }
                self.put(now, since, Change::Forget(session));
                Taken::Waits
            }
            Remember::Nothing(session) => {
                self.lost += usize::from(self.asked.remove(&session).is_some());
                Taken::Waits
            }
            Remember::Complete(shard) => {
                self.complete.insert(shard);
                Taken::Waits
            }
        }
    }

    fn remember_room(&mut self, now: Micros, since: Micros, mut memory: Box<Memory>) -> Taken {
        let asked = if is_whole(&memory) { self.asked.remove(&memory.session) } else { None };
        let lacking = asked.map_or(since, |asked| asked.min(since));
        // One room has to go, however large it is.
        let full = self.bytes > 0 && self.bytes + weight(&memory) > self.bytes_max;
        if self.is_broken() || full {
            // What of it waits is not written either.
            let lacking = if self.drop_room(&memory.session) { self.oldest_or(lacking) } else { lacking };
            self.falls_behind(memory.session, lacking);
            return Taken::Dropped;
        }
        self.note(now, since, lacking);
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
        self.put(now, since, Change::Room(memory));
        Taken::Waits
    }

    fn put(&mut self, now: Micros, since: Micros, change: Change) {
        let session = change.session().clone();
        self.drop_room(&session);
        self.bytes += change.weight();
        self.rooms.insert(session, change);
        self.note(now, since, since);
    }

    /// Something waits that was told now, and of which the store has lacked something since that other moment.
    fn note(&mut self, now: Micros, since: Micros, lacking: Micros) {
        earlier(&mut self.oldest, lacking);
        // What comes later than the lag allows does not wait for others.
        earlier(&mut self.due, now.min(since + self.lag) + self.commit);
    }

    fn drop_room(&mut self, session: &SessionId) -> bool {
        let before = self.rooms.remove(session);
        self.bytes -= before.as_ref().map_or(0, Change::weight);
        before.is_some()
    }

    fn falls_behind(&mut self, session: SessionId, since: Micros) {
        let known = self.behind.entry(session).or_insert(since);
        *known = since.min(*known);
    }

    fn oldest_or(&self, since: Micros) -> Micros {
        self.oldest.map_or(since, |oldest| oldest.min(since))
    }

    /// When the oldest change was made that would be lost if the process died now, as far as it has been told, or before.
    pub(super) fn unsaved_since(&self) -> Option<Micros> {
        let lacking = self.behind.values().chain(self.asked.values()).copied();
        lacking.chain(self.oldest).chain(self.writing).min()
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

    /// Rooms of which the store lacks something that nobody can tell it any more: they went to sleep meanwhile.
    pub(super) fn lost(&self) -> usize {
        self.lost
    }

    /// When what waits is to be written; at once, if somebody asks for it.
    pub(super) fn due(&self, now: Micros) -> Option<Micros> {
        let asked = || self.recalls.iter().any(|recall| self.rooms.contains_key(&recall.session));
        let hurry = self.ending || self.bytes > self.bytes_max / 2 || asked();
        self.due.map(|due| if hurry { now } else { due })
    }

    /// Everything that waits to be written.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        if let Health::Trying(_) = self.health {
            let trial = if self.behind() == 0 { Trial::Writing } else { Trial::Telling };
            self.health = Health::Trying(trial);
        }
        (self.due, self.bytes) = (None, 0);
        self.writing = self.oldest.take().filter(|_| !self.rooms.is_empty());
        std::mem::take(&mut self.rooms).into_values().collect()
    }

    /// This one of them can't be: the store lacks what it would follow. It has to be told whole, and until then the store keeps
    /// what it has.
    pub(super) fn put_aside(&mut self, now: Micros, session: SessionId) {
        self.lacks(self.writing.unwrap_or(now), session);
    }

    /// They are written: when the oldest of them was made.
    pub(super) fn wrote(&mut self) -> Option<Micros> {
        if self.health == Health::Trying(Trial::Writing) {
            self.health = Health::Trying(Trial::Written);
        }
        self.writing.take()
    }

    /// Everything that is asked and can be answered: what waits to be written of a room, such as that it has ended, is written
    /// first.
    pub(super) fn take_recalls(&mut self) -> Vec<Recall> {
        let (broken, rooms) = (self.is_broken(), &self.rooms);
        let can_be = |recall: &mut Recall| broken || !rooms.contains_key(&recall.session);
        self.recalls.extract_if(.., can_be).collect()
    }

    /// Whether something is asked.
    pub(super) fn is_asked(&self) -> bool {
        !self.recalls.is_empty()
    }

    /// These could not be written, nor can anything else. Ended rooms still have to be forgotten; of the others it is
    /// enough to know their names: they are told again, whole, when there is a store.
    pub(super) fn broke(&mut self, now: Micros, unwritten: Vec<Change>) {
        let writing = self.wrote().unwrap_or(now);
        let since = self.oldest_or(writing);
        let waiting = self.take_changes();
        (self.writing, self.health) = (None, Health::Broken);
        // What came later counts.
        for change in unwritten.into_iter().chain(waiting) {
            match change {
                Change::Room(memory) => {
                    self.drop_room(&memory.session);
                    self.falls_behind(memory.session, since);
                }
                Change::Forget(session) => {
                    self.behind.remove(&session);
                    self.put(now, since, Change::Forget(session));
                }
            }
        }
    }

    /// It can be reached again.
    pub(super) fn try_again(&mut self) {
        self.health = Health::Trying(Trial::Telling);
    }

    /// Whether it has just turned out that it writes.
    pub(super) fn is_well_again(&mut self) -> bool {
        let proven = match self.health {
            Health::Trying(trial) => trial == Trial::Written || self.rooms.is_empty(),
            Health::Well | Health::Broken => false,
        };
        let well = proven && self.behind() == 0;
        if well {
            self.health = Health::Well;
        }
        well
    }

    /// Whether it is known to write.
    pub(super) fn is_well(&self) -> bool {
        self.health == Health::Well
    }

    /// Whether nothing can be written.
    pub(super) fn is_broken(&self) -> bool {
        self.health == Health::Broken
    }

    /// The store lacks something of this room, since this moment.
    pub(super) fn lacks(&mut self, since: Micros, session: SessionId) {
        let forgotten = matches!(self.rooms.get(&session), Some(Change::Forget(_)));
        if !forgotten && !self.asked.contains_key(&session) {
            self.falls_behind(session, since);
        }
    }

    /// Some of the rooms that have to be told whole, if there is room for them.
    pub(super) fn ask_again(&mut self) -> Vec<SessionId> {
        if self.is_broken() || self.bytes > self.bytes_max / 2 {
            return Vec::new();
        }
        let some: Vec<_> = self.behind.keys().take(AGAIN_AT_ONCE).cloned().collect();
        for session in &some {
            if let Some(since) = self.behind.remove(session) {
                let asked = self.asked.entry(session.clone()).or_insert(since);
                *asked = since.min(*asked);
            }
        }
        some
    }

    /// Rooms that the store is behind with, those included that shards have been asked for.
    pub(super) fn behind(&self) -> usize {
        self.behind.len() + self.asked.len()
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

fn earlier(known: &mut Option<Micros>, moment: Micros) {
    *known = Some(known.map_or(moment, |known| known.min(moment)));
}

/// Whether these are all events that the room remembers.
pub(super) fn is_whole(memory: &Memory) -> bool {
    memory.oldest + memory.events.len() as u64 == memory.seq + 1
}

/// Whether the events told come right behind what is there, which ends with this number of this numbering.
pub(super) fn follows(memory: &Memory, (epoch, seq): (u64, u64)) -> bool {
    let same = memory.epoch == epoch || memory.goes_on_from(epoch, seq);
    same && seq + memory.events.len() as u64 == memory.seq
}
