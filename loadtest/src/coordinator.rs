//! Leads a run: starts the workers, takes them through its phases in step, and measures the server meanwhile.
//!
//! One thread decides; one more per worker only passes its lines on. Workers end when their stdin does, so whatever
//! way this ends, they end too.

use std::net::TcpStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::WORKER;
use crate::admin::{self, Metrics};
use crate::args::Job;
use crate::clock::{now_us, process_cpu_ns};
use crate::flood::Flooding;
use crate::host::{self, Server};
use crate::ipc::{Command, Notice, Process, Progress, Role};
use crate::plan::{Plan, Scenario};
use crate::progress::Line;
use crate::report::{RampStep, Report};
use crate::sampler::Sampler;
use crate::summary::{self, Measured};
use crate::tally::Tally;

/// How long servers that greet have to send the first greeting after the last handshake.
const GREETING_US: u64 = 500_000;

/// Workers report this often; two of these after the end of the window their totals are complete.
const SETTLED_US: u64 = 150_000;

/// How long the server's counters have to catch up with what it did.
const METRICS_US: u64 = 1_000_000;

/// The processes that hold the clients.
const ROLE: Role = Role { argument: WORKER, name: "a worker process" };

/// Runs a job to its report.
pub(crate) fn run(job: &Job) -> Result<Report, String> {
    host::pin(&job.plan.cores)?;
    drop(TcpStream::connect_timeout(&job.plan.target, Duration::from_secs(3)).map_err(|error| {
        format!("no server at {}: {error}; start one first, as in `voxhall serve`", job.plan.target)
    })?);
    let server = job.server_pid.map(|pid| Server { pid }).or_else(|| Server::listening_on(job.plan.target));
    if let Some(server) = server
        && server.cpu_ns().is_none()
    {
        return Err(format!("--server-pid {}: no such process", server.pid));
    }
    let mut measured = Measured { rss_before: server.and_then(Server::rss_bytes), ..Measured::default() };
    measured.metrics_at_first = job.admin.as_deref().map(admin::fetch).transpose()?;
    let mut lead = Coordinator::start(job, server)?;
    lead.connect(&mut measured)?;
    lead.measure(&mut measured)?;
    lead.drain(&measured)?;
    measured.tally = lead.collect(&mut measured.errors)?;
    lead.read_metrics_after(&mut measured)?;
    measured.rss_after = server.and_then(Server::rss_bytes);
    measured.server = server;
    lead.line.clear();
    lead.tell(&Command::Quit)?;
    measured.samples = std::mem::take(&mut lead.sampler.samples);
    Ok(summary::report(job, &measured))
}

/// The workers and what they have said so far.
struct Coordinator<'a> {
    job: &'a Job,
    shares: Vec<Plan>,
    children: Vec<Process>,
    notices: Receiver<(usize, Notice)>,
    progress: Vec<Progress>,
    connected: Vec<(u64, u64)>,
    over: Vec<u64>,
    tallies: Vec<Tally>,
    sampler: Sampler,
    line: Line,
    /// Beginning and end of the phase that the line shows; 0 when it shows connections.
    phase_us: (u64, u64),
}

impl<'a> Coordinator<'a> {
    fn start(job: &'a Job, server: Option<Server>) -> Result<Self, String> {
        let shares = job.plan.shares(job.processes);
        let (sender, notices) = channel();
        let mut children = Vec::new();
        for (n, share) in shares.iter().enumerate() {
            let mut child = Process::start(n, ROLE, job.realtime, sender.clone(), Notice::Fault)?;
            child.tell(&Command::Plan(Box::new(share.clone())))?;
            children.push(child);
        }
        Ok(Self {
            progress: vec![Progress::default(); shares.len()],
            job,
            shares,
            children,
            notices,
            connected: Vec::new(),
            over: Vec::new(),
            tallies: Vec::new(),
            sampler: Sampler::new(server),
            line: Line::new(job.quiet),
            phase_us: (0, 0),
        })
    }

