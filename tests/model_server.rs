//! The model server as the operator sets it: what is refused, what is said at the start, and that the key stays hidden.

#![expect(clippy::disallowed_methods, reason = "an operator has a clock")]

mod support;

use std::time::Instant;

use support::{PATIENCE, Server, voxhall};

const KEY: &str = "sk-test-0123456789abcdef";

#[test]
fn the_engine_needs_to_know_where_the_models_are() {
    for command in [&["serve", "--engine", "realtime"][..], &["check-config", "--engine", "realtime"]] {
        let output = voxhall(command).output().expect("the program runs");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.contains("realtime.url is not set") && words.contains("; set realtime.url"), "{words}");
    }
}

#[test]
fn the_key_is_shown_nowhere() {
    let environment = [
        ("VOXHALL_REALTIME__API_KEY", KEY),
        ("VOXHALL_REALTIME__HEADERS", "api-key: sk-test-0123456789abcdef"),
    ];
    let url = ["--set", "realtime.url=ws://127.0.0.1:9/v1/realtime", "--set", "server.log_level=trace"];
    let output = voxhall(&["check-config"]).args(url).envs(environment).output().expect("the program runs");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        shown.contains("# api_key is set and not shown") && shown.contains("ws://127.0.0.1:9"),
        "{shown}"
    );
    let server = Server::start_in(&environment, &url);
    let pages = [server.admin_get("/metrics"), server.admin_get("/api/v1/stats")].concat();
    server.signal("TERM");
    let (status, log) = server.wait();
    assert!(status.success());
    assert!(!shown.contains(KEY) && !pages.contains(KEY) && !log.contains(KEY));
}

#[test]
fn a_name_that_nobody_knows_is_a_warning_and_the_key_in_clear_another() {
    let environment = [("VOXHALL_REALTIME__API_KEY", KEY)];
    let url = "realtime.url=ws://no.such.host.invalid/v1/realtime";
    let server = Server::start_in(&environment, &["--engine", "realtime", "--set", url]);
    assert_eq!(server.metric("voxhall_upstream_addresses"), 0.0);
    server.signal("TERM");
    let (status, log) = server.wait();
    assert!(status.success());
    assert!(log.contains("the key for the model server crosses the network in clear"), "{log}");
}

#[test]
fn the_address_is_known_and_exported() {
    let server = Server::start(&[
        "--set",
        "realtime.url=ws://localhost:9/v1/realtime",
        "--set",
        "realtime.sessions_max=17",
    ]);
    let begun = Instant::now();
    while server.metric("voxhall_upstream_addresses") == 0.0 {
        assert!(begun.elapsed() < PATIENCE, "localhost has an address");
    }
    assert_eq!(server.metric_where("voxhall_limit", "realtime.sessions_max"), 17.0);
    for (metric, value) in [
        ("voxhall_upstream_sessions", 0.0),
        ("voxhall_upstream_breaker_open", 0.0),
        ("voxhall_upstream_open", 0.0),
        ("voxhall_upstream_ended_total", 0.0),
        ("voxhall_upstream_connect_seconds_count", 0.0),
    ] {
        assert_eq!(server.metric(metric), value, "{metric}");
        assert!(server.admin_get("/metrics").contains(&format!("\n{metric}")), "{metric} is exported");
    }
    let stats = server.admin_get("/api/v1/stats");
    assert!(stats.contains("\"breaker_open\":false") && stats.contains("\"upstream_open\":0"), "{stats}");
}
