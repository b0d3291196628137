//! TLS on the public address: real clients, real certificates, and what must not get through.

mod support;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::{fs, thread};

use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion};
use support::tls::{Files, Secure, any_client, client, get, secure, secure_over};
use support::{Member, Server, connect};
use tungstenite::Message;

/// Connections under which the certificate is swapped; `VOXHALL_TLS_LIVE` says another number, for measuring.
const LIVE: usize = 1_000;
/// The most that a silent connection may hold.
const IDLE_BYTES_MAX: usize = 24 << 10;

fn join(server: &Server, trusted: &CertificateDer<'static>, session: &str) -> Member<Secure> {
    let stream = secure(&any_client(trusted), server.public).expect("a handshake");
    server.join_over(stream, &format!("/ws/{session}?engine=echo"), None).expect("a room")
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251 + seed * 7) as u8).collect()
}

/// Waits until a metric has this value; gives up with the patience of the test runner.
fn until(server: &Server, metric: &str, wanted: impl Fn(f64) -> bool) {
    while !wanted(server.metric(metric)) {
        thread::yield_now();
    }
}

#[test]
fn rooms_on_every_shard_are_reached_in_both_versions() {
    let files = Files::new("rooms");
    let trusted = files.issue();
    let server = files.serve(&["--shards", "2"]);
    assert!(server.ready.contains("https://"), "{}", server.ready);
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let config = client(&trusted, &[version], &["http/1.1"]);
        for number in 0..16 {
            let stream = secure(&config, server.public).expect("a handshake");
            assert_eq!(stream.conn.protocol_version(), Some(expected));
            assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
            let path = format!("/ws/room-{number}?engine=echo");
            let mut member = server.join_over(stream, &path, None).expect("a room");
            member.event("session.created");
            for size in [2, 640, 16_384, 40_000] {
                let frame = pattern(size, number);
                member.send(frame.clone());
                assert_eq!(member.read(), Message::binary(frame), "{size} bytes through {path}");
            }
        }
    }
    assert!(server.metric("voxhall_moved_in_total") > 0.0, "rooms were owned by another shard");
    assert_eq!(server.metric("voxhall_tls_handshakes_total"), 32.0);
}

#[test]
fn a_head_that_comes_in_many_records_and_behind_a_move_loses_nothing() {
    let files = Files::new("pieces");
    let trusted = files.issue();
    let server = files.serve(&["--shards", "2"]);
    for number in 0..8 {
        let mut stream = secure(&any_client(&trusted), server.public).expect("a handshake");
        let head = format!(
            "GET /ws/pieces-{number}?engine=echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        // A record for each few bytes, and a masked frame that follows at once: it travels with the head.
        for piece in head.as_bytes().chunks(29) {
            stream.write_all(piece).expect("the server reads");
            stream.flush().expect("the server reads");
        }
        stream.write_all(b"\x82\x84\0\0\0\0abcd").expect("the server reads");
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\x82\x04abcd") {
            stream.read_exact(&mut byte).expect("the echo comes");
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"));
    }
    assert!(server.metric("voxhall_moved_in_total") > 0.0, "some were owned by another shard");
}

#[test]
fn a_slow_reader_gets_every_byte_in_order() {
    const MESSAGES: usize = 30;
    const BYTES: usize = 128 << 10;
    let files = Files::new("slow");
    let trusted = files.issue();
    let server = files.serve(&["--shards", "1", "--echo-endpoint", "--set", "outbox.bytes_max=16777216"]);
    let socket = connect(server.public);
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 64 << 10).expect("a socket takes that");
    let stream = secure_over(&any_client(&trusted), socket).expect("a handshake");
    let mut slow = server.join_over(stream, "/echo", None).expect("an echo");
    for number in 0..MESSAGES {
        slow.send(pattern(BYTES, number));
    }
    until(&server, "voxhall_sends_blocked_total", |blocked| blocked > 0.0);
    for number in 0..MESSAGES {
        assert_eq!(slow.read(), Message::binary(pattern(BYTES, number)), "message {number}");
    }
    slow.send("still here");
    assert_eq!(slow.read(), Message::text("still here"));
}

#[test]
fn pages_come_whole_and_end_properly() {
    let files = Files::new("pages");
    let trusted = files.issue();
    let server = files.serve(&["--shards", "2"]);
    let config = any_client(&trusted);
    assert!(get(&config, server.public, "/healthz").starts_with("HTTP/1.1 200"));
    let page = get(&config, server.public, "/");
    assert!(page.starts_with("HTTP/1.1 200") && page.trim_end().ends_with("</html>"), "{page}");
    assert!(get(&config, server.public, "/ws/room-1").starts_with("HTTP/1.1 426"));
    assert!(get(&config, server.public, "/nothing").starts_with("HTTP/1.1 404"));
}

