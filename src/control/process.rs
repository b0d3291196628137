//! What the kernel says of this process.

use std::fs;

/// Read at once, shown in stats and metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Process {
    /// Memory in use.
    pub(crate) resident_bytes: u64,
    /// User and system time of all threads.
    pub(crate) cpu_seconds: f64,
    /// Open descriptors.
    pub(crate) open_fds: u64,
}

impl Process {
    /// Reads `/proc/self`; what can't be read is zero.
    pub(crate) fn read() -> Self {
        Self {
            resident_bytes: resident_bytes().unwrap_or(0),
            cpu_seconds: cpu_seconds().unwrap_or(0.0),
            open_fds: open_fds().unwrap_or(0),
        }
    }
}

/// Memory in use.
pub(crate) fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name is in parentheses and may hold spaces; after it the state is field 3.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn open_fds() -> Option<u64> {
    // Since Linux 6.2 the directory's size is the number of descriptors; counting ten thousand entries costs time.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let process = Process::read();
        assert!(process.resident_bytes > 100_000);
        assert!(process.open_fds >= 3);
        assert!(process.cpu_seconds < 10_000.0);
    }
}
