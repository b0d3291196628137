//! What `voxhall doctor` says of several kinds of host.

use crate::fake::{FakeHost, remedy, shortfalls};
use tuning::ProfileName::{self, BareMetal, Container, Laptop, Latency};
use tuning::{Host, Profile, Standing};

#[test]
fn a_healthy_host_meets_the_profiles_it_is_tuned_for() {
    let host = FakeHost::healthy();
    for profile in [Laptop, Container, Latency] {
        assert_eq!(shortfalls(&host.checks(profile)), [""; 0], "{profile}");
    }
    // For throughput the interrupts belong on more than one core.
    host.set("proc/irq/41/smp_affinity_list", "1");
    assert_eq!(shortfalls(&host.checks(BareMetal)), [""; 0]);
}

#[test]
fn this_machine_can_be_read() {
    let host = Host::read();
    assert!(!host.allowed_cores().is_empty());
    assert!(host.kernel_version().is_some());
    assert!(host.nofile.is_some() && host.memlock.is_some());
}

#[test]
fn an_empty_root_fails_nothing() {
    let host = FakeHost::healthy();
    host.remove("proc");
    host.remove("sys");
    for profile in ProfileName::ALL {
        let checks = host.checks(profile);
        assert!(checks.iter().all(|check| check.standing != Standing::Fails), "{profile}: {checks:#?}");
    }
}

#[test]
fn an_old_kernel_fails_with_the_distributions_newer_one() {
    let host = FakeHost::healthy();
    host.set("proc/sys/kernel/osrelease", "5.15.0-91-generic");
    host.set("etc/os-release", "ID=ubuntu\nVERSION_ID=\"22.04\"");
    let check = host.check(Laptop, "kernel");
    assert_eq!(check.standing, Standing::Fails);
    assert_eq!(check.found, "5.15.0-91-generic");
    assert!(remedy(&check).contains("linux-generic-hwe-22.04"));
    host.set("proc/sys/kernel/osrelease", "6.1.0-18-amd64");
    assert_eq!(host.check(Laptop, "kernel").standing, Standing::Ok);
}

#[test]
fn a_disabled_ring_fails() {
    let host = FakeHost::healthy();
    let key = "proc/sys/kernel/io_uring_disabled";
    host.set(key, 2);
    let check = host.check(Laptop, "kernel.io_uring_disabled");
    assert_eq!(check.standing, Standing::Fails);
    assert_eq!(remedy(&check), "sudo sysctl -w kernel.io_uring_disabled=0");

    host.set(key, 1);
    let standing = || host.check(Laptop, "kernel.io_uring_disabled").standing;
    assert_eq!(standing(), Standing::Fails);
    host.set("proc/sys/kernel/io_uring_group", 27);
    assert_eq!(standing(), Standing::Ok, "members of the group may");
    host.set("proc/sys/kernel/io_uring_group", -1);
    assert_eq!(standing(), Standing::Fails, "-1 is nobody");
}

#[test]
fn dockers_filter_falls_short_with_dockers_flag() {
    let host = FakeHost::healthy();
    host.status("0-7", 2);
    host.set(".dockerenv", "");
    let check = host.check(Container, "seccomp");
    assert_eq!(check.standing, Standing::FallsShort);
    assert!(remedy(&check).contains("--security-opt seccomp="));
    assert!(check.why.contains("io_uring"));
}

#[test]
fn too_few_descriptors() {
    let host = FakeHost::healthy();
    host.limits(1024, 4096, 8 << 20);
    let check = host.check(Laptop, "nofile");
    assert_eq!(check.standing, Standing::Fails);
    assert!(remedy(&check).contains("--nofile="), "{check:?}");

    host.limits(1024, 524_288, 8 << 20);
    let check = host.check(Laptop, "nofile");
    assert_eq!(check.standing, Standing::FallsShort, "it may be raised");
    let needed = tuning::descriptors_for(crate::fake::CONNECTIONS, 8);
    assert_eq!(remedy(&check), format!("ulimit -Sn {needed}"));

    host.set(".dockerenv", "");
    let check = host.check(Laptop, "nofile");
    assert!(remedy(&check).starts_with("docker run --ulimit nofile="));
}

