//! The rooms of one thread: their sockets, what is due when, and how connections are cut.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::{Errno, Result};

use super::Plan;
use super::dice::Dice;
use super::events::Line;
use super::member::{Member, Phase};
use super::tally::Tally;
use crate::clock::{now_us, sleep};
use crate::frame::{OpCode, Scan, masked, scan};
use crate::socket::{self, Poll};

const BUFFER_BYTES: usize = 64 << 10;
/// After this an attempt has failed, and so has a member that waits for its restoration.
const ATTEMPT_US: u64 = 10_000_000;
/// Turns of the loop: what is due within one goes out together.
const TURN_US: u64 = 2_000;
/// How often members that wait for news of what they said ask for it.
const ASK_US: u64 = 500_000;
/// Messages that may wait for the server; more are not said.
const BACKLOG_MAX: usize = 100;
/// How long the old socket of a member that went silently still stands.
const GHOST_US: u64 = 15_000_000;

/// What is to happen at a time.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Due {
    /// A member comes back.
    Dial(u32),
    /// Its attempt of this generation has failed, if it is not live.
    GiveUp(u32, u32),
    /// A slow reader reads on.
    Read(u32),
}

/// A member's side of its connection.
#[derive(Default)]
struct Connection {
    socket: Option<OwnedFd>,
    generation: u32,
    upgraded: bool,
    asleep: bool,
    partial: Vec<u8>,
    out: Vec<u8>,
    /// When this member was to come back.
    due_us: u64,
}

/// All members of a thread.
pub(super) struct Crowd<'a> {
    plan: &'a Plan,
    first_room: u32,
    poll: Poll,
    lines: Vec<Connection>,
    members: Vec<Member>,
    due: BinaryHeap<Reverse<(u64, Due)>>,
    ghosts: Vec<(u64, OwnedFd)>,
    dice: Dice,
    buffer: Vec<u8>,
    pub(super) tally: Tally,
    /// Cuts and pauses are over: everybody is to be through.
    settling: bool,
}

impl<'a> Crowd<'a> {
    /// Rooms from `first_room` on.
    pub(super) fn new(plan: &'a Plan, first_room: u32, rooms: u32) -> Result<Self> {
        let size = plan.members;
        let members = (0..rooms * u32::from(size)).map(|n| Member::new((n % u32::from(size)) as u8, size));
        Ok(Self {
            plan,
            first_room,
            poll: Poll::new()?,
            lines: (0..rooms * u32::from(size)).map(|_| Connection::default()).collect(),
            members: members.collect(),
            due: BinaryHeap::new(),
            ghosts: Vec::new(),
            dice: Dice::new(plan.seed ^ u64::from(first_room) << 32),
            buffer: vec![0; BUFFER_BYTES],
            tally: Tally::default(),
            settling: false,
        })
    }

    /// Everybody joins, talks while connections are cut, and is given the time to hear the rest.
    pub(super) fn play(mut self, rate: f64, cuts_per_s: f64) -> Result<Tally> {
        let now = now_us();
        let count = self.members.len() as u64;
        (0..count).for_each(|n| self.at(now + n * self.plan.join_us / count, Due::Dial(n as u32)));
        self.turn_until(now + self.plan.join_us + ATTEMPT_US, Self::all_live)?;
        self.tally.back_us.reset();
        self.talk(rate, cuts_per_s)?;
        self.settle()?;
        self.judge();
        Ok(std::mem::take(&mut self.tally))
    }

    fn talk(&mut self, rate: f64, cuts_per_s: f64) -> Result<()> {
        let begun = now_us();
        let (mut said, mut cut) = (0, 0);
        loop {
            let now = now_us();
            let passed_us = now - begun;
            if passed_us >= self.plan.duration_us {
                return Ok(());
            }
            let due = |per_s: f64| (passed_us as f64 * per_s / 1e6) as u64;
            let late = due(rate).saturating_sub(said) as f64 * 1e6 / rate;
            self.tally.late_us_max = self.tally.late_us_max.max(late as u64);
            while said < due(rate) {
                said += 1;
                let n = self.dice.below(self.members.len() as u64) as usize;
                self.say(n);
            }
            while cut < due(cuts_per_s) {
                cut += 1;
                let n = self.dice.below(self.members.len() as u64) as u32;
                self.cut(n, now);
            }
            self.turn()?;
        }
    }

