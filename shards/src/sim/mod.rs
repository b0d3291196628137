//! The same core in a seeded, simulated world.
//!
//! [`run`] builds a world from a seed: shards under a pump that keeps the runtime's contract, byte pipes that split,
//! delay, stall and break, queues between shards that fill, clients that behave and clients that don't, and a control
//! plane. An oracle looks at every shard between turns and at everything a client hears. Nothing here reads a clock,
//! starts a thread, or depends on the order of a hash table: the same seed gives the same [`Report`], and a seed that
//! fails fails again.
//!
//! Bounded by the length of a scenario; it lives on the caller's thread.

mod client;
mod control;
mod dice;
mod gate;
mod keeping;
mod kernel;
mod lives;
mod oracle;
mod pipe;
mod pump;
mod recovery;
mod scenario;
mod solo;
mod store;
mod stored;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use solo::Solo;

/// What became of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// A hash of every input and effect.
    pub hash: u64,
    /// How many there were.
    pub steps: u64,
    /// Virtual time that passed, in milliseconds.
    pub virtual_ms: u64,
    /// Connections that clients began.
    pub connections: u64,
    /// Connections whose books of order and loss were closed without a fault.
    pub settled: u64,
    /// Connections that the shards closed as too slow.
    pub slow_closed: u64,
    /// Messages that lanes dropped and told of, or should have.
    pub dropped: u64,
    /// Times that a client was told what it had missed.
    pub restored: u64,
    /// Events told again.
    pub replayed: u64,
    /// Times that a node crashed.
    pub crashes: u64,
    /// Times that a node ended and the store had everything.
    pub clean_ends: u64,
    /// Rooms that went on where a store had them.
    pub revived: u64,
    /// Times that a client was told that what it had seen last was lost.
    pub lost: u64,
}

/// Something happened that may not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}: {what}")]
pub struct Violation {
    /// In the world of this seed.
    pub seed: u64,
    /// What it was.
    pub what: String,
}

/// Runs one seed to its end. `line` is given every step as text, if anybody wants to read it.
///
/// # Errors
/// When an invariant did not hold, or the core panicked.
pub fn run(seed: u64, line: Option<fn(&str)>) -> Result<Report, Violation> {
    play(seed, || world::World::new(seed, line))
}

/// Runs the world of a seed in which rooms have a store, and nodes crash, end, and begin again.
///
/// # Errors
/// When an invariant did not hold, or the core panicked.
pub fn run_stored(seed: u64, line: Option<fn(&str)>) -> Result<Report, Violation> {
    play(seed, || world::World::stored(seed, line))
}

/// Runs a small world whose conditions and clients follow a script of any bytes: each choice reads on in it, hostile
/// clients say parts of it, and its first eight bytes are the seed of everything else.
///
/// # Errors
/// When an invariant did not hold, or the core panicked.
pub fn run_script(script: &[u8], line: Option<fn(&str)>) -> Result<Report, Violation> {
    let mut first = [0; 8];
    let taken = script.len().min(first.len());
    first[..taken].copy_from_slice(&script[..taken]);
    let seed = u64::from_le_bytes(first);
    play(seed, || world::World::scripted(seed, &script[taken..], line))
}

fn play(seed: u64, make: impl FnOnce() -> world::World) -> Result<Report, Violation> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = make();
        world.run().map(|()| world.report())
    }));
    outcome.unwrap_or_else(|panic| Err(panic_text(&*panic))).map_err(|what| Violation { seed, what })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("a panic: {}", text.unwrap_or("without words"))
}
