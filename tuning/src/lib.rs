//! Host profiles, and the checks behind `voxhall doctor`.
//!
//! A [`Profile`] says how a shard behaves on a kind of host (which cores it takes, how long it spins, how large its
//! pools are) and what it needs of that host. A [`Host`] is what the machine says of itself, read once from `/proc`,
//! `/sys` and the cgroups. [`checks`] compares the two and names the command that mends each shortfall; start-up and
//! `voxhall doctor` call the same function, so they cannot disagree.
//!
//! Everything here runs on one ordinary thread before any shard exists. It reads small files and never writes; what
//! bounds it is the number of cores, network interfaces and interrupts of the host. It asks the kernel nothing but
//! files: whether a ring can really be set up is probed by the runtime, which turns its findings into [`Check`] values.

mod check;
mod cores;
mod host;
mod profile;
mod report;

pub use check::{Check, Standing, checks, checks_on, descriptors_for, memory_for};
pub use cores::{CoreError, resolve_cores};
pub use host::{Cgroup, Core, Distribution, Host, Interrupt, Nic, Place, Rlimit};
pub use profile::{CorePlan, Irqs, Needs, Profile, ProfileName, UnknownProfile};
pub use report::print;
