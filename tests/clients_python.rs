//! The Python client, installed from its folder as its users do it.

mod support;

use std::process::Command;

use support::{Server, repository};

fn run(suite: &str, environment: &[(&str, String)]) {
    let script = repository("clients/python/tests/run.sh");
    let status = Command::new("sh")
        .arg(&script)
        .arg(suite)
        .envs(environment.iter().cloned())
        .status()
        .expect("a shell");
    assert!(status.success(), "{} {suite} failed: its report is above", script.display());
}

/// One after the other: both install into the same folder.
#[test]
fn it_passes_every_case_of_the_shared_table_and_talks_to_the_server() {
    run("cases", &[]);
    let server = Server::start(&["--shards", "2"]);
    let program = env!("CARGO_BIN_EXE_voxhall").to_owned();
    run("live", &[("VOXHALL_URL", format!("ws://{}", server.public)), ("VOXHALL_BIN", program)]);
    assert!(server.metric("voxhall_events_replayed_total") > 0.0);
}
