//! What becomes of the server when a part of it breaks: everybody is told who can be, the process ends with a code of
//! its own, and nothing of it stays behind. Faults can be asked for in builds with debug assertions only.

#![cfg(debug_assertions)]
#![expect(clippy::disallowed_methods, reason = "an operator has a clock")]

mod support;

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Member, Server, ask};

/// What docs/operations.md promises of the end after a death.
const END: Duration = Duration::from_secs(10);
const OWN_FAULT: i32 = 70;
const ABORT: i32 = 6;

/// A server with members on both of its shards, each with the number of its shard.
fn inhabited() -> (Server, Vec<(u64, Member)>) {
    let server = Server::start(&["--shards", "2"]);
    let join = |number: u32| {
        let room = format!("room-{number}");
        let mut member = server.join(&room, None);
        member.event("session.created");
        let detail: Value =
            serde_json::from_str(&server.admin_get(&format!("/api/v1/rooms/{room}"))).expect("a room");
        (detail["shard"].as_u64().expect("a number"), member)
    };
    let members: Vec<_> = (0..24).map(join).collect();
    assert!([0, 1].iter().all(|shard| members.iter().any(|(on, _)| on == shard)), "a fair hash");
    (server, members)
}

fn break_it(server: &Server, fault: &str, shard: u64) -> Instant {
    // Nobody may be left to answer.
    let request = format!(
        "POST /api/v1/faults/{fault}?shard={shard} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    );
    let mut operator = support::connect(server.admin);
    std::io::Write::write_all(&mut operator, request.as_bytes()).expect("the server reads");
    Instant::now()
}

/// The process has ended as documented, and another can take its place at once.
fn assert_over(server: Server, told: Instant, words: &[&str]) {
    let address = server.public.to_string();
    let (status, log) = server.wait();
    assert!(told.elapsed() < END, "{:?}", told.elapsed());
    assert_eq!(status.code(), Some(OWN_FAULT), "{log}");
    assert!(words.iter().all(|word| log.contains(word)), "{words:?} are not all in\n{log}");
    let next = Server::start(&["--shards", "2", "--listen", &address]);
    next.join("room-0", None).event("session.created");
}

#[test]
fn a_shard_that_dies_takes_the_node_with_it_and_the_clients_of_the_others_are_told() {
    for (fault, cause) in [
        ("core", "a fault was asked for: Core"),
        ("runtime", "a fault was asked for: Runtime"),
        ("kernel", "io_uring_enter failed"),
    ] {
        let (server, members) = inhabited();
        let told = break_it(&server, fault, 1);
        for (shard, mut member) in members {
            if shard == 0 {
                assert_eq!(member.goodbye(), 1012, "{fault}");
            } else {
                assert!(
                    member.vanishes(),
                    "{fault}: a dead shard says nothing any more, and holds no socket"
                );
            }
        }
        assert_over(server, told, &["shard 1 died", "shard=1", cause]);
    }
}

#[test]
fn a_death_does_not_wait_for_clients_that_do_not_answer() {
    let (server, members) = inhabited();
    let told = break_it(&server, "core", 0);
    // They read nothing, and stay connected to the end.
    assert_over(server, told, &["shard 0 died", "shards/src/core/message.rs"]);
    drop(members);
}

#[test]
fn a_death_cuts_a_drain_short() {
    let server = Server::start(&["--shards", "2", "--set", "server.drain_s=600"]);
    let mut members: Vec<_> = (0..8).map(|number| server.join(&format!("room-{number}"), None)).collect();
    server.signal("TERM");
    members.iter_mut().for_each(|member| drop(member.event("session.draining")));
    let told = break_it(&server, "core", 0);
    assert_over(server, told, &["shard 0 died"]);
}

#[test]
fn a_panic_in_a_panic_ends_the_process_at_once() {
    let (server, members) = inhabited();
    break_it(&server, "twice", 1);
    let (status, log) = server.wait();
    assert_eq!(status.signal(), Some(ABORT), "{log}");
    assert!(log.contains("shard-1") && log.contains("a panic in a panic was asked for"), "{log}");
    drop(members);
}

#[test]
fn a_control_plane_that_dies_takes_the_node_with_it_and_everybody_is_told() {
    let (server, members) = inhabited();
    let told = break_it(&server, "control_plane", 0);
    for (_, mut member) in members {
        assert_eq!(member.goodbye(), 1012);
    }
    assert_over(server, told, &["the control plane died", "a fault was asked for: ControlPlane", "main"]);
}

#[test]
fn a_handler_that_panics_costs_its_request_and_nothing_else() {
    let (server, mut members) = inhabited();
    for _ in 0..3 {
        let answer = ask(server.admin, "POST", "/api/v1/faults/handler", "");
        assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("problem+json"), "{answer}");
    }
    assert!(ask(server.public, "GET", "/readyz", "").starts_with("HTTP/1.1 200"));
    for (_, member) in &mut members {
        member.send(r#"{"type":"ping","t":7}"#);
        assert_eq!(member.event("pong")["t"], 7);
    }
    server.signal("TERM");
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("a fault was asked for: Handler") && log.contains("src/control/faults.rs"), "{log}");
}