#[test]
fn what_a_shard_refuses_is_told_in_time_and_ends_properly() {
    let files = Files::new("refusals");
    let trusted = files.issue();
    let server = files.serve(&["--shards", "2", "--set", "limits.head_s=1"]);
    let answer_to = |head: &str| {
        let mut stream = secure(&any_client(&trusted), server.public).expect("a handshake");
        stream.write_all(head.as_bytes()).expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer with a proper end");
        answer
    };
    let upgrade = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    let no_key = answer_to(&format!("GET /ws/refused HTTP/1.1\r\n{upgrade}\r\n"));
    assert!(no_key.starts_with("HTTP/1.1 400 "), "{no_key}");
    let late = answer_to("GET /ws/refused HTTP/1.1\r\nHost: x\r\n");
    assert!(late.starts_with("HTTP/1.1 408 "), "{late}");
    assert_eq!(server.metric("voxhall_tls_failed_total"), 0.0);
}

#[test]
fn openssl_finds_the_versions_the_protocol_and_its_ticket() {
    let files = Files::new("openssl");
    files.issue();
    let server = files.serve(&["--shards", "2"]);
    let ask = |extra: &[&str]| {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &server.public.to_string(), "-alpn", "h2,http/1.1", "-CAfile"])
            .arg(files.cert())
            .args(extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .and_then(|mut openssl| {
                // It has to wait for the ticket, which comes before the answer.
                let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
                openssl.stdin.as_mut().expect("piped").write_all(request)?;
                openssl.wait_with_output()
            })
            .expect("openssl runs: `make packages` installs it");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let new = ask(&["-ign_eof"]);
    for word in ["New, TLSv1.3", "ALPN protocol: http/1.1", "Verify return code: 0 (ok)", "HTTP/1.1 200"] {
        assert!(new.contains(word), "{word} is not in {new}");
    }
    assert!(ask(&["-ign_eof", "-tls1_2"]).contains("New, TLSv1.2"));
    assert!(!ask(&["-ign_eof", "-tls1_1"]).contains("HTTP/1.1"), "1.1 is not spoken");
    for version in ["-tls1_2", "-tls1_3"] {
        let ticket = files.cert().with_file_name(format!("ticket{version}"));
        let ticket = ticket.to_str().expect("text");
        ask(&["-ign_eof", version, "-sess_out", ticket]);
        let again = ask(&["-ign_eof", version, "-sess_in", ticket]);
        assert!(again.contains("Reused, TLSv1."), "{version}: {again}");
    }
    assert!(server.metric("voxhall_tls_resumed_total") >= 2.0);
}

#[test]
fn a_ticket_of_one_shard_is_taken_by_every_other() {
    let files = Files::new("tickets");
    let trusted = files.issue();
    let server = files.serve(&["--shards", "2"]);
    // A client keeps its tickets with its configuration.
    let config = any_client(&trusted);
    for number in 0..12 {
        let stream = secure(&config, server.public).expect("a handshake");
        let expected = if number == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
        assert_eq!(stream.conn.handshake_kind(), Some(expected), "connection {number}");
        // Reading the first event reads the ticket.
        server.join_over(stream, "/ws/tickets", None).expect("a room").event("session.created");
    }
}

#[test]
fn what_is_not_tls_is_told_so_and_counted() {
    let files = Files::new("garbage");
    let trusted = files.issue();
    let server = files.serve(&["--shards", "1", "--set", "limits.head_s=1"]);
    let plain = support::ask(server.public, "GET", "/", "");
    assert!(plain.starts_with("HTTP/1.1 400") && plain.contains("speaks TLS"), "{plain}");

    let until_end = |sent: &[u8]| {
        let mut stream = connect(server.public);
        stream.write_all(sent).expect("the server reads");
        let mut answer = Vec::new();
        // An end or a reset: either is the server's.
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        answer
    };
    let alert = until_end(b"\x16\x03\x01\x00\x05\x01\0\0\x01\0");
    assert_eq!((alert.first(), alert.get(5)), (Some(&0x15), Some(&2)), "a fatal alert: {alert:?}");
    let alert = until_end(&[0xff; 64]);
    assert_eq!(alert.first(), Some(&0x15), "an alert: {alert:?}");
    // A first message that never ends, within its own length and without one.
    assert_eq!(until_end(&[&b"\x16\x03\x01\x40\x00\x01\x00\xff\xff"[..], &[0; 8_000]].concat()), b"");
    assert_eq!(until_end(b"\x16\x03"), b"", "half a handshake ends at its deadline");
    assert_eq!(until_end(b""), b"", "and so does silence");

    let other = client(&trusted, rustls::ALL_VERSIONS, &["h2"]);
    assert!(secure(&other, server.public).is_err(), "only http/1.1 is spoken");
    let waiting: Vec<_> = (0..3).map(|_| connect(server.public)).collect();
    until(&server, "voxhall_heads", |heads| heads == 3.0);
    drop(waiting);
    until(&server, "voxhall_tls_failed_total", |failed| failed == 10.0);
    until(&server, "voxhall_heads", |heads| heads == 0.0);
    join(&server, &trusted, "after-all").event("session.created");
}

