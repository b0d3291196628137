//! The processes that hold the subscribers, and what is said between them and the coordinator.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Plan;
use super::ledger::Heard;
use crate::LISTENER;
use crate::clock::now_us;
use crate::ipc::{Process, Role};
use crate::tally::{Counts, Times};

/// The processes that hold the subscribers.
const ROLE: Role = Role { argument: LISTENER, name: "a process of subscribers" };

/// From the coordinator.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Command {
    /// First of all: which subscribers, and where.
    Plan(Box<Plan>),
    /// Everything has been published.
    Finish,
}

/// From a process of subscribers.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Notice {
    /// All are subscribed.
    Ready,
    /// So many messages have come, over all subscribers.
    Heard(u64),
    /// The answer to `Finish`.
    Done(Box<Listened>),
    /// It can't go on.
    Fault(String),
}

/// What a process of subscribers has heard.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Listened {
    /// In the order of their numbers.
    pub(super) logs: Vec<Heard>,
    pub(super) latency: Times,
    /// How the server ended connections.
    pub(super) closes: Counts,
    pub(super) errors: Counts,
}

/// The processes, and what they have said so far.
pub(super) struct Workers {
    children: Vec<Process>,
    notices: Receiver<(usize, Notice)>,
    ready: usize,
    heard: Vec<u64>,
    done: Vec<Option<Listened>>,
}

impl Workers {
    /// Starts one for each share of the subscribers.
    pub(super) fn start(shares: Vec<Plan>) -> Result<Self, String> {
        let (sender, notices) = channel();
        let mut workers = Self {
            children: Vec::new(),
            notices,
            ready: 0,
            heard: vec![0; shares.len()],
            done: shares.iter().map(|_| None).collect(),
        };
        for (n, share) in shares.into_iter().enumerate() {
            let mut process = Process::start(n, ROLE, false, sender.clone(), Notice::Fault)?;
            process.tell(&Command::Plan(Box::new(share)))?;
            workers.children.push(process);
        }
        Ok(workers)
    }

    /// Waits until everybody is subscribed.
    pub(super) fn await_ready(&mut self) -> Result<(), String> {
        self.pump(None, |workers| workers.ready == workers.children.len()).map(|_| ())
    }

    /// Waits until so many messages have come, or for this long.
    pub(super) fn await_heard(&mut self, messages: u64, timeout_us: u64) -> Result<(), String> {
        let heard_all = |workers: &Self| workers.heard.iter().sum::<u64>() >= messages;
        self.pump(Some(now_us() + timeout_us), heard_all).map(|_| ())
    }

    /// Has everybody hear the rest; gives what was heard, process by process.
    pub(super) fn finish(mut self) -> Result<Vec<Listened>, String> {
        self.children.iter_mut().try_for_each(|process| process.tell(&Command::Finish))?;
        self.pump(None, |workers| workers.done.iter().all(Option::is_some))?;
        Ok(self.done.iter_mut().filter_map(Option::take).collect())
    }

    /// Takes notices until `done` (true) or the deadline (false).
    fn pump(&mut self, deadline_us: Option<u64>, done: impl Fn(&Self) -> bool) -> Result<bool, String> {
        while !done(self) {
            let rest_us = deadline_us.map_or(1_000_000, |deadline| deadline.saturating_sub(now_us()));
            if rest_us == 0 {
                return Ok(false);
            }
            match self.notices.recv_timeout(Duration::from_micros(rest_us)) {
                Ok((n, notice)) => self.take(n, notice)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("all processes have ended".into()),
            }
        }
        Ok(true)
    }

    fn take(&mut self, n: usize, notice: Notice) -> Result<(), String> {
        match notice {
            Notice::Ready => self.ready += 1,
            Notice::Heard(messages) => self.heard[n] = messages,
            Notice::Done(listened) => self.done[n] = Some(*listened),
            Notice::Fault(fault) if self.done[n].is_none() => return Err(format!("process {n}: {fault}")),
            Notice::Fault(_) => {}
        }
        Ok(())
    }
}
