//! The vendor's own SDKs, unchanged, hold spoken conversations with the parrot on `/v1/realtime`: the Python package
//! `openai` with both of its realtime clients, `@openai/agents-realtime` in Node and in Chromium, and Pipecat. Each suite
//! installs what it needs, and fails when it can't.

mod support;

use std::process::Command;

use support::tls::Files;
use support::{Server, repository, voxhall};

const TOKENS: [&str; 4] =
    ["--set", "auth.mode=jwt", "--set", "auth.hs256_secret=0123456789abcdef0123456789abcdef"];

/// Plays it where any key is taken, then over TLS where only a token is.
fn play(suite: &str) {
    let server = Server::start(&["--engine", "parrot", "--shards", "2"]);
    run(suite, &server, "ws", &[]);
    let files = Files::new(&suite.replace('/', "-"));
    files.issue();
    let guarded = files.serve(&[&["--shards", "2"], &TOKENS[..]].concat());
    let minted = voxhall(&[&["token", "--sub", "ada"], &TOKENS[..]].concat()).output().expect("it runs");
    assert!(minted.status.success(), "{}", String::from_utf8_lossy(&minted.stderr));
    let token = String::from_utf8(minted.stdout).expect("text");
    let cert = files.cert().display().to_string();
    run(
        suite,
        &guarded,
        "wss",
        &[("VOXHALL_TOKEN", token.trim()), ("SSL_CERT_FILE", &cert), ("NODE_EXTRA_CA_CERTS", &cert)],
    );
}

fn run(suite: &str, server: &Server, scheme: &str, environment: &[(&str, &str)]) {
    let script = repository(suite).join("run.sh");
    let status = Command::new("sh")
        .arg(&script)
        .env("VOXHALL_URL", format!("{scheme}://{}", server.public))
        .envs(environment.iter().copied())
        .status()
        .expect("a shell");
    assert!(status.success(), "{} failed over {scheme}: its report is above", script.display());
}

#[test]
fn both_python_clients_hold_a_conversation() {
    play("tests/sdks/python");
}

#[test]
fn agents_in_node_hold_a_conversation() {
    play("tests/sdks/node");
}

#[test]
fn agents_in_a_browser_hold_a_conversation() {
    play("tests/sdks/browser");
}

#[test]
fn a_pipecat_pipeline_holds_a_conversation() {
    play("tests/sdks/pipecat");
}
