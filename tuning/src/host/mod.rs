//! What the host says of itself, read once.
//!
//! A [`Host`] is a snapshot: reading it again after a remedy gives a new one. It holds facts only; what they mean for
//! a profile is decided by the checks.

mod cgroup;
mod topology;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

pub use cgroup::Cgroup;
pub use topology::{Core, Interrupt, Nic};
use tree::Tree;
pub(crate) use tree::format_list;

/// Facts about the machine and about this process's place on it. `None` means that the host does not tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Host {
    allowed: Vec<usize>,
    /// Cores that are switched on, whether or not this process may run on them.
    pub online: Vec<usize>,
    /// The online cores in detail.
    pub cores: Vec<Core>,
    /// The cores of each NUMA node.
    pub nodes: Vec<Vec<usize>>,
    /// Network cards.
    pub nics: Vec<Nic>,
    /// Kernel release, as the kernel spells it.
    pub kernel: Option<String>,
    /// Cores the scheduler leaves alone (`isolcpus`).
    pub isolated: Vec<usize>,
    /// Cores without a scheduler's tick while they run one thread (`nohz_full`).
    pub tickless: Vec<usize>,
    /// Open descriptors.
    pub nofile: Option<Rlimit>,
    /// Locked memory in bytes.
    pub memlock: Option<Rlimit>,
    /// 0 none, 1 strict, 2 filtered.
    pub seccomp: Option<u32>,
    /// Whether the process is privileged enough for `kernel.io_uring_disabled` = 1 to let it through.
    pub may_use_restricted_ring: bool,
    /// Control-group limits.
    pub cgroup: Cgroup,
    /// All the memory of the machine.
    pub memory_bytes: Option<u64>,
    /// Swap in bytes; 0 if there is none.
    pub swap_bytes: u64,
    /// Setting of transparent huge pages: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
    /// The clock in use.
    pub clocksource: Option<String>,
    /// The clocks that could be used.
    pub clocksources: Vec<String>,
    /// How far this process's timers may be late, in nanoseconds.
    pub timer_slack_ns: Option<u64>,
    /// The distribution and its version, for remedies that install something.
    pub distribution: Distribution,
    /// Who started this process, for remedies in its terms.
    pub place: Place,
    sysctls: BTreeMap<&'static str, String>,
}

/// A limit of this process: the one in force and how far the process itself may raise it. `u64::MAX` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// In force.
    pub soft: u64,
    /// Can be raised to this without privilege.
    pub hard: u64,
}

/// Who started this process, and so where its limits are set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// A login shell, or something unknown.
    #[default]
    Shell,
    /// A systemd service of that name.
    Service(String),
    /// Docker, Podman or their like.
    Container,
    /// A pod.
    Kubernetes,
}

/// `ID` and its companions from `os-release`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Such as `debian`.
    pub id: String,
    /// Such as `22.04`.
    pub version: String,
    /// Such as `bookworm`.
    pub codename: String,
}

/// Every kernel setting a check looks at.
const SYSCTLS: &[&str] = &[
    "fs.file-max",
    "fs.nr_open",
    "kernel.io_uring_disabled",
    "kernel.numa_balancing",
    "net.core.netdev_max_backlog",
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_migrate_req",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "vm.swappiness",
];

impl Host {
    /// Reads this machine.
    #[must_use]
    pub fn read() -> Self {
        let mut host = Self::from_root(Path::new("/"));
        if host.allowed.is_empty() {
            let count = std::thread::available_parallelism().map_or(1, usize::from);
            host.allowed = (0..count).collect();
            host.online.clone_from(&host.allowed);
        }
        host
    }

