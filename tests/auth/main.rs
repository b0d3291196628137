//! Who may come in, asked of a whole server: every kind of token over every way to bring it, what a stay's end looks
//! like, and that nothing of a token or secret is seen anywhere afterwards.

#[path = "../support/mod.rs"]
mod support;
mod tokens;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm::{self, ES256, EdDSA, HS256, HS384, RS256, RS512};
use serde_json::{Value, json};
use support::{Server, exchange, voxhall};
use tokens::{AUDIENCE, ISSUER, SECRET, in_seconds, public_key, sign, token, with_part};

/// A configuration file that goes away with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("voxhall-auth-{}-{name}", std::process::id()));
        std::fs::write(&path, content).expect("a temporary file");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn configuration() -> String {
    let keys = ["rsa", "ec", "ed"].map(public_key);
    format!(
        "[auth]\nmode = \"jwt\"\nhs256_secret = \"{SECRET}\"\npublic_keys = {keys:?}\naudience = \"{AUDIENCE}\"\n\
         issuer = [\"{ISSUER}\"]\nleeway_s = 0\n[server]\nlog_level = \"trace\"\necho_endpoint = true\n"
    )
}

fn server(name: &str) -> Server {
    let file = File::new(name, &configuration());
    Server::start(&["--config", file.path(), "--shards", "1"])
}

/// How a token is brought.
#[derive(Clone, Copy, Debug)]
enum Way {
    Header,
    Subprotocol,
    Query,
}

const WAYS: [Way; 3] = [Way::Header, Way::Subprotocol, Way::Query];

/// Asks for an upgrade: the connection, the status, and all of the answer.
fn upgrade(server: &Server, path: &str, lines: &str) -> (BufReader<TcpStream>, u16, String) {
    let mut stream = TcpStream::connect(server.public).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket takes that");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: voxhall\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    );
    stream.write_all(head.as_bytes()).expect("the server reads");
    let mut stream = BufReader::new(stream);
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") && stream.read_line(&mut answer).expect("a head") > 0 {}
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    if status != 101 {
        stream.read_to_string(&mut answer).expect("a body");
    }
    (stream, status, answer)
}

fn bring(server: &Server, way: Way, path: &str, token: &str) -> (BufReader<TcpStream>, u16, String) {
    let joint = if path.contains('?') { '&' } else { '?' };
    match way {
        Way::Header => upgrade(server, path, &format!("Authorization: Bearer {token}\r\n")),
        Way::Subprotocol => {
            upgrade(server, path, &format!("Sec-WebSocket-Protocol: voxhall.v1.plain, bearer.{token}\r\n"))
        }
        Way::Query => upgrade(server, &format!("{path}{joint}token={token}"), ""),
    }
}

/// Sends one event from a client, masked with zeros.
fn say(stream: &mut BufReader<TcpStream>, event: &Value) {
    let text = event.to_string();
    let length = u16::try_from(text.len()).expect("a short event");
    assert!(length > 125);
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    stream.get_mut().write_all(&frame).expect("the server reads");
}

/// The next frame's opcode and payload.
fn frame(stream: &mut BufReader<TcpStream>) -> (u8, Vec<u8>) {
    let mut byte = |count: usize| {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).expect("a frame");
        bytes
    };
    let head = byte(2);
    let length = match head[1] {
        126 => byte(2).iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)),
        127 => byte(8).iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)),
        short => usize::from(short),
    };
    (head[0] & 0xf, byte(length))
}

/// Reads on to an event of this type.
fn event(stream: &mut BufReader<TcpStream>, kind: &str) -> Value {
    loop {
        let (opcode, payload) = frame(stream);
        assert_ne!(opcode, 8, "closed instead of {kind}");
        let event: Value = serde_json::from_slice(&payload).unwrap_or_default();
        if event["type"] == kind {
            return event;
        }
    }
}

/// Reads on to the server's goodbye: its code.
fn goodbye(stream: &mut BufReader<TcpStream>) -> u16 {
    loop {
        let (opcode, payload) = frame(stream);
        if opcode == 8 {
            return u16::from_be_bytes([payload[0], payload[1]]);
        }
    }
}

/// The status and body of a management request with this token.
fn manage(server: &Server, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: voxhall\r\nconnection: close\r\n{authorization}content-length: 0\r\n\r\n"
    );
    let answer = exchange(server.admin, &request);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, answer)
}