#[test]
fn a_client_that_ends_its_side_is_answered_to_the_end() {
    let files = Files::new("ends");
    let trusted = files.issue();
    let server = files.serve(&["--shards", "1", "--set", "server.drain_s=1"]);
    let mut stream = secure(&any_client(&trusted), server.public).expect("a handshake");
    write!(stream, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").expect("the server reads");
    stream.conn.send_close_notify();
    stream.flush().expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer with a proper end");
    assert!(answer.ends_with("{\"status\":\"ok\"}"), "{answer}");

    // A member that only shuts its socket has left, as it has without TLS.
    let stream = secure(&any_client(&trusted), server.public).expect("a handshake");
    let socket = stream.sock.try_clone().expect("a descriptor");
    let mut member = server.join_over(stream, "/ws/ends", None).expect("a room");
    member.event("session.created");
    socket.shutdown(Shutdown::Write).expect("connected");
    until(&server, "websocket_connections", |open| open == 0.0);

    // One that is still there when the server goes is told so.
    let mut last = join(&server, &trusted, "ends");
    last.event("session.created");
    server.signal("TERM");
    assert_eq!(last.goodbye(), 1001);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
#[expect(clippy::print_stdout, reason = "the figure is published")]
fn a_certificate_is_swapped_under_live_connections_without_a_drop() {
    let files = Files::new("swap");
    let old = files.issue();
    // So small a ring that most sends have to wait for room in it.
    let server = files.serve(&["--shards", "2", "--set", "wire.ring_entries=64"]);
    let live = std::env::var("VOXHALL_TLS_LIVE").map_or(LIVE, |count| count.parse().expect("a number"));
    let before = resident(&server);
    let mut members: Vec<_> =
        (0..live).map(|number| join(&server, &old, &format!("live-{number}"))).collect();
    for member in &mut members {
        member.event("session.created");
    }
    let held = resident(&server).saturating_sub(before) / live;
    println!("{held} bytes for each of {live} idle connections");
    assert!(held <= IDLE_BYTES_MAX, "{held} bytes for each idle connection");

    let new = files.issue();
    assert!(shown(&server, &new).is_none(), "nobody has told the server yet");
    server.signal("HUP");
    while shown(&server, &new).is_none() {
        thread::yield_now();
    }
    assert!(shown(&server, &old).is_none(), "new handshakes use the new certificate");

    fs::write(files.key(), "this is no key").expect("a writable folder");
    server.signal("HUP");
    for (number, member) in members.iter_mut().enumerate() {
        member.send(format!(r#"{{"type":"ping","t":{number}}}"#));
    }
    for (number, member) in members.iter_mut().enumerate() {
        assert_eq!(member.event("pong")["t"], number, "member {number} is still there");
    }
    assert!(shown(&server, &new).is_some(), "a broken file changes nothing");
    assert_eq!(server.metric("websocket_connections"), live as f64);
    assert_eq!(server.metric("voxhall_closed_total"), 0.0);
    server.signal("TERM");
    drop(members);
    let (_, log) = server.wait();
    assert!(log.contains("key.pem: it holds no private key"), "{log}");
}

/// A new connection, if the server shows this certificate.
fn shown(server: &Server, trusted: &CertificateDer<'static>) -> Option<Secure> {
    secure(&any_client(trusted), server.public).ok()
}

/// Bytes of memory that the server holds.
fn resident(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") << 10
}

#[test]
fn what_can_not_be_used_is_refused_at_start_with_its_name() {
    let files = Files::new("refused");
    files.issue();
    let other = Files::new("other");
    other.issue();
    let start = |cert: &std::path::Path, key: &std::path::Path| {
        let output = support::voxhall(&["check-config"])
            .args(["--set", &format!("tls.cert={}", cert.display())])
            .args(["--set", &format!("tls.key={}", key.display())])
            .output()
            .expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, words) = start(&files.cert(), &other.key());
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("tls.key = ") && words.contains("does not belong to the certificate"), "{words}");
    let (code, words) = start(&files.key(), &files.key());
    assert!(code == Some(2) && words.contains("it holds no certificate"), "{words}");
    assert_eq!(start(&files.cert(), &files.key()).0, Some(0));
}

#[test]
fn a_plain_server_takes_no_handshake() {
    let server = Server::start(&["--shards", "1"]);
    let mut stream = TcpStream::connect(server.public).expect("a connection");
    stream.write_all(b"\x16\x03\x01\x00\x05hello").expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}
