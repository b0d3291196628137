//! What happened in a world, as one number, and as lines for whoever wants to read them.

use std::fmt::Arguments;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::core::Micros;

/// A running hash of every input and effect.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    steps: u64,
    line: Option<fn(&str)>,
}

impl Trace {
    pub(super) const fn new(line: Option<fn(&str)>) -> Self {
        Self { hash: 0, steps: 0, line }
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) const fn steps(&self) -> u64 {
        self.steps
    }

    /// Takes a step into the hash, and tells it.
    pub(super) fn step(&mut self, now: Micros, what: &str, whose: u64, bytes: &[u8]) {
        let mut head = [0; 16];
        head[..8].copy_from_slice(&now.0.to_le_bytes());
        head[8..].copy_from_slice(&whose.to_le_bytes());
        self.hash = xxh3_64_with_seed(&head, self.hash);
        self.hash = xxh3_64_with_seed(what.as_bytes(), self.hash);
        self.hash = xxh3_64_with_seed(bytes, self.hash);
        self.steps += 1;
        if self.line.is_some() {
            let (shard, index, generation) = (whose >> 56, whose >> 32 & 0xff_ffff, whose as u32);
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(160)]).into_owned();
            self.say(
                now,
                format_args!("shard {shard} conn {index}.{generation} {what} {} {shown:?}", bytes.len()),
            );
        }
    }

    /// Tells something that is not part of the hash.
    pub(super) fn say(&self, now: Micros, what: Arguments<'_>) {
        if let Some(line) = self.line {
            line(&format!("{:>10}.{:03} ms  {what}", now.0 / 1_000, now.0 % 1_000));
        }
    }
}
