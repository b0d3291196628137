//! What model sessions are told and how long they live: the rows of the table for `realtime.*` that concern the engine.

use shards::core::Micros;
use shards::core::config::{Dialect, RealtimeDefaults};

use super::keys::{Default, Key, Kind};
use super::resolve::Resolver;
use super::rows::{choice, number, text};

const RATES: &[&str] = &["24000", "room"];

/// In the order in which they are shown.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "realtime.model",
        kind: Kind::Text,
        default: Default::Text("gpt-realtime"),
        reason: "The model of rooms whose token names no other.",
    },
    text(
        "realtime.voice",
        "The voice that answers, unless a token or client names another. Empty: the model's own.",
    ),
    text(
        "realtime.instructions",
        "What the model is told to be, unless a token or client says something else. Empty: its own.",
    ),
    text(
        "realtime.transcription",
        "The model that writes down what members say. Empty: none; a session that takes over then learns only the answers.",
    ),
    choice(
        "realtime.rate",
        RATES,
        "24000",
        "Samples a second of pcm16 that the model server takes; room: whatever the room speaks. Others are resampled.",
    ),
    number(
        "realtime.idle_s",
        "seconds",
        300,
        (5, 86_400),
        "A model session in which nothing happened for so long is closed, and opened again when it is needed.",
    ),
    number(
        "realtime.age_s",
        "seconds",
        3_300,
        (5, 604_800),
        "A model session of this age is replaced between two turns. The vendor ends one after an hour.",
    ),
    number(
        "realtime.retry_s",
        "seconds",
        20,
        (1, 600),
        "For how long a model session that can't be had is tried for, before what waits for it is given up.",
    ),
    number(
        "realtime.stall_s",
        "seconds",
        30,
        (1, 600),
        "A model server that owes a response and says nothing for so long is left.",
    ),
];

impl Resolver<'_> {
    pub(super) fn realtime(&self) -> RealtimeDefaults {
        let words = |name| Box::from(self.text(name));
        let seconds = |name| Micros::from_s(self.number(name));
        RealtimeDefaults {
            model: words("realtime.model"),
            voice: words("realtime.voice"),
            instructions: words("realtime.instructions"),
            transcription: words("realtime.transcription"),
            dialect: if self.text("realtime.dialect") == "beta" { Dialect::Beta } else { Dialect::Ga },
            // Zero is the room's own.
            pcm16_rate: self.text("realtime.rate").parse().unwrap_or(0),
            idle: seconds("realtime.idle_s"),
            age: seconds("realtime.age_s"),
            retry: seconds("realtime.retry_s"),
            stall: seconds("realtime.stall_s"),
        }
    }
}
