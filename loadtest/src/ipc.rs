//! What a coordinator and its processes say to each other: one JSON object a line, over the process's stdin and stdout.
//! A process whose stdin ends exits, so none outlives its coordinator.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _, stdin, stdout};
use std::process::{Child, ChildStdin, Command as Program, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::tally::Tally;

/// What starts a process that outranks everything that is not realtime, on its core.
const CHRT: [&str; 3] = ["chrt", "-f", "10"];

/// What a process says that was started by hand.
pub(crate) const STRAY: &str = "this process is started by voxhall-loadtest itself, with a plan on stdin";

/// A kind of process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role {
    /// What this program is called with to be one.
    pub(crate) argument: &'static str,
    /// What people call it.
    pub(crate) name: &'static str,
}

/// A process, as its coordinator has it. It is told to end, and waited for, when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    role: Role,
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts the `n`-th of its role. Its notices go to `sender`, from a thread that only passes them on; `fault` makes one of what
    /// ends them.
    pub(crate) fn start<N: DeserializeOwned + Send + 'static>(
        n: usize,
        role: Role,
        realtime: bool,
        sender: Sender<(usize, N)>,
        fault: fn(String) -> N,
    ) -> Result<Self, String> {
        let name = role.name;
        let failed = |error: std::io::Error| format!("can't start {name}: {error}");
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Program::new(if realtime { OsStr::new(CHRT[0]) } else { program.as_os_str() });
        if realtime {
            command.args(&CHRT[1..]).arg(&program);
        }
        command.arg(role.argument).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let (stdin, Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{name} has no pipes"));
        };
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let notice = line
                    .map_err(|error| error.to_string())
                    .and_then(|line| serde_json::from_str(&line).map_err(|error| error.to_string()))
                    .unwrap_or_else(fault);
                if sender.send((n, notice)).is_err() {
                    return;
                }
            }
            // Nobody listens any more once the run is over.
            let _ = sender.send((n, fault("it ended early".into())));
        });
        Ok(Self { role, child, stdin })
    }

    /// Tells it something.
    pub(crate) fn tell(&mut self, command: &impl Serialize) -> Result<(), String> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        let mut line = serde_json::to_vec(command).map_err(|error| error.to_string())?;
        line.push(b'\n');
        stdin.write_all(&line).map_err(|error| format!("{} does not listen: {error}", self.role.name))
    }
}

impl Drop for Process {
    /// One that was told to quit says goodbye first; one that was not ends with its stdin.
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// What a process is told, as it comes on stdin.
#[derive(Debug, Default)]
pub(crate) struct Orders(Vec<u8>);

impl Orders {
    /// Takes what is on stdin; false when it has ended. Read past the standard library's buffer, which poll can't see.
    pub(crate) fn read(&mut self) -> Result<bool, String> {
        let mut chunk = [0; 4096];
        let n = rustix::io::read(stdin(), &mut chunk).map_err(|error| format!("stdin: {error}"))?;
        self.0.extend_from_slice(&chunk[..n]);
        Ok(n > 0)
    }

    /// The next one, if all of it is there.
    pub(crate) fn next<C: DeserializeOwned>(&mut self) -> Result<Option<C>, String> {
        let Some(end) = self.0.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
        let line: Vec<u8> = self.0.drain(..=end).collect();
        serde_json::from_slice(&line).map(Some).map_err(|error| format!("a command: {error}"))
    }

    /// The first one; waits for it.
    pub(crate) fn first<C: DeserializeOwned>(&mut self) -> Result<C, String> {
        loop {
            match self.next() {
                Ok(Some(command)) => return Ok(command),
                Ok(None) if self.read()? => {}
                Ok(None) => return Err("stdin ended before the plan".into()),
                Err(_) => return Err(STRAY.into()),
            }
        }
    }
}

/// Tells the coordinator. If it is gone, stdin says so too, and that ends the process.
pub(crate) fn notify(notice: &impl Serialize) {
    let mut line = serde_json::to_vec(notice).expect("notices hold nothing that JSON can't");
    line.push(b'\n');
    let mut out = stdout().lock();
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

/// From the coordinator of workers. The loss of one ends the run: pipes don't lose.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Command {
    /// First of all: what this worker does.
    Plan(Box<Plan>),
    /// Connect clients until this many of the worker's own have been tried.
    Connect { upto: u32 },
    /// The run begins at this time of the shared clock.
    Run { start_us: u64 },
    /// Nothing outstanding matters any more: slow clients read again, then the tally is due.
    Finish,
    /// Say goodbye to the server and exit.
    Quit,
}

/// From a worker.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Notice {
    /// Where it stands, a few times a second.
    Progress(Progress),
    /// The clients asked for by the last `Connect` have all been tried.
    Connected { first_us: u64, last_us: u64 },
    /// `storm`: all are back; `churn`: all conversations are over.
    Over { at_us: u64 },
    /// The answer to `Finish`.
    Tally(Box<Tally>),
    /// It can't go on.
    Fault(String),
}

/// Running totals of one worker.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Progress {
    pub(crate) open: u64,
    pub(crate) ready: u64,
    pub(crate) failed: u64,
    /// Frames offered by clients that read, on open connections.
    pub(crate) offered: u64,
    pub(crate) received: u64,
    pub(crate) conversations: u64,
}

impl Progress {
    /// Adds another worker's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.open += other.open;
        self.ready += other.ready;
        self.failed += other.failed;
        self.offered += other.offered;
        self.received += other.received;
        self.conversations += other.conversations;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_one_a_line_and_whole() {
        let mut orders = Orders(br#"{"Connect":{"upto":7}}"#.to_vec());
        assert!(orders.next::<Command>().expect("no fault").is_none(), "the line has no end yet");
        orders.0.extend_from_slice(b"\n\"Finish\"\n{\n");
        assert!(matches!(orders.first(), Ok(Command::Connect { upto: 7 })));
        assert!(matches!(orders.next(), Ok(Some(Command::Finish))));
        assert!(orders.next::<Command>().is_err_and(|fault| fault.starts_with("a command: ")));
    }

    #[test]
    fn a_process_that_ends_is_told_of() {
        let (sender, notices) = std::sync::mpsc::channel();
        // No such role: whatever this program makes of it, it gives no notice.
        let role = Role { argument: "--list", name: "a process" };
        let process = Process::start(3, role, false, sender, Notice::Fault).expect("a start");
        let last = notices.iter().last().expect("a word");
        assert!(matches!(last, (3, Notice::Fault(fault)) if fault == "it ended early"));
        drop(process);
    }
}
