//! A store, and the control plane's way to it: what shards tell is gathered, written later and then lasts; what they ask is
//! answered late, in any order of rooms, wrongly never, and sometimes not at all.
//!
//! It is written without the real one's code, which shards may not use: one room at a time, and nothing is clever.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::dice::Dice;
use super::stored::StorePlan;
use super::world::{Event, World};
use crate::core::memory::{Memory, Recall, Recalled, Remember, Remembered, StoreFailed};
use crate::core::{Micros, SessionId, ShardId, ShardMessage};

/// When a shard whose queue was full is told again.
const RETRY: Micros = Micros::from_ms(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Store {
    dice: Dice,
    /// What lasts, whatever becomes of the node.
    rooms: BTreeMap<String, Memory>,
    /// Rooms of which it was told all there was.
    clean: BTreeSet<String>,
    /// What is lost with the node.
    process: Process,
}

/// The control plane's half.
#[derive(Debug, Default)]
struct Process {
    /// What waits to be written, and until when.
    waiting: BTreeMap<String, Change>,
    due: Micros,
    /// What is being written, and when that is done.
    writing: Option<(Micros, BTreeMap<String, Change>)>,
    asked: VecDeque<Recall>,
    /// Answers on their way, by the moment at which they arrive.
    answers: BTreeMap<(Micros, u64), (ShardId, Recalled)>,
    answered: u64,
    /// Rooms that have to be told whole.
    behind: BTreeSet<String>,
    /// When they are asked for again, where there was no room for that.
    again_at: Micros,
    /// Rooms that were asked for again, and not told since.
    lacking: BTreeSet<String>,
    /// Rooms that were gone by then.
    lost: BTreeSet<String>,
    /// Rooms that were asked for, or told.
    living: BTreeSet<String>,
    /// Those of which it may have all there is.
    sound: BTreeSet<String>,
    /// Rooms of earlier lives, and when those go to which nobody has come back.
    leftovers: BTreeSet<String>,
    drop_at: Micros,
    complete: BTreeSet<ShardId>,
    broken: bool,
}

#[derive(Debug)]
enum Change {
    Room(Box<Memory>),
    Forget,
}

impl Store {
    pub(super) fn new(dice: &mut Dice) -> Self {
        Self {
            dice: dice.split(),
            rooms: BTreeMap::new(),
            clean: BTreeSet::new(),
            process: Process::default(),
        }
    }

    /// What would be there after a crash.
    pub(super) fn room(&self, name: &str) -> Option<&Memory> {
        self.rooms.get(name)
    }

    pub(super) fn rooms(&self) -> impl Iterator<Item = (&String, &Memory)> {
        self.rooms.iter()
    }

    /// Whether it has a room, or has been told of one.
    pub(super) fn knows(&self, name: &str) -> bool {
        let Process { waiting, writing, .. } = &self.process;
        let writing = writing.as_ref().and_then(|(_, writing)| writing.get(name));
        match waiting.get(name).or(writing) {
            Some(change) => matches!(change, Change::Room(_)),
            None => self.rooms.contains_key(name),
        }
    }

    /// The node has ended in good order: what waits is written. Whether everything is there.
    pub(super) fn finish(&mut self, shards: usize) -> bool {
        let writing = self.process.writing.take().map(|(_, writing)| writing).unwrap_or_default();
        let waiting = std::mem::take(&mut self.process.waiting);
        if self.process.broken || self.process.complete.len() < shards {
            return false;
        }
        self.land(writing);
        self.land(waiting);
        let Process { sound, behind, lacking, lost, .. } = &mut self.process;
        sound.retain(|name| ![&behind, &lacking, &lost].iter().any(|missing| missing.contains(name)));
        self.clean.append(sound);
        behind.is_empty() && lacking.is_empty() && lost.is_empty()
    }

    /// Whether a room can go on as if nothing had been.
    pub(super) fn is_clean(&self, name: &str) -> bool {
        self.clean.contains(name)
    }

    /// Another node begins. Rooms that nobody comes back to go at that moment.
    pub(super) fn begin(&mut self, plan: &StorePlan, clean: bool, drop_at: Micros) {
        if !clean && !plan.marks_rooms {
            self.clean.clear();
        }
        let leftovers = self.rooms.keys().cloned().collect();
        self.process = Process { leftovers, drop_at, ..Process::default() };
    }

    fn land(&mut self, changes: BTreeMap<String, Change>) {
        for (name, change) in changes {
            self.process.leftovers.remove(&name);
            self.clean.remove(&name);
            match change {
                Change::Room(memory) => self.write(name, *memory),
                Change::Forget => {
                    self.process.living.remove(&name);
                    self.process.sound.remove(&name);
                    self.rooms.remove(&name);
                }
            }
        }
    }

    fn write(&mut self, name: String, mut memory: Memory) {
        let first = memory.seq + 1 - memory.events.len() as u64;
        let before = self.rooms.remove(&name).filter(|before| follows(&memory, before));
        if before.is_none() && memory.oldest < first {
            self.process.behind.insert(name.clone());
        }
        join(before.map(|before| before.events).unwrap_or_default(), &mut memory);
        self.process.living.insert(name.clone());
        self.process.sound.insert(name.clone());
        self.rooms.insert(name, memory);
    }

    /// What a question is answered.
    fn read(&mut self, session: SessionId) -> Recalled {
        let name = session.as_str();
        self.process.leftovers.remove(name);
        let memory = self.rooms.get(name).cloned();
        let found = memory.map(|memory| {
            let known = !self.process.living.insert(name.to_owned());
            let whole = self.clean.remove(name) && !known;
            if whole {
                self.process.sound.insert(name.to_owned());
            }
            Remembered { memory: Box::new(memory), whole }
        });
        Recalled { session, memory: Ok(found) }
    }

    fn take(&mut self, told: Remember, plan: &StorePlan, now: Micros) {
        let dropped = self.dice.permille(plan.drop_permille);
        let process = &mut self.process;
        if process.waiting.is_empty() {
            process.due = now + Micros(self.dice.range(0, plan.commit_max.0));
        }
        match told {
            Remember::Complete(shard) => drop(process.complete.insert(shard)),
            Remember::Nothing(session) => process.lost.extend(process.lacking.take(session.as_str())),
            Remember::Forget(session) => {
                process.behind.remove(session.as_str());
                process.lacking.remove(session.as_str());
                process.waiting.insert(session.as_str().to_owned(), Change::Forget);
            }
            Remember::Room(memory) if process.broken || dropped => {
                process.waiting.remove(memory.session.as_str());
                process.behind.insert(memory.session.as_str().to_owned());
            }
            Remember::Room(mut memory) => {
                let name = memory.session.as_str().to_owned();
                process.lacking.remove(&name);
                if let Some(Change::Room(before)) = process.waiting.remove(&name)
                    && follows(&memory, &before)
                {
                    join(before.events, &mut memory);
                }
                process.waiting.insert(name, Change::Room(memory));
            }
        }
    }

    /// Nothing can be written: of what waits, the names are enough.
    fn breaks(&mut self) {
        self.process.broken = true;
        let writing = self.process.writing.take().map(|(_, writing)| writing).unwrap_or_default();
        let waiting = std::mem::take(&mut self.process.waiting);
        for (name, change) in writing.into_iter().chain(waiting) {
            match change {
                Change::Room(_) => {
                    self.process.waiting.remove(&name);
                    self.process.behind.insert(name);
                }
                Change::Forget => {
                    self.process.behind.remove(&name);
                    self.process.waiting.insert(name, Change::Forget);
                }
            }
        }
    }
}

/// Whether what is told comes right behind what is there.
fn follows(memory: &Memory, before: &Memory) -> bool {
    let (epoch, seq) = (before.epoch, before.seq);
    let same = memory.epoch == epoch || memory.goes_on_from(epoch, seq);
    same && seq + memory.events.len() as u64 == memory.seq
}

/// Puts earlier events in front, as far as they are still to be kept.
fn join(mut events: Vec<crate::core::memory::KeptEvent>, memory: &mut Memory) {
    events.append(&mut memory.events);
    let kept = (memory.seq + 1 - memory.oldest) as usize;
    events.drain(..events.len().saturating_sub(kept));
    memory.events = events;
}

impl World {
    /// A shard tells the store what is due, until the queue is full.
    pub(super) fn deliver_remembers(&mut self, shard: usize) -> bool {
        let control = self.nodes.len();
        while let Some(told) = self.nodes[shard].shard.next_remembers(self.now) {
            if let Err(ShardMessage::Remember(told)) =
                self.mesh_send(shard, control, ShardMessage::Remember(told))
            {
                self.nodes[shard].shard.return_remembers(told);
                self.wake_at(shard, self.now + RETRY);
                return false;
            }
        }
        true
    }

    /// A shard asks for a room. Where there is no room for the question, nobody can say.
    pub(super) fn ask_store(&mut self, shard: usize, session: SessionId) {
        self.lives.asked.insert(session.as_str().to_owned());
        let recall = Box::new(Recall { shard: ShardId(shard as u16), session });
        let control = self.nodes.len();
        if let Err(ShardMessage::Recall(recall)) =
            self.mesh_send(shard, control, ShardMessage::Recall(recall))
        {
            let recalled = Recalled { session: recall.session, memory: Err(StoreFailed) };
            self.take_recalled(shard, Box::new(recalled));
        }
    }

    pub(super) fn store_told(&mut self, told: Vec<Remember>) {
        let Some(plan) = self.scenario.store.clone() else { return self.fail("there is no store".into()) };
        told.into_iter().for_each(|told| self.store.take(told, &plan, self.now));
        let at = self.store.process.due;
        self.schedule(at, Event::Store);
    }

    pub(super) fn store_asked(&mut self, recall: Recall) {
        self.store.process.asked.push_back(recall);
        self.store_turn();
    }

    /// The store does what is due.
    pub(super) fn store_turn(&mut self) {
        let Some(plan) = self.scenario.store.clone() else { return };
        let now = self.now;
        self.store_may_break(&plan);
        let store = &mut self.store;
        if store.process.writing.as_ref().is_some_and(|(done, _)| *done <= now) {
            let (_, writing) = store.process.writing.take().unwrap_or_default();
            store.land(writing);
        }
        self.store_begins_to_write(&plan);
        self.store_reads(&plan);
        self.store_answers();
        self.store_asks_again();
        let process = &mut self.store.process;
        if now >= process.drop_at && !process.broken {
            for name in std::mem::take(&mut process.leftovers) {
                self.store.rooms.remove(&name);
                self.store.clean.remove(&name);
            }
        }
    }

    fn store_may_break(&mut self, plan: &StorePlan) {
        let Some((from, to)) = plan.broken else { return };
        let broken = (from..to).contains(&self.now);
        if broken && !self.store.process.broken {
            self.store.breaks();
            self.schedule(to, Event::Store);
        }
        self.store.process.broken = broken;
    }

    fn store_begins_to_write(&mut self, plan: &StorePlan) {
        let now = self.now;
        let process = &mut self.store.process;
        if process.waiting.is_empty() || process.writing.is_some() || process.broken {
            return;
        }
        let hurry = process.asked.iter().any(|recall| process.waiting.contains_key(recall.session.as_str()));
        if !hurry && process.due > now {
            return;
        }
        let done = now + Micros(self.store.dice.range(0, plan.write_max.0));
        process.writing = Some((done, std::mem::take(&mut process.waiting)));
        self.schedule(done, Event::Store);
    }

    /// Looks up what is asked for, once nothing of it is on its way there.
    fn store_reads(&mut self, plan: &StorePlan) {
        let now = self.now;
        for _ in 0..self.store.process.asked.len() {
            let store = &mut self.store;
            let Some(Recall { shard, session }) = store.process.asked.pop_front() else { return };
            let name = session.as_str();
            let written = |writing: &(Micros, BTreeMap<String, Change>)| !writing.1.contains_key(name);
            let written = store.process.writing.as_ref().is_none_or(written)
                && !store.process.waiting.contains_key(name);
            if !written && !store.process.broken {
                store.process.asked.push_back(Recall { shard, session });
                continue;
            }
            let fails = store.process.broken || store.dice.permille(plan.fail_permille);
            let late = store.dice.permille(plan.late_permille);
            let never = late && store.dice.permille(500);
            let most = if late { Micros::from_s(8) } else { plan.answer_max };
            let at = now + Micros(store.dice.range(0, most.0));
            let recalled =
                if fails { Recalled { session, memory: Err(StoreFailed) } } else { store.read(session) };
            if !never {
                store.process.answered += 1;
                let number = store.process.answered;
                store.process.answers.insert((at, number), (shard, recalled));
                self.schedule(at, Event::Store);
            }
        }
    }

    fn store_answers(&mut self) {
        let control = self.nodes.len();
        while let Some(first) = self.store.process.answers.first_entry()
            && first.key().0 <= self.now
        {
            let (shard, recalled) = first.remove();
            // A shard that has no room for it goes on without.
            let _ = self.mesh_send(control, shard.index(), ShardMessage::Recalled(Box::new(recalled)));
        }
    }

    fn store_asks_again(&mut self) {
        let process = &mut self.store.process;
        if process.broken || process.writing.is_some() || process.again_at > self.now {
            return;
        }
        let control = self.nodes.len();
        for name in std::mem::take(&mut self.store.process.behind) {
            let Ok(session) = SessionId::parse(&name) else { continue };
            let owner = crate::core::route::owner(&name, control as u16).index();
            if self.mesh_send(control, owner, ShardMessage::RememberAgain(session)).is_err() {
                self.store.process.behind.insert(name);
            } else {
                self.store.process.lacking.insert(name);
            }
        }
        if !self.store.process.behind.is_empty() {
            self.store.process.again_at = self.now + RETRY;
            self.schedule(self.now + RETRY, Event::Store);
        }
    }
}
