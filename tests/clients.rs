//! Clients that were not written here: a browser, the Node package `ws`, the Python package `websockets`, each over
//! plain connections and over TLS. Each suite installs what it needs, and fails when it can't.

mod support;

use std::process::Command;

use support::tls::Files;
use support::{Server, repository};

/// Plays it twice, one after the other: both install into the same folder.
fn play(suite: &str) {
    let files = Files::new(&suite.replace('/', "-"));
    files.issue();
    run(suite, &Server::start(&["--shards", "2"]), "ws", &files, &[], &[]);
    run(suite, &files.serve(&["--shards", "2"]), "wss", &files, &[], &[]);
}

/// With permessage-deflate, and nearly every event above the threshold.
fn play_compressed(suite: &str, only: &[&str]) {
    let server = Server::start(&[
        "--shards",
        "2",
        "--echo-endpoint",
        "--set",
        "deflate.enabled=true",
        "--set",
        "deflate.threshold_bytes=64",
    ]);
    let files = Files::new(&format!("{}-compressed", suite.replace('/', "-")));
    files.issue();
    run(suite, &server, "ws", &files, only, &[("VOXHALL_DEFLATE", "1")]);
    assert!(server.metric("voxhall_compressed_enqueued_total") > 0.0);
    assert!(server.metric("voxhall_messages_inflated_total") > 0.0);
}

fn run(
    suite: &str,
    server: &Server,
    scheme: &str,
    files: &Files,
    arguments: &[&str],
    environment: &[(&str, &str)],
) {
    let script = repository(suite).join("run.sh");
    let status = Command::new("sh")
        .arg(&script)
        .args(arguments)
        .env("VOXHALL_URL", format!("{scheme}://{}", server.public))
        // Where Node and OpenSSL, which is Python's, look for whom to trust; the browser is told by its test.
        .env("NODE_EXTRA_CA_CERTS", files.cert())
        .env("SSL_CERT_FILE", files.cert())
        .env("VOXHALL_ADMIN", format!("http://{}", server.admin))
        // For what a test does to a server of its own.
        .env("VOXHALL_BINARY", env!("CARGO_BIN_EXE_voxhall"))
        .envs(environment.iter().copied())
        .status()
        .expect("a shell");
    assert!(status.success(), "{} failed over {scheme}: its report is above", script.display());
}

#[test]
fn a_browser_talks_and_hears_its_utterance() {
    play("tests/browser");
    play_compressed("tests/browser", &[]);
}

#[test]
fn a_node_client_holds_every_conversation() {
    play("tests/node");
    play_compressed("tests/node", &[]);
}

#[test]
fn a_python_client_holds_every_conversation() {
    play("tests/python");
    play_compressed("tests/python", &["test_deflate.py"]);
}
