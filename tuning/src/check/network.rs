//! Queues and tables of the network stack, and which cores serve the cards.

use super::{ANYTHING, Asked, Check, UNKNOWN, remedy};
use crate::host::{Nic, format_list};
use crate::profile::Irqs;

pub(super) fn checks(asked: &Asked<'_>) -> Vec<Check> {
    vec![
        at_least(
            asked,
            "net.core.somaxconn",
            asked.profile.needs.somaxconn_min,
            "The kernel cuts every listener's accept queue to this; what does not fit in a storm of clients waits a \
             second for its next SYN.",
        ),
        at_least(
            asked,
            "net.ipv4.tcp_max_syn_backlog",
            asked.profile.needs.syn_backlog_min,
            "Handshakes half-way. Beyond it the kernel falls back to SYN cookies, or drops.",
        ),
        at_least(
            asked,
            "net.core.netdev_max_backlog",
            asked.profile.needs.netdev_backlog_min,
            "Packets a core may have waiting between card and stack; what does not fit is dropped and sent again.",
        ),
        local_ports(asked),
        migrate_requests(asked),
        conntrack(asked),
        interrupts(asked),
    ]
}

fn at_least(asked: &Asked<'_>, key: &'static str, wanted: u32, why: &'static str) -> Check {
    let check = |found: String| Check::new(key, found, format!("{wanted} or more"), why);
    match asked.host.sysctl_number(key) {
        None => check(UNKNOWN.to_owned()),
        Some(value) if value >= u64::from(wanted) => check(value.to_string()),
        Some(value) => check(value.to_string()).short(remedy::sysctl(asked.host, key, wanted)),
    }
}

/// Wide, but above the ports that servers listen on: an outgoing connection must not take 8080 before the listener.
const LOCAL_PORTS: (u32, u32) = (10_240, 65_535);

fn local_ports(asked: &Asked<'_>) -> Check {
    const KEY: &str = "net.ipv4.ip_local_port_range";
    let wanted = asked.profile.needs.local_ports_min;
    let why = "Outgoing connections (engines, stores, a load generator on this host) to one address each take a port \
               of this range.";
    let check = |found: String| Check::new(KEY, found, format!("{wanted} ports or more"), why);
    let range = asked.host.sysctl(KEY).and_then(|text| {
        let mut ends = text.split_whitespace().map(str::parse::<u32>);
        Some((ends.next()?.ok()?, ends.next()?.ok()?))
    });
    let Some((first, last)) = range else {
        return check(UNKNOWN.to_owned());
    };
    let width = (last + 1).saturating_sub(first);
    let check = check(format!("{first}–{last}, {width} ports"));
    if width >= wanted {
        return check;
    }
    let (first, last) = LOCAL_PORTS;
    check.short(remedy::sysctl(asked.host, KEY, format!("{first} {last}")))
}

fn migrate_requests(asked: &Asked<'_>) -> Check {
    const KEY: &str = "net.ipv4.tcp_migrate_req";
    let why = "Every shard listens on the same port. When one listener closes, clients in its queue move to another \
               only with this; without it they are reset.";
    let wish = asked.profile.needs.migrate_requests;
    let check = |found: String| Check::new(KEY, found, if wish { "1" } else { ANYTHING }, why);
    match asked.host.sysctl_number(KEY) {
        None => check(UNKNOWN.to_owned()),
        Some(0) if wish => check("0".to_owned()).short(remedy::sysctl(asked.host, KEY, 1)),
        Some(value) => check(value.to_string()),
    }
}

fn conntrack(asked: &Asked<'_>) -> Check {
    const KEY: &str = "net.netfilter.nf_conntrack_max";
    // Closed connections stay in the table for two minutes; a full set of clients may come back meanwhile.
    let wanted = asked.connections.saturating_mul(2);
    let why = "A firewall that tracks connections drops packets of new ones when its table is full.";
    let check = |found: String| Check::new(KEY, found, format!("{wanted} or more"), why);
    let Some(max) = asked.host.sysctl_number(KEY) else {
        return check("no table".to_owned());
    };
    let used = asked.host.sysctl_number("net.netfilter.nf_conntrack_count");
    let check = check(match used {
        Some(used) => format!("{max}, {used} in use"),
        None => max.to_string(),
    });
    if max >= wanted {
        return check;
    }
    check.short(remedy::sysctl(asked.host, KEY, wanted.next_power_of_two()))
}

fn interrupts(asked: &Asked<'_>) -> Check {
    let (wanted, why) = match asked.profile.needs.irqs {
        Irqs::Anywhere => (ANYTHING, ""),
        Irqs::Spread => (
            "shared out among the shards' cores",
            "One core that receives for all is the first to be full, and its shard is the slowest.",
        ),
        Irqs::Away => (
            "on cores without a shard",
            "An interrupt stops the shard on its core, and every room there waits for it.",
        ),
    };
    let check = |found: String| Check::new("interrupts", found, wanted, why);
    let nics: Vec<&Nic> = asked.host.nics.iter().filter(|nic| !nic.interrupts.is_empty()).collect();
    if nics.is_empty() {
        return check("no network card shows its interrupts".to_owned());
    }
    let found: Vec<String> = nics.iter().map(|nic| describe(nic)).collect();
    let check = check(found.join("; "));
    let bad = |nic: &&&Nic| match asked.profile.needs.irqs {
        Irqs::Anywhere => false,
        Irqs::Spread => asked.cores.len() > 1 && receiving_cores(nic).len() < 2,
        // Nowhere else to go on a host whose every core has a shard.
        Irqs::Away => {
            asked.cores.len() < asked.host.online.len()
                && receiving_cores(nic).iter().any(|core| asked.cores.contains(core))
        }
    };
    match (nics.iter().find(bad), asked.profile.needs.irqs) {
        (None, _) => check,
        (Some(nic), Irqs::Away) => check.short(remedy::interrupts("away", asked.cores, &nic.name)),
        (Some(nic), _) => check.short(remedy::interrupts("onto", asked.cores, &nic.name)),
    }
}

/// The cores that do a card's receiving: those its interrupts go to, and those its packets are steered to.
fn receiving_cores(nic: &Nic) -> Vec<usize> {
    let mut cores: Vec<usize> = nic
        .interrupts
        .iter()
        .flat_map(|interrupt| interrupt.cores.iter())
        .chain(&nic.rps_cores)
        .copied()
        .collect();
    cores.sort_unstable();
    cores.dedup();
    cores
}

fn describe(nic: &Nic) -> String {
    let cores = format_list(&receiving_cores(nic));
    format!("{}: {} queues on cores {cores}", nic.name, nic.receive_queues)
}