    /// Reads a machine whose `/proc`, `/sys` and `/etc` lie under `root`.
    #[must_use]
    pub fn from_root(root: &Path) -> Self {
        let tree = Tree::new(root);
        let status = Status(tree.text("proc/self/status").unwrap_or_default());
        let in_mask = status.field("Cpus_allowed_list").map(tree::parse_list);
        let online =
            tree.list("sys/devices/system/cpu/online").or_else(|| in_mask.clone()).unwrap_or_default();
        let mut allowed = in_mask.unwrap_or_else(|| online.clone());
        allowed.retain(|core| online.contains(core));
        let limits = tree.text("proc/self/limits").unwrap_or_default();
        let cgroup = Cgroup::read(&tree);
        Self {
            cores: topology::read_cores(&tree, &online),
            nodes: topology::read_nodes(&tree),
            nics: topology::read_nics(&tree),
            kernel: tree.text("proc/sys/kernel/osrelease"),
            isolated: tree.list("sys/devices/system/cpu/isolated").unwrap_or_default(),
            tickless: tree.list("sys/devices/system/cpu/nohz_full").unwrap_or_default(),
            nofile: rlimit(&limits, "Max open files"),
            memlock: rlimit(&limits, "Max locked memory"),
            seccomp: status.field("Seccomp").and_then(|mode| mode.parse().ok()),
            may_use_restricted_ring: status.is_admin() || in_ring_group(&tree, &status),
            memory_bytes: memory_bytes(&tree),
            swap_bytes: swap_bytes(&tree),
            huge_pages: tree
                .text("sys/kernel/mm/transparent_hugepage/enabled")
                .and_then(|text| chosen(&text)),
            clocksource: tree.text(&format!("{CLOCK}/current_clocksource")),
            clocksources: tree
                .text(&format!("{CLOCK}/available_clocksource"))
                .map(|text| text.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default(),
            timer_slack_ns: tree.number("proc/self/timerslack_ns"),
            distribution: Distribution::read(&tree),
            place: Place::read(&tree, &cgroup),
            sysctls: SYSCTLS
                .iter()
                .filter_map(|&key| {
                    let path = format!("proc/sys/{}", key.replace('.', "/"));
                    Some((key, tree.text(&path)?))
                })
                .collect(),
            cgroup,
            online,
            allowed,
        }
    }

    /// The cores this process may run on, ascending.
    #[must_use]
    pub fn allowed_cores(&self) -> &[usize] {
        &self.allowed
    }

    /// The threads of the same physical core, the core itself included.
    #[must_use]
    pub fn siblings_of(&self, core: usize) -> &[usize] {
        self.cores.iter().find(|c| c.id == core).map_or(&[], |c| &c.siblings)
    }

    /// A kernel setting by its name, as text. Only those a check looks at are kept.
    #[must_use]
    pub fn sysctl(&self, key: &str) -> Option<&str> {
        self.sysctls.get(key).map(String::as_str)
    }

    /// A kernel setting that is one number.
    #[must_use]
    pub fn sysctl_number(&self, key: &str) -> Option<u64> {
        self.sysctl(key)?.parse().ok()
    }

    /// Major and minor number of the kernel.
    #[must_use]
    pub fn kernel_version(&self) -> Option<(u32, u32)> {
        let mut parts = self.kernel.as_deref()?.split(|c: char| !c.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

const CLOCK: &str = "sys/devices/system/clocksource/clocksource0";

/// `/proc/self/status`.
struct Status(String);

impl Status {
    fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == name).then(|| value.trim())
        })
    }

    /// `CAP_SYS_ADMIN`, bit 21 of the effective set.
    fn is_admin(&self) -> bool {
        self.field("CapEff")
            .and_then(|set| u64::from_str_radix(set, 16).ok())
            .is_some_and(|set| set & (1 << 21) != 0)
    }
}

fn in_ring_group(tree: &Tree, status: &Status) -> bool {
    // A group of -1 means nobody.
    let Some(group) = tree.text("proc/sys/kernel/io_uring_group").filter(|group| group != "-1") else {
        return false;
    };
    ["Gid", "Groups"]
        .iter()
        .any(|field| status.field(field).is_some_and(|ids| ids.split_whitespace().any(|id| id == group)))
}

fn rlimit(limits: &str, name: &str) -> Option<Rlimit> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut values = line.split_whitespace().map(|value| match value {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some(Rlimit { soft: values.next()??, hard: values.next()?? })
}

fn memory_bytes(tree: &Tree) -> Option<u64> {
    let text = tree.text("proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn swap_bytes(tree: &Tree) -> u64 {
    let text = tree.text("proc/swaps").unwrap_or_default();
    let kib: u64 =
        text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum();
    kib * 1024
}

/// The word in brackets: `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    let (word, _) = rest.split_once(']')?;
    Some(word.to_owned())
}

impl Distribution {
    fn read(tree: &Tree) -> Self {
        let text = tree.text("etc/os-release").unwrap_or_default();
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map(|value| value.trim_matches('"').to_owned())
                .unwrap_or_default()
        };
        Self { id: field("ID"), version: field("VERSION_ID"), codename: field("VERSION_CODENAME") }
    }
}

impl Place {
    fn read(tree: &Tree, cgroup: &Cgroup) -> Self {
        if tree.exists("var/run/secrets/kubernetes.io") || cgroup.path.contains("kubepods") {
            return Self::Kubernetes;
        }
        if tree.exists(".dockerenv") || tree.exists("run/.containerenv") || cgroup.path.contains("/docker") {
            return Self::Container;
        }
        // `user@1000.service` holds a user's whole session, not this program.
        match cgroup.path.rsplit('/').next() {
            Some(unit) if unit.ends_with(".service") && !unit.starts_with("user@") => {
                Self::Service(unit.to_owned())
            }
            _ => Self::Shell,
        }
    }
}
