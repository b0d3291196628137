//! The four profiles: how a shard behaves on a kind of host, and what it needs of that host.
//!
//! Plain data, built once at start-up and only read afterwards.

use std::fmt;
use std::str::FromStr;

/// The oldest kernel with everything a shard's ring uses: multishot receive and deferred task work came with 6.0 and
/// 6.1.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// What an executor insists on before it starts, soft limit, whatever it later locks.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Large enough for a backlog of voice frames to arrive in one completion: twenty-five frames of 640 bytes. Smaller
/// buffers cost a completion each and lose to a plain `read` as soon as the shard is behind.
const RECEIVE_BUFFER_BYTES: u32 = 16 * 1024;

/// What a profile asks of its host and how its shards behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Which of the four this is.
    pub name: ProfileName,
    /// Which of the allowed cores get a shard when the operator names none.
    pub cores: CorePlan,
    /// How long an idle shard polls its ring before it sleeps, in microseconds. Buys the cost of a wake-up, pays with
    /// a core that looks busy.
    pub spin_us: u32,
    /// How long a shard may wait for more completions once one has arrived, in microseconds; 0 answers at once. Adds
    /// at most this much latency, saves wake-ups.
    pub batch_us: u32,
    /// Buffers in a shard's receive pool; a power of two, as the kernel's buffer ring demands.
    pub receive_buffers: u16,
    /// Size of each of them. The product is a fixed cost per shard, touched only as it is used.
    pub receive_buffer_bytes: u32,
    /// Submission entries of a shard's ring: how many sends and re-arms of one turn go down in one system call.
    pub ring_entries: u32,
    /// Length of each listener's accept queue. The kernel cuts it to `net.core.somaxconn`.
    pub backlog: u32,
    /// Connections a shard takes from its listener in one turn before it looks at its rooms again.
    pub accept_burst: u16,
    /// Whether a shard is bound to its core. Cores the operator names are bound whatever this says.
    pub pin: bool,
    /// What the host must or should offer.
    pub needs: Needs,
}

/// The kind of host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProfileName {
    /// A developer's machine that does other things as well.
    Laptop,
    /// A container under a CPU quota and a memory limit, with neighbours.
    Container,
    /// A host of its own, tuned for the most rooms per core.
    BareMetal,
    /// A host of its own, tuned for the shortest time from frame to frame.
    Latency,
}

/// Which of the allowed cores shards take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorePlan {
    /// Every allowed core.
    All,
    /// Every allowed core but the first, which is left to the kernel, the interrupts and the control plane. A host
    /// with one core gives it up all the same.
    AllButFirst,
    /// As many as the cgroup's CPU quota pays for, rounded up; every allowed core if there is no quota.
    Quota,
}

/// Where the interrupts of the network cards should be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Irqs {
    /// The profile does not mind.
    Anywhere,
    /// Shared out among the cores, so that no single one does the receiving for all.
    Spread,
    /// On cores that carry no shard.
    Away,
}

/// What a profile requires of its host, or wishes for. What is missing from the first five fails the profile; the
/// rest only makes it fall short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Oldest kernel, major and minor. Required.
    pub kernel: (u32, u32),
    /// Descriptors the process must be allowed to open, whatever number of connections is wanted. Required.
    pub nofile_min: u64,
    /// Memory the process must be allowed to lock, soft limit. Required.
    pub memlock_bytes_min: u64,
    /// `net.core.somaxconn`: below it the kernel shortens the accept queue.
    pub somaxconn_min: u32,
    /// `net.ipv4.tcp_max_syn_backlog`: handshakes that may be half-way.
    pub syn_backlog_min: u32,
    /// `net.core.netdev_max_backlog`: packets a core may have waiting between card and stack.
    pub netdev_backlog_min: u32,
    /// Width of `net.ipv4.ip_local_port_range`: connections this host can open to one other address.
    pub local_ports_min: u32,
    /// `net.ipv4.tcp_migrate_req`: half-accepted connections move on when a listener closes.
    pub migrate_requests: bool,
    /// The cores of the shards run at full clock.
    pub performance_governor: bool,
    /// No two shards share a physical core.
    pub whole_cores: bool,
    /// The cores of the shards are kept free of other work and of the scheduler's tick.
    pub isolated_cores: bool,
    /// Where the network's interrupts belong.
    pub irqs: Irqs,
    /// Pages of the process are not swapped out.
    pub resident: bool,
}

