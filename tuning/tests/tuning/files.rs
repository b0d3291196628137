//! The files an operator installs agree with what the checks ask for.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::fake::FakeHost;
use tuning::{Profile, ProfileName, Standing};

const SYSCTL: &str = include_str!("../../sysctl/99-voxhall.conf");
const LIMITS: &str = include_str!("../../limits/voxhall.conf");
const UNIT: &str = include_str!("../../systemd/voxhall.service");

/// As many connections as the files are made for.
const CONNECTIONS_MAX: u64 = 500_000;

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn sysctls() -> BTreeMap<&'static str, &'static str> {
    lines(SYSCTL)
        .map(|line| {
            let (key, value) = line.split_once('=').expect("a setting is key = value");
            (key.trim().trim_start_matches('-'), value.trim())
        })
        .collect()
}

/// A host on which every kernel setting is as bad as it can be.
fn worst_host() -> FakeHost {
    let host = FakeHost::healthy();
    for (key, value) in [
        ("kernel/io_uring_disabled", "2"),
        ("kernel/numa_balancing", "1"),
        ("fs/file-max", "1000"),
        ("fs/nr_open", "1000"),
        ("net/core/somaxconn", "128"),
        ("net/core/netdev_max_backlog", "100"),
        ("net/ipv4/tcp_max_syn_backlog", "128"),
        ("net/ipv4/ip_local_port_range", "60000 60999"),
        ("net/ipv4/tcp_migrate_req", "0"),
        ("net/netfilter/nf_conntrack_max", "1000"),
        ("vm/swappiness", "100"),
    ] {
        host.set(&format!("proc/sys/{key}"), value);
    }
    host.set("sys/devices/system/node/node1/cpulist", "4-7");
    host.set("proc/swaps", "Filename Type Size Used Priority\n/swap file 2097152 0 -2");
    host
}

#[test]
fn every_setting_a_remedy_makes_is_in_the_file() {
    let host = worst_host().read();
    let file = sysctls();
    let mut set = Vec::new();
    for name in ProfileName::ALL {
        for check in tuning::checks(&host, &Profile::named(name), CONNECTIONS_MAX) {
            let remedy = check.remedy.unwrap_or_default();
            let Some((_, setting)) = remedy.split_once("sysctl -w ") else {
                continue;
            };
            let (key, value) = setting.trim_matches('"').split_once('=').expect("key=value");
            let in_file = file.get(key).unwrap_or_else(|| panic!("{key} is in the file"));
            assert!(
                in_file == &value || number(in_file) >= number(value),
                "{key} is {in_file} in the file; {name} wants {value}"
            );
            set.push(key.to_owned());
        }
    }
    set.sort();
    set.dedup();
    let in_file: Vec<&str> = file.keys().copied().collect();
    assert_eq!(set, in_file, "the file sets nothing that no check asks for");
}

fn number(value: &str) -> u64 {
    value.parse().unwrap_or_else(|_| panic!("{value} is a number"))
}

#[test]
fn a_host_with_the_file_has_no_setting_left_to_mend() {
    let host = worst_host();
    for (key, value) in sysctls() {
        host.set(&format!("proc/sys/{}", key.replace('.', "/")), value);
    }
    let facts = host.read();
    for name in ProfileName::ALL {
        for check in tuning::checks(&facts, &Profile::named(name), CONNECTIONS_MAX) {
            let remedy = check.remedy.unwrap_or_default();
            assert!(!remedy.contains("sysctl"), "{name}: {} wants {remedy}", check.name);
        }
    }
}