    /// Opens all connections, in steps for `ramp`, and waits for those that are greeted.
    fn connect(&mut self, measured: &mut Measured) -> Result<(), String> {
        if self.job.plan.scenario == Scenario::Churn {
            return Ok(());
        }
        for &step in &self.job.steps {
            self.line.phase("connect", u64::from(step));
            self.phase_us = (0, 0);
            self.connected.clear();
            for n in 0..self.children.len() {
                let upto = self.share_of_step(n, step);
                self.children[n].tell(&Command::Connect { upto })?;
            }
            self.pump(None, |lead| lead.connected.len() == lead.children.len())?;
            let first = self.connected.iter().map(|span| span.0).min().unwrap_or(0);
            let last = self.connected.iter().map(|span| span.1).max().unwrap_or(0);
            measured.connect_s += last.saturating_sub(first) as f64 / 1e6;
            self.await_greetings(measured)?;
            if self.job.plan.scenario == Scenario::Ramp {
                self.pump(Some(now_us() + self.job.settle_us), |_| false)?;
                let rss_bytes = self.sampler.server.and_then(Server::rss_bytes);
                measured.ramp.push(RampStep { clients: step, rss_bytes });
            }
        }
        measured.connected = self.total().open;
        measured.rss_connected = self.sampler.server.and_then(Server::rss_bytes);
        if measured.connected == 0 {
            let tally = self.collect(&mut measured.errors)?;
            let kinds: Vec<String> = tally.errors.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
            return Err(format!("no handshake succeeded: {}", kinds.join(", ")));
        }
        Ok(())
    }

    /// A step divided as the clients are divided.
    fn share_of_step(&self, n: usize, step: u32) -> u32 {
        if step == self.job.plan.connections {
            return self.shares[n].count;
        }
        let bound = |n: usize| (u64::from(step) * n as u64 / self.children.len() as u64) as u32;
        bound(n + 1) - bound(n)
    }

    fn await_greetings(&mut self, measured: &mut Measured) -> Result<(), String> {
        if self.job.plan.peer {
            return Ok(());
        }
        let greeted = |lead: &Self| {
            let total = lead.total();
            total.ready >= total.open
        };
        let all = self.pump(Some(now_us() + GREETING_US), greeted)?;
        if all || self.total().ready == 0 {
            return Ok(());
        }
        let total = match self.pump(Some(now_us() + self.job.plan.connect_timeout_us), greeted)? {
            true => return Ok(()),
            false => self.total(),
        };
        measured.errors.insert("no_welcome".into(), total.open.saturating_sub(total.ready));
        Ok(())
    }

    /// Warm-up and window.
    fn measure(&mut self, measured: &mut Measured) -> Result<(), String> {
        let plan = &self.job.plan;
        measured.metrics_before = self.job.admin.as_deref().map(admin::fetch).transpose()?;
        measured.fan = match plan.scenario {
            Scenario::Fanout => self.total().open.saturating_sub(1),
            _ => 1,
        };
        let churn = plan.scenario == Scenario::Churn;
        let start_us = now_us() + 20_000;
        let opens_us = start_us + if churn { 0 } else { plan.warmup_us };
        self.tell(&Command::Run { start_us })?;
        self.begin_phase("warm-up", start_us, opens_us);
        self.pump(Some(opens_us), |_| false)?;
        let server = self.sampler.server;
        let (cpu, own_cpu) = (server.and_then(Server::cpu_ns), process_cpu_ns());
        let opened_us = now_us();
        if churn {
            self.line.phase("churn", plan.churn_total);
            self.phase_us = (0, 0);
            let busy = self.shares.iter().filter(|share| share.churn_total > 0).count();
            self.pump(None, |lead| lead.over.len() == busy)?;
        } else {
            self.begin_phase(plan.scenario.name(), opens_us, opens_us + plan.duration_us);
            let flooding = match &self.job.flood {
                Some(flood) => {
                    self.pump(Some(opens_us + plan.trouble_after_us), |_| false)?;
                    Some(flood.begin())
                }
                None => None,
            };
            self.pump(Some(opens_us + plan.duration_us), |_| false)?;
            measured.flood = flooding.map(Flooding::end);
        }
        let cpu_after = server.and_then(Server::cpu_ns);
        measured.server_cpu_ns = cpu.zip(cpu_after).map(|(before, after)| after.saturating_sub(before));
        measured.own_cpu_ns = process_cpu_ns() - own_cpu;
        measured.window_s = (now_us() - opened_us) as f64 / 1e6;
        measured.window_at_s = (self.sampler.since_s(opened_us), self.sampler.since_s(now_us()));
        if plan.scenario == Scenario::Storm && self.over.len() == self.children.len() {
            let last = self.over.iter().max().copied().unwrap_or(opens_us);
            measured.back_s = Some(last.saturating_sub(opens_us) as f64 / 1e6);
        }
        Ok(())
    }

