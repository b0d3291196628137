//! The oracle of recovery: everything that each room has told, and whether what a client was told is all of it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::Value;

use super::world::World;
use crate::core::config::RoomDefaults;
use crate::core::engine::Audience;
use crate::core::ids::MemberNumber;
use crate::core::memory::Memory;
use crate::core::{Micros, Told};

/// A numbering of a room's events: its name and its epoch.
pub(super) type Numbering = (String, u64);

/// Member numbers that a room from a store leaves out where it is not known which were given out last.
const MEMBERS_UNKNOWN: u16 = 256;

/// What rooms have told, by number.
#[derive(Debug, Default)]
pub(super) struct Annals {
    rooms: BTreeMap<Numbering, Annal>,
}

/// How far two numberings of a room agree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agreed {
    /// Up to this event.
    pub(super) seq: u64,
    /// Up to this member: who has a higher number by the one is somebody else by the other.
    pub(super) members: u16,
}

impl Annals {
    /// Whether anything was ever told by this numbering.
    pub(super) fn knows(&self, name: &str, epoch: u64) -> bool {
        self.rooms.contains_key(&(name.to_owned(), epoch))
    }

    /// Whether a room came from a store by this numbering.
    pub(super) fn is_revived(&self, name: &str, epoch: u64) -> bool {
        self.rooms.get(&(name.to_owned(), epoch)).is_some_and(|annal| annal.revived)
    }

    /// A room goes on where a store has it, by this numbering.
    ///
    /// # Errors
    /// When what the store has is not what the room had told.
    pub(super) fn revive(&mut self, name: &str, memory: &Memory, epoch: u64) -> Result<(), String> {
        let before = (name.to_owned(), memory.epoch);
        let annal = self.rooms.entry(before).or_default();
        let oldest = memory.seq + 1 - memory.events.len() as u64;
        for (seq, kept) in (oldest..).zip(&memory.events) {
            let told = annal.events.get(&seq).map(|told| (told.to, &*told.json));
            if !kept.json.is_empty() && told != Some((kept.to, &kept.json)) {
                let json = String::from_utf8_lossy(&kept.json);
                return Err(format!("the store has {json} as event {seq} of {name}, which was {told:?}"));
            }
        }
        if epoch == memory.epoch {
            (annal.revived, annal.kept_from) = (true, oldest);
            let last = annal.last();
            return if last == memory.seq {
                Ok(())
            } else {
                Err(format!("{name} goes on after {}, but event {last} has been told", memory.seq))
            };
        }
        let branch = Annal {
            parent: Some((
                memory.epoch,
                Agreed { seq: memory.seq, members: memory.last_member.saturating_add(MEMBERS_UNKNOWN) },
            )),
            revived: true,
            kept_from: oldest,
            events: annal.events.range(..=memory.seq).map(|(&seq, told)| (seq, told.clone())).collect(),
            cleared: annal
                .cleared
                .iter()
                .filter(|(_, at)| **at <= memory.seq)
                .map(|(id, &at)| (id.clone(), at))
                .collect(),
            messages: annal
                .messages
                .iter()
                .filter(|(_, at)| **at <= memory.seq)
                .map(|(&of, &at)| (of, at))
                .collect(),
        };
        if branch.last() != memory.seq {
            return Err(format!(
                "{name} had told {} events, and the store has {}",
                branch.last(),
                memory.seq
            ));
        }
        self.rooms.insert((name.to_owned(), epoch), branch);
        Ok(())
    }

    /// How far what a room told by one numbering is what it has by another: as far as both agree with the last one that they
    /// come from. Nothing where there is none.
    pub(super) fn agreed(&self, name: &str, from: u64, to: u64) -> Option<Agreed> {
        let theirs = self.line(name, to);
        self.line(name, from).iter().find_map(|(epoch, mine)| {
            let (_, shared) = theirs.iter().find(|(of, _)| of == epoch)?;
            Some(Agreed { seq: mine.seq.min(shared.seq), ..*shared })
        })
    }

    /// A numbering and those that it comes from, the latest first, each with what it shares with it.
    fn line(&self, name: &str, epoch: u64) -> Vec<(u64, Agreed)> {
        let mut line = vec![(epoch, Agreed { seq: u64::MAX, members: u16::MAX })];
        let mut at = epoch;
        while let Some((parent, agreed)) =
            self.rooms.get(&(name.to_owned(), at)).and_then(|annal| annal.parent)
        {
            line.push((parent, agreed));
            at = parent;
        }
        line
    }

    /// The number of the last event that what a store has shares with a room.
    pub(super) fn saved(&self, name: &str, epoch: u64, memory: &Memory) -> Option<u64> {
        self.agreed(name, memory.epoch, epoch).map(|agreed| agreed.seq.min(memory.seq))
    }

    /// The first event after one, and when it was told.
    pub(super) fn first_after(&self, name: &str, epoch: u64, seq: u64) -> Option<(u64, Micros)> {
        let annal = self.rooms.get(&(name.to_owned(), epoch))?;
        annal.events.range(seq + 1..).next().map(|(&seq, told)| (seq, told.at))
    }

    /// The number of the last event by this numbering.
    pub(super) fn last(&self, name: &str, epoch: u64) -> u64 {
        self.rooms.get(&(name.to_owned(), epoch)).map_or(0, Annal::last)
    }
}

/// An event, to whom it was told, and when.
#[derive(Clone, Debug)]
struct Event {
    to: Audience,
    json: Box<[u8]>,
    at: Micros,
}