#[test]
fn limits_of_sessions_and_of_the_service_hold_what_the_settings_allow() {
    let limit = |item: &str| -> u64 {
        let values: Vec<u64> = lines(LIMITS)
            .filter_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                (fields[2] == item).then(|| number(fields[3]))
            })
            .collect();
        assert_eq!(values.len(), 2, "soft and hard {item}");
        values[0].min(values[1])
    };
    let nr_open = number(sysctls()["fs.nr_open"]);
    assert!(limit("nofile") <= nr_open);
    let in_unit = |key: &str| {
        let line = lines(UNIT).find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("the unit sets {key}"))
    };
    assert!(number(in_unit("LimitNOFILE")) <= nr_open);
    assert_eq!(in_unit("LimitMEMLOCK"), "infinity");
    for profile in ProfileName::ALL.map(Profile::named) {
        let needed = tuning::descriptors_for(CONNECTIONS_MAX, 256).max(profile.needs.nofile_min);
        assert!(limit("nofile") >= needed && number(in_unit("LimitNOFILE")) >= needed);
        assert!(limit("memlock") * 1024 >= profile.needs.memlock_bytes_min);
    }
    assert_eq!(in_unit("KillSignal"), "SIGTERM");
    assert!(number(in_unit("TimeoutStopSec")) > 30, "longer than the drain");
    assert!(in_unit("SystemCallFilter").contains("io_uring_setup"));
}

#[test]
fn systemd_accepts_the_unit() {
    let host = FakeHost::healthy();
    // The program need not be installed where the unit expects it.
    let program = if Path::new("/bin/true").exists() { "/bin/true" } else { "/usr/bin/true" };
    host.set("voxhall.service", UNIT.replace("/usr/local/bin/voxhall", program));
    let unit = host.root().join("voxhall.service");
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&unit).output() else {
        // A host without systemd has nothing to ask.
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("voxhall.service:"), "{said}");
}

#[test]
fn the_readme_tells_of_every_check() {
    let readme = include_str!("../../README.md");
    let host = FakeHost::healthy();
    for check in host.checks(ProfileName::Latency) {
        assert!(readme.contains(&format!("`{}`", check.name)), "{}", check.name);
    }
}

#[test]
fn the_readme_shows_the_profiles_as_they_are() {
    let readme = include_str!("../../README.md");
    type Cell = fn(&Profile) -> String;
    let rows: [(&str, Cell); 8] = [
        ("`spin_us`", |p| p.spin_us.to_string()),
        ("`batch_us`", |p| p.batch_us.to_string()),
        ("bound to cores", |p| if p.pin { "yes" } else { "no" }.to_owned()),
        ("receive pool per shard", |p| {
            format!("{} × {} KiB", p.receive_buffers, p.receive_buffer_bytes / 1024)
        }),
        ("ring entries", |p| p.ring_entries.to_string()),
        ("accept queue", |p| p.backlog.to_string()),
        ("accepts per turn", |p| p.accept_burst.to_string()),
        ("descriptors at least", |p| p.needs.nofile_min.to_string()),
    ];
    for (label, cell) in rows {
        let cells = ProfileName::ALL.map(|name| cell(&Profile::named(name)));
        let row = format!("| {label} | {} |", cells.join(" | "));
        assert!(readme.contains(&row), "{row}");
    }
}

#[test]
fn the_report_shows_standing_finding_and_command() {
    let host = FakeHost::healthy();
    host.set("proc/sys/kernel/io_uring_disabled", 2);
    host.set("proc/sys/net/core/somaxconn", 128);
    let checks = host.checks(ProfileName::Latency);
    let mut text = Vec::new();
    tuning::print(&checks, &mut text, false).expect("a vector takes everything");
    let text = String::from_utf8(text).expect("it is text");
    assert!(!text.contains('\x1b'));
    let line = |start: &str| text.lines().any(|line| line.starts_with(start));
    assert!(line("ok           kernel "), "{text}");
    assert!(line("falls short  net.core.somaxconn "), "{text}");
    assert!(line("fails        kernel.io_uring_disabled "), "{text}");
    assert!(text.contains("$ sudo sysctl -w net.core.somaxconn=16384"));
    let ok = checks.iter().filter(|check| check.standing == Standing::Ok).count();
    assert!(text.ends_with(&format!("\n{ok} ok, 1 short, 1 failed\n")), "{text}");

    let mut coloured = Vec::new();
    tuning::print(&checks, &mut coloured, true).expect("a vector takes everything");
    assert!(String::from_utf8_lossy(&coloured).contains("\x1b[31mfails"));
}
