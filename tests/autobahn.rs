//! RFC 6455 as the Autobahn fuzzing client sees it, against `/echo`. Every case has to pass strictly: the server does
//! what the RFC says it must, at the moment it must.
//!
//! The quick sections always run. `make conformance` (`VOXHALL_AUTOBAHN=all`) runs the long ones too.

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use support::{Server, repository};

/// What the server is started with: the suite talks to `/echo`, with messages of up to 16 MiB, and wants every
/// one compressed that may be.
const SERVER: &[&str] = &[
    "--shards",
    "2",
    "--echo-endpoint",
    "--set",
    "limits.message_bytes_max=16777216",
    "--set",
    "deflate.enabled=true",
    "--set",
    "deflate.threshold_bytes=0",
];

/// A section of the suite.
struct Section {
    number: u8,
    /// How many cases the installed version has, so that none goes missing unnoticed.
    cases: usize,
    about: &'static str,
    /// Whether it is left to `make conformance`.
    long: bool,
}

const fn section(number: u8, cases: usize, about: &'static str) -> Section {
    Section { number, cases, about, long: false }
}

/// What is run. Sections 8 and 11 don't exist.
const SECTIONS: &[Section] = &[
    section(1, 16, "framing"),
    section(2, 11, "pings and pongs"),
    section(3, 7, "reserved bits"),
    section(4, 10, "opcodes"),
    section(5, 20, "fragmentation"),
    section(6, 145, "UTF-8"),
    section(7, 37, "close"),
    Section { long: true, ..section(9, 54, "limits and performance") },
    section(10, 1, "miscellaneous"),
    Section { long: true, ..section(12, 90, "compression, one way") },
    Section { long: true, ..section(13, 126, "compression, both ways") },
];

#[test]
#[expect(clippy::print_stderr, reason = "the counts are what the run is for")]
fn every_case_passes_strictly() {
    let all = std::env::var("VOXHALL_AUTOBAHN").is_ok_and(|sections| sections == "all");
    let chosen: Vec<_> = SECTIONS.iter().filter(|section| all || !section.long).collect();
    let report = run(&chosen);
    let mut failed = Vec::new();
    for Section { number, cases, about, .. } in chosen {
        let of_section: Vec<_> =
            report.iter().filter(|(case, _)| case.split('.').next() == Some(&number.to_string())).collect();
        assert_eq!(of_section.len(), *cases, "cases of section {number} ({about}) in the report");
        let mut counts = BTreeMap::new();
        for (case, result) in of_section {
            let (behavior, close) = (word(result, "behavior"), word(result, "behaviorClose"));
            *counts.entry(behavior).or_insert(0) += 1;
            if ![behavior, close].iter().all(|word| ["OK", "INFORMATIONAL"].contains(word)) {
                failed.push(format!("case {case} ({about}): {behavior}, its close {close}"));
            }
        }
        eprintln!("section {number}, {about}: {counts:?}");
    }
    assert!(failed.is_empty(), "{}\nthe report is in {REPORT}", failed.join("\n"));
}

const REPORT: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/autobahn");

/// Runs the suite: what became of each case.
fn run(sections: &[&Section]) -> BTreeMap<String, Value> {
    let server = Server::start(SERVER);
    let cases: Vec<_> = sections.iter().map(|section| format!("{}.*", section.number)).collect();
    let script = repository("tests/autobahn/run.sh");
    let status = Command::new("sh")
        .arg(&script)
        .env("VOXHALL_URL", format!("ws://{}", server.public))
        .env("AUTOBAHN_CASES", cases.join(" "))
        .env("AUTOBAHN_REPORT", REPORT)
        .status()
        .expect("a shell");
    assert!(status.success(), "{} failed: its report is above", script.display());
    let index = std::fs::read_to_string(format!("{REPORT}/index.json")).expect("a report");
    let mut index: Value = serde_json::from_str(&index).expect("JSON");
    serde_json::from_value(index["voxhall"].take()).expect("an object of cases")
}

fn word<'r>(result: &'r Value, field: &str) -> &'r str {
    result[field].as_str().expect("a word")
}
