//! Streams of events through HAProxy and nginx, with the configurations of docs/operations.md.

use std::io::BufReader;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::Folder;
use super::listener::{Listener, Poster};
use super::programs::{adapted, behind_haproxy, behind_nginx, documented, free_address, haproxy};
use super::support::{Server, connect};

/// Hears, speaks, goes and comes back through the proxy at this address.
fn come_back_through(server: &Server, proxy: SocketAddr) {
    let mut socket = server.join_over(connect(proxy), "/ws/log?engine=relay", None).expect("a room");
    socket.event("session.created");
    let open = |target: &str, lines: &str| {
        Listener::over(connect(proxy), target, &format!("Accept: text/event-stream\r\n{lines}"))
    };
    let mut stream = open("/sse/log", "");
    let created = stream.event("session.created");
    let token = created["session"]["resume"]["token"].as_str().expect("a token").to_owned();
    let mut poster = Poster(BufReader::new(connect(proxy)));
    for number in 1..=5 {
        let said = json!({"type": "room.send", "data": number, "client_seq": number}).to_string();
        assert_eq!(poster.post("/sse/log", &said), (200, json!({"accepted": 1, "client_seq": number})));
        assert_eq!(socket.event("room.message")["data"], number);
        socket.send(said);
        assert_eq!(stream.event("room.message")["data"], number);
    }
    let last = stream.last_id.expect("events with numbers");
    drop(stream);
    socket.event("room.member_left");
    for number in 6..=40 {
        socket.send(json!({"type": "room.send", "data": number}).to_string());
    }
    socket.send(r#"{"type":"ping"}"#);
    socket.event("pong");
    let missed = |stream: &mut Listener| -> Vec<Value> {
        let created = stream.event("session.created");
        assert_eq!(stream.event("session.restored")["recovered"], true);
        assert_eq!(
            (6..=40).map(|_| stream.event("room.message")["data"].clone()).collect::<Vec<_>>(),
            (6..=40).collect::<Vec<i32>>()
        );
        vec![created["session"]["member"].clone()]
    };
    // As a browser does it, and with the token.
    let mut browser = open("/sse/log", &format!("Last-Event-ID: {last}\r\n"));
    assert_eq!(missed(&mut browser), [3]);
    let mut exact = open(&format!("/sse/log?resume={token}"), &format!("Last-Event-ID: {last}\r\n"));
    assert_eq!(missed(&mut exact), [2]);
    let said = json!({"type": "ping", "t": "again", "client_seq": 6}).to_string();
    assert_eq!(
        poster.post(&format!("/sse/log?resume={token}"), &said).1,
        json!({"accepted": 1, "client_seq": 6})
    );
    assert_eq!(exact.event("pong")["t"], "again");
}

#[test]
fn a_stream_is_recovered_through_haproxy() {
    let folder = Folder::new("haproxy-sse");
    let (server, proxy) = behind_haproxy(&folder);
    come_back_through(&server, proxy.address);
}

#[test]
fn a_stream_is_recovered_through_haproxy_that_keeps_connections() {
    let folder = Folder::new("haproxy-sse-tcp");
    let address = free_address();
    let server = Server::start(&[
        "--shards",
        "2",
        "--set",
        "server.trusted_proxies=127.0.0.1",
        "--set",
        "server.forwarded_by=x-forwarded-for",
    ]);
    let configuration = adapted(
        &documented("# haproxy.cfg"),
        &[
            ("unix@/run/voxhall/public.sock send-proxy-v2", &server.public.to_string()),
            ("default_backend", "option forwardfor\n    default_backend"),
            ("bind :80\n", &format!("bind {address}\n")),
        ],
    );
    let _proxy = haproxy(&folder, &configuration, address);
    come_back_through(&server, address);
}

#[test]
fn a_stream_is_recovered_through_nginx() {
    let folder = Folder::new("nginx-sse");
    let (server, proxy) = behind_nginx(&folder);
    come_back_through(&server, proxy.address);
}
