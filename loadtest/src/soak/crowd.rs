//! The rooms of one thread: their sockets, what is due when, and how connections are cut.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Result;

use super::Plan;
use super::dice::Dice;
use super::events::Topic;
use super::lines::{ATTEMPT_US, Connection};
use super::member::{Member, Phase};
use super::tally::Tally;
use crate::clock::{now_us, sleep};
use crate::frame::{OpCode, masked};
use crate::socket::{self, Poll};

const BUFFER_BYTES: usize = 64 << 10;
/// Turns of the loop: what is due within one goes out together.
const TURN_US: u64 = 2_000;
/// How often members that wait for news of what they said ask for it.
const ASK_US: u64 = 500_000;
/// Events that may wait for the server; more are not said.
const BACKLOG_MAX: usize = 100;
/// How long the old socket of a member that went silently still stands.
const GHOST_US: u64 = 15_000_000;
/// Words of an answer.
const WORDS: u32 = 150;
/// A dozer is awake at least so long between two pauses, and up to as much again.
const AWAKE_US_MIN: u64 = 1_000_000;

/// What is to happen at a time.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Due {
    /// A member comes back.
    Dial(u32),
    /// Its attempt of this generation has failed, if it is not live.
    GiveUp(u32, u32),
    /// A slow reader reads on.
    Read(u32),
    /// A dozer stops to read, and begins again.
    Doze(u32),
    Wake(u32),
}

/// All members of a thread.
pub(super) struct Crowd<'a> {
    pub(super) plan: &'a Plan,
    pub(super) first_room: u32,
    pub(super) poll: Poll,
    pub(super) lines: Vec<Connection>,
    pub(super) members: Vec<Member>,
    /// The members of busy rooms.
    busy: Vec<u32>,
    due: BinaryHeap<Reverse<(u64, Due)>>,
    ghosts: Vec<(u64, OwnedFd)>,
    dice: Dice,
    pub(super) buffer: Vec<u8>,
    pub(super) tally: Tally,
    /// Cuts and pauses are over: everybody is to be through.
    settling: bool,
}

impl<'a> Crowd<'a> {
    /// Rooms from `first_room` on.
    pub(super) fn new(plan: &'a Plan, first_room: u32, rooms: u32) -> Result<Self> {
        let size = plan.members;
        let count = rooms * u32::from(size);
        let members = (0..count).map(|n| Member::new((n % u32::from(size)) as u8, size));
        Ok(Self {
            plan,
            first_room,
            poll: Poll::new()?,
            lines: (0..count).map(|_| Connection::default()).collect(),
            members: members.collect(),
            busy: (0..count).filter(|n| plan.is_busy(first_room + n / u32::from(size))).collect(),
            due: BinaryHeap::new(),
            ghosts: Vec::new(),
            dice: Dice::new(plan.seed ^ u64::from(first_room) << 32),
            buffer: vec![0; BUFFER_BYTES],
            tally: Tally::default(),
            settling: false,
        })
    }

    /// Everybody joins, talks while connections are cut, and is given the time to hear the rest.
    pub(super) fn play(mut self) -> Result<Tally> {
        let now = now_us();
        let count = self.members.len() as u64;
        (0..count).for_each(|n| self.at(now + n * self.plan.join_us / count, Due::Dial(n as u32)));
        self.turn_until(now + self.plan.join_us + ATTEMPT_US, Self::all_live)?;
        self.tally.back_us.reset();
        let dozers: Vec<u32> = self.busy.iter().copied().filter(|&n| self.dozes(n)).collect();
        for n in dozers {
            let at = now_us() + self.dice.below(AWAKE_US_MIN);
            self.at(at, Due::Doze(n));
        }
        self.talk()?;
        self.settle()?;
        self.judge();
        Ok(std::mem::take(&mut self.tally))
    }

