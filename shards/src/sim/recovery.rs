//! The oracle of recovery: everything that each room has told, and whether what a client was told is all of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::world::World;
use crate::core::Told;
use crate::core::config::RoomDefaults;
use crate::core::engine::Audience;
use crate::core::ids::MemberNumber;

/// A numbering of a room's events: its name and its epoch.
pub(super) type Numbering = (String, u64);

/// What rooms have told, by number.
#[derive(Debug, Default)]
pub(super) struct Annals {
    rooms: BTreeMap<Numbering, Annal>,
}

/// What one room has told.
#[derive(Debug, Default)]
pub(super) struct Annal {
    events: BTreeMap<u64, (Audience, Box<[u8]>)>,
    /// Responses of which what was queued was taken back, with the number of the event that says so.
    cleared: BTreeMap<String, u64>,
    /// Messages of clients: who, over which connection, and which.
    messages: BTreeSet<(u64, u64, u64)>,
}

impl Annal {
    /// The event of this number as this member was told it.
    pub(super) fn told(&self, seq: u64, member: u16) -> Option<&[u8]> {
        let (to, json) = self.events.get(&seq)?;
        to.concerns(MemberNumber(member)).then_some(json)
    }

    /// The numbers of what concerns a member, after one and up to another.
    pub(super) fn between(&self, after: u64, to: u64, member: u16) -> impl Iterator<Item = u64> {
        let events = self.events.range(after.saturating_add(1)..=to.max(after.saturating_add(1)));
        let concerned = events.filter(move |(seq, (of, _))| **seq <= to && of.concerns(MemberNumber(member)));
        concerned.map(|(&seq, _)| seq)
    }

    /// The same without word of events that gave way and are among these.
    pub(super) fn again(&self, after: u64, to: u64, member: u16) -> Vec<u64> {
        let news = |seq: &u64| {
            let json = self.events.get(seq).map(|(_, json)| serde_json::from_slice::<Value>(json));
            let Some(Ok(event)) = json else { return true };
            event["type"] != "outbox.dropped" || event["first_seq"].as_u64() <= Some(after)
        };
        self.between(after, to, member).filter(news).collect()
    }

    /// Whether an event belongs to a response of which everybody was told that what was queued of it went.
    pub(super) fn was_cleared(&self, seq: u64) -> bool {
        let event = self.events.get(&seq).and_then(|(_, json)| serde_json::from_slice::<Value>(json).ok());
        let Some(event) = event else { return false };
        let response = event["response_id"].as_str().unwrap_or_default();
        let delta = event["type"].as_str().is_some_and(|kind| kind.ends_with(".delta"));
        delta && self.cleared.get(response).is_some_and(|&at| at > seq)
    }

    /// Whether a room with these limits has to have all events after one, up to another.
    pub(super) fn has_to_keep(&self, after: u64, to: u64, limits: &RoomDefaults) -> bool {
        if after >= to {
            return after == to;
        }
        let kept: Vec<usize> = self.events.range(after + 1..=to).map(|(_, (_, json))| json.len()).collect();
        kept.len() as u64 == to - after
            && kept.len() <= limits.history_events_max
            && kept.iter().sum::<usize>() <= limits.history_bytes_max
    }

    /// Whether it has told this message.
    pub(super) fn has_message(&self, message: (u64, u64, u64)) -> bool {
        self.messages.contains(&message)
    }

    fn add(&mut self, told: Told) -> Result<(), String> {
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
                    && !self.messages.insert((client, number, n))
                {
                    return Err(format!("a message was taken twice: {text}"));
                }
            }
            _ => {}
        }
        let last = self.events.keys().next_back().copied().unwrap_or(0);
        self.events.insert(told.seq, (told.to, told.json));
        if told.seq == last + 1 { Ok(()) } else { Err(format!("event {} after {last}: {text}", told.seq)) }
    }
}

impl World {
    /// What a room has told by now.
    pub(super) fn annal(&mut self, numbering: &Numbering) -> &Annal {
        for shard in 0..self.nodes.len() {
            for told in self.nodes[shard].shard.overheard() {
                let numbering = (told.session.as_str().to_owned(), told.epoch);
                let outcome = self.annals.rooms.entry(numbering).or_default().add(told);
                if let Err(why) = outcome {
                    self.fail(why);
                }
            }
        }
        self.annals.rooms.entry(numbering.clone()).or_default()
    }
}
