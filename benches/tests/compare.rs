//! The comparison from outside: real peers, and a stand-in for the load generator that reports known figures.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// A directory of programs as `voxhall-compare` expects it, gone when dropped.
struct Programs(PathBuf);

impl Programs {
    /// `loadtest` is the body of a shell script.
    fn new(name: &str, loadtest: &str) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a directory");
        symlink(env!("CARGO_BIN_EXE_voxhall-peers"), directory.join("voxhall-peers")).expect("a link");
        let script = directory.join("voxhall-loadtest");
        fs::write(&script, format!("#!/bin/sh\n{loadtest}\n")).expect("a file");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("made executable");
        Self(directory)
    }

    fn compare(&self, port: u16, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_voxhall-compare"))
            .args([
                "--servers",
                "epoll,fastwebsockets",
                "--rounds",
                "2",
                "--pause-ms",
                "0",
                "--generator-core",
                "0",
            ])
            .args(["--port", &port.to_string(), "--programs"])
            .arg(&self.0)
            .args(arguments)
            .output()
            .expect("the program starts")
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Reports a CPU of 3 µs for the first server it sees in a round and 6 µs for the second.
const REPORT: &str = r#"
count=$(cat "$0.count" 2>/dev/null || echo 0)
echo $((count + 1)) > "$0.count"
# Rounds rotate: first second second first.
case $count in 0|3) cpu=3.0;; *) cpu=6.0;; esac
echo "$@" >> "$0.calls"
cat <<JSON
{"scenario": "echo", "clients": 10000, "delivered": 400000, "lost": 0, "rate_per_s": 40000.0,
 "latency_us": {"p50": 900, "p99": 2500}, "lateness_us": {"p99": 50},
 "handshakes": {"ok": 10000, "failed": 0, "per_s": 25000.0},
 "server": {"cpu_us_per_message": $cpu, "rss_bytes": 20000000}, "ramp": []}
JSON
"#;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn bounds_that_hold_exit_0_and_broken_ones_exit_1_and_are_named() {
    let programs = Programs::new("bounds", REPORT);
    let json = programs.0.join("report.json");
    let output = programs.compare(
        19_101,
        &[
            "--check",
            "cpu:epoll/fastwebsockets<=0.5,rate:epoll>=40000",
            "--json",
            json.to_str().expect("UTF-8"),
        ],
    );
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    let report: Value = serde_json::from_slice(&fs::read(json).expect("a report")).expect("JSON");
    assert_eq!(report["figures"]["epoll"]["cpu"]["median"], 3.0);
    assert_eq!(report["figures"]["fastwebsockets"]["cpu"]["max"], 6.0);
    assert_eq!(report["runs"].as_array().map(Vec::len), Some(4));
    let calls = fs::read_to_string(programs.0.join("voxhall-loadtest.calls")).expect("calls");
    for line in calls.lines() {
        assert!(line.starts_with("echo --url ws://127.0.0.1:19"), "{line}");
        assert!(line.contains("--clients 10000 --rate 40000 --frame-bytes 640 "), "{line}");
        assert!(line.contains("--peer"), "no welcome event comes from a bare echo server: {line}");
    }

    fs::remove_file(programs.0.join("voxhall-loadtest.count")).expect("a count");
    let output = programs.compare(19_121, &["--check", "cpu:epoll/fastwebsockets<=0.4,rate:epoll>=1"]);
    assert_eq!(output.status.code(), Some(1));
    let stdout = text(&output.stdout);
    assert!(stdout.contains("BROKEN  cpu:epoll/fastwebsockets<=0.4  measured 0.500"), "{stdout}");
    assert!(stdout.contains("holds   rate:epoll>=1"), "{stdout}");
}

#[test]
fn a_failed_run_is_told_with_its_reason_and_exits_1() {
    let programs = Programs::new("failure", "echo 'out of ports' >&2; exit 3");
    let output = programs.compare(19_141, &[]);
    assert_eq!(output.status.code(), Some(1));
    let stdout = text(&output.stdout);
    assert!(stdout.contains("FAILED round 1 epoll: the load generator failed, exit status: 3"), "{stdout}");
    assert!(stdout.contains("out of ports"), "{stdout}");
}

#[test]
fn a_missing_program_or_a_bound_on_an_absent_server_is_said_before_anything_runs() {
    let programs = Programs::new("missing", "exit 0");
    let output = programs.compare(19_161, &["--check", "cpu:voxhall/epoll<=1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("voxhall, which --servers leaves out"), "{}", text(&output.stderr));
    fs::remove_file(programs.0.join("voxhall-loadtest")).expect("it was there");
    let output = programs.compare(19_161, &[]);
    assert!(text(&output.stderr).contains("voxhall-loadtest is missing"), "{}", text(&output.stderr));
}
