//! What members post: in which order it is taken, over which connections, and what is answered when it can't be.

use serde_json::{Value, json};

use super::listener::{Listener, Poster};
use super::session_on;
use super::support::{Server, connect, exchange};

fn ping(number: u64) -> Value {
    json!({"type": "ping", "t": number, "client_seq": number})
}

#[test]
fn one_connection_serves_rooms_of_every_shard_and_pages() {
    let server = Server::start(&["--shards", "2"]);
    let sessions = [session_on(0, "kept"), session_on(1, "kept")];
    let mut streams: Vec<Listener> =
        sessions.iter().map(|id| Listener::open(&server, &format!("/sse/{id}?engine=relay"))).collect();
    let mut poster = Poster::new(&server);
    for number in 1..=20 {
        for (session, stream) in sessions.iter().zip(&mut streams) {
            let answer = poster.post(&format!("/sse/{session}"), &ping(number).to_string());
            assert_eq!(answer, (200, json!({"accepted": 1, "client_seq": number})));
            assert_eq!(stream.event("pong")["t"], number);
        }
    }
    assert!(server.metric("voxhall_moved_out_total") >= 38.0, "it went from shard to shard");
    // Requests that come at once are answered one after the other, and the last goes to the control plane.
    let request = |id: &str, number: u64| {
        let body = ping(number).to_string();
        format!("POST /sse/{id} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let [first, second] = &sessions;
    let options = format!("OPTIONS /sse/{first} HTTP/1.1\r\nHost: x\r\n\r\n");
    let all = [request(first, 21), options, request(second, 21), request(first, 22)].concat();
    poster.send(&format!("{all}GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"));
    let statuses: Vec<u16> = (0..5).map(|_| poster.answer().0).collect();
    assert_eq!(statuses, [200, 204, 200, 200, 200]);
    assert!(poster.is_over(), "the control plane closes behind its answer");
    assert_eq!(streams[0].event("pong")["t"], 21);
    assert_eq!(streams[0].event("pong")["t"], 22);
    // A stream, and a WebSocket, may follow as well.
    let mut poster = Poster::new(&server);
    assert_eq!(poster.post(&format!("/sse/{first}"), &ping(23).to_string()).0, 200);
    let mut late = Listener::over(poster.0.into_inner(), &format!("/sse/{second}"), "");
    assert_eq!(late.event("session.created")["session"]["member"], 2);
    let mut poster = Poster::new(&server);
    assert_eq!(poster.post(&format!("/sse/{first}"), &ping(24).to_string()).0, 200);
    let socket = server.join_over(poster.0.into_inner(), &format!("/ws/{second}"), None);
    assert_eq!(socket.expect("a room").event("session.created")["session"]["member"], 3);
}

#[test]
fn requests_that_overtake_each_other_are_put_in_order() {
    let server = Server::start(&["--shards", "2"]);
    let mut stream = Listener::open(&server, "/sse/order?engine=relay");
    stream.event("session.created");
    let post = |numbers: &[u64]| {
        let lines: Vec<String> = numbers.iter().map(|&number| ping(number).to_string()).collect();
        Poster::new(&server).post("/sse/order", &lines.join("\n")).1
    };
    assert_eq!(post(&[3, 2, 5]), json!({"accepted": 0, "client_seq": 0, "waiting": 3}));
    assert_eq!(post(&[6]), json!({"accepted": 0, "client_seq": 0, "waiting": 1}));
    assert_eq!(post(&[1]), json!({"accepted": 1, "client_seq": 3}));
    assert_eq!(post(&[1, 3, 5, 4, 4]), json!({"accepted": 5, "client_seq": 6}), "once is enough");
    let without = json!({"type": "ping", "t": "no number"}).to_string();
    assert_eq!(Poster::new(&server).post("/sse/order", &without).1, json!({"accepted": 1, "client_seq": 6}));
    for number in 1..=6 {
        assert_eq!(stream.event("pong")["t"], number);
    }
    assert_eq!(stream.event("pong")["t"], "no number");
    // One that can't be taken has its place in the order, and its answer on the stream.
    post(&[8]);
    let wrong = json!({"type": "no.such", "event_id": "mine", "client_seq": 7}).to_string();
    assert_eq!(Poster::new(&server).post("/sse/order", &wrong).1, json!({"accepted": 1, "client_seq": 8}));
    let error = stream.event("error")["error"].clone();
    assert_eq!((&error["code"], &error["event_id"]), (&json!("unknown_event"), &json!("mine")));
    assert_eq!(stream.event("pong")["t"], 8);
    // What never comes is given up, and the member is told.
    post(&[10, 11]);
    assert_eq!(stream.event("error")["error"]["code"], "client_seq_gap");
    assert_eq!(stream.event("pong")["t"], 10);
    assert_eq!(stream.event("pong")["t"], 11);
    assert_eq!(post(&[9]), json!({"accepted": 1, "client_seq": 11}));
}

#[test]
fn bodies_come_in_one_piece_or_many() {
    let server = Server::start(&["--shards", "2"]);
    let session = session_on(0, "body");
    let mut stream = Listener::open(&server, &format!("/sse/{session}?engine=relay"));
    stream.event("session.created");
    let mut poster = Poster::new(&server);
    let head = |lines: &str| format!("POST /sse/{session} HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let body = ping(1).to_string();
    let (half, rest) = body.split_at(9);
    let chunk = |text: &str| format!("{:x};q=\"1\"\r\n{text}\r\n", text.len());
    // The next request begins with what came behind the last chunk.
    let whole =
        [&head("Transfer-Encoding: chunked\r\n"), &chunk(half), &chunk(rest), "0\r\nA: b\r\n\r\n"].concat();
    poster.send(&format!("{whole}{}", &head(&format!("Content-Length: {}\r\n", body.len()))[..20]));
    assert_eq!(poster.answer().0, 200);
    poster.send(&head(&format!("Content-Length: {}\r\n", body.len()))[20..]);
    for byte in ping(2).to_string().chars() {
        poster.send(&byte.to_string());
    }
    assert_eq!(poster.answer(), (200, json!({"accepted": 1, "client_seq": 2})));
    // Who waits to be told so is told to go on.
    poster.send(&head(&format!("Expect: 100-continue\r\nContent-Length: {}\r\n", body.len())));
    assert_eq!(poster.answer().0, 100);
    poster.send(&ping(3).to_string());
    assert_eq!(poster.answer().0, 200);
    for number in 1..=3 {
        assert_eq!(stream.event("pong")["t"], number);
    }
    let long = json!({"type": "ping", "t": "x".repeat((1 << 20) - 40)}).to_string();
    assert_eq!(poster.post(&format!("/sse/{session}"), &long).0, 200);
    assert_eq!(stream.event("pong")["t"].as_str().map(str::len), Some((1 << 20) - 40));
    assert_eq!(poster.post(&format!("/sse/{session}"), "[]"), (200, json!({"accepted": 0, "client_seq": 3})));
    // An older client, or one that says so, has one answer.
    let once = format!("POST /sse/{session} HTTP/1.0\r\nContent-Length: 2\r\n\r\n[]");
    assert!(exchange(server.public, &once).contains("\r\nConnection: close\r\n"));
}

#[test]
fn what_can_not_be_taken_is_answered_with_a_sentence() {
    let server = Server::start(&["--shards", "2"]);
    let mut stream = Listener::open(&server, "/sse/wrong?engine=relay");
    stream.event("session.created");
    let mut socket = server.join("silent?engine=relay", None);
    socket.event("session.created");
    let post = |target: &str, body: &str| {
        let mut poster = Poster::new(&server);
        let (status, answer) = poster.post(target, body);
        assert_eq!(answer["status"], status, "{answer}");
        assert!(answer["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{answer}");
        assert!(poster.is_over(), "a refusal ends the connection");
        status
    };
    let many = "{}".repeat(1_001);
    let good = ping(1).to_string();
    for (body, status) in [
        ("", 400),
        ("nonsense", 400),
        ("[{]", 400),
        ("{\"type\":\"ping\"", 400),
        ("{\"type\":\"ping\"} x", 400),
        ("[{\"type\":\"ping\",\"client_seq\":1},{\"type\":]", 400),
        (&many, 400),
        (&"x".repeat((1 << 20) + 1), 413),
    ] {
        assert_eq!(post("/sse/wrong", body), status, "{body:.40}");
    }
    assert_eq!(post("/sse/nowhere", &good), 404);
    assert_eq!(post("/sse/silent", &good), 409, "a WebSocket hears no stream");
    assert_eq!(post("/sse/wrong?id=sess_000000000000000000", &good), 409);
    assert_eq!(post("/sse/wr%20ong", &good), 400);
    let mut other = Listener::open(&server, "/sse/wrong");
    let id = other.event("session.created")["session"]["id"].as_str().expect("a name").to_owned();
    assert_eq!(post("/sse/wrong", &good), 409, "nobody knows which of them");
    assert_eq!(Poster::new(&server).post(&format!("/sse/wrong?id={id}"), &good).0, 200);
    assert_eq!(other.event("pong")["t"], 1);
    for method in ["PUT", "DELETE", "HEAD"] {
        let answer = exchange(server.public, &format!("{method} /sse/wrong HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("\r\nAllow: GET, POST, OPTIONS\r\n"));
        assert_eq!(answer.ends_with("\r\n\r\n"), method == "HEAD", "RFC 9110 section 9.3.2: {answer}");
    }
    drop((stream, connect(server.public)));
}

#[test]
fn limits_hold_for_what_is_posted() {
    let limits = ["--set", "limits.messages_per_s=1", "--set", "limits.messages_burst=10"];
    let server = Server::start(&[&["--shards", "2"][..], &limits].concat());
    let mut stream = Listener::open(&server, "/sse/limits?engine=relay");
    stream.event("session.created");
    let pings: Vec<Value> = (1..=15).map(ping).collect();
    let (status, answer) = Poster::new(&server).post("/sse/limits", &Value::from(pings).to_string());
    assert_eq!((status, &answer["status"]), (429, &json!(429)));
    let accepted = answer["accepted"].as_u64().expect("a number");
    assert!((9..=11).contains(&accepted) && answer["client_seq"] == accepted, "{answer}");
    assert_eq!(stream.event("error")["error"]["code"], "rate_limit_exceeded");
}