/// Tokens with the status that each has to get for the room `class-7`.
fn cases() -> Vec<(&'static str, String, u16)> {
    let plain = token(json!({}));
    let other = token(json!({ "sub": "eve", "role": "admin" }));
    let part = |token: &str, part: usize| token.split('.').nth(part).expect("three parts").to_owned();
    let rsa_pem = std::fs::read_to_string(public_key("rsa")).expect("a key file");
    let confused = |kid| sign(HS256, &rsa_pem, kid, json!({}));
    let by = |algorithm: Algorithm, key: &str, kid| sign(algorithm, key, kid, json!({}));
    let says = |changes: Value| token(changes);
    // {"alg":"none"}, and the same with the type in it.
    let (none, typed_none) = ("eyJhbGciOiJub25lIn0", "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0");
    vec![
        ("HS256", plain.clone(), 101),
        ("HS256 with a kid, which the secret has not", by(HS256, SECRET, Some("any")), 101),
        ("RS256", by(RS256, "rsa", Some("rsa")), 101),
        ("RS256 without kid", by(RS256, "rsa", None), 101),
        ("ES256", by(ES256, "ec", Some("ec")), 101),
        ("EdDSA", by(EdDSA, "ed", Some("ed")), 101),
        ("without exp", says(json!({ "exp": null })), 101),
        ("one audience of several", says(json!({ "aud": ["x", AUDIENCE] })), 101),
        ("for this room", says(json!({ "rooms": ["lobby", "class-*"] })), 101),
        ("for this engine", says(json!({ "engine": "parrot" })), 101),
        ("unknown kid", by(RS256, "rsa", Some("nobody")), 401),
        ("another key's kid", by(RS256, "rsa", Some("ec")), 401),
        ("wrong secret", by(HS256, "another secret that is long enough", None), 401),
        ("wrong RSA key", by(RS256, "stranger", None), 401),
        ("wrong RSA key under a known kid", by(RS256, "stranger", Some("rsa")), 401),
        ("HS384", by(HS384, SECRET, None), 401),
        ("RS512", by(RS512, "rsa", Some("rsa")), 401),
        ("HS256 with the public key's PEM as secret", confused(None), 401),
        ("the same under the key's kid", confused(Some("rsa")), 401),
        ("alg none without signature", with_part(&with_part(&plain, 0, none), 2, ""), 401),
        ("alg none with signature", with_part(&plain, 0, typed_none), 401),
        ("without signature", with_part(&plain, 2, ""), 401),
        ("other claims under the signature", with_part(&plain, 1, &part(&other, 1)), 401),
        ("other header over the signature", with_part(&plain, 0, &part(&by(RS256, "rsa", None), 0)), 401),
        ("expired", says(json!({ "exp": in_seconds(-1) })), 401),
        ("exp is a text", says(json!({ "exp": "tomorrow" })), 401),
        ("not yet", says(json!({ "nbf": in_seconds(60) })), 401),
        ("wrong audience", says(json!({ "aud": "others" })), 401),
        ("no audience", says(json!({ "aud": null })), 401),
        ("wrong issuer", says(json!({ "iss": "https://evil.example" })), 401),
        ("no issuer", says(json!({ "iss": null })), 401),
        ("no sub", says(json!({ "sub": null })), 401),
        ("empty sub", says(json!({ "sub": "" })), 401),
        ("rooms is a text", says(json!({ "rooms": "class-7" })), 401),
        ("role is a number", says(json!({ "role": 1 })), 401),
        ("with rights on channels", says(json!({ "channels": { "room:*": ["subscribe", "publish"] } })), 101),
        ("with rights on no channel", says(json!({ "channels": {} })), 101),
        ("channels is a list", says(json!({ "channels": ["room:*"] })), 401),
        ("a right that there is not", says(json!({ "channels": { "room:*": ["delete"] } })), 401),
        ("a right that is no list", says(json!({ "channels": { "room:*": "publish" } })), 401),
        ("a pattern without a name", says(json!({ "channels": { "": ["publish"] } })), 401),
        ("no token at all", String::new(), 401),
        ("one part", "abc".to_owned(), 401),
        ("three parts of nothing", "..".to_owned(), 401),
        ("three parts of noise", "a-b.c-d.e-f".to_owned(), 401),
        ("for other rooms", says(json!({ "rooms": ["class-8", "lobby"] })), 403),
        ("for no room", says(json!({ "rooms": [] })), 403),
        ("for another engine", says(json!({ "engine": "relay" })), 403),
        ("for an engine that is not there", says(json!({ "engine": "cello" })), 403),
    ]
}

