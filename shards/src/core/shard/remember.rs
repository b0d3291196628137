//! What rooms tell the store: each changed room once within the lag, and that it has ended.
//!
//! A room that has changed stands in a list, with the moment at which the store is told. What it is told is made only when it
//! can leave, so that nothing waits but names; the last words of rooms that have ended are the exception. Where there is no
//! store, nothing of this happens.

use std::collections::VecDeque;

use super::super::ids::{RoomKey, SessionId};
use super::super::memory::{Remember, Remembers};
use super::super::report::RoomEnd;
use super::super::time::Micros;
use super::Shard;

/// Rooms told of in one message.
const AT_ONCE: usize = 64;
/// Bytes of events with which no more is added to a message: it is one of many in a queue.
const BYTES_AT_ONCE: usize = 65_536;
/// Last words of ended rooms that may wait while the node drains.
const LAST_WORDS_MAX: usize = 1_024;

/// How much of a room the store has been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::core) struct InStore {
    /// The number of the last event.
    seq: u64,
    /// Whether more has happened since: then the room stands in the list.
    changed: bool,
    /// Whether the room began although the store could not say what it had of it.
    unasked: bool,
}

/// What is to be told.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// Rooms that have changed in this turn.
    fresh: Vec<RoomKey>,
    /// Rooms that have changed, with when the store is told, the earliest first.
    changed: VecDeque<(Micros, RoomKey)>,
    /// What rooms say that have ended, or are none.
    last_words: VecDeque<Remember>,
    /// What found no room in the mesh.
    returned: Option<Remembers>,
    /// The shard leaves: nothing waits for its moment any more.
    leaving: bool,
    /// It has said so.
    left: bool,
}

impl Shard {
    /// A room is not as the store knows it any more.
    pub(super) fn changed(&mut self, key: RoomKey) {
        if self.config.store.is_none() {
            return;
        }
        let Some(room) = self.rooms.find_mut(key) else { return };
        let told = &mut room.kept.get_or_insert_default().in_store;
        if !told.changed {
            told.changed = true;
            self.telling.fresh.push(key);
        }
    }

    /// The store has this much of a room already.
    pub(super) fn stored(&mut self, key: RoomKey, seq: u64) {
        if let Some(room) = self.rooms.find_mut(key) {
            room.kept.get_or_insert_default().in_store.seq = seq;
        }
    }

    /// The room began although the store could not say what it had of it.
    pub(super) fn began_unasked(&mut self, key: RoomKey) {
        if let Some(room) = self.rooms.find_mut(key) {
            room.kept.get_or_insert_default().in_store.unasked = true;
        }
    }

    pub(super) fn has_begun_unasked(&self, key: RoomKey) -> bool {
        let room = self.rooms.find(key);
        room.and_then(|room| room.kept.as_ref()).is_some_and(|kept| kept.in_store.unasked)
    }

    /// The store lacks something of the room.
    pub(super) fn remember_again(&mut self, session: SessionId) {
        if let Some(key) = self.find_room(&session) {
            self.stored(key, 0);
            self.changed(key);
        } else {
            self.telling.last_words.push_back(Remember::Nothing(session));
        }
    }

    /// Rooms that have changed in this turn get their moment.
    pub(super) fn note_changed(&mut self, now: Micros) {
        let Some(store) = &self.config.store else { return };
        let at = now + store.lag;
        let Telling { fresh, changed, .. } = &mut self.telling;
        changed.extend(fresh.drain(..).map(|key| (at, key)));
    }

    /// When the store has to be told of the next room.
    pub(super) fn telling_due(&self) -> Option<Micros> {
        // What could not leave is tried again by whoever takes it along.
        let Telling { changed, returned, .. } = &self.telling;
        changed.front().filter(|_| returned.is_none()).map(|&(at, _)| at)
    }

    /// When the oldest change was made that the store has not been told. A room that is told earlier than it would have to
    /// be counts until then: what is older than this has been told in any case.
    pub(super) fn untold_since(&self) -> Option<Micros> {
        let Telling { changed, returned, .. } = &self.telling;
        let lag = self.config.store.as_ref()?.lag;
        let waiting = changed.front().map(|&(at, _)| at - lag);
        [waiting, returned.as_ref().map(|told| told.since)].into_iter().flatten().min()
    }

