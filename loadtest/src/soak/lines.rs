//! The members' connections: bytes in and out, and the events in them.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::{Errno, Result};

use super::crowd::{Crowd, Due};
use super::events::Line;
use super::member::Phase;
use crate::clock::now_us;
use crate::frame::{OpCode, Scan, masked, scan};
use crate::socket;

/// After this an attempt has failed, and so has a member that waits for its restoration.
pub(super) const ATTEMPT_US: u64 = 10_000_000;

/// A member's side of its connection.
#[derive(Default)]
pub(super) struct Connection {
    pub(super) socket: Option<OwnedFd>,
    pub(super) generation: u32,
    pub(super) upgraded: bool,
    pub(super) asleep: bool,
    partial: Vec<u8>,
    out: Vec<u8>,
    /// When this member was to come back.
    due_us: u64,
}

impl Connection {
    /// It is over; the next one is another generation.
    pub(super) fn lose(&mut self) {
        *self = Self { generation: self.generation.wrapping_add(1), ..Self::default() };
    }
}

impl Crowd<'_> {
    pub(super) fn dial(&mut self, n: u32, due_us: u64) -> Result<()> {
        let slow = u64::from(n) % 50 == 0 || self.dozes(n);
        let line = &mut self.lines[n as usize];
        if line.socket.is_some() {
            return Ok(());
        }
        line.generation = line.generation.wrapping_add(1);
        line.due_us = due_us;
        let source = (self.plan.sources > 1).then(|| (n % u32::from(self.plan.sources)) as u8);
        let socket = socket::connect(self.plan.target, source, slow)?;
        self.poll.add(&socket, u64::from(line.generation) << 32 | u64::from(n))?;
        line.socket = Some(socket);
        let generation = line.generation;
        let room = self.first_room + n / u32::from(self.plan.members);
        let request = self.plan.request(room, self.members[n as usize].resume());
        self.at(now_us() + ATTEMPT_US, Due::GiveUp(n, generation));
        self.write(n, request.as_bytes());
        Ok(())
    }

    pub(super) fn send(&mut self, n: u32, events: &mut Vec<String>) {
        let frames = events.drain(..).flat_map(|event| masked(OpCode::Text, event.as_bytes()));
        let bytes: Vec<u8> = frames.collect();
        if !bytes.is_empty() {
            self.write(n, &bytes);
        }
    }

    /// Writes what waits and then this, as far as the socket takes it. Its end is seen by reading.
    pub(super) fn write(&mut self, n: u32, bytes: &[u8]) {
        let line = &mut self.lines[n as usize];
        let Some(socket) = &line.socket else { return };
        line.out.extend_from_slice(bytes);
        let mut taken = 0;
        while taken < line.out.len() {
            match socket::write(socket.as_fd(), &line.out[taken..]) {
                Ok(n) => taken += n,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        line.out.drain(..taken);
    }

    pub(super) fn read(&mut self, n: u32, ended: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let line = &mut self.lines[n as usize];
            let Some(socket) = line.socket.as_ref().filter(|_| !line.asleep) else { break };
            match socket::read(socket.as_fd(), &mut buffer) {
                Ok(0) => {
                    self.closed(n, "ended");
                    break;
                }
                Ok(len) => {
                    line.partial.extend_from_slice(&buffer[..len]);
                    self.consume(n);
                    if len < buffer.len() && !ended {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.closed(n, "reset");
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    pub(super) fn closed(&mut self, n: u32, how: &str) {
        *self.tally.closes.entry(how.to_owned()).or_default() += 1;
        self.lost(n, now_us());
    }

    fn consume(&mut self, n: u32) {
        let mut bytes = std::mem::take(&mut self.lines[n as usize].partial);
        let mut at = 0;
        if !self.lines[n as usize].upgraded {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                self.lines[n as usize].partial = bytes;
                return;
            };
            if !bytes.starts_with(b"HTTP/1.1 101 ") {
                let status = String::from_utf8_lossy(&bytes[9..12.min(end)]).into_owned();
                return self.closed(n, &format!("refused {status}"));
            }
            self.lines[n as usize].upgraded = true;
            at = end + 4;
        }
        let generation = self.lines[n as usize].generation;
        while let Scan::Frame { opcode, payload, taken } = scan(&bytes[at..]) {
            self.take_frame(n, opcode, payload);
            at += taken;
            if self.lines[n as usize].generation != generation {
                return;
            }
        }
        bytes.drain(..at);
        self.lines[n as usize].partial = bytes;
    }

    fn take_frame(&mut self, n: u32, opcode: OpCode, payload: &[u8]) {
        match opcode {
            OpCode::Text => {
                for line in payload.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                    self.take_event(n, line);
                }
            }
            OpCode::Ping => self.write(n, &masked(OpCode::Pong, payload)),
            OpCode::Close => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                self.closed(n, &code.to_string());
            }
            _ => {}
        }
    }

    fn take_event(&mut self, n: u32, line: &[u8]) {
        let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else {
            return self.tally.error("unreadable");
        };
        let member = &mut self.members[n as usize];
        let was = member.phase;
        let mut out = Vec::new();
        member.take(&line, &mut out, &mut self.tally);
        if was != Phase::Live && member.phase == Phase::Live {
            let back_us = now_us().saturating_sub(self.lines[n as usize].due_us);
            self.tally.back_us.saturating_record(back_us);
        }
        self.send(n, &mut out);
    }
}
