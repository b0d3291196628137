//! Child processes on a core of their own, and what the kernel says about them.

use std::collections::VecDeque;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a server may take until it listens.
const READY_S: u64 = 10;
/// How long a server may take to end after SIGTERM.
const STOP_S: u64 = 5;
/// Lines of a child's standard error that are kept for a failure's explanation.
const LINES_KEPT: usize = 12;

/// Starts `command` on `core` alone: a child inherits the affinity of the thread that makes it, all its
/// threads with it. Killed when dropped.
pub(super) fn spawn_on_core(command: &mut Command, core: usize) -> Result<(Child, Complaints)> {
    if core >= CpuSet::MAX_CPU {
        bail!("there is no core {core}");
    }
    let own = sched_getaffinity(None)?;
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).with_context(|| format!("core {core} can't be used"))?;
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn();
    sched_setaffinity(None, &own)?;
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let mut child = child.with_context(|| format!("starting {program}"))?;
    let complaints = Complaints::of(child.stderr.take().context("standard error is piped")?);
    Ok((child, complaints))
}

/// The last lines a child wrote to its standard error.
pub(super) struct Complaints(JoinHandle<VecDeque<String>>);

impl Complaints {
    fn of(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        Self(tokio::spawn(async move {
            let mut kept = VecDeque::with_capacity(LINES_KEPT);
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                kept.truncate(LINES_KEPT - 1);
                kept.push_front(line);
            }
            kept
        }))
    }

    /// What a child that has ended, or is ended now, had to say.
    pub(super) async fn of_ended(self, child: &mut Child) -> String {
        let _ = child.kill().await;
        // A grandchild may hold the stream open.
        match timeout(Duration::from_secs(1), self.0).await {
            Ok(Ok(lines)) => lines.iter().rev().map(|line| format!("\n    {line}")).collect(),
            _ => String::new(),
        }
    }
}

/// A server that listens.
pub(super) struct Running {
    child: Child,
    pid: u32,
    complaints: Complaints,
}

impl Running {
    /// Starts a server and waits for the line on its standard output that names `address`.
    pub(super) async fn start(command: &mut Command, core: usize, address: &str) -> Result<Self> {
        let (mut child, complaints) = spawn_on_core(command, core)?;
        let pid = child.id().context("a child that was just started has an id")?;
        let mut lines = BufReader::new(child.stdout.take().context("standard output is piped")?).lines();
        match timeout(Duration::from_secs(READY_S), ready(&mut lines, address)).await {
            Ok(true) => {}
            Ok(false) => bail!("it ended before it was ready{}", complaints.of_ended(&mut child).await),
            Err(_) => bail!("it was not ready within {READY_S} s{}", complaints.of_ended(&mut child).await),
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, pid, complaints })
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends the server: politely, and if that is of no use, at once. One that has ended by itself is a
    /// failure.
    pub(super) async fn stop(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server ended by itself, {status}{}", self.complaints.of_ended(&mut self.child).await);
        }
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(Duration::from_secs(STOP_S), self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }
}

/// Whether a line with `needle` came before the end.
async fn ready(lines: &mut Lines<BufReader<ChildStdout>>, needle: &str) -> bool {
    while let Ok(Some(line)) = lines.next_line().await {
        if line.contains(needle) {
            return true;
        }
    }
    false
}

/// Resident memory of a process, in bytes.
pub(super) fn rss_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// CPU that a process's threads have used, in microseconds. Threads that ended are not in it.
pub(super) fn cpu_us(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let schedstat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let on_cpu: u64 = schedstat.split_whitespace().next().context("an empty schedstat")?.parse()?;
        nanoseconds += on_cpu;
    }
    Ok(nanoseconds as f64 / 1000.0)
}

/// Established connections to the local IPv4 port `port`, those not yet accepted included.
pub(super) fn established(port: u16) -> Result<usize> {
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    let port = format!(":{port:04X}");
    let is_established = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some("01")
    };
    Ok(table.lines().filter(is_established).count())
}
