//! What listens in a room whose engine takes turns with its members: ears, voice detection, turns and commits, up to the
//! item that an utterance becomes. What the utterance means is the engine's business.
//!
//! Per room it keeps the utterance being spoken, at most a minute long, and a moment of audio for each of at most eight
//! members.

mod ear;
pub(super) mod g711;
pub(super) mod recording;
mod said;
mod turn;
mod vad;

use ear::Ears;
pub(super) use said::Said;
pub(super) use turn::Listening;
use turn::Turn;

use crate::core::event::{AudioFormat, SessionSettings};
use crate::core::time::Micros;

/// What listens in one room.
#[derive(Debug)]
pub(super) struct Listener {
    /// What the audio kept here holds.
    pub(super) format: AudioFormat,
    ears: Ears,
    turn: Option<Turn>,
}

impl Default for Listener {
    fn default() -> Self {
        Self { format: SessionSettings::default().format, ears: Ears::default(), turn: None }
    }
}

impl Listener {
    /// When speech counts as over if nothing more arrives.
    pub(super) fn deadline(&self) -> Option<Micros> {
        self.turn.as_ref().and_then(Turn::deadline)
    }
}
