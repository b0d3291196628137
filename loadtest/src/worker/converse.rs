//! `converse`: a client speaks, asks for an answer, and checks that what it said comes back whole.
//!
//! It works against any engine that answers with the utterance, such as the parrot or one behind another server. Turns are
//! manual, so that what is said and what is heard can be laid side by side, byte by byte. Each turn begins on a clock that
//! was fixed before the run; one whose answer is late pushes the next ones back, which the figures say.

use super::{Run, Worker};
use crate::clock::{now_us, spread};
use crate::frame::{OpCode, Stamp};

/// What a client needs to take its turns by itself.
pub(super) const MANUAL_TURNS: &[u8] = br#"{"type":"session.update","session":{"turn_detection":null}}"#;
const COMMIT: &[u8] = br#"{"type":"input_audio_buffer.commit"}"#;
const RESPOND: &[u8] = br#"{"type":"response.create"}"#;

/// No turn begins that could not end within the window, with this to spare.
const SPARE_US: u64 = 1_000_000;

/// Where a client is in its conversation.
#[derive(Default)]
pub(super) struct Turn {
    /// When the clock says that the next turn begins, in microseconds since the run began.
    begins_us: u64,
    /// When its first frame was due.
    began_us: u64,
    frames_left: u32,
    frames_said: u32,
    /// Frames of it that are due within the window.
    counted: u32,
    /// When the answer was asked for; zero while it was not.
    asked_us: u64,
    said: Digest,
    heard: Digest,
}

/// What a stream of bytes was, whatever pieces it came in (FNV-1a).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Digest {
    bytes: u64,
    hash: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Self { bytes: 0, hash: 0xcbf2_9ce4_8422_2325 }
    }
}

impl Digest {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

impl Turn {
    /// A client's conversation, its first turn somewhere in the cycle of speech, answer and pause.
    pub(super) fn first(cycle_us: u64, client: u32) -> Self {
        Self { begins_us: (spread(client) * cycle_us as f64) as u64, ..Self::default() }
    }

    /// Notes a frame that is handed to the kernel.
    pub(super) fn say(&mut self, stamp: Stamp, rest: &[u8]) {
        self.said.add(&stamp.to_bytes());
        self.said.add(rest);
    }
}

impl Worker {
    /// From the beginning of a turn to that of the next: so long that the asked share speaks at any time.
    fn cycle_us(&self) -> u64 {
        (self.plan.spurt_ms as f64 * 1e3 / self.plan.speaking) as u64
    }

    /// Enters all clients that are connected.
    pub(super) fn begin_conversations(&mut self, start_us: u64) {
        let cycle_us = self.cycle_us();
        for index in 0..self.plan.count {
            let turn = Turn::first(cycle_us, self.plan.first + index);
            self.wheel.insert(index, start_us + turn.begins_us);
            self.conns[index as usize].turn = Some(Box::new(turn));
        }
    }

    /// What is due of a client: the beginning of a turn, its frames, and at their end the question.
    pub(super) fn converse(&mut self, index: u32, run: Run) {
        let spurt_us = self.plan.spurt_ms * 1_000;
        loop {
            let now = now_us();
            let conn = &mut self.conns[index as usize];
            let Some(turn) = &mut conn.turn else { return };
            if turn.frames_left == 0 && turn.frames_said == 0 {
                turn.began_us = (run.start_us + turn.begins_us).max(turn.began_us);
                if turn.began_us + 2 * spurt_us + SPARE_US > run.closes_us {
                    return;
                }
                turn.frames_left = (self.plan.spurt_ms / self.plan.frame_ms).max(1) as u32;
            }
            let due_us = turn.began_us + u64::from(turn.frames_said) * self.plan.frame_ms * 1_000;
            if due_us > now {
                return self.wheel.insert(index, due_us);
            }
            if turn.frames_left == 0 {
                return self.ask_for_answer(index, now);
            }
            turn.frames_left -= 1;
            turn.frames_said += 1;
            turn.counted += u32::from(run.counts(due_us));
            self.offer_at(index, due_us, now);
        }
    }