#[test]
fn every_token_gets_its_status_whichever_way_it_comes() {
    let server = server("cases");
    for (name, token, expected) in cases() {
        for way in WAYS {
            let (_stream, status, answer) = bring(&server, way, "/ws/class-7?engine=parrot", &token);
            assert_eq!(status, expected, "{name}, {way:?}: {answer}");
            assert_eq!(answer.contains("WWW-Authenticate: Bearer\r\n"), status == 401, "{name}: {answer}");
            assert_eq!(answer.contains("application/problem+json"), status != 101, "{name}: {answer}");
            let echoed = answer.contains("Sec-WebSocket-Protocol: bearer");
            assert!(!echoed, "{name}: a token is no subprotocol: {answer}");
        }
    }
    let good = token(json!({}));
    let lines = format!("Authorization: Bearer {good}\r\n");
    let (_, status, answer) = upgrade(&server, &format!("/ws/class-7?token={good}x"), &lines);
    assert_eq!(status, 400, "two different tokens: {answer}");
    assert_eq!(upgrade(&server, "/ws/class-7", "").1, 401, "none at all");
    assert_eq!(upgrade(&server, "/echo", "").1, 401, "the echo endpoint too");
    assert_eq!(bring(&server, Way::Query, "/echo", &good).1, 101);
    assert_eq!(server.metric_where("voxhall_refused_total", "reason=\"forbidden\""), 4.0 * 3.0);
}

