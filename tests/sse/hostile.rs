//! Streams and requests that mean harm, or are broken.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;

use serde_json::json;

use super::listener::{Listener, Poster};
use super::support::{Server, connect};

#[test]
fn nothing_may_follow_the_request_for_a_stream() {
    let server = Server::start(&["--shards", "2"]);
    for (number, more) in
        ["GET /sse/b HTTP/1.1\r\nHost: x\r\n\r\n", "x", "\r\n\r\nPOST"].into_iter().enumerate()
    {
        let target = format!("/sse/more-{number}?engine=relay");
        let mut at_once = connect(server.public);
        write!(at_once, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n{more}").expect("it reads");
        assert_eq!(Listener::after(at_once).goodbye(), 1002);
        let mut later = Listener::open(&server, &target);
        later.event("session.created");
        later.socket().write_all(b"\r\n").expect("it reads");
        later.socket().write_all(more.as_bytes()).expect("it reads");
        assert_eq!(later.goodbye(), 1002);
    }
    let mut body = connect(server.public);
    write!(body, "GET /sse/a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc").expect("it reads");
    let mut answer = String::new();
    body.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[test]
fn who_closes_its_half_has_left() {
    let server = Server::start(&["--shards", "2"]);
    let mut other = server.join("half?engine=relay", None);
    other.event("session.created");
    let mut stream = Listener::open(&server, "/sse/half");
    stream.event("session.created");
    stream.socket().shutdown(Shutdown::Write).expect("connected");
    assert_eq!(other.event("room.member_left")["member"], 2);
    assert_eq!(server.metric("voxhall_sse_connections"), 0.0);
}

#[test]
fn bodies_without_an_end_are_bounded() {
    let server = Server::start(&["--shards", "2", "--set", "limits.message_bytes_max=65536"]);
    let mut stream = Listener::open(&server, "/sse/endless?engine=relay");
    stream.event("session.created");
    let head = |lines: &str| format!("POST /sse/endless HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    // Chunk after chunk, a chunk that is longer than all may be, and a length that is.
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(4_096));
    let mut poster = Poster::new(&server);
    poster.send(&head("Transfer-Encoding: chunked\r\n"));
    for _ in 0..16 {
        poster.send(&chunk);
    }
    poster.send("1\r\nx");
    assert_eq!(poster.answer().0, 413);
    for (lines, body) in [
        ("Transfer-Encoding: chunked\r\n", "fffffffff\r\n"),
        ("Content-Length: 65537\r\n", ""),
        ("Content-Length: 9999999999999999999\r\n", ""),
    ] {
        let mut poster = Poster::new(&server);
        poster.send(&format!("{}{body}", head(lines)));
        assert_eq!(poster.answer().0, 413, "{lines}{body}");
    }
    for (lines, body) in [
        ("Transfer-Encoding: chunked\r\n", "x\r\n"),
        ("Transfer-Encoding: chunked\r\n", "1\r\nabc"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", ""),
        ("Content-Length: 3\r\nContent-Length: 4\r\n", ""),
        ("Content-Length: -1\r\n", ""),
        ("Transfer-Encoding: gzip, chunked\r\n", ""),
    ] {
        let mut poster = Poster::new(&server);
        poster.send(&format!("{}{body}", head(lines)));
        assert_eq!(poster.answer().0, 400, "{lines}{body}");
    }
    // A body that breaks off has no effect.
    let mut poster = Poster::new(&server);
    poster.send(&format!("{}{}", head("Content-Length: 100\r\n"), json!({"type": "ping", "t": "half"})));
    poster.0.get_ref().shutdown(Shutdown::Write).expect("connected");
    assert!(poster.is_over());
    assert_eq!(Poster::new(&server).post("/sse/endless", r#"{"type":"ping","t":1}"#).0, 200);
    assert_eq!(stream.event("pong")["t"], 1);
}

#[test]
fn a_slow_reader_is_told_and_slows_nobody() {
    let limits = ["outbox.slow_client_ms=1000", "outbox.bytes_max=262144", "limits.bytes_per_s=1000000000"];
    let mut arguments = vec!["--shards", "2"];
    limits.iter().for_each(|limit| arguments.extend(["--set", limit]));
    let server = Server::start(&arguments);
    let mut fast = Listener::open(&server, "/sse/slow?engine=relay");
    let mut sender = server.join("slow", None);
    fast.event("session.created");
    let mut slow = Listener::open(&server, "/sse/slow");
    let heard = slow.event("session.created")["session"]["member"].clone();
    let data = "x".repeat(60_000);
    let mut left = false;
    // It reads nothing until the server has given it up.
    for number in 0.. {
        sender.send(json!({"type": "room.send", "data": [number, data]}).to_string());
        loop {
            let event = fast.next().expect("an event").json();
            left |= event["type"] == "room.member_left" && event["member"] == heard;
            if event["type"] == "room.message" && event["data"][0] == number {
                break;
            }
        }
        if left {
            break;
        }
    }
    assert_eq!(slow.goodbye(), 1013, "what was begun is whole, and then it is told why");
    assert_eq!(server.metric("voxhall_slow_closed_total"), 1.0);
}
