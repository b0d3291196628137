//! When new work is turned away: the rows of the table for `shed.*`, and how much memory the host allows.

use super::error::Place;
use super::keys::Key;
use super::resolve::Resolver;
use super::rows::{derived, number};
use super::value::Value;

pub(super) const LAG_MS: Key = number(
    "shed.lag_ms",
    "milliseconds",
    250,
    (0, 60_000),
    "A shard that is so late with its work turns new clients away until it has been less than half as late for a second; 0: never.",
);

const MEMORY_BYTES_NAME: &str = "shed.memory_bytes";

pub(super) const MEMORY_BYTES: Key = derived(
    MEMORY_BYTES_NAME,
    "bytes",
    "nine tenths of the cgroup's limit or the machine's memory, whichever is less",
    (0, 1 << 50),
    "With so much resident memory the node turns new clients away until it has a twentieth less; 0: never.",
);

impl Resolver<'_> {
    pub(super) fn derive_shed_memory(&mut self) {
        let machine = self.host.memory_bytes.map(|bytes| (bytes, "the machine's memory"));
        let cgroup = self.host.cgroup.memory_bytes_max.map(|bytes| (bytes, "the cgroup's limit"));
        let (bytes, place) = match [cgroup, machine].into_iter().flatten().min() {
            Some((bytes, of)) => (bytes / 10 * 9, format!("nine tenths of {of}, {bytes}")),
            None => (0, "the host does not tell how much memory it has".to_owned()),
        };
        self.derive(MEMORY_BYTES_NAME, Value::Number(bytes.min(1 << 50)), Place::Derived(place));
    }
}
