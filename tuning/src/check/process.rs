//! Descriptors: the process's own limit, and the two of the kernel above it.

use super::{Asked, Check, UNKNOWN, remedy};

pub(super) fn checks(asked: &Asked<'_>) -> Vec<Check> {
    vec![nofile(asked), nr_open(asked), file_max(asked)]
}

/// Listeners, rings, doorbells, logs, stores and the control plane's own connections: a hundred would do for one
/// shard, and each further shard adds about a dozen.
const DESCRIPTORS_BESIDE: u64 = 256;
const DESCRIPTORS_PER_SHARD: u64 = 16;

/// Descriptors the program opens to hold so many connections on so many shards.
#[must_use]
pub fn descriptors_for(connections: u64, shards: usize) -> u64 {
    connections
        .saturating_add(DESCRIPTORS_PER_SHARD.saturating_mul(shards as u64))
        .saturating_add(DESCRIPTORS_BESIDE)
}

fn needed(asked: &Asked<'_>) -> u64 {
    descriptors_for(asked.connections, asked.cores.len()).max(asked.profile.needs.nofile_min)
}

fn nofile(asked: &Asked<'_>) -> Check {
    let needed = needed(asked);
    let why = "Each connection is a descriptor. At the limit new clients are turned away.";
    let check = |found: String| Check::new("nofile", found, format!("{needed} or more"), why);
    let Some(limit) = asked.host.nofile else {
        return check(UNKNOWN.to_owned()).short(None);
    };
    let mend = remedy::limit(asked.host, &remedy::NOFILE, needed, limit.hard);
    if limit.soft >= needed {
        check(amount(limit.soft))
    } else if limit.hard >= needed {
        let found = format!("{}, may be raised to {}", limit.soft, amount(limit.hard));
        check(found).short(mend)
    } else {
        check(format!("{}, no more than {}", limit.soft, limit.hard)).fails(mend)
    }
}

fn nr_open(asked: &Asked<'_>) -> Check {
    const KEY: &str = "fs.nr_open";
    let needed = needed(asked);
    let why = "No process can be given more descriptors than this, whatever its limits say.";
    let check = |found: String| Check::new(KEY, found, format!("{needed} or more"), why);
    match asked.host.sysctl_number(KEY) {
        None => check(UNKNOWN.to_owned()),
        Some(value) if value >= needed => check(value.to_string()),
        Some(value) => {
            check(value.to_string()).fails(remedy::sysctl(asked.host, KEY, needed.next_power_of_two()))
        }
    }
}

fn file_max(asked: &Asked<'_>) -> Check {
    const KEY: &str = "fs.file-max";
    let needed = needed(asked);
    let why = "All processes of the host share this many open files.";
    let check = |found: String| Check::new(KEY, found, format!("{} or more", 2 * needed), why);
    match asked.host.sysctl_number(KEY) {
        None => check(UNKNOWN.to_owned()),
        Some(value) if value >= needed.saturating_mul(2) => check(amount(value)),
        Some(value) => {
            let mend = remedy::sysctl(asked.host, KEY, (2 * needed).next_power_of_two());
            let check = check(value.to_string());
            if value >= needed { check.short(mend) } else { check.fails(mend) }
        }
    }
}

fn amount(value: u64) -> String {
    if value >= i64::MAX as u64 { "unlimited".to_owned() } else { value.to_string() }
}
