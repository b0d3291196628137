//! `voxhall doctor`: what this host allows, what falls short, and the command that mends it. The same checks as
//! start-up.

use std::fmt::Write as _;

use shards::rt::{Probe, preflight};
use tuning::{Check, Host, Rlimit, Standing};

use crate::config::Config;
use crate::{Failure, out};

/// Prints the findings.
///
/// # Errors
/// [`Failure::Unmet`] when the profile can't be met here.
pub(crate) fn run(config: &Config, host: &Host) -> Result<(), Failure> {
    let mut checks: Vec<Check> = preflight().into_iter().map(check_of).collect();
    checks.extend(tuning::checks_on(host, &config.profile, &config.cores, config.connections_max));
    let mut report =
        format!("profile {}, {} on cores {:?}\n\n", config.profile.name, shards(config), config.cores)
            .into_bytes();
    tuning::print(&checks, &mut report, out::colour())?;
    let mut report = String::from_utf8(report).expect("checks are text");
    report.push_str(&limits(config, host));
    out::print(&report)?;
    if checks.iter().any(|check| check.standing == Standing::Fails) { Err(Failure::Unmet) } else { Ok(()) }
}

fn shards(config: &Config) -> String {
    match config.cores.len() {
        1 => "1 shard".to_owned(),
        count => format!("{count} shards"),
    }
}

/// A probe of the runtime in the terms of the other checks.
fn check_of(probe: Probe) -> Check {
    let standing = match (probe.ok, probe.fatal) {
        (true, _) => Standing::Ok,
        (false, true) => Standing::Fails,
        (false, false) => Standing::FallsShort,
    };
    Check {
        name: probe.name,
        standing,
        found: probe.found,
        wanted: if probe.fatal { "required" } else { "wished for" }.to_owned(),
        why: if probe.fatal {
            "Shards can't run without it."
        } else {
            "Shards run without it, at more cost."
        },
        remedy: probe.remedy,
    }
}

/// Every limit in force, beside what the host allows where it has a say.
fn limits(config: &Config, host: &Host) -> String {
    let mut out = String::from("\nlimits in force\n");
    let nofile = host.nofile.map(|Rlimit { hard, .. }| format!("the host allows {hard} descriptors"));
    let memory = host.memory_bytes.map(|bytes| {
        let needed = tuning::memory_for(&config.profile, config.connections_max, config.cores.len());
        format!("about {} MiB if all are used; the host has {} MiB", needed >> 20, bytes >> 20)
    });
    let cores = format!("this process may run on {} cores", host.allowed_cores().len());
    for effective in &config.effective {
        let beside = match effective.name {
            "limits.connections_max" => {
                [nofile.clone(), memory.clone()].into_iter().flatten().collect::<Vec<_>>().join("; ")
            }
            "server.shards" => cores.clone(),
            _ => String::new(),
        };
        if !effective.unit.is_empty() {
            let line = format!(
                "{:<32} {:>10} {:<20} {beside}",
                effective.name,
                effective.value.to_string(),
                effective.unit
            );
            writeln!(out, "  {}", line.trim_end()).expect("writing to a string");
        }
    }
    out
}
