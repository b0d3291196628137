//! A share of a core for one process, by a control group made for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Name of the control group.
const GROUP: &str = "voxhall-compare";

/// A control group with a CPU quota. Removed when dropped, if its process has ended by then.
pub(super) struct Quota {
    group: PathBuf,
}

impl Quota {
    /// Makes the group: `percent` of a core, given out anew every `period_us`.
    pub(super) fn new(percent: u32, period_us: u32) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let Some(hierarchy) = Hierarchy::find(&mounts) else {
            bail!(
                "no cgroup hierarchy with the cpu controller is mounted, so the server can't be held to a quota"
            )
        };
        let quota_us = u64::from(period_us) * u64::from(percent) / 100;
        let group = hierarchy.root().join(GROUP);
        // One that an interrupted run left behind is in the way of nothing once it is empty.
        if fs::create_dir(&group).is_err() {
            let _ = fs::remove_dir(&group);
            fs::create_dir(&group).with_context(|| {
                format!(
                    "making {}; this takes root, and no other comparison at the same time",
                    group.display()
                )
            })?;
        }
        let made = Self { group };
        match hierarchy {
            Hierarchy::V1(_) => {
                made.write("cpu.cfs_period_us", &period_us.to_string())?;
                made.write("cpu.cfs_quota_us", &quota_us.to_string())?;
            }
            Hierarchy::V2(root) => {
                fs::write(root.join("cgroup.subtree_control"), "+cpu")
                    .context("giving groups the cpu controller")?;
                made.write("cpu.max", &format!("{quota_us} {period_us}"))?;
            }
        }
        Ok(made)
    }

    /// From now on the quota holds for the process `pid` and all its threads.
    pub(super) fn admit(&self, pid: u32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Periods so far in which the process wanted more than its share.
    pub(super) fn throttled_periods(&self) -> Result<u64> {
        let statistics = fs::read_to_string(self.group.join("cpu.stat"))?;
        let count = statistics.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        Ok(count.context("no nr_throttled in cpu.stat")?.trim().parse()?)
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.group.join(file);
        fs::write(&path, value).with_context(|| format!("writing {value:?} to {}", path.display()))
    }
}

impl Drop for Quota {
    #[allow(clippy::disallowed_methods, reason = "nothing else runs on this thread, and it is at its end")]
    fn drop(&mut self) {
        // A process that was killed a moment ago may still be on its way out.
        for _ in 0..50 {
            if fs::remove_dir(&self.group).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Where the cpu controller lives.
#[derive(Debug, PartialEq)]
enum Hierarchy {
    V1(PathBuf),
    V2(PathBuf),
}

impl Hierarchy {
    /// Reads it off the list of mounts. Where both versions are mounted, version 1 has the controller.
    fn find(mounts: &str) -> Option<Self> {
        let mut version_2 = None;
        for line in mounts.lines() {
            let mut fields = line.split_whitespace().skip(1);
            let (Some(path), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if kind == "cgroup" && options.split(',').any(|option| option == "cpu") {
                return Some(Self::V1(path.into()));
            }
            if kind == "cgroup2" {
                version_2 = Some(Self::V2(path.into()));
            }
        }
        version_2
    }

    fn root(&self) -> &Path {
        let (Self::V1(root) | Self::V2(root)) = self;
        root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hierarchy_that_has_the_cpu_controller() {
        let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        let hybrid = "cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n\
                      cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(Hierarchy::find(unified), Some(Hierarchy::V2("/sys/fs/cgroup".into())));
        assert_eq!(Hierarchy::find(hybrid), Some(Hierarchy::V1("/sys/fs/cgroup/cpu,cpuacct".into())));
        assert_eq!(Hierarchy::find("proc /proc proc rw 0 0\n"), None);
    }
}
