//! What the coordinator and its workers say to each other: one JSON object a line, over the worker's stdin and stdout.
//! A worker whose stdin ends exits, so none outlives its coordinator.

use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::tally::Tally;

/// From the coordinator. The loss of one ends the run: pipes don't lose.
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