    /// What the store is to be told next: as much as goes into one message.
    pub fn next_remembers(&mut self, now: Micros) -> Option<Remembers> {
        if let Some(told) = self.telling.returned.take() {
            return Some(told);
        }
        let since = self.untold_since().unwrap_or(now);
        let (mut all, mut bytes) = (Vec::new(), 0);
        while all.len() < AT_ONCE && bytes < BYTES_AT_ONCE {
            let Some(remember) = self.next_remember(now) else { break };
            if let Remember::Room(memory) = &remember {
                bytes += memory.events.iter().map(|event| event.json.len()).sum::<usize>();
            }
            all.push(remember);
        }
        self.counters.store.told += all.len() as u64;
        (!all.is_empty()).then_some(Remembers { since, all })
    }

    fn next_remember(&mut self, now: Micros) -> Option<Remember> {
        if let Some(last) = self.telling.last_words.pop_front() {
            return Some(last);
        }
        while let Some(&(at, key)) = self.telling.changed.front()
            && (at <= now || self.telling.leaving)
        {
            self.telling.changed.pop_front();
            if let Some(news) = self.news(key) {
                return Some(news);
            }
        }
        let left = !self.telling.leaving || std::mem::replace(&mut self.telling.left, true);
        (!left).then_some(Remember::Complete(self.id))
    }

    /// What the store has not been told of a room; nothing if it has been told everything.
    fn news(&mut self, key: RoomKey) -> Option<Remember> {
        let room = self.rooms.find(key)?;
        let told = room.kept.as_ref()?.in_store;
        if !told.changed {
            return None;
        }
        let memory = Box::new(room.memory(self.epoch(key, room), told.seq));
        let told = InStore { seq: memory.seq, changed: false, ..told };
        self.rooms.find_mut(key)?.kept.get_or_insert_default().in_store = told;
        Some(Remember::Room(memory))
    }

    /// There was no room for it: it is the next again.
    pub fn return_remembers(&mut self, told: Remembers) {
        self.telling.returned = Some(told);
    }

    /// Whether the store could be told something now.
    pub fn must_tell_store(&self, now: Micros) -> bool {
        let Telling { changed, last_words, returned, .. } = &self.telling;
        let due = changed.front().is_some_and(|&(at, _)| at <= now);
        due || !last_words.is_empty() || returned.is_some()
    }

    /// Whether anything has to leave before the shard does.
    pub fn has_remembers(&self) -> bool {
        !self.telling.last_words.is_empty() || self.telling.returned.is_some()
    }

    /// What is still to be told and asked, for the oracle of the simulation: rooms that have changed, words of ended ones, rooms
    /// and clients that wait for the store.
    pub(crate) fn left_for_store(&self) -> [usize; 4] {
        let Telling { fresh, changed, last_words, returned, .. } = &self.telling;
        let (rooms, clients) = self.store_wait.counts();
        [fresh.len() + changed.len(), last_words.len() + usize::from(returned.is_some()), rooms, clients]
    }

    /// The shard leaves: everything is told now, and then that it was everything.
    pub fn tell_store_all(&mut self, now: Micros) {
        self.note_changed(now);
        self.telling.leaving = self.config.store.is_some();
    }

    /// Whether as many last words wait as may.
    pub(super) fn last_words_full(&self) -> bool {
        self.telling.last_words.len() >= LAST_WORDS_MAX
    }

    /// Whether the store is going to hear that this room has ended.
    pub(super) fn is_being_forgotten(&self, session: &SessionId) -> bool {
        let Telling { last_words, returned, .. } = &self.telling;
        let forgets = |told: &Remember| matches!(told, Remember::Forget(forgotten) if forgotten == session);
        last_words.iter().chain(returned.iter().flat_map(|told| &told.all)).any(forgets)
    }

    /// A room ends. With the node, it only goes to sleep; otherwise nobody will come back to it.
    pub(super) fn say_last_words(&mut self, key: RoomKey, why: RoomEnd) {
        if self.config.store.is_none() {
            return;
        }
        let last = match why {
            RoomEnd::Drained => self.news(key),
            RoomEnd::Lingered | RoomEnd::Evicted | RoomEnd::Closed => {
                self.rooms.find(key).map(|room| Remember::Forget(room.session_id.clone()))
            }
        };
        self.telling.last_words.extend(last);
    }
}
