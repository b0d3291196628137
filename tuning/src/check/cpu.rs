//! What the shards' cores are like, and who else is on them.

use super::{ANYTHING, Asked, Check, UNKNOWN, remedy};
use crate::host::{Host, Place, format_list};

pub(super) fn checks(asked: &Asked<'_>) -> Vec<Check> {
    vec![quota(asked), governor(asked), siblings(asked), isolation(asked), tickless(asked), nodes(asked)]
}

fn quota(asked: &Asked<'_>) -> Check {
    let shards = asked.cores.len();
    let why = "When the quota of a period is spent every shard stands still until the next, up to 100 ms.";
    let wanted = format!("{shards} cores, one for each shard");
    let check = |found: String| Check::new("cpu-quota", found, wanted, why);
    let cgroup = &asked.host.cgroup;
    let Some(quota) = cgroup.quota_cores else {
        return check("none".to_owned());
    };
    let check = check(format!("{quota:.2} cores"));
    if cgroup.pays_for(shards) {
        return check;
    }
    let folder = cgroup.cpu_folder.as_deref().unwrap_or("/sys/fs/cgroup");
    check.short(match &asked.host.place {
        Place::Container => format!("docker update --cpus {shards} <container>"),
        Place::Kubernetes => format!("kubectl set resources deployment voxhall --limits=cpu={shards}"),
        Place::Service(unit) => {
            format!("sudo systemctl set-property {unit} CPUQuota={}%", shards * 100)
        }
        Place::Shell if cgroup.unified => remedy::write("max", &format!("{folder}/cpu.max")),
        Place::Shell => remedy::write("-1", &format!("{folder}/cpu.cfs_quota_us")),
    })
}

fn governor(asked: &Asked<'_>) -> Check {
    let wish = asked.profile.needs.performance_governor;
    let why =
        "Other governors let a shard's core slow down between frames, and the next frame pays for the ramp.";
    let wanted = if wish { "performance" } else { ANYTHING };
    let check = |found: String| Check::new("cpu-governor", found, wanted, why);
    let mut governors: Vec<&str> = on_shards(asked).filter_map(|core| core.governor.as_deref()).collect();
    governors.sort_unstable();
    governors.dedup();
    if governors.is_empty() {
        return check("none shown (a virtual machine's host decides)".to_owned());
    }
    let check = check(governors.join(", "));
    if !wish || governors == ["performance"] {
        return check;
    }
    check.short(remedy::write("performance", "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"))
}

fn on_shards<'a>(asked: &'a Asked<'_>) -> impl Iterator<Item = &'a crate::host::Core> {
    asked.host.cores.iter().filter(|core| asked.cores.contains(&core.id))
}

fn siblings(asked: &Asked<'_>) -> Check {
    let wish = asked.profile.needs.whole_cores;
    let why = "Two threads of a physical core share its execution units and first-level cache: two shards there do \
               about the work of one and a quarter, each at a longer latency.";
    let wanted = if wish { "one shard on each physical core" } else { ANYTHING };
    let check = |found: String| Check::new("smt-siblings", found, wanted, why);
    let (mut whole, mut sharing) = (Vec::new(), Vec::new());
    for &core in asked.cores {
        let siblings = asked.host.siblings_of(core);
        if whole.iter().any(|other| siblings.contains(other)) {
            sharing.push(core);
        } else {
            whole.push(core);
        }
    }
    if sharing.is_empty() {
        return check("no two shards share a physical core".to_owned());
    }
    let check = check(format!("shards on {} share their core with another", format_list(&sharing)));
    if wish { check.short(format!("voxhall serve --cores {}", commas(&whole))) } else { check }
}

fn isolation(asked: &Asked<'_>) -> Check {
    let why =
        "The scheduler puts other work on a core that is not isolated, and a shard waits while that runs.";
    let wanted = "every shard's core in isolcpus";
    kept_free(asked, "isolcpus", &asked.host.isolated, wanted, why)
}

fn tickless(asked: &Asked<'_>) -> Check {
    let why = "A core with a tick is interrupted 100 to 1,000 times a second whatever it does.";
    let wanted = "every shard's core in nohz_full";
    kept_free(asked, "nohz_full", &asked.host.tickless, wanted, why)
}

fn kept_free(
    asked: &Asked<'_>,
    name: &'static str,
    free: &[usize],
    wanted: &'static str,
    why: &'static str,
) -> Check {
    let wish = asked.profile.needs.isolated_cores;
    let found = if free.is_empty() { "none".to_owned() } else { format_list(free) };
    let check = Check::new(name, found, if wish { wanted } else { ANYTHING }, why);
    if !wish || asked.cores.iter().all(|core| free.contains(core)) {
        return check;
    }
    check.short(free_cores(asked.host, asked.cores, free))
}

/// Cores that are free already only have to be allowed and named; otherwise the kernel must be told at boot.
fn free_cores(host: &Host, cores: &[usize], free: &[usize]) -> String {
    if free.is_empty() {
        let list = format_list(cores);
        return remedy::kernel_parameters(
            host,
            &format!("isolcpus=domain,managed_irq,{list} nohz_full={list} rcu_nocbs={list}"),
        );
    }
    let mut both = [host.allowed_cores(), free].concat();
    both.sort_unstable();
    both.dedup();
    format!("taskset -c {} voxhall serve --cores {}", format_list(&both), commas(free))
}

fn nodes(asked: &Asked<'_>) -> Check {
    const KEY: &str = "kernel.numa_balancing";
    let why = "A shard's memory is on its own node from the start; the kernel's balancing only takes its pages away to \
               see who uses them, and stalls it on each.";
    let nodes = asked.host.nodes.len();
    let found = match nodes {
        0 => UNKNOWN.to_owned(),
        1 => "one node".to_owned(),
        _ => format!("{nodes} nodes"),
    };
    let check = Check::new("numa", found, "one node, or kernel.numa_balancing 0", why);
    // Shards that are not bound wander between nodes, and then the balancing is of use.
    let balancing = asked.host.sysctl_number(KEY).is_some_and(|value| value != 0);
    if nodes < 2 || !balancing || !asked.profile.pin {
        return check;
    }
    check.short(remedy::sysctl(asked.host, KEY, 0))
}

/// The command line wants every core by its number.
fn commas(cores: &[usize]) -> String {
    let names: Vec<String> = cores.iter().map(usize::to_string).collect();
    names.join(",")
}
