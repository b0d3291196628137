//! Members that hear a room as server-sent events and speak with POST, over real sockets: what they hear beside members on
//! WebSockets, what may follow what on a connection, and what hostile ones get.

#[path = "../support/mod.rs"]
mod support;

mod hostile;
mod listener;
mod posts;
mod tokens;

use serde_json::{Value, json};

use listener::{Heard, Listener, Poster};
use support::tls::{Files, any_client, secure};
use support::{Server, ask, exchange};

/// A session that the shard has, of two.
fn session_on(shard: u16, name: &str) -> String {
    let owned = |id: &String| shards::core::route::owner(id, 2).0 == shard;
    (0..).map(|number| format!("{name}-{number}")).find(owned).expect("half of all")
}

/// The events of the room among those heard, from its first to this one.
fn log_to(listener: &mut Listener, kind: &str) -> Vec<Value> {
    let mut log = Vec::new();
    loop {
        let heard: Heard = listener.next().expect("an event");
        let event = heard.json();
        assert_eq!(heard.id, event["seq"].as_u64());
        if event["seq"].is_u64() {
            log.push(event);
        }
        if log.last().is_some_and(|event| event["type"] == kind) {
            return log;
        }
    }
}

#[test]
fn a_stream_has_the_log_of_a_websocket() {
    let server = Server::start(&["--shards", "2", "--set", "parrot.pace=0"]);
    let mut streams = Vec::new();
    for shard in 0..2 {
        let session = session_on(shard, "log");
        let mut socket = server.join(&format!("{session}?engine=parrot"), Some("voxhall.v1.plain"));
        socket.event("session.created");
        let mut stream = Listener::open(&server, &format!("/sse/{session}"));
        assert!(stream.head.contains("\r\nContent-Type: text/event-stream\r\n"), "{}", stream.head);
        let created = stream.event("session.created");
        assert_eq!(created["session"]["member"], 2);
        let mut poster = Poster::new(&server);
        let item = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "one κ\n two"}]});
        let events = json!([
            {"type": "conversation.item.create", "item": item, "client_seq": 1},
            {"type": "response.create", "client_seq": 2},
        ]);
        let answer = poster.post(&format!("/sse/{session}"), &events.to_string());
        assert_eq!(answer, (200, json!({"accepted": 2, "client_seq": 2})));
        let heard = log_to(&mut stream, "response.done");
        let mut expected = Vec::new();
        while expected.last().is_none_or(|event: &Value| event["type"] != "response.done") {
            let message = socket.read();
            if let Ok(text) = message.to_text()
                && !message.is_binary()
            {
                let event: Value = serde_json::from_str(text).expect("JSON");
                expected.extend(Some(event).filter(|event| event["seq"].is_u64()));
            }
        }
        // The other's coming is news for the one who was there.
        assert_eq!(expected.remove(0)["type"], "room.member_joined");
        assert_eq!(heard, expected);
        assert!(heard.len() > 8, "{heard:?}");
        streams.push((stream, socket));
    }
    assert_eq!(server.metric("voxhall_sse_connections"), 2.0);
    assert_eq!(server.metric("voxhall_sse_posts_total"), 2.0);
}

#[test]
fn audio_is_heard_and_said_in_base64() {
    let server = Server::start(&["--shards", "2"]);
    let mut socket = server.join("audio?engine=relay", None);
    let mut stream = Listener::open(&server, "/sse/audio");
    stream.event("session.created");
    socket.event("room.member_joined");
    socket.send(vec![1, 2, 3, 4]);
    let delta = stream.event("response.output_audio.delta");
    assert_eq!((&delta["delta"], &delta["item_id"]), (&json!("AQIDBA=="), &json!("item_1")));
    let append = json!({"type": "input_audio_buffer.append", "audio": "BQYHCA=="});
    assert_eq!(Poster::new(&server).post("/sse/audio", &append.to_string()).0, 200);
    assert_eq!(socket.read().into_data().as_ref(), [5, 6, 7, 8]);
}