impl Profile {
    /// The profile of that name.
    #[must_use]
    pub fn named(name: ProfileName) -> Self {
        match name {
            ProfileName::Laptop => Self::laptop(),
            ProfileName::Container => Self::container(),
            ProfileName::BareMetal => Self::bare_metal(),
            ProfileName::Latency => Self::latency(),
        }
    }

    /// Shares the machine: no spinning (battery, fan), no pinning (a build on one core must not hold up a shard while
    /// others idle), and limits that a stock distribution meets.
    fn laptop() -> Self {
        Self {
            name: ProfileName::Laptop,
            cores: CorePlan::All,
            spin_us: 0,
            batch_us: 0,
            receive_buffers: 64,
            receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
            ring_entries: 2048,
            // The stock value of somaxconn; entries cost memory only while they are used.
            backlog: 4096,
            accept_burst: 64,
            pin: false,
            needs: Needs {
                kernel: KERNEL_MIN,
                nofile_min: 1024,
                memlock_bytes_min: MEMLOCK_BYTES_MIN,
                somaxconn_min: 4096,
                syn_backlog_min: 512,
                netdev_backlog_min: 1000,
                local_ports_min: 28_000,
                migrate_requests: false,
                performance_governor: false,
                whole_cores: false,
                isolated_cores: false,
                irqs: Irqs::Anywhere,
                resident: false,
            },
        }
    }

    /// Pays for every microsecond out of a quota: spinning would burn it, and a shard that is throttled answers
    /// nobody for the rest of the period. Small pools, since they count against the memory limit. Not pinned, because
    /// the host's scheduler knows its neighbours and we do not.
    fn container() -> Self {
        Self {
            name: ProfileName::Container,
            cores: CorePlan::Quota,
            spin_us: 0,
            batch_us: 0,
            receive_buffers: 64,
            receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
            ring_entries: 1024,
            backlog: 4096,
            accept_burst: 64,
            pin: false,
            needs: Needs { nofile_min: 4096, migrate_requests: true, resident: true, ..Self::laptop().needs },
        }
    }

    /// The most rooms per core. Waits up to 100 µs for company before it wakes: a frame lasts 20 ms, so nobody hears
    /// it, and under load it turns many wake-ups into one. Spinning would contradict that, so it does not spin.
    fn bare_metal() -> Self {
        Self {
            name: ProfileName::BareMetal,
            cores: CorePlan::AllButFirst,
            spin_us: 0,
            batch_us: 100,
            receive_buffers: 128,
            receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
            ring_entries: 4096,
            // A storm of ten thousand clients fits without a lost SYN, which would cost its client a whole second.
            backlog: 16_384,
            // About 14 µs each: under 2 ms of handshakes before the rooms have their turn again.
            accept_burst: 128,
            pin: true,
            needs: Needs {
                // Ten thousand rooms, and room for half as many again while a storm's old sockets still close.
                nofile_min: 16_384,
                somaxconn_min: 16_384,
                syn_backlog_min: 16_384,
                netdev_backlog_min: 16_384,
                local_ports_min: 50_000,
                migrate_requests: true,
                performance_governor: true,
                whole_cores: true,
                irqs: Irqs::Spread,
                resident: true,
                ..Self::laptop().needs
            },
        }
    }

    /// The shortest time from frame to frame. Spins longer than the gaps between packets of a busy shard, so that it
    /// rarely sleeps; answers the first completion at once; takes few handshakes per turn, since each holds up every
    /// room of the shard; and keeps its pool small enough to stay in the second-level cache.
    fn latency() -> Self {
        let bare_metal = Self::bare_metal();
        Self {
            name: ProfileName::Latency,
            spin_us: 200,
            batch_us: 0,
            receive_buffers: 64,
            ring_entries: 2048,
            accept_burst: 16,
            needs: Needs { isolated_cores: true, irqs: Irqs::Away, ..bare_metal.needs },
            ..bare_metal
        }
    }
}

impl ProfileName {
    /// All of them, from the least demanding to the most.
    pub const ALL: [Self; 4] = [Self::Laptop, Self::Container, Self::BareMetal, Self::Latency];

    /// The name as the command line and the configuration spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Laptop => "laptop",
            Self::Container => "container",
            Self::BareMetal => "bare-metal",
            Self::Latency => "latency",
        }
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ProfileName {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| UnknownProfile(text.to_owned()))
    }
}

/// A profile name that is none of the four.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownProfile(pub String);

impl fmt::Display for UnknownProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no profile {:?}; choose laptop, container, bare-metal or latency", self.0)
    }
}

impl std::error::Error for UnknownProfile {}
