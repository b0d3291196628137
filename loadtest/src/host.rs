//! What this host gives and shows: descriptors, cores, and what `/proc` says about the server.

use std::fs;
use std::net::SocketAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Descriptors a worker needs besides its connections.
const SPARE_DESCRIPTORS: u64 = 16;

/// `st` of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Raises the soft descriptor limit to the hard one; gives what is allowed then.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // A refusal leaves the limit as it was, and that is what is then reported.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many connections one worker may hold.
pub(crate) fn connections_max(descriptors: u64) -> u64 {
    descriptors.saturating_sub(SPARE_DESCRIPTORS)
}

/// Pins this thread, and those it starts, to the given cores; none means anywhere.
pub(crate) fn pin(cores: &[usize]) -> Result<(), String> {
    if cores.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for &core in cores {
        if core >= CpuSet::MAX_CPU {
            return Err(format!("--cores {core}: no such core"));
        }
        set.set(core);
    }
    sched_setaffinity(None, &set).map_err(|error| {
        format!("can't run on cores {cores:?}: {error}; `nproc` and taskset(1) show which exist")
    })
}

/// The process under test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) pid: u32,
}

impl Server {
    /// The process that listens on an address, if it can be seen from here.
    pub(crate) fn listening_on(target: SocketAddr) -> Option<Self> {
        let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .flat_map(|table| listeners(&table, target.port()))
            .map(|inode| format!("socket:[{inode}]"))
            .collect();
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.into_iter().find(|pid| holds_one_of(*pid, &inodes)).map(|pid| Self { pid })
    }

    /// CPU time of all its threads, in nanoseconds.
    pub(crate) fn cpu_ns(self) -> Option<u64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?;
        let used = tasks.flatten().filter_map(|task| {
            let line = fs::read_to_string(task.path().join("schedstat")).ok()?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        });
        Some(used.sum())
    }

    /// Resident memory, counted page by page. Costs the server a moment in the kernel: not for every sample.
    pub(crate) fn rss_bytes(self) -> Option<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).ok();
        rollup.and_then(|rollup| rss_of(&rollup)).or_else(|| self.rss_bytes_quick())
    }

    /// Resident memory by the kernel's running count, which may be off by some hundred kilobytes.
    pub(crate) fn rss_bytes_quick(self) -> Option<u64> {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid)).ok()?;
        let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }
}

/// Inodes of the listening sockets on a port.
fn listeners(table: &str, port: u16) -> Vec<u64> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
        (local == port && *fields.get(3)? == LISTEN).then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(line).collect()
}

fn holds_one_of(pid: u32, sockets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
}

fn rss_of(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_owner_of_a_listening_socket_is_found_and_measured() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback takes a listener");
        let server =
            Server::listening_on(listener.local_addr().expect("it is bound")).expect("it is this process");
        assert_eq!(server.pid, std::process::id());
        assert!(server.cpu_ns().is_some_and(|ns| ns > 0));
        assert!(server.rss_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(server.rss_bytes_quick().is_some_and(|bytes| bytes > 100_000));
    }

    #[test]
    fn proc_tables_are_read_by_column() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n   1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        assert_eq!(listeners(table, 8080), [4711]);
        assert_eq!(rss_of("x\nRss:      12 kB\nPss: 3 kB\n"), Some(12_288));
    }
}