    /// Commits what was said and asks for the answer, once the socket has taken all of it.
    fn ask_for_answer(&mut self, index: u32, now: u64) {
        let conn = &mut self.conns[index as usize];
        if conn.pending.is_some() {
            return self.wheel.insert(index, now + self.plan.tick_us);
        }
        if let Some(turn) = &mut conn.turn {
            turn.asked_us = now;
        }
        self.send_control(index, OpCode::Text, COMMIT);
        self.send_control(index, OpCode::Text, RESPOND);
    }

    /// At the end of the run: what was never answered counts as well.
    pub(super) fn count_unanswered(&mut self) {
        let turns = self.conns.iter().filter_map(|conn| conn.turn.as_deref());
        let count = turns.filter(|turn| turn.counted > 0).count() as u64;
        if let Some(tally) = &mut self.tally.converse {
            tally.utterances += count;
            (0..count).for_each(|_| self.tally.error("unanswered"));
        }
    }

    /// A piece of the answer. It is late by how much later it comes than it would be spoken, were the answer to begin at
    /// once.
    pub(super) fn hear_answer(&mut self, index: u32, audio: &[u8], now: u64) {
        let Some(turn) = &mut self.conns[index as usize].turn else { return };
        if turn.asked_us == 0 {
            return self.tally.error("answer_unasked");
        }
        let frame_bytes = self.plan.frame_bytes as u64;
        let offset_us = turn.heard.bytes * self.plan.frame_ms * 1_000 / frame_bytes;
        let latency = now.saturating_sub(turn.asked_us + offset_us);
        let first = turn.heard.bytes == 0;
        let frames = |bytes: u64| bytes / frame_bytes;
        let before = frames(turn.heard.bytes);
        turn.heard.add(audio);
        let whole = frames(turn.heard.bytes) - before;
        if turn.counted > 0 {
            self.tally.latency.record(latency);
            self.tally.beyond.record(latency);
            if let Some(tally) = self.tally.converse.as_mut().filter(|_| first) {
                tally.first_audio.record(latency);
            }
        }
        self.progress.received += whole;
        if self.run.is_some_and(|run| run.counts(now)) {
            self.tally.received_in_window += whole;
        }
    }

    /// The answer is over: it is held against what was said, and the next turn is on the clock.
    pub(super) fn answered(&mut self, index: u32, status: &str, now: u64) {
        let cycle_us = self.cycle_us();
        let Some(run) = self.run else { return };
        let Some(turn) = &mut self.conns[index as usize].turn else { return };
        if turn.asked_us == 0 {
            return;
        }
        let whole = turn.heard == turn.said && status == "completed";
        if turn.counted > 0 {
            let tally = self.tally.converse.get_or_insert_default();
            tally.utterances += 1;
            if whole {
                tally.whole += 1;
                self.tally.delivered += u64::from(turn.counted);
            } else {
                let heard = (turn.heard.bytes / self.plan.frame_bytes as u64).min(turn.counted.into());
                self.tally.delivered += if turn.heard.bytes < turn.said.bytes { heard } else { 0 };
                self.tally.error("answer_differs");
            }
        }
        let begins_us = turn.begins_us + cycle_us;
        // Whoever was kept waiting goes on after a breath, not at once.
        **turn = Turn { begins_us, began_us: now + self.plan.frame_ms * 1_000, ..Turn::default() };
        self.wheel.insert(index, (run.start_us + begins_us).max(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_does_not_see_how_a_stream_was_cut() {
        let bytes: Vec<u8> = (0..=255).collect();
        let (mut whole, mut cut) = (Digest::default(), Digest::default());
        whole.add(&bytes);
        bytes.chunks(7).for_each(|piece| cut.add(piece));
        assert_eq!(whole, cut);
        cut.add(b"x");
        assert_ne!(whole, cut);
    }
}
