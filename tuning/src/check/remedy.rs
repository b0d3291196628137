//! Commands, in the terms of whoever started the process: a limit that `ulimit` raises in a shell is a flag of
//! `docker run` in a container and a drop-in under systemd.

use crate::host::{Host, Place};

/// Settings that belong to the network namespace, and so can be given to a container alone.
const PER_NAMESPACE: &[&str] = &[
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_migrate_req",
];

/// Sets a kernel setting until the next boot. `tuning/sysctl/99-voxhall.conf` makes the same values last.
pub(super) fn sysctl(host: &Host, key: &str, value: impl std::fmt::Display) -> String {
    let value = value.to_string();
    let quoted = if value.contains(' ') { format!("\"{key}={value}\"") } else { format!("{key}={value}") };
    match host.place {
        Place::Container if PER_NAMESPACE.contains(&key) => {
            format!("docker run --sysctl {quoted} …")
        }
        Place::Container | Place::Kubernetes => {
            format!("sudo sysctl -w {quoted}   # on the host, not in the container")
        }
        Place::Shell | Place::Service(_) => format!("sudo sysctl -w {quoted}"),
    }
}

/// A limit of the process: its name for `ulimit`, for Docker, and for systemd.
pub(super) struct Limit {
    pub(super) ulimit: char,
    pub(super) docker: &'static str,
    pub(super) systemd: &'static str,
    /// How many of the limit's own units one of `ulimit`'s is.
    pub(super) ulimit_unit: u64,
}

/// Open descriptors.
pub(super) const NOFILE: Limit =
    Limit { ulimit: 'n', docker: "nofile", systemd: "LimitNOFILE", ulimit_unit: 1 };

/// Locked memory; shells count it in KiB.
pub(super) const MEMLOCK: Limit =
    Limit { ulimit: 'l', docker: "memlock", systemd: "LimitMEMLOCK", ulimit_unit: 1024 };

/// Raises a limit to `value`. `hard` is how far the process may go by itself.
pub(super) fn limit(host: &Host, limit: &Limit, value: u64, hard: u64) -> String {
    match &host.place {
        Place::Container => format!("docker run --ulimit {}={value}:{value} …", limit.docker),
        // Pods inherit the limits of the runtime that starts them.
        Place::Kubernetes => {
            let on_node = drop_in("containerd.service", &format!("{}={value}", limit.systemd));
            format!("{on_node}   # on the node, then restart the pod")
        }
        Place::Service(unit) => drop_in(unit, &format!("{}={value}", limit.systemd)),
        Place::Shell => {
            let units = value.div_ceil(limit.ulimit_unit);
            if value <= hard {
                format!("ulimit -S{} {units}", limit.ulimit)
            } else {
                format!("sudo prlimit --pid $$ --{}={value}:{value}", limit.docker)
            }
        }
    }
}

/// A drop-in for a service; takes effect when it is restarted.
pub(super) fn drop_in(unit: &str, line: &str) -> String {
    format!(
        "sudo mkdir -p /etc/systemd/system/{unit}.d && printf '[Service]\\n{line}\\n' | sudo tee \
         /etc/systemd/system/{unit}.d/tuning.conf && sudo systemctl daemon-reload && sudo systemctl restart {unit}"
    )
}

/// Writes a value into a file of `/sys` or the cgroups.
pub(super) fn write(value: &str, file: &str) -> String {
    format!("echo {value} | sudo tee {file}")
}

/// The interrupt script, with the shards' cores.
pub(super) fn interrupts(verb: &str, cores: &[usize], nic: &str) -> String {
    let list = crate::host::format_list(cores);
    format!("sudo tuning/irq/voxhall-irq {verb} --cores {list} {nic}")
}

/// Adds parameters to the kernel's command line, for the two boot loaders' tools in common use.
pub(super) fn kernel_parameters(host: &Host, parameters: &str) -> String {
    match host.distribution.id.as_str() {
        "debian" | "ubuntu" => format!(
            "echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {parameters}\"' | sudo tee -a /etc/default/grub && sudo \
             update-grub && sudo reboot"
        ),
        _ => format!("sudo grubby --update-kernel=ALL --args='{parameters}' && sudo reboot"),
    }
}
