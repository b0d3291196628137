//! A worker: one thread, one poll set, thousands of connections.
//!
//! It runs in a process of its own, told what to do on stdin. Each turn it takes what the kernel has, sends what is
//! due, opens what may be opened, and sleeps until the next tick. All memory is bounded by the number of clients,
//! the frames that wait for a blocked socket (`send::WAITING_MAX` a client), and one shared receive buffer.

mod conn;
mod connect;
mod converse;
mod events;
mod handshake;
mod life;
mod receive;
mod send;

use std::io::stdin;

use rustix::event::epoll::EventFlags;

use crate::clock::{self, Voice, Wheel, now_us, process_cpu_ns};
use crate::frame::Template;
use crate::host;
use crate::ipc::{Command, Notice, Orders, Progress, STRAY, notify};
use crate::plan::{Plan, Scenario};
use crate::socket::Poll;
use crate::tally::{ConverseTally, OthersTally, SlowTally, StormTally, Tally};

use conn::{Conn, State, token};
use connect::Connector;
use handshake::Handshake;

/// The poll token of stdin.
const COMMANDS: u64 = u64::MAX;

/// The shared receive buffer: a backlog of a hundred audio frames in one read.
const BUFFER_BYTES: usize = 64 << 10;

/// The longest sleep: deadlines and notices are this coarse.
const SLEEP_US_MAX: u64 = 50_000;

/// How long slow clients have, at the end, to read what is left for them.
const LAST_READ_US: u64 = 3_000_000;

/// How long the server has to answer the goodbye.
const GOODBYE_US: u64 = 2_000_000;

/// The run in times of the shared clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) start_us: u64,
    /// The window in which things count.
    pub(super) opens_us: u64,
    pub(super) closes_us: u64,
    /// When slow clients stop reading, or a flood begins.
    pub(super) trouble_at_us: u64,
}

impl Run {
    fn counts(&self, at_us: u64) -> bool {
        (self.opens_us..self.closes_us).contains(&at_us)
    }
}

/// What happens once at a time of the run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Milestone {
    WindowOpens,
    SlowStop,
    WindowCloses,
}

/// The worker.
struct Worker {
    plan: Plan,
    poll: Poll,
    conns: Vec<Conn>,
    buffer: Vec<u8>,
    template: Template,
    wheel: Wheel,
    due: Vec<u32>,
    connector: Connector,
    handshake: Handshake,
    tally: Tally,
    progress: Progress,
    run: Option<Run>,
    milestones: Vec<(u64, Milestone)>,
    /// Whether the coordinator waits for `Connected`, and since when.
    connecting_since: Option<u64>,
    last_landed_us: u64,
    /// Clients the storm still waits for; `None` when there is none.
    away: Option<u64>,
    /// This server greets: it has sent a welcome event.
    saw_welcome: bool,
    /// Conversations not begun yet (`churn`).
    conversations_left: u64,
    finish_by: Option<u64>,
    quit_by: Option<u64>,
    cpu_at_open_ns: u64,
    noticed_us: u64,
    orders: Orders,
}

/// Runs a worker process until it is told to quit or its stdin ends.
pub(crate) fn run() -> Result<(), String> {
    let mut orders = Orders::default();
    let Command::Plan(plan) = orders.first()? else { return Err(STRAY.into()) };
    host::raise_descriptor_limit();
    host::pin(&plan.cores)?;
    let worker = Worker::new(*plan, orders).map_err(|error| format!("can't make a poll set: {error}"))?;
    let done = worker.work();
    if let Err(fault) = &done {
        notify(&Notice::Fault(fault.clone()));
    }
    done
}

