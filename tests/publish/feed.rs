//! `/events`: the feed of application events, over WebSocket and as server-sent events.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::support::{Member, Server, ask, connect};
use super::{manage, server};

const EVENTS: &str = "/api/v1/events";

fn feed(server: &Server, query: &str) -> Member<TcpStream> {
    server.join_over(connect(server.public), &format!("/events{query}"), None).expect("the feed")
}

fn event(server: &Server, body: &Value) {
    let (status, _, answer) = manage(server, "POST", EVENTS, "", &body.to_string());
    assert_eq!(status, 200, "{answer}");
}

fn next(feed: &mut Member<TcpStream>) -> Value {
    serde_json::from_str(&feed.read().into_text().expect("text")).expect("JSON")
}

/// Waits until so many of the feeds are heard by the whole node.
fn listening(server: &Server, feeds: u64) {
    for _ in 0..10_000 {
        let (_, _, answer) = manage(server, "POST", EVENTS, "", r#"{"type":"probe"}"#);
        if answer["subscribers"] == feeds {
            return;
        }
    }
    panic!("not all of {feeds} feeds listen");
}

/// The next that is no probe.
fn wanted(feed: &mut Member<TcpStream>) -> Value {
    loop {
        let event = next(feed);
        if event["event"] != "probe" {
            return event;
        }
    }
}

#[test]
fn events_come_flat_to_those_who_want_them_on_either_shard() {
    let server = server(&["--set", "server.drain_s=1"]);
    // Whichever shard accepts them serves them.
    let mut all: Vec<_> = (0..6).map(|_| feed(&server, "")).collect();
    let mut some: Vec<_> = (0..6).map(|_| feed(&server, "?types=job.done,last,probe")).collect();
    let mut of_session: Vec<_> =
        (0..6).map(|_| feed(&server, "?session_id=s:1&types=job.done,last")).collect();
    listening(&server, 12);
    event(&server, &json!({ "type": "job.started", "session_id": "s:1" }));
    event(&server, &json!({ "event": "job.done", "type": "pdf", "session_id": "s:1" }));
    event(&server, &json!({ "type": "job.done", "session_id": "s:2", "pages": 12 }));
    event(&server, &json!({ "type": "last", "session_id": "s:1" }));
    let started = json!({ "event": "job.started", "session_id": "s:1" });
    let one = json!({ "event": "job.done", "type": "pdf", "session_id": "s:1" });
    let two = json!({ "event": "job.done", "session_id": "s:2", "pages": 12 });
    let last = json!({ "event": "last", "session_id": "s:1" });
    for feed in &mut all {
        let heard: Vec<Value> = (0..4).map(|_| wanted(feed)).collect();
        assert_eq!(heard, [started.clone(), one.clone(), two.clone(), last.clone()]);
    }
    for feed in &mut some {
        let heard: Vec<Value> = (0..3).map(|_| wanted(feed)).collect();
        assert_eq!(heard, [one.clone(), two.clone(), last.clone()]);
    }
    for feed in &mut of_session {
        let heard: Vec<Value> = (0..2).map(|_| wanted(feed)).collect();
        assert_eq!(heard, [one.clone(), last.clone()]);
    }
    all[0].send(r#"{"type":"ping","t":7}"#);
    assert_eq!(wanted(&mut all[0])["event"], "pong");
    all[0].send(r#"{"type":"room.send","data":1}"#);
    assert_eq!(wanted(&mut all[0])["error"]["code"], "not_supported_on_feed");
    server.signal("TERM");
    assert_eq!(wanted(&mut some[0])["event"], "session.draining");
    assert_eq!(some[1].goodbye(), 1001);
}

#[test]
fn a_stream_of_events_goes_on_where_it_was_cut() {
    let server = server(&[]);
    let open = |last: Option<&str>| {
        let mut stream = connect(server.public);
        let last = last.map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
        write!(stream, "GET /events?types=a HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n{last}\r\n")
            .expect("the server reads");
        let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
        assert!(lines.next().expect("a status").contains(" 200 "));
        lines
    };
    let mut lines = open(None);
    let id = |line: &String| line.strip_prefix("id: ").map(str::to_owned);
    let begun = lines.find_map(|line| id(&line)).expect("where it begins");
    event(&server, &json!({ "type": "a", "n": 1 }));
    let first = lines.find_map(|line| id(&line)).expect("an event");
    assert_ne!(begun, first);
    let data = lines.next().expect("its data");
    assert_eq!(data, r#"data: {"event":"a","n":1}"#);
    drop(lines);
    event(&server, &json!({ "type": "b" }));
    event(&server, &json!({ "type": "a", "n": 2 }));
    for (last, expected) in [(&begun, 1), (&first, 2)] {
        let mut lines = open(Some(last));
        let data = lines.find(|line| line.starts_with("data: {\"event\":\"a\"")).expect("an event");
        assert_eq!(data, format!(r#"data: {{"event":"a","n":{expected}}}"#));
    }
    assert!(ask(server.public, "GET", "/events", "").starts_with("HTTP/1.1 426"));
}
