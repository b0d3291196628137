//! The server's end: who is told what and when, and how the operator cuts it short.

#![expect(clippy::disallowed_methods, reason = "a client has a clock")]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{Server, ask};

#[test]
fn sigterm_sends_clients_away_over_the_window_and_ends_with_0() {
    let server = Server::start(&["--shards", "2", "--set", "server.drain_s=3"]);
    let mut members: Vec<_> = (0..64)
        .map(|number| {
            let mut member = server.join(&format!("room-{number}"), None);
            member.event("session.created");
            member
        })
        .collect();
    assert!(ask(server.public, "GET", "/readyz", "").starts_with("HTTP/1.1 200"));

    let told = Instant::now();
    server.signal("TERM");
    let first = members[0].event("session.draining");
    // Nobody has read a goodbye yet, so the server is still there.
    for address in [server.public, server.admin] {
        let answer = ask(address, "GET", "/readyz", "");
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    }
    assert!(ask(server.public, "GET", "/healthz", "").starts_with("HTTP/1.1 200"), "it lives");
    let refusal = ask_for_a_room(&server);
    assert!(refusal.starts_with("HTTP/1.1 503"), "{refusal}");
    assert!(refusal.to_ascii_lowercase().contains("\r\nretry-after: "), "{refusal}");

    let draining = std::iter::once(first)
        .chain(members.iter_mut().skip(1).map(|member| member.event("session.draining")).collect::<Vec<_>>());
    let mut waits: Vec<_> =
        draining.map(|event| event["reconnect_in_ms"].as_u64().expect("a number")).zip(members).collect();
    waits.sort_by_key(|(wait, _)| *wait);
    let (soonest, latest) = (waits[0].0, waits[63].0);
    assert!(soonest < 1_000 && latest > 1_400 && latest <= 3_000, "from {soonest} to {latest}");
    for (wait, mut member) in waits {
        assert_eq!(member.goodbye(), 1001);
        assert!(told.elapsed() >= Duration::from_millis(wait), "nobody goes before the time told: {wait} ms");
    }
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("SIGTERM"), "{log}");
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let server = Server::start(&["--shards", "1", "--set", "server.drain_s=600"]);
    let mut member = server.join("kitchen", None);
    server.signal("TERM");
    member.event("session.draining");
    server.signal("TERM");
    // Were it to wait for the window, nobody would have the patience.
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("told twice"), "{log}");
}

#[test]
fn a_drain_can_be_asked_for_and_a_signal_cuts_it_short() {
    let server = Server::start(&["--shards", "1", "--set", "server.drain_s=600"]);
    let mut member = server.join("kitchen", None);
    assert!(ask(server.admin, "POST", "/api/v1/drain", "").starts_with("HTTP/1.1 202"));
    assert!(ask(server.admin, "GET", "/readyz", "").starts_with("HTTP/1.1 503"));
    member.event("session.draining");
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn channels_are_served_until_the_last_client_of_all_shards_has_gone() {
    let server = Server::start(&["--shards", "2", "--set", "server.drain_s=600"]);
    let mut member = server.join("kitchen", Some("voxhall.v1.plain"));
    // Streams of both shards.
    let channels: Vec<String> = (0..16).map(|user| format!("user:{user}:news")).collect();
    for channel in &channels {
        member.send(json!({ "type": "channel.subscribe", "channel": channel }).to_string());
        member.event("channel.subscribed");
    }
    server.signal("TERM");
    member.event("session.draining");
    for round in 0..20 {
        for channel in &channels {
            member.send(json!({ "type": "channel.publish", "channel": channel, "data": round }).to_string());
            let heard = member.event("channel.message");
            assert_eq!((&heard["channel"], &heard["data"]), (&json!(channel), &json!(round)));
        }
    }
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_server_without_clients_ends_without_waiting() {
    let server = Server::start(&["--shards", "2", "--set", "server.drain_s=600"]);
    server.signal("INT");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

fn ask_for_a_room(server: &Server) -> String {
    support::exchange(
        server.public,
        "GET /ws/late HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
}
