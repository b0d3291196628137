//! What goes out: frames when they are due, whatever a blocked socket has still to take, and answers to pings.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::Worker;
use super::conn::{Pending, State, Waiting};
use crate::clock::now_us;
use crate::frame::{OpCode, Stamp, masked};
use crate::plan::Scenario;
use crate::socket;

/// Frames that may wait for one blocked socket; more are counted as not sent.
pub(super) const WAITING_MAX: usize = 4096;

/// Waiting frames are built and written this many bytes at a time.
const CHUNK_BYTES: usize = 16 << 10;

impl Worker {
    /// Sends everything whose tick has ended.
    pub(super) fn send_due(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.take_due(now_us(), &mut due);
        for index in due.drain(..) {
            self.speak(index);
        }
        self.due = due;
    }

    /// Offers all frames of a client that are due, and enters it in the wheel for the next.
    fn speak(&mut self, index: u32) {
        let Some(run) = self.run else { return };
        if self.plan.scenario == Scenario::Converse {
            return self.converse(index, run);
        }
        loop {
            let now = now_us();
            let conn = &mut self.conns[index as usize];
            let Some(voice) = &mut conn.voice else { return };
            let intended_us = run.start_us + voice.next_us();
            if intended_us >= run.closes_us {
                conn.voice = None;
                return;
            }
            if intended_us > now {
                self.wheel.insert(index, intended_us);
                return;
            }
            voice.advance(&self.plan);
            if self.plan.scenario == Scenario::Churn {
                conn.frames_left -= 1;
                if conn.frames_left == 0 {
                    conn.voice = None;
                }
            }
            self.offer(index, Waiting { intended_us, late_us: (now - intended_us) as u32 });
        }
    }

    /// Sends a frame that was due then.
    pub(super) fn offer_at(&mut self, index: u32, intended_us: u64, now: u64) {
        self.offer(index, Waiting { intended_us, late_us: (now - intended_us) as u32 });
    }

    /// Sends a frame, or keeps its place in the queue of a socket that is blocked.
    fn offer(&mut self, index: u32, frame: Waiting) {
        let conn = &mut self.conns[index as usize];
        let usable = conn.state == State::Open && !conn.write_dead;
        if self.run.is_some_and(|run| run.counts(frame.intended_us)) {
            match &mut self.tally.slow {
                Some(slow) if conn.slow => slow.offered += 1,
                _ => {
                    self.tally.offered += 1;
                    self.tally.lateness.record(u64::from(frame.late_us));
                    if !usable {
                        self.tally.error("offered_to_closed");
                    }
                }
            }
        }
        if !usable {
            return;
        }
        if !conn.slow {
            self.progress.offered += 1;
        }
        if let Some(pending) = &mut conn.pending {
            if pending.frames.len() < WAITING_MAX {
                pending.frames.push_back(frame);
            } else if !conn.slow {
                self.tally.error("send_queue_full");
            }
            return;
        }
        let Some(open) = &conn.socket else { return };
        let stamp = Stamp { seq: conn.seq, late_us: frame.late_us, intended_us: frame.intended_us };
        let bytes = self.template.stamped(stamp);
        match socket::write(open.as_fd(), bytes) {
            Ok(n) => {
                if n < bytes.len() {
                    conn.pending =
                        Some(Box::new(Pending { bytes: bytes[n..].to_vec(), ..Pending::default() }));
                }
                conn.seq += 1;
                if let Some(turn) = &mut conn.turn {
                    turn.say(stamp, self.template.rest());
                }
                self.sent(index, frame);
            }
            Err(Errno::AGAIN) => {
                conn.pending = Some(Box::new(Pending { frames: [frame].into(), ..Pending::default() }));
            }
            Err(error) => self.write_failed(index, error),
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self, index: u32) {
        loop {
            let conn = &mut self.conns[index as usize];
            let (Some(open), Some(pending)) = (&conn.socket, &mut conn.pending) else { return };
            let mut built = Vec::new();
            if pending.bytes.is_empty() {
                let frames = (CHUNK_BYTES / self.template.len()).max(1).min(pending.frames.len());
                for frame in pending.frames.drain(..frames) {
                    let stamp =
                        Stamp { seq: conn.seq, late_us: frame.late_us, intended_us: frame.intended_us };
                    pending.bytes.extend_from_slice(self.template.stamped(stamp));
                    conn.seq += 1;
                    if let Some(turn) = &mut conn.turn {
                        turn.say(stamp, self.template.rest());
                    }
                    built.push(frame);
                }
            }
            if pending.bytes.is_empty() {
                conn.pending = None;
                return;
            }
            let written = socket::write(open.as_fd(), &pending.bytes);
            if let Ok(n) = written {
                pending.bytes.drain(..n);
            }
            let blocked = !pending.bytes.is_empty();
            built.into_iter().for_each(|frame| self.sent(index, frame));
            match written {
                Ok(_) if !blocked => {}
                Ok(_) | Err(Errno::AGAIN) => return,
                Err(error) => return self.write_failed(index, error),
            }
        }
    }

    /// Sends a control frame, behind whatever waits.
    pub(super) fn send_control(&mut self, index: u32, opcode: OpCode, payload: &[u8]) {
        let conn = &mut self.conns[index as usize];
        let Some(open) = &conn.socket else { return };
        let mut bytes = masked(opcode, payload);
        if let Some(pending) = &mut conn.pending {
            // Between frames only: the bytes that must come next may end in the middle of a frame, and these follow.
            pending.bytes.append(&mut bytes);
            return;
        }
        match socket::write(open.as_fd(), &bytes) {
            Ok(n) if n == bytes.len() => {}
            Ok(n) => {
                conn.pending = Some(Box::new(Pending { bytes: bytes.split_off(n), ..Pending::default() }))
            }
            Err(Errno::AGAIN) => conn.pending = Some(Box::new(Pending { bytes, ..Pending::default() })),
            Err(error) => self.write_failed(index, error),
        }
    }

    fn sent(&mut self, index: u32, frame: Waiting) {
        self.tally.total_sent += 1;
        if !self.conns[index as usize].slow && self.run.is_some_and(|run| run.counts(frame.intended_us)) {
            self.tally.sent += 1;
        }
    }

    /// The socket takes nothing more. What it still holds can be read, so it stays until that has ended.
    fn write_failed(&mut self, index: u32, error: Errno) {
        let conn = &mut self.conns[index as usize];
        conn.write_dead = true;
        conn.pending = None;
        if !conn.slow && self.quit_by.is_none() && conn.state == State::Open {
            self.tally.error(super::life::name_of(error));
        }
    }
}
