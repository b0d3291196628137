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
    play_on(&Server::start(&["--shards", "2"]), suite, "ws", &files);
    play_on(&files.serve(&["--shards", "2"]), suite, "wss", &files);
}

fn play_on(server: &Server, suite: &str, scheme: &str, files: &Files) {
    let script = repository(suite).join("run.sh");
    let status = Command::new("sh")
        .arg(&script)
        .env("VOXHALL_URL", format!("{scheme}://{}", server.public))
        // Where Node and OpenSSL, which is Python's, look for whom to trust; the browser is told by its test.
        .env("NODE_EXTRA_CA_CERTS", files.cert())
        .env("SSL_CERT_FILE", files.cert())
        .env("VOXHALL_ADMIN", format!("http://{}", server.admin))
        .status()
        .expect("a shell");
    assert!(status.success(), "{} failed over {scheme}: its report is above", script.display());
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