#[test]
fn a_stay_ends_with_its_token_unless_that_is_refreshed() {
    let server = server("stay");
    let soon = || token(json!({ "exp": in_seconds(3) }));
    let (mut leaves, ..) = bring(&server, Way::Header, "/ws/a", &soon());
    let (mut stays, ..) = bring(&server, Way::Subprotocol, "/ws/b", &soon());
    event(&mut stays, "session.created");
    let refresh = |token: String| json!({ "type": "session.update", "event_id": "mine", "token": token });
    for (bad, word) in [
        (token(json!({ "sub": "eve" })), "another user"),
        (token(json!({ "exp": in_seconds(-5) })), "expired"),
        (token(json!({ "rooms": ["c"] })), "not for this room"),
        (with_part(&token(json!({})), 2, &"A".repeat(43)), "not signed with a key"),
    ] {
        say(&mut stays, &refresh(bad));
        let error = event(&mut stays, "error")["error"].clone();
        assert_eq!((&error["param"], &error["event_id"]), (&json!("token"), &json!("mine")), "{error}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(word)), "{error}");
    }
    say(&mut stays, &refresh(token(json!({ "exp": in_seconds(300) }))));
    event(&mut stays, "session.updated");
    assert_eq!(goodbye(&mut leaves), 1008);
    assert_eq!(server.metric("voxhall_tokens_expired_total"), 1.0);
    // Past the end of its first token, the other one is still served.
    let padding = "x".repeat(125);
    say(&mut stays, &json!({ "type": "ping", "t": padding }));
    assert_eq!(event(&mut stays, "pong")["t"], padding);
}

#[test]
fn rights_on_channels_are_those_of_the_last_token() {
    let server = server("channels");
    let admin = token(json!({ "role": "admin" }));
    let shown = || {
        let (_, answer) = manage(&server, "GET", "/api/v1/rooms/a", Some(&admin));
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let room: Value = serde_json::from_str(body).expect("a room");
        let member = &room["connections"][0];
        (member["user"].clone(), member["channels"].clone())
    };
    let rights = json!({ "room:*": ["subscribe", "publish"], "user:42:*": ["subscribe"] });
    let (mut member, ..) = bring(&server, Way::Header, "/ws/a", &token(json!({ "channels": rights })));
    event(&mut member, "session.created");
    assert_eq!(shown(), (json!("ann"), rights.clone()));
    let refresh = |changes: Value| json!({ "type": "session.update", "token": token(changes) });
    say(&mut member, &refresh(json!({ "channels": { "room:*": ["all"] } })));
    event(&mut member, "error");
    assert_eq!(shown().1, rights, "what is malformed changes nothing");
    let fewer = json!({ "room:7": ["subscribe"] });
    say(&mut member, &refresh(json!({ "channels": fewer })));
    event(&mut member, "session.updated");
    assert_eq!(shown().1, fewer);
    say(&mut member, &refresh(json!({})));
    event(&mut member, "session.updated");
    assert_eq!(shown().1, Value::Null, "a token that says nothing of channels limits nothing");
}

#[test]
fn a_revoked_user_is_disconnected_everywhere_and_only_admins_may_do_that() {
    let file = File::new("revoked", &configuration());
    let server = Server::start(&["--config", file.path(), "--shards", "2"]);
    let user = |sub: &str| token(json!({ "sub": sub }));
    let mut theirs: Vec<_> =
        (0..8).map(|at| bring(&server, Way::Header, &format!("/ws/room-{at}"), &user("ann/1")).0).collect();
    let (mut other, ..) = bring(&server, Way::Header, "/ws/room-0", &user("bob"));
    let admin = token(json!({ "sub": "root", "role": "admin" }));
    let path = "/api/v1/users/ann%2F1/disconnect";
    assert_eq!(manage(&server, "POST", path, None).0, 401);
    assert_eq!(manage(&server, "POST", path, Some(&user("ann/1"))).0, 403);
    let (status, answer) = manage(&server, "POST", path, Some(&admin));
    assert!(status == 200 && answer.ends_with(r#"{"closed":8}"#), "{answer}");
    for connection in &mut theirs {
        assert_eq!(goodbye(connection), 1008);
    }
    say(&mut other, &json!({ "type": "ping", "t": "x".repeat(125) }));
    event(&mut other, "pong");
    assert_eq!(server.metric("voxhall_tokens_revoked_total"), 8.0);
}

#[test]
fn with_auth_on_the_api_is_for_admins_and_metrics_and_health_for_everybody() {
    let server = server("admin");
    let (admin, member) = (token(json!({ "role": "admin" })), token(json!({})));
    for path in ["/api/v1/stats", "/api/v1/rooms", "/api/v1/openapi.json"] {
        let (status, answer) = manage(&server, "GET", path, None);
        assert!(status == 401 && answer.contains("www-authenticate: Bearer"), "{path}: {answer}");
        assert_eq!(manage(&server, "GET", path, Some("rubbish")).0, 401, "{path}");
        assert_eq!(manage(&server, "GET", path, Some(&member)).0, 403, "{path}");
        assert_eq!(manage(&server, "GET", path, Some(&admin)).0, 200, "{path}");
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(manage(&server, "GET", path, None).0, 200, "{path}");
    }
    let (_, stats) = manage(&server, "GET", "/api/v1/stats", Some(&admin));
    assert!(stats.contains(r#""hs256_secret":"set""#) && stats.contains(r#""keys":4"#), "{stats}");
}

#[test]
fn without_auth_nobody_is_asked_and_nobody_is_known() {
    let server = Server::start(&["--shards", "1"]);
    assert_eq!(bring(&server, Way::Query, "/ws/a", "rubbish").1, 101);
    assert_eq!(manage(&server, "GET", "/api/v1/stats", None).0, 200);
    assert_eq!(manage(&server, "POST", "/api/v1/users/ann/disconnect", None).0, 409);
}

#[test]
fn pages_of_other_sites_may_not_connect() {
    let origins = r#"server.allowed_origins=["https://app.example", "https://*.pages.example"]"#;
    let server = Server::start(&["--shards", "1", "--set", origins]);
    for (origin, status) in [
        ("Origin: https://app.example\r\n", 101),
        ("Origin: https://a.pages.example\r\n", 101),
        ("", 101),
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
    ] {
        assert_eq!(upgrade(&server, "/ws/a", origin).1, status, "{origin}");
    }
}

/// What a user would notice, and what an attacker would look for: parts of tokens and the secret.
fn assert_hidden(place: &str, text: &str, tokens: &[String]) {
    assert!(!text.contains(SECRET), "{place} shows the secret");
    for token in tokens {
        for part in token.split('.').skip(1).filter(|part| part.len() > 8) {
            assert!(!text.contains(part), "{place} shows a part of a token");
        }
    }
}

#[test]
fn no_token_or_secret_is_seen_in_answers_metrics_stats_or_logs() {
    let server = server("hidden");
    let tokens: Vec<String> = cases().into_iter().map(|(_, token, _)| token).collect();
    for token in &tokens {
        for way in WAYS {
            assert_hidden("an answer", &bring(&server, way, "/ws/class-7", token).2, &tokens);
        }
    }
    let good = &tokens[0];
    for (way, path) in [(Way::Header, "/ws/bad%20id"), (Way::Query, "/echo?"), (Way::Query, "/nothing?")] {
        assert_hidden("an answer", &bring(&server, way, path, good).2, &tokens);
    }
    let plain =
        format!("GET /nothing?token={good} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {good}\r\n\r\n");
    assert_hidden("a plain answer", &exchange(server.public, &plain), &tokens);
    let path = format!("/api/v1/rooms?limit=0&token={good}");
    assert_hidden("an API answer", &manage(&server, "GET", &path, Some(good)).1, &tokens);
    let (mut member, ..) = bring(&server, Way::Header, "/ws/x", &token(json!({})));
    for token in &tokens {
        say(&mut member, &json!({ "type": "session.update", "event_id": "e".repeat(100), "token": token }));
        let (_, answer) = frame(&mut member);
        assert_hidden("an event", &String::from_utf8_lossy(&answer), &tokens);
    }
    let admin = token(json!({ "role": "admin" }));
    for path in ["/metrics", "/api/v1/stats", "/api/v1/rooms", "/api/v1/rooms/x"] {
        assert_hidden(path, &manage(&server, "GET", path, Some(&admin)).1, &tokens);
    }
    server.signal("HUP");
    server.signal("TERM");
    drop(member);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_hidden("the log", &log, &tokens);
}

mod command_line;
mod issuer;