impl Worker {
    fn new(plan: Plan, orders: Orders) -> rustix::io::Result<Self> {
        let poll = Poll::new()?;
        poll.add_pipe(stdin(), COMMANDS)?;
        let conns =
            (0..plan.count).map(|index| Conn { slow: plan.is_slow(plan.first + index), ..Conn::default() });
        let mut tally = Tally::default();
        match plan.scenario {
            Scenario::Slow => {
                tally.slow = Some(SlowTally::default());
                tally.others = Some(OthersTally::default());
            }
            Scenario::Flood => tally.others = Some(OthersTally::default()),
            Scenario::Storm => tally.storm = Some(StormTally::default()),
            Scenario::Converse => tally.converse = Some(ConverseTally::default()),
            _ => {}
        }
        Ok(Self {
            conns: conns.collect(),
            buffer: vec![0; BUFFER_BYTES],
            template: Template::new(plan.frame_bytes),
            wheel: Wheel::new(plan.tick_us, now_us()),
            due: Vec::new(),
            connector: Connector::new(plan.connect_rate, plan.connect_concurrency, plan.connect_timeout_us),
            handshake: Handshake::new(&plan),
            tally,
            progress: Progress::default(),
            run: None,
            milestones: Vec::new(),
            connecting_since: None,
            last_landed_us: 0,
            away: None,
            saw_welcome: false,
            conversations_left: 0,
            finish_by: None,
            quit_by: None,
            cpu_at_open_ns: 0,
            noticed_us: 0,
            orders,
            poll,
            plan,
        })
    }

    fn work(mut self) -> Result<(), String> {
        let mut ready = Vec::new();
        loop {
            let now = now_us();
            let mut sleep_us = self.sleep_us(now);
            if self.plan.read_gap_us > 0 && self.run.is_some() && !ready.is_empty() {
                clock::sleep(sleep_us.min(self.plan.read_gap_us));
                sleep_us = 0;
            }
            ready.clear();
            self.poll.wait(sleep_us, &mut ready).map_err(|error| format!("epoll: {error}"))?;
            for &(token, flags) in &ready {
                if token == COMMANDS {
                    if !self.orders.read()? {
                        return Ok(());
                    }
                } else {
                    self.react(token, flags);
                }
            }
            self.obey_all()?;
            self.send_due();
            self.open_next();
            let now = now_us();
            self.pass_milestones(now);
            self.tell_progress(now);
            if self.quit_by.is_some_and(|by| now >= by || self.progress.open == 0) {
                self.cut_all();
                return Ok(());
            }
        }
    }

    /// Until the next tick with something to send, the next connection the pace allows, or the next milestone.
    fn sleep_us(&self, now: u64) -> u64 {
        let milestone = self.milestones.first().map(|&(at_us, _)| at_us);
        let next = [self.wheel.next_wake_us(), self.connector.next_wake_us(), milestone];
        let wake = next.into_iter().flatten().min().unwrap_or(u64::MAX);
        wake.saturating_sub(now).min(SLEEP_US_MAX)
    }

    fn react(&mut self, token: u64, flags: EventFlags) {
        let index = token as u32;
        let conn = &self.conns[index as usize];
        if conn.generation != (token >> 32) as u32 || conn.socket.is_none() {
            return;
        }
        if flags.contains(EventFlags::OUT) {
            match conn.state {
                State::Connecting => self.ask(index),
                _ if conn.pending.is_some() => self.flush(index),
                _ => {}
            }
        }
        let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        if ended || flags.contains(EventFlags::IN) {
            self.read(index, ended);
        }
    }

    fn obey_all(&mut self) -> Result<(), String> {
        while let Some(command) = self.orders.next()? {
            self.obey(command);
        }
        Ok(())
    }

    fn obey(&mut self, command: Command) {
        let now = now_us();
        match command {
            Command::Plan(_) => {}
            Command::Connect { upto } => {
                let tried = self.conns.iter().position(|conn| conn.state == State::Idle);
                let tried = tried.map_or(self.plan.count, |index| index as u32);
                (tried..upto.min(self.plan.count)).for_each(|index| self.connector.push(index));
                self.connecting_since = Some(now);
                self.last_landed_us = now;
            }
            Command::Run { start_us } => self.begin(start_us),
            Command::Finish => {
                for index in 0..self.plan.count {
                    if std::mem::take(&mut self.conns[index as usize].stopped) {
                        self.read(index, true);
                    }
                }
                self.finish_by = Some(now + LAST_READ_US);
            }
            Command::Quit => {
                (0..self.plan.count).for_each(|index| self.say_goodbye(index));
                self.quit_by = Some(now + GOODBYE_US);
            }
        }
    }

