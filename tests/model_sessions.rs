//! Rooms whose answers come from a model server: a Voxhall behind a Voxhall, plain and over TLS, and servers that say no.

#![expect(clippy::disallowed_methods, reason = "an operator has a clock")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::Instant;

use serde_json::Value;
use support::tls::Files;
use support::{Member, PATIENCE, Server};

const KEY: (&str, &str) = ("VOXHALL_REALTIME__API_KEY", "sk-test");

/// A server whose rooms have a model server at this URL, and whose rooms end with their last member.
fn in_front_of(url: &str, settings: &[&str]) -> Server {
    let url = format!("realtime.url={url}");
    let mut arguments = vec!["--engine", "realtime", "--set", "room.linger_s=0", "--set", &url];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    Server::start_in(&[KEY], &arguments)
}

/// Says something that wants an answer.
fn say(member: &mut Member, text: &str) {
    let item = r#"{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"TEXT"}]}}"#;
    member.send(item.replace("TEXT", text));
    member.send(r#"{"type":"response.create","response":{"output_modalities":["text"]}}"#);
}

/// The next event of this type, audio passed over.
fn event(member: &mut Member, kind: &str) -> Value {
    loop {
        let message = member.read();
        let Ok(text) = message.to_text().map(str::to_owned) else { continue };
        if !message.is_text() {
            continue;
        }
        let event: Value = serde_json::from_str(&text).expect("JSON");
        if event["type"] == kind {
            return event;
        }
    }
}

/// Waits until a metric has a value.
fn until(server: &Server, metric: &str, label: &str, so: impl Fn(f64) -> bool) {
    let begun = Instant::now();
    loop {
        let value = server.metric_where(metric, label);
        if so(value) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{metric} {label} is {value}");
    }
}

fn talks_through(front: &Server, back: &Server) {
    let mut silent = front.join("silent", None);
    silent.event("session.created");
    let mut talker = front.join("talker", None);
    talker.event("session.created");
    assert_eq!(front.metric("voxhall_upstream_dialled_total"), 0.0, "nobody has spoken");
    for text in ["hello", "and again"] {
        say(&mut talker, text);
        let done = event(&mut talker, "response.done");
        assert_eq!(done["response"]["status"], "completed", "{done}");
    }
    assert_eq!(front.metric("voxhall_upstream_opened_total"), 1.0, "one session, of the room that spoke");
    assert_eq!(front.metric("voxhall_upstream_sessions"), 1.0);
    assert_eq!(front.metric("websocket_connections"), 2.0, "a session is no client");
    assert_eq!(back.metric("websocket_connections"), 1.0);
    assert!(front.metric("voxhall_upstream_messages_received_total") > 4.0);
    drop(talker);
    until(front, "voxhall_upstream_ended_total", "hung_up", |ended| ended == 1.0);
    until(front, "voxhall_upstream_sessions", "", |sessions| sessions == 0.0);
    until(back, "websocket_connections", "", |open| open == 0.0);
    assert_eq!(back.metric_where("voxhall_close_codes_total", "1000"), 1.0, "it was told goodbye");
    assert_eq!(front.metric("voxhall_upstream_dropped_total"), 0.0);
}

#[test]
fn a_voxhall_behind_a_voxhall() {
    let back = Server::start(&["--engine", "parrot"]);
    let front = in_front_of(&format!("ws://localhost:{}/v1/realtime", back.public.port()), &[]);
    talks_through(&front, &back);
    front.signal("TERM");
    assert!(front.wait().0.success());
}

#[test]
fn a_voxhall_behind_a_voxhall_over_tls() {
    let files = Files::new("behind");
    files.issue();
    let back = files.serve(&["--engine", "parrot"]);
    let ca_file = format!("realtime.ca_file={}", files.cert().display());
    let front = in_front_of(&format!("wss://localhost:{}/v1/realtime", back.public.port()), &[&ca_file]);
    talks_through(&front, &back);
    assert_eq!(back.metric("voxhall_tls_handshakes_total"), 1.0);
    front.signal("TERM");
    assert!(front.wait().0.success());
}

#[test]
fn a_node_that_leaves_says_goodbye_to_its_model_server() {
    let back = Server::start(&["--engine", "parrot"]);
    let front =
        in_front_of(&format!("ws://127.0.0.1:{}/v1/realtime", back.public.port()), &["server.drain_s=0"]);
    let mut member = front.join("talker", None);
    say(&mut member, "hello");
    event(&mut member, "response.done");
    front.signal("TERM");
    assert_eq!(member.goodbye(), 1001);
    assert!(front.wait().0.success());
    until(&back, "websocket_connections", "", |open| open == 0.0);
    assert_eq!(back.metric_where("voxhall_close_codes_total", "1001"), 1.0);
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_told_in_the_log() {
    let (files, others) = (Files::new("vouched"), Files::new("others"));
    files.issue();
    others.issue();
    let back = files.serve(&["--engine", "parrot"]);
    let ca_file = format!("realtime.ca_file={}", others.cert().display());
    let front = in_front_of(&format!("wss://localhost:{}/v1/realtime", back.public.port()), &[&ca_file]);
    let mut member = front.join("talker", None);
    say(&mut member, "hello");
    until(&front, "voxhall_upstream_ended_total", "unreachable", |ended| ended > 0.0);
    front.signal("KILL");
    let log = front.wait().1;
    assert!(log.contains("certificate"), "{log}");
    assert_eq!(
        back.metric("websocket_connections_total"),
        0.0,
        "nothing was said to it, the key least of all"
    );
}

#[test]
fn a_server_that_throttles_is_counted_and_told_in_the_log() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let at = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut bytes = [0; 4_096];
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut bytes) {
                    Ok(read @ 1..) => request.extend_from_slice(&bytes[..read]),
                    _ => break,
                }
            }
            let text = String::from_utf8_lossy(&request);
            assert!(text.starts_with("GET /v1/realtime?api-version=1&model="), "{text}");
            assert!(text.contains("\r\nAuthorization: Bearer sk-test\r\n"), "{text}");
            assert!(text.contains("\r\nOpenAI-Project: p\r\nOpenAI-Beta: realtime=v1\r\n"), "{text}");
            let answer = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let settings = ["realtime.project=p", "realtime.dialect=beta"];
    let front = in_front_of(&format!("ws://{at}/v1/realtime?api-version=1"), &settings);
    let mut member = front.join("talker", None);
    say(&mut member, "hello");
    until(&front, "voxhall_upstream_ended_total", "refused", |ended| ended > 0.0);
    assert_eq!(front.metric("voxhall_upstream_breaker_open"), 0.0, "a throttle is no failure");
    assert_eq!(front.metric("websocket_connections"), 1.0, "the room goes on");
    front.signal("KILL");
    let log = front.wait().1;
    assert!(log.contains("status: 429") && !log.contains("sk-test"), "{log}");
}
