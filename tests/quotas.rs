//! What a whole server gives out only so often, and what it does when memory is short.

#![expect(clippy::disallowed_methods, reason = "a client has a clock")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::Instant;

use support::{PATIENCE, Server, ask, connect, voxhall};
use tungstenite::Message;

/// A masked close frame without a code.
const CLOSE: [u8; 6] = [0x88, 0x80, 0, 0, 0, 0];
const SECRET: &str = "auth.hs256_secret=kept-by-the-server-and-its-issuer-only";

/// Asks for a WebSocket: the connection, and the head of the answer.
fn ask_for(server: &Server, path: &str, lines: &str) -> (TcpStream, String) {
    let mut stream = connect(server.public);
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    );
    stream.write_all(head.as_bytes()).expect("the server reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        answer.push(byte[0]);
    }
    (stream, String::from_utf8(answer).expect("text"))
}

/// Says goodbye and waits for the end.
fn leave(mut stream: TcpStream) {
    stream.write_all(&CLOSE).expect("the server reads");
    stream.read_to_end(&mut Vec::new()).expect("it ends politely");
}

fn is_told_to_wait(answer: &str, status: &str) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains("\r\nRetry-After: ")
}

/// So many ask at once, each for a room of its own: those who got one, and the answers to the others.
fn all_at_once(server: &Server, askers: usize, lines: &str) -> (Vec<TcpStream>, Vec<String>) {
    let barrier = Barrier::new(askers);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                ask_for(server, &format!("/ws/room-{number}"), lines)
            })
        };
        let asking: Vec<_> = (0..askers).map(ask).collect();
        asking.into_iter().map(|asker| asker.join().expect("an answer")).collect()
    });
    let (inside, outside): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(_, answer)| answer.starts_with("HTTP/1.1 101"));
    (
        inside.into_iter().map(|(stream, _)| stream).collect(),
        outside.into_iter().map(|(_, answer)| answer).collect(),
    )
}

/// Waits until a metric is so.
fn wait_for(server: &Server, name: &str, label: &str, value: f64) {
    let since = Instant::now();
    while server.metric_where(name, label) != value {
        assert!(since.elapsed() < PATIENCE, "{name}{{{label}}} never is {value}");
    }
}

#[test]
fn the_eleventh_connection_of_a_user_gets_429_until_one_has_left() {
    let server = Server::start(&["--shards", "2", "--set", "auth.mode=jwt", "--set", SECRET]);
    let bearer = |sub: &str| {
        let minted = voxhall(&["token", "--sub", sub, "--set", "auth.mode=jwt", "--set", SECRET]).output();
        let token = String::from_utf8(minted.expect("the program runs").stdout).expect("text");
        format!("Authorization: Bearer {}\r\n", token.trim())
    };
    let (ann, bob) = (bearer("ann"), bearer("bob"));
    let (mut inside, outside) = all_at_once(&server, 16, &ann);
    assert_eq!((inside.len(), outside.len()), (10, 6), "{outside:?}");
    assert!(outside.iter().all(|answer| is_told_to_wait(answer, "429")), "{outside:?}");
    assert_eq!(server.metric_where("voxhall_refused_total", "user_full"), 6.0);
    assert!(ask_for(&server, "/ws/room-0", &bob).1.starts_with("HTTP/1.1 101"));
    leave(inside.pop().expect("ten are in"));
    assert!(ask_for(&server, "/ws/elsewhere", &ann).1.starts_with("HTTP/1.1 101"));
}

#[test]
fn the_last_places_of_a_node_are_given_out_once_over_all_shards() {
    let server = Server::start(&["--shards", "2", "--set", "limits.connections_max=5"]);
    let (mut inside, outside) = all_at_once(&server, 12, "");
    assert_eq!((inside.len(), outside.len()), (5, 7), "{outside:?}");
    assert!(outside.iter().all(|answer| is_told_to_wait(answer, "503")), "{outside:?}");
    leave(inside.pop().expect("five are in"));
    assert!(ask_for(&server, "/ws/elsewhere", "").1.starts_with("HTTP/1.1 101"));
}

#[test]
fn an_address_behind_a_proxy_has_its_number_and_this_host_any() {
    let server = Server::start(&[
        "--shards",
        "2",
        "--set",
        "limits.connections_per_ip_max=3",
        "--set",
        "server.trusted_proxies=127.0.0.0/8",
    ]);
    let (inside, outside) = all_at_once(&server, 8, "X-Forwarded-For: 192.0.2.7\r\n");
    assert_eq!((inside.len(), outside.len()), (3, 5), "{outside:?}");
    assert!(outside.iter().all(|answer| is_told_to_wait(answer, "429")), "{outside:?}");
    assert_eq!(server.metric_where("voxhall_refused_total", "address_full"), 5.0);
    let (others, _) = all_at_once(&server, 3, "X-Forwarded-For: 192.0.2.8\r\n");
    let (ours, _) = all_at_once(&server, 8, "");
    assert_eq!((others.len(), ours.len()), (3, 8));
}

#[test]
fn a_node_short_of_memory_keeps_whom_it_has_and_takes_nobody_new() {
    const HOGS: usize = 96;
    const HOARD: usize = 1 << 20;
    let alone = Server::start(&["--shards", "1"]).metric("process_resident_memory_bytes");
    let mark = alone as usize + HOGS / 2 * HOARD;
    let setting = format!("shed.memory_bytes={mark}");
    let server = Server::start(&["--shards", "1", "--set", &setting]);
    let mut member = server.join("talk?engine=echo", None);
    member.event("session.created");

    // Each sends all of a long message but its last byte.
    let hogs: Vec<TcpStream> = (0..HOGS)
        .map(|number| {
            let (mut stream, answer) = ask_for(&server, &format!("/ws/hog-{number}"), "");
            if answer.starts_with("HTTP/1.1 101") {
                let mut frame = vec![0x82, 0x80 | 127];
                frame.extend_from_slice(&(HOARD as u64).to_be_bytes());
                frame.resize(2 + 8 + 4 + HOARD - 1, 0);
                stream.write_all(&frame).expect("the server reads");
            }
            stream
        })
        .collect();
    wait_for(&server, "voxhall_shedding", "memory", 1.0);
    let (_, answer) = ask_for(&server, "/ws/new", "");
    assert!(is_told_to_wait(&answer, "503"), "{answer}");
    assert!(server.metric_where("voxhall_refused_total", "shedding") >= 1.0);
    assert!(ask(server.public, "GET", "/readyz", "").starts_with("HTTP/1.1 200"), "the node is still of use");
    member.send(vec![7_u8; 640]);
    assert_eq!(member.read(), Message::from(vec![7_u8; 640]));

    drop(hogs);
    wait_for(&server, "voxhall_shedding", "memory", 0.0);
    assert!(ask_for(&server, "/ws/new", "").1.starts_with("HTTP/1.1 101"));
    server.signal("INT");
    server.signal("INT");
    let (_, log) = server.wait();
    for words in ["memory is short: new clients are turned away", "memory is no longer short"] {
        assert_eq!(log.matches(words).count(), 1, "{words} in\n{log}");
    }
}