    fn begin(&mut self, start_us: u64) {
        let plan = &self.plan;
        let churn = plan.scenario == Scenario::Churn;
        let opens_us = start_us + if churn { 0 } else { plan.warmup_us };
        let closes_us = if churn { u64::MAX } else { opens_us + plan.duration_us };
        let trouble_at_us = opens_us + plan.trouble_after_us;
        self.run = Some(Run { start_us, opens_us, closes_us, trouble_at_us });
        self.milestones = vec![(opens_us, Milestone::WindowOpens), (closes_us, Milestone::WindowCloses)];
        if plan.scenario == Scenario::Slow {
            self.milestones.insert(1, (trouble_at_us, Milestone::SlowStop));
        }
        if plan.scenario == Scenario::Converse {
            return self.begin_conversations(start_us);
        }
        for index in 0..plan.count {
            let conn = &mut self.conns[index as usize];
            conn.voice = Voice::of(plan, plan.first + index).filter(|_| conn.state == State::Open);
            if let Some(voice) = &conn.voice {
                self.wheel.insert(index, start_us + voice.next_us());
            }
        }
        if churn {
            let slots = u64::from(plan.count).min(plan.churn_total);
            self.conversations_left = plan.churn_total - slots;
            (0..slots as u32).for_each(|index| self.connector.push(index));
        }
    }

    fn pass_milestones(&mut self, now: u64) {
        while self.milestones.first().is_some_and(|&(at_us, _)| at_us <= now) {
            match self.milestones.remove(0).1 {
                Milestone::WindowOpens => {
                    self.cpu_at_open_ns = process_cpu_ns();
                    if self.plan.scenario == Scenario::Storm {
                        self.cut_for_storm();
                    }
                }
                Milestone::SlowStop => {
                    for conn in self.conns.iter_mut().filter(|conn| conn.slow && conn.state == State::Open) {
                        conn.stopped = true;
                    }
                }
                Milestone::WindowCloses => self.tally.cpu_ns = process_cpu_ns() - self.cpu_at_open_ns,
            }
        }
    }

    fn tell_progress(&mut self, now: u64) {
        if self.connecting_since.is_some() && self.connector.is_idle() {
            let first_us = self.connecting_since.take().unwrap_or(now);
            notify(&Notice::Progress(self.progress));
            notify(&Notice::Connected { first_us, last_us: self.last_landed_us });
        }
        if now >= self.noticed_us + SLEEP_US_MAX {
            self.noticed_us = now;
            notify(&Notice::Progress(self.progress));
        }
        let slow_left = || self.conns.iter().filter(|conn| conn.slow && conn.socket.is_some()).count() as u64;
        if let Some(by) = self.finish_by
            && (now >= by || slow_left() == 0)
        {
            self.finish_by = None;
            let still_open = slow_left();
            self.count_unanswered();
            self.tally.open = self.progress.open;
            let clients = self.conns.iter().filter(|conn| conn.slow).count() as u64;
            if let Some(slow) = &mut self.tally.slow {
                (slow.still_open, slow.clients) = (still_open, clients);
            }
            if self.plan.scenario == Scenario::Churn {
                self.tally.cpu_ns = process_cpu_ns() - self.cpu_at_open_ns;
            }
            notify(&Notice::Tally(Box::new(std::mem::take(&mut self.tally))));
        }
    }

    fn token_of(&self, index: u32) -> u64 {
        token(index, self.conns[index as usize].generation)
    }
}