    /// Cuts are over: everybody comes back, reads, and is asked until all is heard that was said.
    fn settle(&mut self) -> Result<()> {
        self.settling = true;
        let now = now_us();
        for n in 0..self.members.len() as u32 {
            if self.lines[n as usize].socket.is_none() {
                // Not all at the same moment.
                let at = now + self.dice.below(2_000_000);
                self.at(at, Due::Dial(n));
            } else if std::mem::take(&mut self.lines[n as usize].asleep) {
                self.read(n, true);
            }
        }
        let end = now + self.plan.settle_us;
        while now_us() < end && !self.all_heard() {
            let mut out = Vec::new();
            for n in 0..self.members.len() {
                self.members[n].ask(&mut out);
                self.send(n as u32, &mut out);
            }
            self.turn_until(now_us() + ASK_US, |_| false)?;
        }
        Ok(())
    }

    fn judge(&mut self) {
        let size = usize::from(self.plan.members);
        for room in 0..self.members.len() / size {
            let members = &mut self.members[room * size..(room + 1) * size];
            let said: Vec<u32> = members.iter().map(|member| member.said).collect();
            let excused: Vec<Vec<u32>> = members
                .iter()
                .map(|member| member.uncertain.iter().copied().chain(member.never_sent()).collect())
                .collect();
            for listener in members {
                self.tally.stranded += u64::from(listener.phase != Phase::Live);
                let (mut silent, mut told) = (0, 0);
                for speaker in (0..size).filter(|&speaker| speaker != usize::from(listener.index)) {
                    let heard = &mut listener.heard[speaker];
                    silent += heard.silent(said[speaker], &excused[speaker]);
                    told += heard.told;
                }
                self.tally.silent += silent;
                self.tally.told_messages += told;
                match (silent, told) {
                    (0, 0) => self.tally.exact += 1,
                    (0, _) => self.tally.told += 1,
                    _ => {}
                }
            }
        }
    }

    fn all_live(&self) -> bool {
        self.members.iter().all(|member| member.phase == Phase::Live)
    }

    fn all_heard(&self) -> bool {
        let size = usize::from(self.plan.members);
        let through = |room: &[Member]| {
            room.iter().all(|one| {
                one.phase == Phase::Live
                    && one.backlog() == 0
                    && room.iter().all(|other| {
                        one.index == other.index || one.heard[usize::from(other.index)].has_all(other.said)
                    })
            })
        };
        self.members.chunks(size).all(through)
    }

    fn say(&mut self, n: usize) {
        if self.members[n].backlog() >= BACKLOG_MAX {
            self.tally.withheld += 1;
            return;
        }
        self.tally.said += 1;
        self.members[n].say();
        let mut out = Vec::new();
        self.members[n].speak(&mut out);
        self.send(n as u32, &mut out);
    }

    /// One of the ways in which connections end, or one in which a reader falls behind.
    fn cut(&mut self, n: u32, now: u64) {
        let line = &mut self.lines[n as usize];
        if line.socket.is_none() || line.asleep || !line.upgraded {
            return;
        }
        let kind = match self.dice.below(100) {
            0..40 => "reset",
            40..55 => "ended",
            55..75 => "silent",
            75..90 => "goodbye",
            _ => "slow",
        };
        *self.tally.cuts.entry(kind.to_owned()).or_default() += 1;
        match kind {
            "slow" => {
                self.lines[n as usize].asleep = true;
                let at = now + 1_000_000 + self.dice.below(9_000_000);
                return self.at(at, Due::Read(n));
            }
            "goodbye" => self.write(n, &masked(OpCode::Close, &1000u16.to_be_bytes())),
            _ => {}
        }
        let Some(socket) = self.lines[n as usize].socket.take() else { return };
        match kind {
            "reset" => socket::close_by_reset(socket.as_fd()),
            // It stands, and nobody reads: the server has to notice, or to be told by the next connection.
            "silent" => self.ghosts.push((now + GHOST_US, socket)),
            _ => {}
        }
        self.lost(n, now);
    }

