//! The oracle of stores: a room that comes from one is what it was, by a name that nobody takes for another's; what was told long
//! enough ago is there after a crash; and no room begins anew that could have gone on.

use super::oracle::Oracle;
use super::world::World;
use crate::core::config::Store;
use crate::core::engine::Audience;
use crate::core::ids::MemberNumber;
use crate::core::memory::{Memory, Recalled, Remembered};
use crate::core::{Input, Micros, SessionId};

/// To whom events are that clients of ours are not told of.
const NOBODY: Audience = Audience::One(MemberNumber(0));

impl World {
    /// A shard is told what the store has of a room.
    pub(super) fn take_recalled(&mut self, shard: usize, recalled: Box<Recalled>) {
        let session = recalled.session.clone();
        let given = recalled.memory.clone().ok().flatten();
        let known = self.nodes[shard].shard.memory(&session, u64::MAX).is_some();
        if given.is_some() || recalled.memory.is_ok() {
            self.lives.asked.remove(session.as_str());
        }
        self.tell(shard, Input::Recalled(recalled));
        if !known && let Some(given) = given {
            self.look_at_revived(shard, &session, &given);
        }
    }

    fn look_at_revived(&mut self, shard: usize, session: &SessionId, given: &Remembered) {
        // Where nobody waits any more, or there is no place for it, there is none.
        let Some(room) = self.nodes[shard].shard.memory(session, 0) else { return };
        let Remembered { memory, whole } = given;
        let name = session.as_str();
        let known = self.annals.knows(name, room.epoch);
        let named = if *whole {
            room.epoch == memory.epoch && room.earlier == memory.earlier
        } else {
            let last = room.earlier.last().map(|earlier| (earlier.epoch, earlier.seq));
            !known && last == Some((memory.epoch, memory.seq))
        };
        if room.epoch != memory.epoch && !room.goes_on_from(memory.epoch, memory.seq) {
            // It began anew in the same moment: there was no place for the one of the store, and then there was.
            return;
        }
        self.require(named, || {
            format!("{name} goes on as {} after {}, whole: {whole}", brief(&room), brief(memory))
        });
        let same = room.seq >= memory.seq
            && room.last_id >= memory.last_id
            && (room.state == memory.state || room.seq > memory.seq)
            && memory
                .client_seqs
                .iter()
                .all(|of| room.client_seqs.iter().any(|now| now.0 == of.0 && now.1 >= of.1))
            && kept_of(&room, memory.seq) == kept_of(memory, memory.seq)[gone(&room, memory)..];
        self.require(same, || format!("{name} was {} and is {}", brief(memory), brief(&room)));
        let outcome = self.annals.revive(name, memory, room.epoch);
        if let Err(why) = outcome {
            self.fail(why);
        }
    }

    /// A room that begins anew, though the store has it and could say so in time.
    pub(super) fn look_at_beginnings(&mut self, shard: usize, names: &[String]) {
        if self.scenario.store.is_none() {
            return;
        }
        self.look_at_unasked(shard, names);
        let counters = self.counters(shard);
        let excuses = counters.store.failed + counters.store.not_asked;
        let excused = self.oracle.excused(shard, excuses);
        for name in names {
            if !self.lives.seen.insert(name.clone()) || excused || !self.store.knows(name) {
                continue;
            }
            let Ok(session) = SessionId::parse(name) else { continue };
            let room = self.nodes[shard].shard.memory(&session, u64::MAX);
            let epoch = room.map_or(0, |room| room.epoch);
            let revived = self.annals.is_revived(name, epoch);
            self.require(revived, || format!("{name} begins anew though the store has it"));
        }
    }

    /// A room that is there while its store has not said what it has of it.
    fn look_at_unasked(&mut self, shard: usize, names: &[String]) {
        for name in names {
            if !self.lives.asked.remove(name) {
                continue;
            }
            let Ok(session) = SessionId::parse(name) else { continue };
            if let Some(room) = self.nodes[shard].shard.memory(&session, u64::MAX) {
                self.lives.unasked.insert((name.clone(), room.epoch));
            }
        }
    }

