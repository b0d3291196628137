//! What the control groups allow: CPU time and memory, in version 1, version 2, and the two side by side.
//!
//! A limit anywhere above a process binds it, so every ancestor that is visible is read and the tightest counts.

use super::tree::Tree;

/// The limits of the process's control group and of those above it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cgroup {
    /// CPU time per time, in cores: 1.5 for a quota of 150 ms every 100 ms.
    pub quota_cores: Option<f64>,
    /// Memory limit, kernel memory of the sockets included.
    pub memory_bytes_max: Option<u64>,
    /// The folder whose CPU limit is the tightest, or the process's own if there is none.
    pub cpu_folder: Option<String>,
    /// Whether that folder is of version 2 (`cpu.max`) or 1 (`cpu.cfs_quota_us`).
    pub unified: bool,
    /// The path of the process's group as the kernel names it.
    pub path: String,
}

/// A quota this close to a whole core counts as one: quotas are often given as rounded fractions.
const QUOTA_SLACK: f64 = 0.01;

impl Cgroup {
    pub(super) fn read(tree: &Tree) -> Self {
        let memberships = tree.text("proc/self/cgroup").unwrap_or_default();
        let mounts = tree.text("proc/self/mountinfo").unwrap_or_default();
        let mut found = Self::default();
        for line in memberships.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            // Version 2, and a controller's own hierarchy, are the ones that can tell where the process belongs.
            if controllers.is_empty() || (controllers == "name=systemd" && found.path.is_empty()) {
                path.clone_into(&mut found.path);
            }
            if controllers.is_empty() {
                found.read_unified(tree, &folders(&mounts, None, path));
            }
            for controller in controllers.split(',') {
                match controller {
                    "cpu" => found.read_cpu(tree, &folders(&mounts, Some("cpu"), path)),
                    "memory" => found.read_memory(tree, &folders(&mounts, Some("memory"), path)),
                    _ => {}
                }
            }
        }
        found
    }

    /// How many cores the quota pays for, rounded up; very many if there is no quota.
    #[must_use]
    pub fn quota_cores_rounded_up(&self) -> usize {
        match self.quota_cores {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a quota is positive and far below the range of usize"
            )]
            Some(cores) => ((cores - QUOTA_SLACK).ceil() as usize).max(1),
            None => usize::MAX,
        }
    }

    /// Whether the quota pays for that many cores in full.
    #[must_use]
    pub fn pays_for(&self, cores: usize) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "the number of cores is far below 2^52")]
        self.quota_cores.is_none_or(|quota| quota + QUOTA_SLACK >= cores as f64)
    }

    fn read_unified(&mut self, tree: &Tree, folders: &[String]) {
        for folder in folders {
            if let Some(text) = tree.text(&format!("{folder}/cpu.max")) {
                let mut fields = text.split_whitespace();
                let quota = fields.next().and_then(|field| field.parse().ok());
                let period = fields.next().and_then(|field| field.parse().ok());
                self.tighten_cpu(folder, true, quota, period.or(Some(100_000.0)));
            }
            self.tighten_memory(tree.number(&format!("{folder}/memory.max")));
        }
    }

    fn read_cpu(&mut self, tree: &Tree, folders: &[String]) {
        for folder in folders {
            let quota = tree.number(&format!("{folder}/cpu.cfs_quota_us"));
            let period = tree.number(&format!("{folder}/cpu.cfs_period_us"));
            self.tighten_cpu(folder, false, quota, period);
        }
    }

    fn read_memory(&mut self, tree: &Tree, folders: &[String]) {
        for folder in folders {
            self.tighten_memory(tree.number(&format!("{folder}/memory.limit_in_bytes")));
        }
    }

    /// Version 1 says -1 and version 2 `max` for "no quota"; the first is not above zero and the second no number.
    fn tighten_cpu(&mut self, folder: &str, unified: bool, quota: Option<f64>, period: Option<f64>) {
        let cores = match (quota, period) {
            (Some(quota), Some(period)) if quota > 0.0 && period > 0.0 => Some(quota / period),
            _ => None,
        };
        let tighter = match (cores, self.quota_cores) {
            (Some(new), Some(old)) => new < old,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if tighter {
            self.quota_cores = cores;
        }
        if tighter || self.cpu_folder.is_none() {
            self.cpu_folder = Some(folder.to_owned());
            self.unified = unified;
        }
    }

    /// Version 1 says "no limit" with a number near 2^63.
    fn tighten_memory(&mut self, bytes: Option<u64>) {
        const NO_LIMIT: u64 = 1 << 60;
        if let Some(bytes) = bytes.filter(|&bytes| bytes < NO_LIMIT) {
            self.memory_bytes_max = Some(self.memory_bytes_max.map_or(bytes, |old| old.min(bytes)));
        }
    }
}

/// The folders of a group and its ancestors, innermost first. `controller` is `None` for version 2.
fn folders(mounts: &str, controller: Option<&str>, path: &str) -> Vec<String> {
    let Some((root, point)) = mounts.lines().find_map(|line| mount_of(line, controller)) else {
        return Vec::new();
    };
    // A container often sees its own group mounted as the root, while the path is still told from the host's root.
    let below = path.strip_prefix(root.trim_end_matches('/')).unwrap_or("");
    let below = if below.starts_with("/..") { "" } else { below };
    let mut found = Vec::new();
    let mut rest = below.trim_end_matches('/');
    loop {
        found.push(format!("{point}{rest}"));
        match rest.rfind('/') {
            Some(at) => rest = &rest[..at],
            None => return found,
        }
    }
}

/// The root and the mount point of a line of mountinfo, if it mounts that controller.
fn mount_of<'a>(line: &'a str, controller: Option<&str>) -> Option<(&'a str, &'a str)> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let (filesystem, options) = (kind.next()?, kind.nth(1).unwrap_or(""));
    let fits = match controller {
        None => filesystem == "cgroup2",
        Some(name) => filesystem == "cgroup" && options.split(',').any(|option| option == name),
    };
    fits.then_some((root, point))
}
