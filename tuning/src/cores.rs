//! Which cores get a shard: the operator's wish, or the profile's plan, within what the host allows.

use std::fmt;

use crate::host::Host;
use crate::profile::{CorePlan, Profile};

/// The cores that get a shard each, in the order of the shards.
///
/// `cores` names them one by one; with `shards` as well, the first so many are taken. `shards` alone takes that many
/// of the profile's cores, whole physical cores before their siblings, and the cores the plan leaves free last. With
/// neither, the profile's plan decides.
///
/// # Errors
/// A [`CoreError`] when the wish cannot be met on this host.
pub fn resolve_cores(
    host: &Host,
    profile: &Profile,
    shards: Option<usize>,
    cores: Option<&[usize]>,
) -> Result<Vec<usize>, CoreError> {
    if shards == Some(0) || cores.is_some_and(<[usize]>::is_empty) {
        return Err(CoreError::NoShard);
    }
    match cores {
        Some(named) => named_cores(host, shards, named),
        None => planned_cores(host, profile, shards),
    }
}

fn named_cores(host: &Host, shards: Option<usize>, named: &[usize]) -> Result<Vec<usize>, CoreError> {
    for (at, &core) in named.iter().enumerate() {
        if named[..at].contains(&core) {
            return Err(CoreError::Twice { core });
        }
        if !host.allowed_cores().contains(&core) {
            return Err(CoreError::NotAllowed {
                core,
                online: host.online.contains(&core),
                allowed: host.allowed_cores().to_vec(),
            });
        }
    }
    let wanted = shards.unwrap_or(named.len());
    if wanted > named.len() {
        return Err(CoreError::MoreShardsThanNamed { shards: wanted, named: named.len() });
    }
    Ok(named[..wanted].to_vec())
}

fn planned_cores(host: &Host, profile: &Profile, shards: Option<usize>) -> Result<Vec<usize>, CoreError> {
    let allowed = host.allowed_cores();
    let spared = usize::from(profile.cores == CorePlan::AllButFirst && allowed.len() > 1);
    let planned = allowed.len() - spared;
    let wanted = match (shards, profile.cores) {
        (Some(shards), _) => shards,
        (None, CorePlan::Quota) => planned.min(host.cgroup.quota_cores_rounded_up()),
        (None, CorePlan::All | CorePlan::AllButFirst) => planned,
    };
    if wanted > allowed.len() {
        return Err(CoreError::MoreShardsThanCores { shards: wanted, allowed: allowed.to_vec() });
    }
    let mut order = whole_cores_first(host, &allowed[spared..]);
    order.extend(&allowed[..spared]);
    let mut taken = order[..wanted].to_vec();
    taken.sort_unstable();
    Ok(taken)
}

/// One thread of each physical core, then the threads that share one.
fn whole_cores_first(host: &Host, cores: &[usize]) -> Vec<usize> {
    let (mut first, mut sharing) = (Vec::new(), Vec::new());
    for &core in cores {
        let taken = |other: &usize| host.siblings_of(core).contains(other);
        if first.iter().any(taken) {
            sharing.push(core);
        } else {
            first.push(core);
        }
    }
    first.append(&mut sharing);
    first
}

/// Why the shards cannot be placed as asked. Reads as a sentence that names the core, what is allowed, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreError {
    /// A named core is not one this process may run on.
    NotAllowed {
        /// The core that was named.
        core: usize,
        /// Whether the host has it and only this process may not use it.
        online: bool,
        /// What the process may run on.
        allowed: Vec<usize>,
    },
    /// A core was named twice.
    Twice {
        /// The core.
        core: usize,
    },
    /// More shards than named cores.
    MoreShardsThanNamed {
        /// Shards asked for.
        shards: usize,
        /// Cores named.
        named: usize,
    },
    /// More shards than the process has cores.
    MoreShardsThanCores {
        /// Shards asked for.
        shards: usize,
        /// What the process may run on.
        allowed: Vec<usize>,
    },
    /// Zero shards, or an empty list of cores.
    NoShard,
}

impl fmt::Display for CoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed { core, online, allowed } => {
                let list = crate::host::format_list(allowed);
                if *online {
                    write!(
                        f,
                        "core {core} exists, but this process may only run on {list}; name cores among those, or \
                         start it with `taskset -c {list},{core} voxhall …` (in systemd: CPUAffinity=, in Docker: \
                         --cpuset-cpus)"
                    )
                } else {
                    write!(
                        f,
                        "this host has no core {core}; the cores allowed are {list}: say --cores {}",
                        allowed.first().copied().unwrap_or(0)
                    )
                }
            }
            Self::Twice { core } => write!(
                f,
                "core {core} is named twice, and a core carries one shard; name each core once in --cores"
            ),
            Self::MoreShardsThanNamed { shards, named } => write!(
                f,
                "{shards} shards were asked for but only {named} cores named; name {shards} cores, or leave --shards \
                 out"
            ),
            Self::MoreShardsThanCores { shards, allowed } => write!(
                f,
                "{shards} shards need {shards} cores, and this process may only run on {} ({}); say --shards {}",
                allowed.len(),
                crate::host::format_list(allowed),
                allowed.len()
            ),
            Self::NoShard => write!(
                f,
                "there must be at least one shard; leave --shards and --cores out to let the profile decide"
            ),
        }
    }
}

impl std::error::Error for CoreError {}