#[test]
fn http_1_0_gets_a_stream_that_ends_with_the_connection() {
    let server = Server::start(&["--shards", "2"]);
    let mut socket = support::connect(server.public);
    std::io::Write::write_all(&mut socket, b"GET /sse/old?engine=relay HTTP/1.0\r\n\r\n").expect("it reads");
    let mut stream = Listener::after(socket);
    assert!(!stream.head.contains("chunked"), "{}", stream.head);
    let created = stream.event("session.created");
    let id = created["session"]["id"].as_str().expect("a name");
    ask(server.admin, "POST", &format!("/api/v1/connections/{id}/close"), "{}");
    assert_eq!(stream.goodbye(), 1008);
}

#[test]
fn a_drain_ends_streams_in_order_and_idle_connections_at_once() {
    let server = Server::start(&["--shards", "2", "--set", "server.drain_s=1"]);
    let mut stream = Listener::open(&server, "/sse/drained?engine=relay");
    stream.event("session.created");
    let mut poster = Poster::new(&server);
    assert_eq!(poster.post("/sse/drained", r#"{"type":"ping"}"#).0, 200);
    server.signal("TERM");
    assert!(stream.event("session.draining")["reconnect_in_ms"].is_u64());
    assert!(poster.is_over());
    assert_eq!(stream.goodbye(), 1001);
    assert!(server.wait().0.success());
}

#[test]
fn pages_of_other_origins_may_read_where_they_may_connect() {
    let server = Server::start(&["--shards", "2", "--set", "server.allowed_origins=https://app.example"]);
    let page = "Origin: https://app.example\r\n";
    let named = "\r\nAccess-Control-Allow-Origin: https://app.example\r\nVary: Origin\r\n";
    let mut stream = Listener::over(support::connect(server.public), "/sse/page?engine=relay", page);
    assert!(stream.head.contains(named), "{}", stream.head);
    stream.event("session.created");
    let request = |method: &str, target: &str, lines: &str, body: &str| {
        let body = if method == "POST" { body } else { "" };
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}{length}\r\n{body}"
        );
        exchange(server.public, &head)
    };
    let ping = r#"{"type":"ping"}"#;
    let preflight = format!("{page}Access-Control-Request-Method: POST\r\n");
    let allowed = request("OPTIONS", "/sse/page", &preflight, "");
    assert!(allowed.starts_with("HTTP/1.1 204") && allowed.contains(named), "{allowed}");
    assert!(allowed.contains("Access-Control-Allow-Headers: Authorization, Content-Type, Last-Event-ID\r\n"));
    for (target, status) in [("/sse/page", 200), ("/sse/nowhere", 404), ("/sse/page?id=x", 409)] {
        let answer = request("POST", target, page, ping);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(named), "{answer}");
    }
    for method in ["GET", "POST", "OPTIONS"] {
        let answer = request(method, "/sse/page", "Origin: https://evil.example\r\n", ping);
        assert!(answer.starts_with("HTTP/1.1 403") && !answer.contains("Access-Control"), "{answer}");
    }
    assert!(request("POST", "/sse/page", "", ping).starts_with("HTTP/1.1 200"), "a program has no origin");
}

#[test]
fn it_works_over_tls_too() {
    let files = Files::new("sse");
    let trusted = files.issue();
    let server = files.serve(&["--shards", "2"]);
    let tls = || secure(&any_client(&trusted), server.public).expect("a handshake");
    let sessions = [session_on(0, "tls"), session_on(1, "tls")];
    let mut streams: Vec<_> =
        sessions.iter().map(|id| Listener::over(tls(), &format!("/sse/{id}?engine=relay"), "")).collect();
    let mut poster = Poster(std::io::BufReader::new(tls()));
    let long = "x".repeat(200_000);
    for round in 0..4 {
        for (session, stream) in sessions.iter().zip(&mut streams) {
            let ping = json!([{"type": "ping", "t": round}, {"type": "ping", "t": long}]);
            assert_eq!(poster.post(&format!("/sse/{session}"), &ping.to_string()).0, 200);
            assert_eq!(stream.event("pong")["t"], round);
            assert_eq!(stream.event("pong")["t"], long);
        }
    }
}
