//! Whether the kernel has a ring to offer and lets this process have one.

use super::{ANYTHING, Asked, Check, UNKNOWN, remedy};
use crate::host::{Host, Place};

pub(super) fn checks(asked: &Asked<'_>) -> Vec<Check> {
    vec![
        version(asked),
        ring_disabled(asked.host),
        seccomp(asked.host),
        clocksource(asked.host),
        timer_slack(asked.host),
    ]
}

fn version(asked: &Asked<'_>) -> Check {
    let (major, minor) = asked.profile.needs.kernel;
    let wanted = format!("{major}.{minor} or newer");
    let why = "Shards receive and send through io_uring with multishot receive and deferred task work, which older \
               kernels lack.";
    let check = |found: &str| Check::new("kernel", found, wanted, why);
    match (&asked.host.kernel, asked.host.kernel_version()) {
        (Some(release), Some(version)) if version >= (major, minor) => check(release),
        (Some(release), Some(_)) => check(release).fails(newer_kernel(asked.host)),
        (release, _) => check(release.as_deref().unwrap_or(UNKNOWN)).short(None),
    }
}

fn newer_kernel(host: &Host) -> String {
    let distribution = &host.distribution;
    let command = match distribution.id.as_str() {
        "debian" => format!(
            "sudo apt install -t {}-backports linux-image-$(dpkg --print-architecture) && sudo reboot",
            distribution.codename
        ),
        "ubuntu" => format!("sudo apt install linux-generic-hwe-{} && sudo reboot", distribution.version),
        _ => "sudo dnf upgrade kernel && sudo reboot".to_owned(),
    };
    match host.place {
        Place::Container | Place::Kubernetes => format!("{command}   # on the host"),
        Place::Shell | Place::Service(_) => command,
    }
}

fn ring_disabled(host: &Host) -> Check {
    const KEY: &str = "kernel.io_uring_disabled";
    let why = "The kernel can be told to refuse io_uring: 1 to all but administrators and one group, 2 to everyone. \
               Without it no shard can start.";
    let check = |found: &str| Check::new(KEY, found, "0", why);
    match host.sysctl_number(KEY) {
        None => check("not present (always allowed)"),
        Some(0) => check("0"),
        Some(1) if host.may_use_restricted_ring => check("1, and this process is exempt"),
        Some(value) => check(&value.to_string()).fails(remedy::sysctl(host, KEY, 0)),
    }
}

/// The mode alone does not tell which calls a filter refuses; trying one does, and the runtime's probe does that.
fn seccomp(host: &Host) -> Check {
    let why = "A system-call filter is in force. Docker's default profile and many others refuse io_uring with \
               `Operation not permitted`.";
    let check = |found: &str| {
        Check::new(
            "seccomp",
            found,
            "no filter, or one that allows io_uring_setup, io_uring_enter and io_uring_register",
            why,
        )
    };
    match host.seccomp {
        None => check(UNKNOWN),
        Some(0) => check("no filter"),
        Some(1) => check("strict mode").fails(allow_ring(host)),
        Some(_) => check("a filter; it may refuse io_uring").short(allow_ring(host)),
    }
}

fn allow_ring(host: &Host) -> Option<String> {
    match &host.place {
        Place::Container => Some("docker run --security-opt seccomp=unconfined …".to_owned()),
        Place::Kubernetes => Some(
            "kubectl patch deployment voxhall --patch \
             '{\"spec\":{\"template\":{\"spec\":{\"securityContext\":{\"seccompProfile\":{\"type\":\"Unconfined\"}}}}}}'"
                .to_owned(),
        ),
        Place::Service(unit) => Some(remedy::drop_in(
            unit,
            "SystemCallFilter=@system-service io_uring_setup io_uring_enter io_uring_register",
        )),
        // Inherited from whatever started the shell; a filter cannot be taken off again.
        Place::Shell => Some("sudo systemd-run --pty --uid=$(id -u) voxhall serve".to_owned()),
    }
}

fn clocksource(host: &Host) -> Check {
    // Those that are read without entering the kernel.
    const FAST: &[&str] =
        &["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "riscv_clocksource"];
    const FILE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let why = "A shard reads the clock every turn. Clocks outside the processor cost a system call and a bus access \
               each time, a microsecond instead of twenty nanoseconds.";
    let check = |found: &str| Check::new("clocksource", found, "tsc, or another in the processor", why);
    let Some(current) = &host.clocksource else {
        return check(UNKNOWN);
    };
    if FAST.contains(&current.as_str()) {
        return check(current);
    }
    let better = FAST.iter().find(|fast| host.clocksources.iter().any(|clock| clock == *fast));
    check(current).short(match better {
        Some(better) => remedy::write(better, FILE),
        None => remedy::kernel_parameters(host, "tsc=reliable clocksource=tsc"),
    })
}

/// The ring's own deadlines have no slack; this is about the threads around it.
fn timer_slack(host: &Host) -> Check {
    const DEFAULT_NS: u64 = 50_000;
    let why = "The kernel may delay this process's timers by that much to save power. Rings are exempt; the control \
               plane's timers are not.";
    let check = |found: String| Check::new("timer-slack", found, "50 µs or less", why);
    match host.timer_slack_ns {
        None => Check::new("timer-slack", UNKNOWN, ANYTHING, why),
        Some(slack) if slack <= DEFAULT_NS => check(format!("{} µs", slack / 1000)),
        Some(slack) => check(format!("{} µs", slack / 1000)).short(match &host.place {
            Place::Service(unit) => remedy::drop_in(unit, "TimerSlackNSec=50us"),
            _ => remedy::write("50000", "/proc/$$/timerslack_ns"),
        }),
    }
}
