//! Clients that were not written here: a browser, the Node package `ws`, the Python package `websockets`. Each suite
//! installs what it needs, and fails when it can't.

mod support;

use std::process::Command;

use support::{Server, repository};

fn play(suite: &str) {
    let server = Server::start(&["--shards", "2"]);
    let script = repository(suite).join("run.sh");
    let status = Command::new("sh")
        .arg(&script)
        .env("VOXHALL_URL", format!("ws://{}", server.public))
        .env("VOXHALL_ADMIN", format!("http://{}", server.admin))
        .status()
        .expect("a shell");
    assert!(status.success(), "{} failed: its report is above", script.display());
}

#[test]
fn a_browser_talks_and_hears_its_utterance() {
    play("tests/browser");
}

#[test]
fn a_node_client_holds_every_conversation() {
    play("tests/node");
}

#[test]
fn a_python_client_holds_every_conversation() {
    play("tests/python");
}