    /// The node has crashed: what was told longer ago than the window of loss is in the store.
    pub(super) fn look_at_loss(&mut self) {
        let (Some(plan), Some(Store { lag, .. })) =
            (&self.scenario.store, self.scenario.config.store.clone())
        else {
            return;
        };
        // What a shard could not hand over at once waits as well.
        let queued = 20 * (self.scenario.faults.mesh_delay_max.0 + Micros::from_ms(5).0);
        let window = lag
            + plan.commit_max
            + plan.write_max
            + plan.write_max
            + self.scenario.faults.slack()
            + Micros(queued);
        let broken = plan.broken.is_some_and(|(from, to)| (from..to + window).contains(&self.now));
        if broken || plan.drop_permille > 0 {
            return;
        }
        for (name, epoch) in self.living_rooms() {
            let saved = self.store.room(&name).and_then(|memory| self.annals.saved(&name, epoch, memory));
            let first_lost = self.annals.first_after(&name, epoch, saved.unwrap_or(0));
            let Some((seq, at)) = first_lost else { continue };
            let age = self.now.since(at);
            self.require(age <= window, || {
                format!("event {seq} of {name} is lost after {age:?}, and the window is {window:?}")
            });
        }
    }

    /// The node has ended in good order: rooms that can go on as they were are there with all that they have told. Where the
    /// store has everything, all can.
    pub(super) fn look_at_clean_end(&mut self, everything: bool) {
        let mut wrong = None;
        for (name, memory) in self.store.rooms() {
            let last = self.annals.last(name, memory.epoch);
            if self.store.is_clean(name) && last != memory.seq {
                wrong = Some(format!("{name} has told {last} events, and the store has {}", brief(memory)));
            }
        }
        for (name, epoch) in self.living_rooms() {
            let Ok(session) = SessionId::parse(&name) else { continue };
            if !everything {
                break;
            }
            let owner = crate::core::route::owner(&name, self.nodes.len() as u16).index();
            let room = self.nodes[owner].shard.memory(&session, 0);
            if room.as_ref() != self.store.room(&name) {
                let (room, stored) = (room.as_ref().map(brief), self.store.room(&name).map(brief));
                wrong = Some(format!("{name} of {epoch} is {room:?}, but in the store {stored:?}"));
            }
        }
        self.require(wrong.is_none(), || wrong.unwrap_or_default());
    }

    /// Rooms that are there, with their numberings.
    fn living_rooms(&mut self) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        for shard in 0..self.nodes.len() {
            for room in self.rooms(shard) {
                let epoch = self.nodes[shard].shard.memory(&room.id, u64::MAX).map_or(0, |room| room.epoch);
                all.push((room.id.as_str().to_owned(), epoch));
            }
        }
        all
    }
}

/// A room without its events.
pub(super) fn brief(memory: &Memory) -> String {
    let events = memory.events.len();
    format!("{:?} with {events} events", Memory { events: Vec::new(), ..memory.clone() })
}

/// What is kept of the events up to one.
fn kept_of(memory: &Memory, to: u64) -> Vec<(Audience, &[u8])> {
    let later = (memory.seq - to) as usize;
    let held = memory.events.len().saturating_sub(later);
    // What nobody hears is kept without its words.
    memory.events[..held]
        .iter()
        .map(|event| (event.to, if event.to == NOBODY { &[] } else { &*event.json }))
        .collect()
}

/// How many of the events that the store has have made way for those that came since.
fn gone(room: &Memory, before: &Memory) -> usize {
    let oldest = before.seq + 1 - before.events.len() as u64;
    (room.oldest.saturating_sub(oldest) as usize).min(before.events.len())
}

impl Oracle {
    /// Whether there is more to excuse a shard with than when this was last asked.
    fn excused(&mut self, shard: usize, excuses: u64) -> bool {
        std::mem::replace(self.excuses(shard), excuses) != excuses
    }
}
