//! The program from outside: what it prints, what it refuses, and with which exit code.

mod support;

use std::path::PathBuf;
use std::process::Output;

use support::{Server, ask, voxhall};

fn run(arguments: &[&str]) -> Output {
    voxhall(arguments).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A configuration file that goes away with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("voxhall-cli-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, content).expect("a temporary file");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn usage_is_told_with_code_2() {
    for arguments in [&[][..], &["sing"], &["serve", "--colour"], &["serve", "--set", "no-equals-sign"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains("--help"), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    assert!(text(&run(&["--version"]).stdout).starts_with("voxhall "));
}

#[test]
fn the_printed_defaults_are_a_configuration_that_changes_nothing() {
    let defaults = run(&["default-config"]);
    assert_eq!(defaults.status.code(), Some(0));
    let file = File::new("defaults", &text(&defaults.stdout));
    let with_file = run(&["check-config", "--config", file.path()]);
    assert_eq!(with_file.status.code(), Some(0), "{}", text(&with_file.stderr));
    let values = |output: &Output| -> Vec<String> {
        text(&output.stdout)
            .lines()
            .map(|line| line.split('#').next().unwrap_or("").trim().to_owned())
            .collect()
    };
    assert_eq!(values(&with_file), values(&run(&["check-config"])));
}

#[test]
fn a_flag_beats_the_environment_that_beats_the_file_that_beats_the_default() {
    let file = File::new("layers", "[outbox]\nmessages_max = 100\ncoalesce_ms = 11\n[room]\nlinger_s = 7\n");
    let output = voxhall(&["check-config", "--config", file.path(), "--set", "outbox.messages_max=300"])
        .env("WS_OUTGOING_MAX", "200")
        .env("WS_COALESCE_MS", "12")
        .env("VOXHALL_AUDIO__CHUNK_BYTES", "512")
        .output()
        .expect("the program runs");
    let printed = text(&output.stdout);
    let line = |key: &str| printed.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    for (key, value, place) in [
        ("messages_max", "300", "flag --set outbox.messages_max=300"),
        ("coalesce_ms", "12", "environment WS_COALESCE_MS"),
        ("chunk_bytes", "512", "environment VOXHALL_AUDIO__CHUNK_BYTES"),
        ("linger_s", "7", &format!("{}:5", file.path())),
        ("bytes_max", "1048576", "default"),
    ] {
        let line = line(key);
        assert!(
            line.starts_with(&format!("{key} = {value} ")) && line.ends_with(&format!("# {place}")),
            "{line}"
        );
    }
}

#[test]
fn every_mistake_is_told_with_key_value_place_and_remedy() {
    let file = File::new(
        "wrong",
        "[outbox]\nmesages_max = 5\n\n[heartbeat]\nping_s = \"often\"\n[cluster]\nredis_url = \"x\"\n",
    );
    let output = voxhall(&[
        "check-config",
        "--config",
        file.path(),
        "--engine",
        "cello",
        "--set",
        "limits.head_s=999",
    ])
    .env("VOXHALL_ROOM__LINGER_S", "-1")
    .output()
    .expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
    let errors = text(&output.stderr);
    for parts in [
        [&format!("{}:2", file.path()), "outbox.mesages_max", "did you mean outbox.messages_max?"],
        [&format!("{}:5", file.path()), "heartbeat.ping_s = \"often\"", "write a number from 1 to 3600"],
        [&format!("{}:7", file.path()), "cluster.redis_url", "not available in this release"],
        ["flag --engine", "room.engine = cello", "choose one of echo, relay, parrot"],
        ["flag --set limits.head_s=999", "limits.head_s = 999", "nearest allowed value is 120"],
        ["environment VOXHALL_ROOM__LINGER_S", "room.linger_s = -1", "nearest allowed value is 0"],
    ] {
        let told = errors.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(told, "{parts:?} is not in\n{errors}");
    }
    assert_eq!(errors.lines().count(), 6, "{errors}");
}

#[test]
fn serve_refuses_what_check_config_refuses() {
    let broken = File::new("broken", "[outbox\n");
    for (arguments, words) in [
        (&["--config", "/no/such/file.toml"][..], "can't be read"),
        (&["--config", broken.path()], ":1: not TOML"),
        (&["--cores", "9999"], "no core 9999"),
        (&["--cores", "0,0"], "named twice"),
        (&["--shards", "0"], "nearest allowed value is 1"),
        (&["--shards", "1000"], "say --shards"),
        (&["--engine", "worker"], "set worker.redis_url"),
        (&["--listen", "0.0.0.0:8080"], "--insecure"),
        (&["--admin", "0.0.0.0:9090"], "--insecure"),
        (&["--listen", "example.com:80"], "write it like \"127.0.0.1:8080\""),
        (&["--engine", "realtime"], "set realtime.url"),
        (&["--profile", "submarine"], "laptop, container, bare-metal, latency"),
        (&["--set", "limits.connections_max=16777215"], "descriptors"),
        (&["--set", "heartbeat.idle_s=10"], "does not go with heartbeat.ping_s = 25"),
    ] {
        let mut all = vec!["serve"];
        all.extend(arguments);
        let output = run(&all);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(words), "{arguments:?}: {errors}");
        assert!(output.stdout.is_empty(), "nothing is ready");
    }
}

#[test]
fn a_server_says_when_it_is_ready_and_answers_on_both_addresses() {
    let server = Server::start(&["--shards", "1", "--engine", "relay"]);
    assert!(server.ready.ends_with(", 1 shard, engine relay\n"), "{}", server.ready);
    assert!(ask(server.public, "GET", "/", "").contains("<html"));
    assert!(ask(server.public, "GET", "/readyz", "").starts_with("HTTP/1.1 200"));
    let mut member = server.join("kitchen", None);
    member.event("session.created");
    let metrics = ask(server.admin, "GET", "/metrics", "");
    assert!(metrics.contains("\nwebsocket_connections{shard=\"0\"} 1.0\n"), "{metrics}");
    assert!(ask(server.admin, "GET", "/api/v1/rooms/kitchen", "").contains("\"engine\":\"relay\""));
    assert!(
        ask(server.admin, "POST", "/api/v1/rooms/kitchen/send", "{\"data\":1}").contains("{\"delivered\":1}")
    );
    assert!(ask(server.admin, "POST", "/api/v1/rooms/kitchen/close", "").contains("{\"closed\":1}"));
    assert_eq!(member.event("room.message")["data"], 1);
    member.goodbye();
}

#[test]
fn logs_are_json_on_request() {
    let server =
        Server::start(&["--shards", "1", "--set", "server.log_format=json", "--set", "server.drain_s=0"]);
    server.signal("INT");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.lines().count() > 0);
    for line in log.lines() {
        assert!(line.starts_with("{\"timestamp\"") && line.ends_with('}'), "{line}");
    }
}