    /// A connection is over: its member comes back, in a while, now and then in a long while.
    fn lost(&mut self, n: u32, now: u64) {
        let line = &mut self.lines[n as usize];
        *line = Connection { generation: line.generation.wrapping_add(1), ..Connection::default() };
        self.members[n as usize].lose();
        let long = !self.settling && self.dice.below(100) < self.plan.long_percent;
        let away_us = if long { self.plan.long_us } else { 50_000 + self.dice.below(2_000_000) };
        if long {
            *self.tally.cuts.entry("long absence".to_owned()).or_default() += 1;
        }
        self.at(now + away_us, Due::Dial(n));
    }

    fn at(&mut self, at_us: u64, due: Due) {
        self.due.push(Reverse((at_us, due)));
    }

    fn turn_until(&mut self, end_us: u64, done: impl Fn(&Self) -> bool) -> Result<()> {
        while now_us() < end_us && !done(self) {
            self.turn()?;
        }
        Ok(())
    }

    /// Takes what has come, and does what is due.
    fn turn(&mut self) -> Result<()> {
        let mut ready = Vec::new();
        self.poll.wait(TURN_US, &mut ready)?;
        for (token, flags) in ready {
            let (n, generation) = (token as u32, (token >> 32) as u32);
            if self.lines[n as usize].generation != generation {
                continue;
            }
            if flags.contains(EventFlags::OUT) {
                self.write(n, &[]);
            }
            let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            self.read(n, ended);
        }
        let now = now_us();
        while self.due.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((at, due))) = self.due.pop() else { break };
            match due {
                Due::Dial(n) => self.dial(n, at)?,
                Due::GiveUp(n, generation) => {
                    let there = self.lines[n as usize].generation == generation;
                    if there && self.members[n as usize].phase != Phase::Live {
                        let line = &self.lines[n as usize];
                        self.tally.error(match (line.upgraded, line.asleep) {
                            (false, _) => "handshake_timeout",
                            (true, false) => "welcome_timeout",
                            (true, true) => "asleep_before_the_welcome",
                        });
                        self.lost(n, now);
                    }
                }
                Due::Read(n) => {
                    if std::mem::take(&mut self.lines[n as usize].asleep) {
                        self.read(n, true);
                    }
                }
            }
        }
        self.ghosts.retain(|(until, _)| *until > now);
        Ok(())
    }

    fn dial(&mut self, n: u32, due_us: u64) -> Result<()> {
        let line = &mut self.lines[n as usize];
        if line.socket.is_some() {
            return Ok(());
        }
        line.generation = line.generation.wrapping_add(1);
        line.due_us = due_us;
        let slow = u64::from(n) % 50 == 0;
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

    fn send(&mut self, n: u32, events: &mut Vec<String>) {
        let frames = events.drain(..).flat_map(|event| masked(OpCode::Text, event.as_bytes()));
        let bytes: Vec<u8> = frames.collect();
        if !bytes.is_empty() {
            self.write(n, &bytes);
        }
    }

    /// Writes what waits and then this, as far as the socket takes it. Its end is seen by reading.
    fn write(&mut self, n: u32, bytes: &[u8]) {
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

    fn read(&mut self, n: u32, ended: bool) {
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

    fn closed(&mut self, n: u32, how: &str) {
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

impl Drop for Crowd<'_> {
    /// No TIME_WAIT is left for the next run, and the server's goodbyes are not waited for.
    fn drop(&mut self) {
        for socket in self.lines.iter().filter_map(|line| line.socket.as_ref()) {
            socket::close_by_reset(socket.as_fd());
        }
        sleep(TURN_US);
    }
}
