//! Compares a host with a profile.
//!
//! Every check is a pure function of the snapshot, the profile, the cores of the shards and the number of connections
//! wanted. Each family has a file; this one holds what they share and the order in which they are shown.

mod cpu;
mod kernel;
mod memory;
mod network;
mod process;
mod remedy;

use crate::cores::resolve_cores;
use crate::host::Host;
use crate::profile::Profile;

pub use memory::memory_for;
pub use process::descriptors_for;

/// How well the host does on one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// As the profile wishes, or of no consequence to it.
    Ok,
    /// Works, but slower or smaller than the profile means to be.
    FallsShort,
    /// The profile cannot be met.
    Fails,
}

/// One finding: what was looked at, what was there, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The thing looked at; a kernel setting by its own name.
    pub name: &'static str,
    /// The verdict.
    pub standing: Standing,
    /// What the host has.
    pub found: String,
    /// What the profile would have.
    pub wanted: String,
    /// What it costs to be without, in a sentence.
    pub why: &'static str,
    /// The command that mends it; `None` when all is well or nothing on this host can.
    pub remedy: Option<String>,
}

/// Compares the host with the profile, the shards on the profile's own cores.
#[must_use]
pub fn checks(host: &Host, profile: &Profile, connections_wanted: u64) -> Vec<Check> {
    // The plan of a profile can always be met on a host that has a core at all.
    let cores = resolve_cores(host, profile, None, None).unwrap_or_default();
    checks_on(host, profile, &cores, connections_wanted)
}

/// The same for shards on cores that were resolved already.
#[must_use]
pub fn checks_on(host: &Host, profile: &Profile, cores: &[usize], connections_wanted: u64) -> Vec<Check> {
    let asked = Asked { host, profile, cores, connections: connections_wanted };
    let families: [fn(&Asked<'_>) -> Vec<Check>; 5] =
        [kernel::checks, process::checks, memory::checks, network::checks, cpu::checks];
    families.iter().flat_map(|family| family(&asked)).collect()
}

/// What is compared with what.
struct Asked<'a> {
    host: &'a Host,
    profile: &'a Profile,
    /// The cores of the shards.
    cores: &'a [usize],
    connections: u64,
}

impl Standing {
    /// The verdict in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::FallsShort => "falls short",
            Self::Fails => "fails",
        }
    }
}

impl Check {
    /// A check that is ok until [`Check::short`] or [`Check::fails`] says otherwise.
    fn new(
        name: &'static str,
        found: impl Into<String>,
        wanted: impl Into<String>,
        why: &'static str,
    ) -> Self {
        Self { name, standing: Standing::Ok, found: found.into(), wanted: wanted.into(), why, remedy: None }
    }

    fn short(self, remedy: impl Into<Option<String>>) -> Self {
        Self { standing: Standing::FallsShort, remedy: remedy.into(), ..self }
    }

    fn fails(self, remedy: impl Into<Option<String>>) -> Self {
        Self { standing: Standing::Fails, remedy: remedy.into(), ..self }
    }
}

/// What a check found when the host does not tell.
const UNKNOWN: &str = "unknown (the host does not tell)";

/// The wish of a profile that has none.
const ANYTHING: &str = "no wish of this profile";
