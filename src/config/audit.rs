//! `audit.*`: whether and where it is written down who came, was refused and was closed.

use std::path::PathBuf;

use super::keys::Key;
use super::resolve::Resolver;
use super::rows::{file, number};

pub(super) const PATH: Key = file(
    "audit.path",
    "Where it is written down, a JSON object a line, who came, was refused and was closed. Not set: nowhere. Opened \
     again on SIGHUP.",
);

pub(super) const ROTATE_BYTES: Key = number(
    "audit.rotate_bytes",
    "bytes",
    104_857_600,
    (4_096, 1 << 40),
    "Past so many the file is renamed to end in .1, what was .1 to .2, and a new one is begun.",
);

pub(super) const KEEP_FILES: Key =
    number("audit.keep_files", "files", 5, (1, 1_000), "How many renamed files are kept; older ones go.");

pub(super) const QUEUE_RECORDS_MAX: Key = number(
    "audit.queue_records_max",
    "records per shard",
    8_192,
    (16, 1 << 20),
    "Records that wait to be written. Past that they are dropped and counted: nobody waits for a disk.",
);

/// Where and how it is written down.
#[derive(Clone, Debug)]
pub(crate) struct AuditConfig {
    /// The file.
    pub(crate) path: PathBuf,
    /// How long it may become.
    pub(crate) rotate_bytes: u64,
    /// How many of its predecessors are kept.
    pub(crate) keep_files: u64,
    /// Records that may wait for each shard.
    pub(crate) queue_records_max: usize,
}

impl Resolver<'_> {
    pub(super) fn audit_config(&self) -> Option<AuditConfig> {
        self.settings.get("audit.path")?;
        Some(AuditConfig {
            path: PathBuf::from(self.text("audit.path")),
            rotate_bytes: self.number("audit.rotate_bytes"),
            keep_files: self.number("audit.keep_files"),
            queue_records_max: self.number("audit.queue_records_max") as usize,
        })
    }
}
