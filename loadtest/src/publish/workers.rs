//! The processes that hold the subscribers, and what is said between them and the coordinator: one JSON object a line.
//! A process whose stdin ends exits, so none outlives its coordinator.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command as Program, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Plan;
use super::ledger::Heard;
use crate::LISTENER;
use crate::clock::now_us;
use crate::tally::{Counts, Times};

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
    children: Vec<(Child, Option<ChildStdin>)>,
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
            let (child, mut stdin) = start_one(n, sender.clone())?;
            let told = send(&mut stdin, &Command::Plan(Box::new(share)));
            workers.children.push((child, Some(stdin)));
            told?;
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
        for (_, stdin) in &mut self.children {
            stdin.as_mut().map_or(Ok(()), |stdin| send(stdin, &Command::Finish))?;
        }
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

impl Drop for Workers {
    fn drop(&mut self) {
        for (child, stdin) in &mut self.children {
            drop(stdin.take());
            let _ = child.wait();
        }
    }
}

fn start_one(n: usize, sender: Sender<(usize, Notice)>) -> Result<(Child, ChildStdin), String> {
    let failed = |error: std::io::Error| format!("can't start a process of subscribers: {error}");
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Program::new(program);
    let mut child =
        command.arg(LISTENER).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("a process of subscribers has no pipes".into());
    };
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let notice = line
                .map_err(|error| error.to_string())
                .and_then(|line| serde_json::from_str(&line).map_err(|error| error.to_string()))
                .unwrap_or_else(Notice::Fault);
            if sender.send((n, notice)).is_err() {
                return;
            }
        }
        // Nobody listens any more once the run is over.
        let _ = sender.send((n, Notice::Fault("it ended early".into())));
    });
    Ok((child, stdin))
}

fn send(stdin: &mut ChildStdin, command: &Command) -> Result<(), String> {
    let mut line = serde_json::to_vec(command).map_err(|error| error.to_string())?;
    line.push(b'\n');
    stdin.write_all(&line).map_err(|error| format!("a process of subscribers does not listen: {error}"))
}
