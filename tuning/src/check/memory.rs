//! Memory: what may be locked, what there is, and what the kernel does with pages.

use super::{ANYTHING, Asked, Check, UNKNOWN, remedy};
use crate::host::Place;
use crate::profile::Profile;

pub(super) fn checks(asked: &Asked<'_>) -> Vec<Check> {
    vec![memlock(asked), memory(asked), swap(asked), huge_pages(asked)]
}

/// A connection that is held and speaks now and then: about 5 KiB in the kernel and under 2 KiB here when idle, and as
/// much again for a frame on its way each way. Lanes of slow clients come on top, within their own bound.
const BYTES_PER_CONNECTION: u64 = 16 * 1024;

/// The program, its control plane, and its page.
const BYTES_BESIDE: u64 = 64 * 1024 * 1024;

/// Memory to hold so many connections on so many shards, the kernel's part included.
#[must_use]
pub fn memory_for(profile: &Profile, connections: u64, shards: usize) -> u64 {
    let pool = u64::from(profile.receive_buffers) * u64::from(profile.receive_buffer_bytes);
    connections
        .saturating_mul(BYTES_PER_CONNECTION)
        .saturating_add(pool.saturating_mul(shards as u64))
        .saturating_add(BYTES_BESIDE)
}

fn memlock(asked: &Asked<'_>) -> Check {
    let needed = asked.profile.needs.memlock_bytes_min;
    let why = "An executor refuses to start with less, since its file buffers are locked in memory.";
    let wanted = format!("{} KiB or more", needed / 1024);
    let check = |found: String| Check::new("memlock", found, wanted, why);
    match asked.host.memlock {
        None => check(UNKNOWN.to_owned()).short(None),
        Some(limit) if limit.soft == u64::MAX => check("unlimited".to_owned()),
        Some(limit) if limit.soft >= needed => check(format!("{} KiB", limit.soft / 1024)),
        Some(limit) => check(format!("{} KiB", limit.soft / 1024)).fails(remedy::limit(
            asked.host,
            &remedy::MEMLOCK,
            needed,
            limit.hard,
        )),
    }
}

fn memory(asked: &Asked<'_>) -> Check {
    let needed = memory_for(asked.profile, asked.connections, asked.cores.len());
    let why = "Rooms, receive pools and the kernel's socket buffers count against this; at the limit the process is \
               killed with all its rooms.";
    let check = |found: String| Check::new("memory", found, format!("{} or more", mib(needed)), why);
    let limited = asked.host.cgroup.memory_bytes_max;
    let total = asked.host.memory_bytes;
    let Some(available) = [limited, total].into_iter().flatten().min() else {
        return check(UNKNOWN.to_owned());
    };
    if available >= needed {
        return check(mib(available));
    }
    // A limit can be raised as far as there is memory behind it.
    let raise = limited == Some(available) && total.is_none_or(|total| total >= needed);
    check(mib(available)).short(raise.then(|| raise_memory(&asked.host.place, needed)))
}

fn raise_memory(place: &Place, bytes: u64) -> String {
    let mib = bytes.div_ceil(1 << 20);
    match place {
        Place::Container => format!("docker update --memory {mib}m --memory-swap {mib}m <container>"),
        Place::Kubernetes => format!("kubectl set resources deployment voxhall --limits=memory={mib}Mi"),
        Place::Service(unit) => format!("sudo systemctl set-property {unit} MemoryMax={mib}M"),
        Place::Shell => format!("systemd-run --scope --user -p MemoryMax={mib}M voxhall serve"),
    }
}

fn swap(asked: &Asked<'_>) -> Check {
    const KEY: &str = "vm.swappiness";
    /// From here on the kernel prefers dropping file cache so strongly that rooms stay in memory.
    const SWAPPINESS_MAX: u64 = 10;
    let why = "A room that was swapped out answers when the disk does.";
    let wanted =
        if asked.profile.needs.resident { "no swap, or vm.swappiness of 10 or less" } else { ANYTHING };
    let check = |found: String| Check::new("swap", found, wanted, why);
    if asked.host.swap_bytes == 0 {
        return check("none".to_owned());
    }
    let size = mib(asked.host.swap_bytes);
    match asked.host.sysctl_number(KEY) {
        Some(value) if value > SWAPPINESS_MAX && asked.profile.needs.resident => {
            check(format!("{size}, {KEY} {value}")).short(remedy::sysctl(asked.host, KEY, 1))
        }
        Some(value) => check(format!("{size}, {KEY} {value}")),
        None => check(size),
    }
}

fn huge_pages(asked: &Asked<'_>) -> Check {
    const FILE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let why = "With `always`, memory that rooms have given back stays resident in pages of 2 MiB, and the kernel stops \
               the process now and then to put such pages together.";
    let check = |found: &str| Check::new("transparent-huge-pages", found, "madvise or never", why);
    match asked.host.huge_pages.as_deref() {
        None => check(UNKNOWN),
        Some("always") => check("always").short(remedy::write("madvise", FILE)),
        Some(setting) => check(setting),
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
