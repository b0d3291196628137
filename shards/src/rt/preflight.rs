//! What the host must allow, found out by trying it: one code for start-up and for `voxhall doctor`.

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

use io_uring::IoUring;
use socket2::SockRef;

use super::error::StartError;
use super::sys;
use super::wire::buffers::Buffers;
use super::wire::ring::Ring;

/// The oldest kernel whose io_uring has all that the wire uses.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// glommio refuses to start with less.
const LOCKED_MEMORY_MIN: u64 = 512 << 10;
/// Under this the limit of open files is worth a word, whatever is configured.
const DESCRIPTORS_COMFORT: u64 = 4_096;
/// Descriptors of the process that are no connections: logs, admin, stores.
const DESCRIPTORS_RESERVED: usize = 64;
/// Descriptors of each shard that are no connections: rings, doorbells, listener.
const DESCRIPTORS_PER_SHARD: usize = 16;

/// One thing that was tried.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What, in a word or two.
    pub name: &'static str,
    /// Whether the host allows it.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What mends it, where something needs to be mended.
    pub remedy: Option<String>,
    /// Whether the node can't run without it.
    pub fatal: bool,
}

impl Probe {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, ok: true, found: found.into(), remedy: None, fatal: false }
    }

    fn bad(name: &'static str, found: impl Into<String>, remedy: impl Into<String>, fatal: bool) -> Self {
        Self { name, ok: false, found: found.into(), remedy: Some(remedy.into()), fatal }
    }
}

/// Tries everything. Takes a few milliseconds and leaves nothing behind.
///
/// It does so on a thread of its own: a ring that is closed has work left for the thread that used it, and that
/// interrupts the thread's next blocking call.
///
/// # Panics
/// When no thread can be started.
#[must_use]
pub fn preflight() -> Vec<Probe> {
    thread::scope(|scope| scope.spawn(probe_all).join()).expect("a probe reports what fails")
}

fn probe_all() -> Vec<Probe> {
    let mut probes = vec![kernel(), io_uring()];
    if probes.iter().all(|probe| probe.ok) {
        probes.push(deferred_work());
        probes.push(provided_buffers());
        probes.push(standing_receive());
        probes.push(short_send());
        probes.push(minimal_wait());
    }
    probes.push(locked_memory());
    probes.push(descriptors());
    probes
}

/// Whether the process may hold `sockets` and what else `shards` shards need.
pub(super) fn check_descriptors(sockets: usize, shards: usize) -> Result<(), StartError> {
    let needed = (sockets + DESCRIPTORS_RESERVED + DESCRIPTORS_PER_SHARD * shards) as u64;
    let (allowed, _) = sys::descriptor_limit();
    if allowed < needed { Err(StartError::Descriptors { needed, allowed }) } else { Ok(()) }
}