#[test]
fn few_connections_need_few_descriptors() {
    let host = FakeHost::healthy();
    host.limits(2000, 2000, 8 << 20);
    let profile = Profile::named(Laptop);
    let standing = |connections| {
        let checks = tuning::checks(&host.read(), &profile, connections);
        let check = checks.iter().find(|check| check.name == "nofile").expect("it exists");
        check.standing
    };
    assert_eq!(standing(1000), Standing::Ok);
    assert_eq!(standing(3000), Standing::Fails);
}

#[test]
fn too_little_lockable_memory_fails() {
    let host = FakeHost::healthy();
    host.limits(1_048_576, 1_048_576, 64 * 1024);
    assert_eq!(host.check(Laptop, "memlock").standing, Standing::Fails);

    host.set("proc/self/cgroup", "0::/system.slice/voxhall.service");
    let check = host.check(Laptop, "memlock");
    assert!(remedy(&check).contains("LimitMEMLOCK=524288"));
    assert!(remedy(&check).contains("voxhall.service.d"));
}

#[test]
fn a_quota_of_one_and_a_half_cores_gives_two_shards_and_falls_short() {
    let host = FakeHost::healthy();
    host.set("proc/self/cgroup", "0::/");
    host.set("sys/fs/cgroup/cpu.max", "150000 100000");
    host.set("sys/fs/cgroup/memory.max", 100 << 20);
    host.set(".dockerenv", "");
    let facts = host.read();
    assert_eq!(facts.cgroup.quota_cores, Some(1.5));
    let cores = tuning::resolve_cores(&facts, &Profile::named(Container), None, None);
    assert_eq!(cores, Ok(vec![0, 1]));
    let check = host.check(Container, "cpu-quota");
    assert_eq!(check.standing, Standing::FallsShort);
    assert_eq!(remedy(&check), "docker update --cpus 2 <container>");
    let check = host.check(Container, "memory");
    assert_eq!(check.standing, Standing::FallsShort);
    assert!(remedy(&check).starts_with("docker update --memory "));

    host.set("sys/fs/cgroup/cpu.max", "200000 100000");
    assert_eq!(host.check(Container, "cpu-quota").standing, Standing::Ok);
}

#[test]
fn the_tightest_group_above_counts() {
    let host = FakeHost::healthy();
    host.set("proc/self/cgroup", "0::/a.slice/b.slice/voxhall.service");
    let group = "sys/fs/cgroup/a.slice";
    host.set(&format!("{group}/cpu.max"), "50000 100000");
    host.set(&format!("{group}/b.slice/cpu.max"), "max 100000");
    host.set(&format!("{group}/b.slice/voxhall.service/cpu.max"), "200000 100000");
    host.set(&format!("{group}/b.slice/memory.max"), "max");
    host.set(&format!("{group}/memory.max"), 1 << 30);
    let cgroup = host.read().cgroup;
    assert_eq!(cgroup.quota_cores, Some(0.5));
    assert_eq!(cgroup.memory_bytes_max, Some(1 << 30));
}

