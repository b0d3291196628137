//! The audit log of a whole server: who came, was refused and was closed stands in it once, it can be followed through
//! renames, and a disk that is full costs records and nothing else.

mod support;

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Member, PATIENCE, Server, connect, exchange, tls, voxhall};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

const SECRET: &str = "kept-by-the-server-and-its-issuer-only";

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("voxhall-audited-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn log(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }

    /// The setting that makes a server write here.
    fn setting(&self) -> String {
        format!("audit.path={}", self.log().display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Every record of a file; each of its lines has to be one.
fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "a line is torn: {text}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

/// Waits until the file has so many records with these fields.
fn wait_for(path: &Path, count: usize, fields: &Value) -> Vec<Value> {
    loop {
        // A line that is being written has no end yet.
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let all = whole.filter_map(|line| serde_json::from_str(line).ok());
        let found: Vec<Value> = all.filter(|record| has(record, fields)).collect();
        if found.len() >= count {
            return found;
        }
        thread::yield_now();
    }
}

fn has(record: &Value, fields: &Value) -> bool {
    fields.as_object().expect("an object").iter().all(|(name, value)| record.get(name) == Some(value))
}

/// The status that an upgrade is answered with.
fn upgrade(server: &Server, target: &str, lines: &str) -> u16 {
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: voxhall\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    );
    let mut stream = BufReader::new(connect(server.public));
    stream.get_mut().write_all(request.as_bytes()).expect("the server reads");
    let mut status = String::new();
    stream.read_line(&mut status).expect("an answer");
    status.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

fn mint(arguments: &[&str]) -> String {
    let secret = format!("auth.hs256_secret={SECRET}");
    let own = ["token", "--set", "auth.mode=jwt", "--set", &secret];
    let output = voxhall(&[&own[..], arguments].concat()).output().expect("the program runs");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn manage(server: &Server, path: &str, token: &str) -> String {
    exchange(
        server.admin,
        &format!(
            "POST {path} HTTP/1.1\r\nhost: voxhall\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             content-length: 0\r\n\r\n"
        ),
    )
}

fn authenticated(folder: &Folder, more: &[&str]) -> Server {
    let setting = folder.setting();
    let file = folder.0.join("voxhall.toml");
    let text = format!("[auth]\nmode = \"jwt\"\nhs256_secret = \"{SECRET}\"\nleeway_s = 0\n");
    fs::write(&file, text).expect("a file");
    let own = [
        "--config",
        file.to_str().expect("a plain path"),
        "--shards",
        "2",
        "--set",
        &setting,
        "--set",
        "server.drain_s=0",
    ];
    Server::start(&[&own[..], more].concat())
}

/// Joins a room and waits for its welcome: the member, and its connection's name.
fn join(server: &Server, room: &str, token: &str) -> (Member, String) {
    join_over(server, connect(server.public), room, token)
}

/// Joins a room and resets the connection.
fn reset(server: &Server, room: &str, token: &str) -> String {
    let stream = connect(server.public);
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket takes that");
    join_over(server, stream, room, token).1
}

fn join_over(server: &Server, stream: TcpStream, room: &str, token: &str) -> (Member, String) {
    let path = format!("/ws/{room}?token={token}&note=in-the-query");
    let mut member = server.join_over(stream, &path, Some("voxhall.v1")).expect("a room");
    let id = member.event("session.created")["session"]["id"].as_str().expect("a name").to_owned();
    (member, id)
}

#[test]
fn who_comes_is_refused_and_is_closed_is_written_down_once() {
    let folder = Folder::new("all");
    let server = authenticated(&folder, &["--set", "limits.members_per_room_max=1", "--echo-endpoint"]);
    let (ann, bob) = (mint(&["--sub", "ann/1"]), mint(&["--sub", "bob", "--room", "b*"]));
    let root = mint(&["--sub", "root", "--role", "admin"]);

    let (mut leaves, left) = join(&server, "a", &ann);
    assert_eq!(upgrade(&server, "/ws/a?note=in-the-query", ""), 401);
    assert_eq!(upgrade(&server, &format!("/ws/a?token={bob}"), ""), 403);
    assert_eq!(upgrade(&server, &format!("/ws/a?token={ann}"), ""), 429);
    assert_eq!(upgrade(&server, &format!("/ws/a%20b?token={ann}"), ""), 400);
    leaves.close(4_001, "message content");
    let (mut kicked, kicked_id) = join(&server, "b1", &bob);
    assert!(manage(&server, &format!("/api/v1/connections/{kicked_id}/close"), &root).contains("200 OK"));
    assert_eq!(kicked.goodbye(), 1_008);
    assert!(manage(&server, "/api/v1/users/ann%2F1/disconnect", &bob).contains("403 Forbidden"));
    let reset = reset(&server, "b2", &bob);
    assert!(manage(&server, "/api/v1/rooms/nowhere/close", &root).contains("404 Not Found"));
    // What looks like the end of a line has to stay a name.
    let forger = "eve\"}\n{\"event\":\"opened\"}";
    let expiring = mint(&["--sub", forger, "--ttl", "3s"]);
    let (mut expires, expired) = join(&server, "c", &expiring);
    assert_eq!(expires.goodbye(), 1_008);
    let (mut stays, stayed) = join(&server, "d", &ann);

    let log = folder.log();
    wait_for(&log, 4, &json!({ "event": "closed" }));
    server.signal("TERM");
    assert_eq!(stays.goodbye(), 1_001);
    let (status, output) = server.wait();
    assert_eq!(status.code(), Some(0), "{output}");
    let all = records(&log);
    let once = |fields: Value| {
        let found: Vec<&Value> = all.iter().filter(|record| has(record, &fields)).collect();
        assert_eq!(found.len(), 1, "{fields} in {all:#?}");
        found[0].clone()
    };
    let room = |user: Value, name: &str| json!({ "path": "room", "room": name, "user": user });
    let with = |mut fields: Value, more: Value| {
        fields.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        fields
    };
    let opened = with(room(json!("ann/1"), "a"), json!({ "event": "opened", "connection": left }));
    let opened = once(with(opened, json!({ "subprotocol": "voxhall.v1", "engine": "parrot", "tls": false })));
    assert_eq!((&opened["address"], &opened["proxy"]), (&json!("127.0.0.1"), &Value::Null));
    assert!(opened["time"].as_str().is_some_and(|time| time.len() == 24 && time.ends_with('Z')), "{opened}");
    assert!(opened["port"].is_u64() && opened["shard"].is_u64(), "{opened}");
    for (status, reason, user, name) in [
        (401, "unauthorized", Value::Null, json!("a")),
        (403, "forbidden", json!("bob"), json!("a")),
        (429, "room_full", json!("ann/1"), json!("a")),
        (400, "bad_request", Value::Null, Value::Null),
    ] {
        once(json!({ "event": "refused", "status": status, "reason": reason, "user": user, "room": name }));
    }
    for (id, code, by, reason) in [
        (&left, 4_001, "client", "the client said goodbye"),
        (&kicked_id, 1_008, "server", "closed by the operator"),
        (&reset, 1_006, "network", "the connection broke"),
        (&expired, 1_008, "server", "the token has expired"),
        (&stayed, 1_001, "server", "draining: come back"),
    ] {
        once(json!({ "event": "opened", "connection": id }));
        let closed = json!({ "event": "closed", "connection": id, "code": code, "by": by, "reason": reason });
        let closed = once(closed);
        assert!(closed["duration_ms"].is_u64() && closed["dropped"] == 0, "{closed}");
    }
    once(
        json!({ "event": "managed", "action": "close_connection", "target": kicked_id, "user": "root", "status": 200 }),
    );
    once(
        json!({ "event": "managed", "action": "disconnect_user", "target": "ann/1", "user": "bob", "status": 403 }),
    );
    once(
        json!({ "event": "managed", "action": "close_room", "target": "nowhere", "user": "root", "status": 404 }),
    );
    once(json!({ "event": "closed", "connection": expired, "user": forger }));
    assert_eq!(all.len(), 5 + 4 + 5 + 3, "{all:#?}");
    let text = fs::read_to_string(&log).expect("the log");
    for hidden in [&ann, &bob, &root, &expiring].iter().flat_map(|token| token.split('.').skip(1)) {
        assert!(!text.contains(hidden), "a part of a token is in the log");
    }
    assert!(!text.contains("in-the-query") && !text.contains("content") && !text.contains(SECRET));
}

#[test]
fn a_body_that_is_not_taken_is_written_down_as_its_members() {
    let folder = Folder::new("posted");
    let server = authenticated(&folder, &[]);
    let ann = mint(&["--sub", "ann"]);
    let mut stream = BufReader::new(connect(server.public));
    let hear =
        format!("GET /sse/a?token={ann} HTTP/1.1\r\nHost: voxhall\r\nAccept: text/event-stream\r\n\r\n");
    stream.get_mut().write_all(hear.as_bytes()).expect("the server reads");
    let mut line = String::new();
    while !line.contains("session.created") {
        line.clear();
        assert!(stream.read_line(&mut line).expect("a stream") > 0);
    }
    let say = format!(
        "POST /sse/a?token={ann} HTTP/1.1\r\nHost: voxhall\r\nContent-Type: application/json\r\n\
         Content-Length: 4\r\nConnection: close\r\n\r\n{{no}}"
    );
    let answer = exchange(server.public, &say);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let fields =
        json!({ "event": "refused", "status": 400, "reason": "bad_request", "user": "ann", "room": "a" });
    wait_for(&folder.log(), 1, &fields);
}

#[test]
fn the_client_behind_a_proxy_is_named_with_the_proxy_wherever_its_room_lives() {
    let folder = Folder::new("proxy");
    let setting = folder.setting();
    let server =
        Server::start(&["--shards", "2", "--set", "server.trusted_proxies=127.0.0.0/8", "--set", &setting]);
    for at in 0..12 {
        let line = "X-Forwarded-For: 203.0.113.9\r\n";
        assert_eq!(upgrade(&server, &format!("/ws/room-{at}"), line), 101);
    }
    let fields = json!({ "event": "opened", "address": "203.0.113.9", "proxy": "127.0.0.1" });
    let opened = wait_for(&folder.log(), 12, &fields);
    assert!(opened.iter().all(|record| record.get("port").is_none()), "a header line names no port");
    assert_eq!(server.metric_where("voxhall_audit_dropped_total", "shard=\"control\""), 0.0);
    assert!(server.metric("voxhall_audit_written_total") >= 12.0);
}

#[test]
fn handshakes_that_fail_are_written_down_and_tls_is_named() {
    let folder = Folder::new("tls");
    let files = tls::Files::new("audited");
    let trusted = files.issue();
    let setting = folder.setting();
    let server = files.serve(&["--shards", "1", "--set", &setting]);
    let mut plain = connect(server.public);
    plain.write_all(b"GET /ws/a HTTP/1.1\r\nHost: voxhall\r\n\r\n").expect("the server reads");
    let _ = plain.read_to_end(&mut Vec::new());
    let failed = json!({ "event": "refused", "status": null, "reason": "tls_handshake", "tls": true });
    wait_for(&folder.log(), 1, &failed);
    let stream = tls::secure(&tls::any_client(&trusted), server.public).expect("a handshake");
    let mut member = server.join_over(stream, "/ws/a", None).expect("a room");
    member.event("session.created");
    wait_for(&folder.log(), 1, &json!({ "event": "opened", "room": "a", "user": null, "tls": true }));
}

#[test]
fn files_are_renamed_when_they_are_long_and_nothing_is_lost_between() {
    let folder = Folder::new("rotate");
    let setting = folder.setting();
    let server = Server::start(&[
        "--shards",
        "2",
        "--set",
        &setting,
        "--set",
        "audit.rotate_bytes=4096",
        "--set",
        "audit.keep_files=1000",
    ]);
    const REFUSED: usize = 100;
    for _ in 0..REFUSED {
        assert_eq!(upgrade(&server, "/ws/not%20a%20room", ""), 400);
    }
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
    let files: Vec<PathBuf> =
        fs::read_dir(&folder.0).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    assert!(files.len() > 3, "{files:?}");
    let long = files.iter().find(|file| fs::metadata(file).expect("a file").len() > 4_096);
    assert!(long.is_none(), "{long:?} is longer than it may be");
    assert_eq!(files.iter().map(|file| records(file).len()).sum::<usize>(), REFUSED);
}

#[test]
fn a_file_that_was_renamed_is_left_at_sighup() {
    let folder = Folder::new("reopen");
    let setting = folder.setting();
    let server = Server::start(&["--shards", "1", "--set", &setting]);
    let log = folder.log();
    assert_eq!(upgrade(&server, "/ws/!", ""), 400);
    wait_for(&log, 1, &json!({ "event": "refused" }));
    let away = folder.0.join("away");
    fs::rename(&log, &away).expect("a file");
    server.signal("HUP");
    while !log.exists() {
        thread::yield_now();
    }
    assert_eq!(upgrade(&server, "/ws/!", ""), 400);
    wait_for(&log, 1, &json!({ "event": "refused" }));
    assert_eq!(records(&away).len(), 1);
}

#[test]
fn connections_that_are_cut_at_the_end_are_written_down_as_closed() {
    let folder = Folder::new("cut");
    let setting = folder.setting();
    let server = Server::start(&["--shards", "2", "--set", &setting, "--set", "server.drain_s=3600"]);
    let mut members: Vec<Member> = (0..4).map(|at| server.join(&format!("room-{at}"), None)).collect();
    server.signal("TERM");
    members.iter_mut().for_each(|member| drop(member.event("session.draining")));
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
    let all = records(&folder.log());
    let count = |fields: Value| all.iter().filter(|record| has(record, &fields)).count();
    assert_eq!(count(json!({ "event": "opened" })), 4);
    assert_eq!(count(json!({ "event": "closed", "by": "server", "code": 1_006 })), 4, "{all:#?}");
}

#[test]
fn a_path_that_cant_be_written_is_refused_at_the_start_with_the_remedy() {
    let path = "/nowhere/audit.jsonl";
    let setting = format!("audit.path={path}");
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--set", &setting];
    let output = voxhall(&arguments).output().expect("the program runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{said}");
    for words in ["audit.path = ", path, "can't be written", "name a file in a folder that exists"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_full_disk_costs_records_that_are_counted_and_nothing_else() {
    let server =
        Server::start(&["--shards", "1", "--set", "audit.path=/dev/full", "--set", "server.drain_s=0"]);
    for _ in 0..20 {
        assert_eq!(upgrade(&server, "/ws/!", ""), 400);
    }
    let mut member = server.join("a", None);
    member.event("session.created");
    while server.metric_where("voxhall_audit_dropped_total", "shard=\"0\"") < 21.0 {
        thread::yield_now();
    }
    assert_eq!(server.metric("voxhall_audit_written_total"), 0.0);
    member.send(json!({ "type": "ping", "t": 1 }).to_string());
    member.event("pong");
    server.signal("TERM");
    assert_eq!(member.goodbye(), 1_001);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert_eq!(log.matches("records are dropped").count(), 1, "one line for the whole episode: {log}");
}

#[test]
fn a_log_that_can_be_written_again_says_how_much_is_missing() {
    let folder = Folder::new("pipe");
    let pipe = folder.log();
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    // Open both ways, so that neither end waits for the other.
    let reader = OpenOptions::new().read(true).write(true).open(&pipe).expect("a pipe");
    let setting = folder.setting();
    let server = Server::start(&["--shards", "1", "--set", &setting]);
    let mut refused = 0_u64;
    while server.metric("voxhall_audit_dropped_total") == 0.0 {
        for _ in 0..50 {
            assert_eq!(upgrade(&server, "/ws/!", ""), 400);
            refused += 1;
        }
    }
    let (lines, heard) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).lines() {
            let record: Value = serde_json::from_str(&line.expect("text")).expect("whole lines only");
            if lines.send(record).is_err() {
                return;
            }
        }
    });
    let (mut written, mut missing) = (0, 0);
    while written + missing < refused || missing == 0 {
        match heard.recv_timeout(PATIENCE / 100) {
            Ok(record) if record["event"] == "refused" => written += 1,
            Ok(record) => {
                assert_eq!(record["event"], "missing", "{record}");
                missing += record["records"].as_u64().expect("a number");
            }
            Err(_) => {
                // What is missing is told with the next record.
                assert_eq!(upgrade(&server, "/ws/!", ""), 400);
                refused += 1;
            }
        }
    }
    assert_eq!(written + missing, refused);
    server.signal("TERM");
    assert!(server.wait().1.contains("the audit log is written again"));
}

/// A close frame with a reason, and the end of the connection.
trait Close {
    fn close(&mut self, code: u16, reason: &'static str);
}

impl Close for Member {
    fn close(&mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        self.send(tungstenite::Message::Close(Some(frame)));
    }
}