    /// Waits for what is outstanding, so that lost means lost.
    fn drain(&mut self, measured: &Measured) -> Result<(), String> {
        let now = now_us();
        self.begin_phase("drain", now, now + self.job.drain_us);
        self.pump(Some(now + SETTLED_US), |_| false)?;
        let fan = measured.fan;
        self.pump(Some(now + self.job.drain_us.max(SETTLED_US)), |lead| {
            let total = lead.total();
            total.received >= total.offered * fan
        })?;
        Ok(())
    }

    /// Asks every worker for its tally and merges them.
    fn collect(&mut self, errors: &mut crate::tally::Counts) -> Result<Tally, String> {
        self.tell(&Command::Finish)?;
        self.pump(None, |lead| lead.tallies.len() == lead.children.len())?;
        let mut merged = Tally::default();
        self.tallies.iter().for_each(|tally| merged.merge(tally));
        merged.errors.append(errors);
        Ok(merged)
    }

    /// Reads the server's counters once they have caught up, or as they are after a second.
    fn read_metrics_after(&mut self, measured: &mut Measured) -> Result<(), String> {
        let Some(admin) = self.job.admin.as_deref() else { return Ok(()) };
        let deadline = now_us() + METRICS_US;
        loop {
            let metrics: Metrics = admin::fetch(admin)?;
            measured.metrics_after = Some(metrics);
            if summary::agrees(self.job, measured) != Some(false) || now_us() >= deadline {
                return Ok(());
            }
            self.pump(Some(now_us() + METRICS_US / 10), |_| false)?;
        }
    }

    fn begin_phase(&mut self, name: &'static str, from_us: u64, to_us: u64) {
        self.phase_us = (from_us, to_us);
        self.line.phase(name, to_us - from_us);
    }

    fn total(&self) -> Progress {
        let mut total = Progress::default();
        self.progress.iter().for_each(|progress| total.add(progress));
        total
    }

    fn tell(&mut self, command: &Command) -> Result<(), String> {
        self.children.iter_mut().try_for_each(|child| child.tell(command))
    }

    /// Takes notices, samples and draws, until `done` (true) or the deadline (false).
    fn pump(&mut self, deadline_us: Option<u64>, done: impl Fn(&Self) -> bool) -> Result<bool, String> {
        loop {
            if done(self) {
                return Ok(true);
            }
            let now = now_us();
            if deadline_us.is_some_and(|deadline| now >= deadline) {
                return Ok(false);
            }
            let wake =
                deadline_us.map_or(self.sampler.due_us(), |deadline| deadline.min(self.sampler.due_us()));
            match self.notices.recv_timeout(Duration::from_micros(wake.saturating_sub(now))) {
                Ok((n, notice)) => self.take(n, notice)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("all workers have ended".into()),
            }
            if now_us() >= self.sampler.due_us() {
                self.sampler.tick(&self.total());
                self.draw();
            }
        }
    }

    fn take(&mut self, n: usize, notice: Notice) -> Result<(), String> {
        match notice {
            Notice::Progress(progress) => self.progress[n] = progress,
            Notice::Connected { first_us, last_us } => self.connected.push((first_us, last_us)),
            Notice::Over { at_us } => self.over.push(at_us),
            Notice::Tally(tally) => self.tallies.push(*tally),
            Notice::Fault(fault) => return Err(format!("worker {n}: {fault}")),
        }
        Ok(())
    }

    fn draw(&self) {
        let total = self.total();
        let sample = self.sampler.samples.last().copied().unwrap_or_default();
        let position = match self.phase_us {
            (0, 0) if self.job.plan.scenario == Scenario::Churn => total.conversations,
            (0, 0) => total.open + total.failed,
            (from, to) => now_us().clamp(from, to) - from,
        };
        let failed = if total.failed > 0 { format!(" · {} failed", total.failed) } else { String::new() };
        self.line.show(
            position,
            format!(
                "{} open{failed} · {:.0} frames/s · server {:.0} % · {:.1} MiB",
                total.open,
                sample.received_per_s,
                sample.server_cpu_percent,
                sample.server_rss_bytes as f64 / 1_048_576.0
            ),
        );
    }
}

impl Drop for Coordinator<'_> {
    fn drop(&mut self) {
        self.line.clear();
    }
}
