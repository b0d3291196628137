//! Fuzz targets: every parser that reads what a stranger sent, and the whole simulated world.
//!
//! A target is a function of bytes that panics when something does not hold. There is one table of them, [`TARGETS`],
//! which the short run in the tests (`tests/short.rs`), libFuzzer (`src/bin/voxhall-fuzz.rs`) and docs/fuzzing.md go by.
//! Nothing here reads a clock or draws a random number: the same bytes do the same again, apart from signatures that
//! an algorithm draws.

mod canary;
mod deflate;
mod events;
mod frames;
mod head;
pub mod mutate;
mod pieces;
mod proxy;
mod rig;
mod tokens;
mod upstream;
mod world;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called, here, on the command line, and by the folder of its corpus.
    pub name: &'static str,
    /// Panics when something does not hold for these bytes.
    pub run: fn(&[u8]),
    /// What has to hold.
    pub guards: &'static str,
    /// Longest input: what is longer shows nothing new and takes its time.
    pub bytes_max: usize,
    /// Mutated inputs of the short run, so that each target takes about a second.
    pub short_runs: u32,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "head",
        run: head::run,
        guards: "A request head comes to the same end however it is cut up, in the parser and in a shard, and what it is \
                 answered is well-formed HTTP of a documented status.",
        bytes_max: 4_096,
        short_runs: 10_000,
    },
    Target {
        name: "frames",
        run: frames::run,
        guards: "A stream of frames gives the same messages however it is cut up, never text that is not UTF-8, holds no \
                 more memory than its longest message, reads as tungstenite reads it, and comes back when it is encoded.",
        bytes_max: 2_048,
        short_runs: 10_000,
    },
    Target {
        name: "deflate",
        run: deflate::run,
        guards: "No payload inflates beyond the bound or leaves a mark on the next, and what is compressed is shorter and \
                 comes back.",
        bytes_max: 4_096,
        short_runs: 5_000,
    },
    Target {
        name: "events",
        run: events::run,
        guards: "What is taken as an event is JSON and no deeper than the bound, what is kept of it raw is what was \
                 checked, an error names a known code and its field, and what is written parses again.",
        bytes_max: 4_096,
        short_runs: 20_000,
    },
    Target {
        name: "tokens",
        run: tokens::run,
        guards: "No token passes that was not signed with a key of its algorithm, whatever its header says; a pass says what \
                 the claims say; no refusal quotes the token; no key set or PEM file does harm.",
        bytes_max: 2_048,
        short_runs: 3_000,
    },
    Target {
        name: "proxy",
        run: proxy::run,
        guards: "A PROXY header, X-Forwarded-For or Forwarded names the same client however it is cut up, within its \
                 bounds, and nobody but who is trusted is believed.",
        bytes_max: 2_048,
        short_runs: 20_000,
    },
    Target {
        name: "upstream",
        run: upstream::run,
        guards: "Whatever a model server says, its room's events stay JSON on one line, its audio whole samples of no more \
                 than a chunk, what it is answered JSON, and the engine asks for no moment that has passed.",
        bytes_max: 4_096,
        short_runs: 10_000,
    },
    Target {
        name: "world",
        run: world::run,
        guards: "A whole simulated node keeps every invariant of the simulation's oracle, whatever conditions it is under and \
                 whatever its clients do and say.",
        bytes_max: 2_048,
        short_runs: 100,
    },
];

/// Has a bug on purpose: a run that does not find it proves nothing.
pub const CANARY: Target = Target {
    name: "canary",
    run: canary::run,
    guards: "Nothing: it has a bug on purpose, which every run has to find.",
    bytes_max: 256,
    short_runs: 20_000,
};

/// The target of that name, the canary included.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().chain([&CANARY]).find(|target| target.name == name).copied()
}
