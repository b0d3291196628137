//! `voxhall doctor`: what this host allows, what falls short, and the command that mends it. The same checks as
//! start-up.

use std::fmt::Write as _;

use rustix::fs::Access;
use shards::rt::{Listen, Probe, preflight};
use tuning::{Check, Host, Rlimit, Standing};

use crate::config::Config;
use crate::{Failure, out};

/// Prints the findings.
///
/// # Errors
/// [`Failure::Unmet`] when the profile can't be met here.
pub(crate) fn run(config: &Config, host: &Host) -> Result<(), Failure> {
    let mut checks = preflight().into_iter().map(check_of).collect();
    merge(&mut checks, tuning::checks_on(host, &config.profile, &config.cores, config.connections_max));
    checks.extend(socket_folder("server.listen", &config.listen));
    checks.extend(socket_folder("server.admin", &config.admin));
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

/// Adds checks of the host. What the runtime has tried as well is shown once, with the worse verdict.
fn merge(checks: &mut Vec<Check>, more: Vec<Check>) {
    for check in more {
        match checks.iter_mut().find(|tried| tried.name == check.name) {
            Some(tried) if tried.standing > check.standing => {}
            Some(tried) => *tried = check,
            None => checks.push(check),
        }
    }
}

/// Whether the file of a Unix-domain socket can be made.
fn socket_folder(key: &'static str, at: &Listen) -> Option<Check> {
    let Listen::Unix { path, .. } = at else { return None };
    let folder = path.parent()?;
    let found = match rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => None,
        Err(error) => Some(error.to_string()),
    };
    let shown = folder.display();
    Some(Check {
        name: key,
        standing: if found.is_none() { Standing::Ok } else { Standing::Fails },
        found: format!("{shown}: {}", found.as_deref().unwrap_or("may be written to")),
        wanted: "a folder that this user may write to".to_owned(),
        why: "The server makes its socket there, and removes it.",
        remedy: found.map(|_| format!("sudo install -d -o $(id -un) {shown}")),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, standing: Standing, found: &str) -> Check {
        Check { name, standing, found: found.to_owned(), wanted: String::new(), why: "", remedy: None }
    }

    #[test]
    fn what_was_looked_at_twice_is_shown_once_with_the_worse_verdict() {
        let mut checks =
            vec![check("kernel", Standing::Fails, "tried"), check("nofile", Standing::Ok, "tried")];
        merge(
            &mut checks,
            vec![
                check("kernel", Standing::Ok, "read"),
                check("nofile", Standing::Fails, "read"),
                check("swap", Standing::Ok, "read"),
            ],
        );
        let shown: Vec<_> = checks.iter().map(|check| (check.name, check.found.as_str())).collect();
        assert_eq!(shown, [("kernel", "tried"), ("nofile", "read"), ("swap", "read")]);
    }
}