#[test]
fn groups_of_the_first_version_are_read_too() {
    let host = FakeHost::healthy();
    host.set("proc/self/cgroup", "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/");
    // Inside a container its own group is mounted as the root.
    host.set(
        "proc/self/mountinfo",
        "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
         35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
    );
    host.set("sys/fs/cgroup/cpu/cpu.cfs_quota_us", 15_000);
    host.set("sys/fs/cgroup/cpu/cpu.cfs_period_us", 100_000);
    host.set("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
    let cgroup = host.read().cgroup;
    assert_eq!(cgroup.quota_cores, Some(0.15));
    assert_eq!(cgroup.memory_bytes_max, None);
    host.set("sys/fs/cgroup/cpu/cpu.cfs_quota_us", -1);
    assert_eq!(host.read().cgroup.quota_cores, None);
}

#[test]
fn a_stock_host_falls_short_of_bare_metal_and_not_of_laptop() {
    let host = FakeHost::healthy();
    host.set("proc/sys/net/core/somaxconn", 4096);
    host.set("proc/sys/net/ipv4/tcp_max_syn_backlog", 2048);
    host.set("proc/sys/net/core/netdev_max_backlog", 1000);
    host.set("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999");
    host.set("proc/sys/net/ipv4/tcp_migrate_req", 0);
    host.set("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave");
    assert_eq!(shortfalls(&host.checks(Laptop)), [""; 0]);
    assert_eq!(
        shortfalls(&host.checks(BareMetal)),
        [
            "net.core.somaxconn",
            "net.ipv4.tcp_max_syn_backlog",
            "net.core.netdev_max_backlog",
            "net.ipv4.ip_local_port_range",
            "net.ipv4.tcp_migrate_req",
            "interrupts",
            "cpu-governor",
        ]
    );
}

#[test]
fn a_full_tracking_table_falls_short() {
    let host = FakeHost::healthy();
    host.set("proc/sys/net/netfilter/nf_conntrack_max", 15_000);
    host.set("proc/sys/net/netfilter/nf_conntrack_count", 20);
    let check = host.check(Laptop, "net.netfilter.nf_conntrack_max");
    assert_eq!(check.standing, Standing::FallsShort);
    assert!(remedy(&check).ends_with("nf_conntrack_max=32768"));
}

#[test]
fn interrupts_on_shard_cores_hurt_latency() {
    let host = FakeHost::healthy();
    host.set("proc/irq/41/smp_affinity_list", "3");
    let check = host.check(Latency, "interrupts");
    assert_eq!(check.standing, Standing::FallsShort);
    assert_eq!(remedy(&check), "sudo tuning/irq/voxhall-irq away --cores 1-7 eth0");
    // Steering counts as well as the interrupt itself.
    host.set("proc/irq/41/smp_affinity_list", "0");
    host.set("sys/class/net/eth0/queues/rx-0/rps_cpus", "0e");
    assert_eq!(host.check(Latency, "interrupts").standing, Standing::FallsShort);
    // For throughput it is what is wanted.
    assert_eq!(host.check(BareMetal, "interrupts").standing, Standing::Ok);
}

#[test]
fn siblings_share_and_the_remedy_names_whole_cores() {
    let host = FakeHost::healthy();
    for core in 0..8 {
        let pair = format!("{},{}", core % 4, core % 4 + 4);
        host.set(&format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"), pair);
    }
    let check = host.check(BareMetal, "smt-siblings");
    assert_eq!(check.standing, Standing::FallsShort);
    assert_eq!(remedy(&check), "voxhall serve --cores 1,2,3,4");
    assert_eq!(host.check(Laptop, "smt-siblings").standing, Standing::Ok);
}

#[test]
fn latency_wants_cores_of_its_own() {
    let host = FakeHost::healthy();
    host.set("sys/devices/system/cpu/isolated", "");
    host.set("sys/devices/system/cpu/nohz_full", "(null)");
    host.set("etc/os-release", "ID=debian");
    let checks = host.checks(Latency);
    assert_eq!(shortfalls(&checks), ["isolcpus", "nohz_full"]);
    let check = host.check(Latency, "isolcpus");
    assert!(remedy(&check).contains("isolcpus=domain,managed_irq,1-7"));
    assert!(remedy(&check).contains("update-grub"));

    // Cores that are isolated are left out of what a process may use unless it asks.
    host.set("sys/devices/system/cpu/isolated", "4-7");
    host.status("0-3", 0);
    let check = host.check(Latency, "isolcpus");
    assert_eq!(remedy(&check), "taskset -c 0-7 voxhall serve --cores 4,5,6,7");
}

#[test]
fn memory_and_clock_settings() {
    let host = FakeHost::healthy();
    host.set("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never");
    host.set("proc/swaps", "Filename Type Size Used Priority\n/swap file 2097152 0 -2");
    host.set("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet");
    host.set("proc/self/timerslack_ns", 10_000_000);
    host.set("sys/devices/system/node/node1/cpulist", "4-7");
    host.set("proc/sys/kernel/numa_balancing", 1);
    assert_eq!(
        shortfalls(&host.checks(Latency)),
        ["clocksource", "timer-slack", "swap", "transparent-huge-pages", "numa"]
    );
    let check = host.check(Latency, "clocksource");
    assert!(remedy(&check).starts_with("echo tsc | sudo tee "));
}
