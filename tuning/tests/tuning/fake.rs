//! A host made of files in a temporary folder, healthy until a test spoils it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tuning::{Check, Host, Profile, ProfileName, Standing};

/// Connections for which the checks ask in these tests.
pub(crate) const CONNECTIONS: u64 = 10_000;

/// The folder; removed when dropped.
pub(crate) struct FakeHost {
    root: PathBuf,
}

impl FakeHost {
    /// Eight cores without siblings, tuned for every profile: each check of each profile is ok.
    pub(crate) fn healthy() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("voxhall-tuning-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(&root).expect("the temporary folder is writable");
        let host = Self { root };
        host.process();
        host.settings();
        for core in 0..8 {
            let cpu = format!("sys/devices/system/cpu/cpu{core}");
            host.set(&format!("{cpu}/topology/thread_siblings_list"), core);
            host.set(&format!("{cpu}/cpufreq/scaling_governor"), "performance");
        }
        host.nic("eth0", &[(40, "0"), (41, "0")]);
        host
    }

    fn process(&self) {
        self.set("proc/self/cgroup", "0::/user.slice/user-0.slice/session-1.scope");
        self.set(
            "proc/self/mountinfo",
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate",
        );
        self.set("proc/self/timerslack_ns", 50_000);
        self.status("0-7", 0);
        self.limits(1_048_576, 1_048_576, 8 << 20);
        self.set("proc/meminfo", "MemTotal:       32768000 kB\nMemFree: 1 kB");
        self.set("proc/swaps", "Filename Type Size Used Priority");
    }

    fn settings(&self) {
        self.set("proc/sys/kernel/osrelease", "6.12.0-voxhall");
        for (key, value) in [
            ("kernel/io_uring_disabled", "0"),
            ("kernel/numa_balancing", "0"),
            ("fs/file-max", "9223372036854775807"),
            ("fs/nr_open", "1048576"),
            ("net/core/somaxconn", "16384"),
            ("net/core/netdev_max_backlog", "16384"),
            ("net/ipv4/tcp_max_syn_backlog", "16384"),
            ("net/ipv4/ip_local_port_range", "10240\t65535"),
            ("net/ipv4/tcp_migrate_req", "1"),
            ("vm/swappiness", "60"),
        ] {
            self.set(&format!("proc/sys/{key}"), value);
        }
        let cpu = "sys/devices/system/cpu";
        self.set(&format!("{cpu}/online"), "0-7");
        self.set(&format!("{cpu}/isolated"), "1-7");
        self.set(&format!("{cpu}/nohz_full"), "1-7");
        self.set("sys/devices/system/node/node0/cpulist", "0-7");
        self.set("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never");
        let clock = "sys/devices/system/clocksource/clocksource0";
        self.set(&format!("{clock}/current_clocksource"), "tsc");
        self.set(&format!("{clock}/available_clocksource"), "tsc hpet acpi_pm");
    }

    /// A card with one receive queue, steered to cores 0 and 1 unless spoiled, and these interrupts on these cores.
    pub(crate) fn nic(&self, name: &str, interrupts: &[(u32, &str)]) {
        let nic = format!("sys/class/net/{name}");
        for (at, (number, cores)) in interrupts.iter().enumerate() {
            self.set(&format!("{nic}/device/msi_irqs/{number}"), "msix");
            self.set(&format!("proc/irq/{number}/smp_affinity_list"), cores);
            self.set(&format!("proc/irq/{number}/{name}-TxRx-{at}/.keep"), "");
        }
        self.set(&format!("{nic}/queues/rx-0/rps_cpus"), "00");
    }

    pub(crate) fn status(&self, allowed: &str, seccomp: u32) {
        self.set(
            "proc/self/status",
            format!(
                "Name:\tvoxhall\nGid:\t1000\t1000\t1000\t1000\nGroups:\t27 1000\nCapEff:\t0000000000000000\n\
                 Seccomp:\t{seccomp}\nCpus_allowed:\tff\nCpus_allowed_list:\t{allowed}"
            ),
        );
    }

    pub(crate) fn limits(&self, nofile_soft: u64, nofile_hard: u64, memlock: u64) {
        self.set(
            "proc/self/limits",
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max open files            {nofile_soft}                 {nofile_hard}                 files     \n\
                 Max locked memory         {memlock}             {memlock}             bytes     "
            ),
        );
    }

    pub(crate) fn set(&self, path: &str, value: impl ToString) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("it lies under the root")).expect("the folder is ours");
        fs::write(path, format!("{}\n", value.to_string())).expect("the folder is ours");
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let text = fs::read_to_string(self.root.join(path)).expect("the file exists");
        text.trim().to_owned()
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.root.join(path);
        if path.is_dir() {
            fs::remove_dir_all(path).expect("the folder is ours");
        } else {
            fs::remove_file(path).expect("the file exists");
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn read(&self) -> Host {
        Host::from_root(&self.root)
    }

    pub(crate) fn checks(&self, profile: ProfileName) -> Vec<Check> {
        tuning::checks(&self.read(), &Profile::named(profile), CONNECTIONS)
    }

    /// The check of that name.
    pub(crate) fn check(&self, profile: ProfileName, name: &str) -> Check {
        let checks = self.checks(profile);
        let found = checks.into_iter().find(|check| check.name == name);
        found.unwrap_or_else(|| panic!("there is a check named {name}"))
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        // Best effort: a folder left behind in the temporary folder harms nobody.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The names of the checks that are not ok.
pub(crate) fn shortfalls(checks: &[Check]) -> Vec<&'static str> {
    let short = checks.iter().filter(|check| check.standing != Standing::Ok);
    short.map(|check| check.name).collect()
}

/// The command of a check that has one.
pub(crate) fn remedy(check: &Check) -> &str {
    check.remedy.as_deref().expect("the shortfall has a remedy")
}
