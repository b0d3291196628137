//! What responses took and gave: audio in and out, how long a client waited for the first of it, how it ended.
//!
//! A [`Meter`] belongs to one room and is told what passes between its members and its engine, whichever engine that is.
//! It counts; it never changes what passes. A frame of audio costs it an addition and no memory.

mod meter;
mod news;

pub(super) use meter::Meter;
pub(super) use news::{News, Said, news};

use super::counters::Histogram;
use super::time::Micros;

/// Upper bounds of `voxhall_response_first_audio_seconds`, in microseconds.
pub const FIRST_AUDIO_BOUNDS_US: [u64; 10] =
    [50_000, 100_000, 200_000, 300_000, 500_000, 800_000, 1_200_000, 2_000_000, 5_000_000, 10_000_000];
/// Upper bounds of `voxhall_response_audio_seconds`, in microseconds.
pub const RESPONSE_AUDIO_BOUNDS_US: [u64; 8] =
    [500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 60_000_000, 300_000_000];
/// Upper bounds of `voxhall_response_seconds`, in microseconds.
pub const RESPONSE_BOUNDS_US: [u64; 8] =
    [100_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 30_000_000, 120_000_000];

/// How a response ended. The order is that of [`OUTCOMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is complete.
    Completed,
    /// It was cut short: somebody spoke, or cancelled it.
    Cancelled,
    /// Its engine could not go on.
    Failed,
    /// It stopped at a limit, or nobody said how it ended.
    Incomplete,
}

/// The labels of [`Outcome`], in its order.
pub const OUTCOMES: [&str; 4] = ["completed", "cancelled", "failed", "incomplete"];

impl Outcome {
    /// As in events, metrics and reports.
    pub const fn name(self) -> &'static str {
        OUTCOMES[self as usize]
    }

    /// By the name that an event gives it.
    fn named(name: &str) -> Self {
        match name {
            "completed" => Self::Completed,
            "cancelled" => Self::Cancelled,
            "failed" => Self::Failed,
            _ => Self::Incomplete,
        }
    }
}

/// What one response took and gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseUsage {
    /// Its name, ours or the model server's.
    pub id: Box<str>,
    /// When it was made, since its room was.
    pub at: Micros,
    /// Audio of the members in what it answers: committed since the last response.
    pub audio_in: Micros,
    /// Audio of it that was put into the members' lanes.
    pub audio_out: Micros,
    /// From the end of the user's turn to its first frame of audio; nothing if it had none.
    pub first_audio: Option<Micros>,
    /// From its making to its end.
    pub lasted: Micros,
    /// How often what was queued of it was taken back.
    pub interruptions: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Who cut it short, or what failed, in a word: `turn_detected`, `client_cancelled`.
    pub reason: Option<Box<str>>,
}

/// What a room's responses took and gave together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Responses that are over, by [`Outcome`].
    pub responses: [u64; OUTCOMES.len()],
    /// Utterances: what was committed.
    pub utterances: u64,
    /// All audio of the members.
    pub audio_in: Micros,
    /// All audio that was put into the members' lanes.
    pub audio_out: Micros,
    /// How often queued audio was taken back.
    pub interruptions: u64,
}

impl Totals {
    /// Responses that are over, however they ended.
    #[must_use]
    pub fn over(&self) -> u64 {
        self.responses.iter().sum()
    }
}

/// What a shard counts of the responses of all its rooms.
#[derive(Clone, Debug)]
pub struct ResponseCounters {
    /// Responses that are over, by [`Outcome`].
    pub over: [u64; OUTCOMES.len()],
    /// From the end of the user's turn to the first frame of audio.
    pub first_audio_us: Histogram<10>,
    /// Audio of each response that had any.
    pub audio_us: Histogram<8>,
    /// From making to end.
    pub lasted_us: Histogram<8>,
}

impl Default for ResponseCounters {
    fn default() -> Self {
        Self {
            over: [0; OUTCOMES.len()],
            first_audio_us: Histogram::new(FIRST_AUDIO_BOUNDS_US),
            audio_us: Histogram::new(RESPONSE_AUDIO_BOUNDS_US),
            lasted_us: Histogram::new(RESPONSE_BOUNDS_US),
        }
    }
}

impl ResponseCounters {
    /// Counts a response that is over.
    pub(super) fn count(&mut self, usage: &ResponseUsage) {
        self.over[usage.outcome as usize] += 1;
        self.lasted_us.observe(usage.lasted.0);
        if let Some(first_audio) = usage.first_audio {
            self.first_audio_us.observe(first_audio.0);
            self.audio_us.observe(usage.audio_out.0);
        }
    }
}