/// What one room has told.
#[derive(Debug, Default)]
pub(super) struct Annal {
    /// The numbering that this one goes on with, and what they share.
    parent: Option<(u64, Agreed)>,
    /// Whether the room came from a store.
    revived: bool,
    /// The first event that came from there.
    kept_from: u64,
    events: BTreeMap<u64, Event>,
    /// Responses of which what was queued was taken back, with the number of the event that says so.
    cleared: BTreeMap<String, u64>,
    /// Messages of clients: who, over which connection, and which; with their numbers.
    messages: BTreeMap<(u64, u64, u64), u64>,
}

impl Annal {
    /// The event of this number as this member was told it.
    pub(super) fn told(&self, seq: u64, member: u16) -> Option<&[u8]> {
        let event = self.events.get(&seq)?;
        event.to.concerns(MemberNumber(member)).then_some(&event.json)
    }

    /// Whether the room came from a store.
    pub(super) fn is_revived(&self) -> bool {
        self.revived
    }

    fn last(&self) -> u64 {
        self.events.keys().next_back().copied().unwrap_or(0)
    }

    /// The numbers of what concerns a member, after one and up to another.
    pub(super) fn between(&self, after: u64, to: u64, member: u16) -> impl Iterator<Item = u64> {
        let events = self.events.range(after.saturating_add(1)..=to.max(after.saturating_add(1)));
        let concerned =
            events.filter(move |(seq, event)| **seq <= to && event.to.concerns(MemberNumber(member)));
        concerned.map(|(&seq, _)| seq)
    }

    /// The same without word of events that gave way and are among these.
    pub(super) fn again(&self, after: u64, to: u64, member: u16) -> Vec<u64> {
        let news = |seq: &u64| {
            let json = self.events.get(seq).map(|event| serde_json::from_slice::<Value>(&event.json));
            let Some(Ok(event)) = json else { return true };
            event["type"] != "outbox.dropped" || event["first_seq"].as_u64() <= Some(after)
        };
        self.between(after, to, member).filter(news).collect()
    }

    /// Which events a member is told after one that gave way.
    pub(super) fn word_of_gaps(&self, after: u64, member: u16) -> Vec<RangeInclusive<u64>> {
        let later = self.between(after, self.last(), member).filter_map(|seq| self.value(seq));
        let gaps = later.filter(|event| event["type"] == "outbox.dropped");
        gaps.filter_map(|event| Some(event["first_seq"].as_u64()?..=event["last_seq"].as_u64()?)).collect()
    }

    /// Whether an event gives way where a lane is full.
    pub(super) fn may_give_way(&self, seq: u64) -> bool {
        self.value(seq)
            .is_some_and(|event| event["type"].as_str().is_some_and(|kind| kind.ends_with(".delta")))
    }

    fn value(&self, seq: u64) -> Option<Value> {
        self.events.get(&seq).and_then(|event| serde_json::from_slice(&event.json).ok())
    }

    /// Whether an event belongs to a response of which everybody was told that what was queued of it went.
    pub(super) fn was_cleared(&self, seq: u64) -> bool {
        let Some(event) = self.value(seq) else { return false };
        let response = event["response_id"].as_str().unwrap_or_default();
        self.may_give_way(seq) && self.cleared.get(response).is_some_and(|&at| at > seq)
    }

    /// Whether a room with these limits has to have all events after one, up to another.
    pub(super) fn has_to_keep(&self, after: u64, to: u64, limits: &RoomDefaults) -> bool {
        if after >= to {
            return after == to;
        }
        let kept: Vec<usize> = self.events.range(after + 1..=to).map(|(_, event)| event.json.len()).collect();
        after + 1 >= self.kept_from
            && kept.len() as u64 == to - after
            && kept.len() <= limits.history_events_max
            && kept.iter().sum::<usize>() <= limits.history_bytes_max
    }

    /// Whether it has told this message.
    pub(super) fn has_message(&self, message: (u64, u64, u64)) -> bool {
        self.messages.contains_key(&message)
    }

    fn add(&mut self, told: Told, at: Micros) -> Result<(), String> {
        let text = String::from_utf8_lossy(&told.json).into_owned();
        let event: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))?;
        if event["seq"].as_u64() != Some(told.seq) {
            return Err(format!("{} is not event {}", text, told.seq));
        }
        match event["type"].as_str() {
            Some("output_audio_buffer.cleared") => {
                let response = event["response_id"].as_str().unwrap_or_default();
                self.cleared.insert(response.to_owned(), told.seq);
            }
            Some("room.message") => {
                let of = &event["data"];
                if let (Some(client), Some(number), Some(n)) =
                    (of["c"].as_u64(), of["k"].as_u64(), of["n"].as_u64())
                    && self.messages.insert((client, number, n), told.seq).is_some()
                {
                    return Err(format!("a message was taken twice: {text}"));
                }
            }
            _ => {}
        }
        let last = self.last();
        self.events.insert(told.seq, Event { to: told.to, json: told.json, at });
        if told.seq == last + 1 { Ok(()) } else { Err(format!("event {} after {last}: {text}", told.seq)) }
    }
}

impl World {
    /// What a room has told by now.
    pub(super) fn annal(&mut self, numbering: &Numbering) -> &Annal {
        self.hear_all();
        self.annals.rooms.entry(numbering.clone()).or_default()
    }

    /// Takes down what rooms have told.
    pub(super) fn hear_all(&mut self) {
        let now = self.now;
        for shard in 0..self.nodes.len() {
            for told in self.nodes[shard].shard.overheard() {
                let numbering = (told.session.as_str().to_owned(), told.epoch);
                let outcome = self.annals.rooms.entry(numbering).or_default().add(told, now);
                if let Err(why) = outcome {
                    self.fail(why);
                }
            }
        }
    }
}
