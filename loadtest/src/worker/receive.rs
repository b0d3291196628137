//! What comes in: response heads, audio frames to match with what was sent, events, pings and closes.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::conn::{Resume, State};
use super::converse::MANUAL_TURNS;
use super::events::{self, Event};
use super::handshake::Answer;
use super::{Run, Worker};
use crate::clock::now_us;
use crate::frame::{OpCode, Scan, Stamp, scan};
use crate::plan::{Scenario, Subprotocol, Transport};
use crate::socket;
use crate::stream::{self, Block, Chunk};
use crate::tally::count;
use crate::track::Arrival;

impl Worker {
    /// Reads what a connection has. Polling is edge-triggered: a read that did not fill the buffer took all there was,
    /// unless the peer has ended, in which case the end itself has to be read too.
    pub(super) fn read(&mut self, index: u32, ended: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let conn = &self.conns[index as usize];
            let Some(open) = conn.socket.as_ref().filter(|_| !conn.stopped) else { break };
            match socket::read(open.as_fd(), &mut buffer) {
                Ok(0) => {
                    self.gone(index, None);
                    break;
                }
                Ok(n) => {
                    self.consume(index, &buffer[..n]);
                    if n < buffer.len() && !ended {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => {
                    self.gone(index, Some(error));
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Takes whole frames from the bytes of a connection, and keeps what is left over for the next read.
    fn consume(&mut self, index: u32, bytes: &[u8]) {
        let mut held = std::mem::take(&mut self.conns[index as usize].partial);
        let data = if held.is_empty() {
            bytes
        } else {
            held.extend_from_slice(bytes);
            &held[..]
        };
        let now = now_us();
        let mut at = 0;
        while at < data.len() {
            match self.conns[index as usize].state {
                State::Asked => match self.handshake.answer(&data[at..]) {
                    Answer::Upgraded(taken) => {
                        at += taken;
                        self.opened(index);
                    }
                    Answer::More => break,
                    Answer::Failed(kind) => return self.refused(index, &kind),
                },
                State::Open | State::Closing if self.plan.transport == Transport::Sse => {
                    match stream::chunk(&data[at..]) {
                        Chunk::Text(text, taken) => {
                            at += taken;
                            self.take_text(index, text, now);
                        }
                        Chunk::End => return self.gone(index, None),
                        Chunk::More => break,
                        Chunk::Broken => {
                            self.tally.error("broken_chunk");
                            return self.gone(index, None);
                        }
                    }
                }
                State::Open | State::Closing => match scan(&data[at..]) {
                    Scan::Frame { opcode, payload, taken } => {
                        at += taken;
                        self.take_frame(index, opcode, payload, now);
                    }
                    Scan::More => break,
                    Scan::Broken(kind) => {
                        self.tally.error(kind);
                        return self.gone(index, None);
                    }
                },
                State::Idle | State::Connecting | State::Closed => return,
            }
        }
        if at < data.len() {
            self.conns[index as usize].partial = data[at..].to_vec();
        }
        self.end_conversation_if_done(index);
    }

    /// Text of a stream: whole events are taken, the beginning of one is kept.
    fn take_text(&mut self, index: u32, text: &[u8], now: u64) {
        let mut held = std::mem::take(&mut self.conns[index as usize].text);
        let whole = held.is_empty();
        held.extend_from_slice(if whole { &[] } else { text });
        let mut text = if whole { text } else { &held[..] };
        while let Some((block, taken)) = stream::block(text) {
            match block {
                Block::Event(event) => {
                    self.tally.total_text += 1;
                    self.tally.batches += 1;
                    self.take_event(index, event, now);
                }
                Block::Close(code) => {
                    self.tally.total_control += 1;
                    let state = std::mem::replace(&mut self.conns[index as usize].state, State::Closing);
                    if state == State::Open && self.quit_by.is_none() {
                        self.count_close(index, &code.to_string());
                    }
                }
                Block::Other => self.tally.total_control += 1,
            }
            text = &text[taken..];
        }
        self.conns[index as usize].text = text.to_vec();
    }

    fn take_frame(&mut self, index: u32, opcode: OpCode, payload: &[u8], now: u64) {
        match opcode {
            OpCode::Binary => self.take_audio(index, payload, now),
            OpCode::Text => self.take_events(index, payload, now),
            OpCode::Ping => {
                self.tally.total_control += 1;
                self.tally.pongs_sent += 1;
                self.send_control(index, OpCode::Pong, payload);
            }
            OpCode::Close => {
                self.tally.total_control += 1;
                self.take_close(index, payload);
            }
            OpCode::Pong => self.tally.total_control += 1,
            // The stamp and the events are in the first part of a fragmented message, which has been counted.
            OpCode::Continuation => {}
        }
    }

    fn take_audio(&mut self, index: u32, payload: &[u8], now: u64) {
        self.tally.total_binary += 1;
        let body = payload.get(self.plan.subprotocol.header_bytes()..);
        if self.plan.scenario == Scenario::Converse {
            return self.hear_answer(index, body.unwrap_or_default(), now);
        }
        let (Some(run), Some(stamp)) = (self.run, body.and_then(Stamp::read)) else {
            return self.tally.error("unmatched_frame");
        };
        if !(run.start_us..=now).contains(&stamp.intended_us) {
            return self.tally.error("unmatched_frame");
        }
        let conn = &mut self.conns[index as usize];
        let arrival = conn.tracker.arrive(stamp.seq);
        let slow = conn.slow;
        if arrival == Arrival::Duplicate {
            self.tally.duplicated += 1;
            return;
        }
        if arrival == Arrival::Reordered {
            self.tally.reordered += 1;
        }
        if !slow {
            self.progress.received += 1;
        }
        if run.counts(now) {
            self.tally.received_in_window += 1;
        }
        if run.counts(stamp.intended_us) {
            self.record(slow, &run, stamp, now);
        }
    }

    fn record(&mut self, slow: bool, run: &Run, stamp: Stamp, now: u64) {
        let latency = now - stamp.intended_us;
        if let Some(tally) = &mut self.tally.slow
            && slow
        {
            tally.delivered += 1;
            return;
        }
        if let Some(others) = &mut self.tally.others {
            let before = stamp.intended_us < run.trouble_at_us;
            let times = if before { &mut others.before } else { &mut others.after };
            times.record(latency);
        }
        self.tally.delivered += 1;
        self.tally.latency.record(latency);
        self.tally.beyond.record(latency.saturating_sub(u64::from(stamp.late_us)));
    }

    fn take_events(&mut self, index: u32, payload: &[u8], now: u64) {
        self.tally.total_text += 1;
        self.tally.batches += 1;
        if self.plan.subprotocol == Subprotocol::V1 {
            for line in payload.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                self.take_event(index, line, now);
            }
        } else {
            self.take_event(index, payload, now);
        }
    }

    fn take_event(&mut self, index: u32, line: &[u8], now: u64) {
        self.tally.events += 1;
        let (event, seq) = events::read(line);
        let conn = &mut self.conns[index as usize];
        // The number in a restoration says where the room is, not how far this client has heard it.
        if let (Some(resume), Some(seq)) = (&mut conn.resume, seq)
            && !matches!(event, Event::Restored { .. })
        {
            resume.after = resume.after.max(seq);
        }
        match event {
            Event::Created { resume } => {
                self.saw_welcome = !self.plan.peer;
                // Who comes back is back once it has been told what it missed.
                let comes_back = conn.resume.is_some() && self.away.is_some();
                if self.plan.resume {
                    conn.resume = resume.map(|(token, after)| Box::new(Resume { token, after }));
                }
                if self.plan.scenario == Scenario::Converse {
                    self.send_control(index, OpCode::Text, MANUAL_TURNS);
                }
                if !comes_back {
                    self.welcomed(index, now);
                }
            }
            Event::Restored { recovered } => {
                if let Some(storm) = &mut self.tally.storm {
                    let outcome = if recovered { &mut storm.recovered } else { &mut storm.not_recovered };
                    *outcome += 1;
                }
                self.welcomed(index, now);
            }
            Event::Dropped { count } => self.tally.told_dropped += count,
            Event::Error { code } => self.tally.error(&format!("server_{code}")),
            Event::Answered { status } => self.answered(index, &status, now),
            Event::Other => {}
        }
    }

    fn take_close(&mut self, index: u32, payload: &[u8]) {
        let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
        let conn = &mut self.conns[index as usize];
        let ours = conn.state == State::Closing;
        conn.state = State::Closing;
        if ours {
            return;
        }
        self.send_control(index, OpCode::Close, payload.get(..2).unwrap_or_default());
        if self.quit_by.is_none() {
            self.count_close(index, &code.to_string());
        }
    }

    /// Counts how the server ended a connection. For anyone but a slow client that is an error too.
    pub(super) fn count_close(&mut self, index: u32, code: &str) {
        count(&mut self.tally.closes, code);
        match &mut self.tally.slow {
            Some(slow) if self.conns[index as usize].slow => count(&mut slow.closes, code),
            _ => self.tally.error("closed_by_server"),
        }
    }

    /// A conversation of `churn` is over when all it said has come back.
    fn end_conversation_if_done(&mut self, index: u32) {
        if self.plan.scenario != Scenario::Churn || self.run.is_none() {
            return;
        }
        let conn = &self.conns[index as usize];
        let said = conn.state == State::Open && conn.seq == self.plan.churn_frames;
        if said && conn.tracker.complete(conn.seq) {
            self.say_goodbye(index);
        }
    }
}