    fn talk(&mut self) -> Result<()> {
        let plan = self.plan;
        let share = self.members.len() as f64 / f64::from(plan.rooms * u32::from(plan.members));
        let busy = self.busy.len() as f64 / f64::from(plan.busy_rooms() * u32::from(plan.members));
        let rates = [plan.messages_per_s * share, plan.words_per_s / f64::from(WORDS) * busy];
        let cuts_per_s = plan.cuts_per_s * share;
        let begun = now_us();
        let (mut said, mut cut) = ([0; 2], 0);
        loop {
            let now = now_us();
            let passed_us = now - begun;
            if passed_us >= plan.duration_us {
                return Ok(());
            }
            let due = |per_s: f64| (passed_us as f64 * per_s / 1e6) as u64;
            for topic in Topic::ALL {
                let (rate, said) = (rates[topic as usize], &mut said[topic as usize]);
                if *said < due(rate) {
                    let late = (due(rate) - *said) as f64 * 1e6 / rate;
                    self.tally.late_us_max = self.tally.late_us_max.max(late as u64);
                }
                while *said < due(rate) {
                    *said += 1;
                    self.say_somewhere(topic);
                }
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
            } else {
                self.wake(n);
            }
        }
        let end = now + self.plan.settle_us;
        while now_us() < end && !self.all_through() {
            self.for_each_member(Member::ask);
            self.turn_until(now_us() + ASK_US, |_| false)?;
        }
        // News of drops that no member misses anything for may still be on its way.
        self.for_each_member(Member::ping);
        self.turn_until(end.max(now_us() + ASK_US), |crowd| crowd.members.iter().all(Member::is_quiet))
    }

    fn for_each_member(&mut self, mut what: impl FnMut(&mut Member, &mut Vec<String>)) {
        let mut out = Vec::new();
        for n in 0..self.members.len() {
            what(&mut self.members[n], &mut out);
            self.send(n as u32, &mut out);
        }
    }

    fn all_live(&self) -> bool {
        self.members.iter().all(|member| member.phase == Phase::Live)
    }

    fn all_through(&self) -> bool {
        let size = usize::from(self.plan.members);
        self.members.chunks(size).all(|room| room.iter().all(|member| member.is_through(room)))
    }

    /// Whether a member is in a busy room.
    fn is_busy(&self, n: u32) -> bool {
        self.plan.is_busy(self.first_room + n / u32::from(self.plan.members))
    }

    /// Whether a member reads by fits and starts: every second one of a busy room.
    pub(super) fn dozes(&self, n: u32) -> bool {
        self.members[n as usize].index % 2 == 1 && self.is_busy(n)
    }

    fn say_somewhere(&mut self, topic: Topic) {
        let (n, count) = match topic {
            Topic::Message => (self.dice.below(self.members.len() as u64) as u32, 1),
            Topic::Word => (self.busy[self.dice.below(self.busy.len() as u64) as usize], WORDS),
        };
        let member = &mut self.members[n as usize];
        if member.backlog() >= BACKLOG_MAX {
            self.tally.withheld += 1;
            return;
        }
        self.tally.topics[topic as usize].said += u64::from(count);
        let mut out = Vec::new();
        member.say(topic, count);
        member.speak(&mut out);
        self.send(n, &mut out);
    }

    /// One of the ways in which connections end, or one in which a reader falls behind.
    fn cut(&mut self, n: u32, now: u64) {
        let line = &self.lines[n as usize];
        // Whoever dozes may be cut while much is still to be told to it.
        let asleep = line.asleep && !self.dozes(n);
        if line.socket.is_none() || asleep || !line.upgraded || (self.plan.spare_busy && self.is_busy(n)) {
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
    pub(super) fn lost(&mut self, n: u32, now: u64) {
        self.tally.busy_ended += u64::from(self.is_busy(n));
        self.lines[n as usize].lose();
        self.members[n as usize].lose();
        let long = !self.settling && self.dice.below(100) < self.plan.long_percent;
        let away_us = if long { self.plan.long_us } else { 50_000 + self.dice.below(2_000_000) };
        if long {
            *self.tally.cuts.entry("long absence".to_owned()).or_default() += 1;
        }
        self.at(now + away_us, Due::Dial(n));
    }

    pub(super) fn at(&mut self, at_us: u64, due: Due) {
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
                Due::Read(n) => self.wake(n),
                Due::Doze(n) => self.doze(n, now),
                Due::Wake(n) => {
                    self.wake(n);
                    let at = now + AWAKE_US_MIN + self.dice.below(AWAKE_US_MIN);
                    self.at(at, Due::Doze(n));
                }
            }
        }
        self.ghosts.retain(|(until, _)| *until > now);
        Ok(())
    }

    /// A dozer stops to read, for a while. Whoever is not there is awake.
    fn doze(&mut self, n: u32, now: u64) {
        if self.settling {
            return;
        }
        self.lines[n as usize].asleep |= self.members[n as usize].phase == Phase::Live;
        let half = (self.plan.doze_us / 2).max(1);
        let at = now + half + self.dice.below(half);
        self.at(at, Due::Wake(n));
    }

    fn wake(&mut self, n: u32) {
        if std::mem::take(&mut self.lines[n as usize].asleep) {
            self.read(n, true);
        }
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