fn kernel() -> Probe {
    const NAME: &str = "kernel";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let (major, minor) = KERNEL_MIN;
    match version(release) {
        Some(found) if found >= KERNEL_MIN => Probe::good(NAME, format!("Linux {release}")),
        Some(_) => Probe::bad(
            NAME,
            format!("Linux {release} is older than {major}.{minor}"),
            format!("boot a kernel of version {major}.{minor} or newer"),
            true,
        ),
        // Whether it can do what is needed shows below.
        None => Probe::good(NAME, format!("a kernel that calls itself {release:?}")),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn io_uring() -> Probe {
    const NAME: &str = "io_uring";
    match IoUring::new(2) {
        Ok(_) => Probe::good(NAME, "allowed"),
        Err(error) => {
            let (found, remedy) = why_not(&error);
            Probe::bad(NAME, found, remedy, true)
        }
    }
}

/// Names who forbids io_uring.
fn why_not(error: &io::Error) -> (String, String) {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let disabled = disabled.trim();
    match error.raw_os_error() {
        Some(libc::ENOSYS) => (
            "this kernel was built without io_uring, or a sandbox hides it".to_owned(),
            "use a kernel with CONFIG_IO_URING=y; under gVisor or similar, run outside of it".to_owned(),
        ),
        Some(libc::EPERM | libc::EACCES) if matches!(disabled, "1" | "2") => (
            format!("the kernel forbids it (kernel.io_uring_disabled = {disabled})"),
            "sysctl -w kernel.io_uring_disabled=0".to_owned(),
        ),
        Some(libc::EPERM | libc::EACCES) if filtered() => (
            "a seccomp filter forbids it, as Docker's default profile does".to_owned(),
            "allow io_uring_setup, io_uring_enter and io_uring_register in the profile, or run the container with \
             --security-opt seccomp=unconfined"
                .to_owned(),
        ),
        Some(libc::EPERM | libc::EACCES) => (
            "a security module forbids it".to_owned(),
            "allow io_uring for this process in SELinux or AppArmor".to_owned(),
        ),
        Some(libc::ENOMEM) => (
            "there is not enough lockable memory for a ring".to_owned(),
            "raise the limit of locked memory (`ulimit -l unlimited`, or LimitMEMLOCK=infinity)".to_owned(),
        ),
        Some(libc::EMFILE | libc::ENFILE) => (
            "no descriptor is left for a ring".to_owned(),
            "raise the limit of open files (`ulimit -n`, or LimitNOFILE=)".to_owned(),
        ),
        _ => (format!("setting up a ring failed: {error}"), "look into the kernel's log".to_owned()),
    }
}

fn filtered() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

const NEWER_KERNEL: &str = "boot a kernel of version 6.1 or newer";

fn deferred_work() -> Probe {
    const NAME: &str = "deferred completions";
    match Ring::new(2) {
        Ok(_) => Probe::good(NAME, "SINGLE_ISSUER and DEFER_TASKRUN work"),
        Err(error) => {
            Probe::bad(NAME, format!("a ring with DEFER_TASKRUN can't be made: {error}"), NEWER_KERNEL, true)
        }
    }
}

fn provided_buffers() -> Probe {
    const NAME: &str = "provided buffers";
    let outcome = Ring::new(2).and_then(|ring| Buffers::new(&ring, 2, 64).map(|buffers| (ring, buffers)));
    match outcome {
        Ok((ring, buffers)) => {
            drop(ring);
            drop(buffers);
            Probe::good(NAME, "buffer rings work")
        }
        Err(error) => {
            Probe::bad(NAME, format!("a buffer ring can't be registered: {error}"), NEWER_KERNEL, true)
        }
    }
}

fn standing_receive() -> Probe {
    const NAME: &str = "multishot receive";
    match try_standing_receive() {
        Ok(true) => Probe::good(NAME, "a standing receive works"),
        Ok(false) => Probe::bad(NAME, "a standing receive ends after one piece", NEWER_KERNEL, true),
        Err(error) => Probe::bad(NAME, format!("a standing receive fails: {error}"), NEWER_KERNEL, true),
    }
}

/// Whether a multishot receive stays armed after its first piece.
fn try_standing_receive() -> io::Result<bool> {
    let (mut writer, reader) = UnixStream::pair()?;
    let mut ring = Ring::new(4)?;
    writer.write_all(b"probe")?;
    let buffers = Buffers::new(&ring, 2, 64)?;
    let stays = ring.probe_receive(reader.as_fd());
    // However it went, the receive goes before what it writes to.
    drop(ring);
    drop(buffers);
    stays
}

fn short_send() -> Probe {
    const NAME: &str = "short sends";
    match try_short_send() {
        Ok(Some(1..)) => Probe::good(NAME, "a send that is not taken whole says so"),
        Ok(Some(error)) => {
            let error = io::Error::from_raw_os_error(-error);
            Probe::bad(NAME, format!("a send in the ring fails: {error}"), NEWER_KERNEL, true)
        }
        Ok(None) => Probe::bad(NAME, "a send that is not taken whole counts as complete", NEWER_KERNEL, true),
        Err(error) => Probe::bad(NAME, format!("a send in the ring fails: {error}"), NEWER_KERNEL, true),
    }
}

/// What comes back of a send that is too long for its socket: sends that go through whole don't complete, so a
/// kernel that said nothing here would lose the rest silently.
fn try_short_send() -> io::Result<Option<i32>> {
    let (writer, _reader) = UnixStream::pair()?;
    let too_long = vec![0; 2 * SockRef::from(&writer).send_buffer_size()?];
    Ring::new(2)?.probe_send(writer.as_fd(), &too_long)
}

fn minimal_wait() -> Probe {
    const NAME: &str = "batched waiting";
    match IoUring::new(2) {
        Ok(ring) if ring.params().is_feature_min_timeout() => {
            Probe::good(NAME, "the kernel gathers completions")
        }
        _ => Probe::bad(
            NAME,
            "the kernel can't gather completions before it wakes a shard; batch_us has no effect",
            "boot a kernel of version 6.12 or newer",
            false,
        ),
    }
}

fn locked_memory() -> Probe {
    const NAME: &str = "memlock";
    match sys::locked_memory_limit() {
        Some(soft) if soft < LOCKED_MEMORY_MIN => Probe::bad(
            NAME,
            format!("{} KiB, and {} KiB are needed", soft >> 10, LOCKED_MEMORY_MIN >> 10),
            "raise the limit (`ulimit -l 8192`, or LimitMEMLOCK=8M in the systemd unit, or --ulimit memlock=8388608 \
             for a container)",
            true,
        ),
        Some(soft) => Probe::good(NAME, format!("{} KiB", soft >> 10)),
        None => Probe::good(NAME, "unlimited"),
    }
}

fn descriptors() -> Probe {
    const NAME: &str = "nofile";
    match sys::descriptor_limit() {
        (soft, hard) if hard < DESCRIPTORS_COMFORT => Probe::bad(
            NAME,
            format!("{soft}, and at most {hard}: one for each connection"),
            "raise the limit (`ulimit -n 1048576`, or LimitNOFILE=1048576 in the systemd unit)",
            false,
        ),
        (soft, hard) => Probe::good(NAME, format!("{soft}, at most {hard}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_any_release_name() {
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(version("6.1"), Some((6, 1)));
        assert_eq!(version("5.15.0-91-generic"), Some((5, 15)));
        assert_eq!(version("custom"), None);
    }

    #[test]
    fn a_host_that_runs_the_tests_passes_what_is_fatal() {
        for probe in preflight() {
            assert!(probe.ok || !probe.fatal, "{probe:?}");
            assert_eq!(probe.ok, probe.remedy.is_none(), "{probe:?}");
        }
    }

    #[test]
    fn each_prohibition_has_its_own_remedy() {
        let remedy = |errno| why_not(&io::Error::from_raw_os_error(errno));
        assert!(remedy(libc::ENOSYS).1.contains("CONFIG_IO_URING"));
        assert!(remedy(libc::ENOMEM).1.contains("ulimit -l"));
        assert!(remedy(libc::EMFILE).1.contains("ulimit -n"));
    }
}
