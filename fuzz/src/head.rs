//! Request heads: the parser, and what a shard makes of them.

use std::sync::Arc;

use shards::core::http::{self, HeadError, Parsed, Request, Route, SUBPROTOCOLS_MAX, UpgradeKind};
use shards::core::{Channels, Denied, Gate, Micros, Origins, Pass, Role, SessionId, ShardConfig};

use crate::pieces::{choice, pieces};
use crate::rig::{Fate, fate};

/// Small, so that inputs come to it.
const HEAD_BYTES_MAX: usize = 1_024;

/// Every status that docs/protocol.md gives for an upgrade, and docs/sse.md for what needs none.
const STATUSES: [u16; 15] = [101, 200, 204, 400, 401, 403, 404, 405, 408, 409, 413, 426, 429, 431, 503];

/// Header lines that an answer may have.
const LINES: [&str; 19] = [
    "upgrade",
    "connection",
    "sec-websocket-accept",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "sec-websocket-version",
    "content-type",
    "content-length",
    "www-authenticate",
    "transfer-encoding",
    "cache-control",
    "x-accel-buffering",
    "allow",
    "vary",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
];

/// The first byte chooses the configuration, the rest is what arrives.
pub(crate) fn run(bytes: &[u8]) {
    let (conditions, stream) = choice(bytes);
    let whole = verdict(stream);
    let mut prefix = 0;
    for piece in pieces(stream) {
        prefix += piece.len();
        let early = verdict(&stream[..prefix]);
        assert!(
            early == Verdict::Partial || early == whole,
            "{early:?} after {prefix} bytes, {whole:?} at the end"
        );
    }
    let peer = "192.0.2.1:1000".parse().expect("an address");
    let at_once = fate(config(conditions), peer, Some(stream).filter(|stream| !stream.is_empty()));
    let in_pieces = fate(config(conditions), peer, pieces(stream));
    assert_eq!(at_once, in_pieces, "at once, and in pieces");
    match at_once {
        Fate::Waiting => assert_eq!(whole, Verdict::Partial),
        Fate::Answered(answer) => check_answer(&answer),
        Fate::Moved(_, head, from) => assert_eq!((&head[..], from), (stream, peer), "nothing is lost"),
    }
}

/// What the parser says, for comparing.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Partial,
    Wrong(HeadError),
    Complete { len: usize, method: String, target: String, route: Route, handshake: String },
}

fn verdict(bytes: &[u8]) -> Verdict {
    let request = match http::parse(bytes, HEAD_BYTES_MAX) {
        Ok(Parsed::Partial) => {
            assert!(bytes.len() <= HEAD_BYTES_MAX, "more is wanted than may come");
            return Verdict::Partial;
        }
        Err(error) => return Verdict::Wrong(error),
        Ok(Parsed::Complete(request)) => request,
    };
    check_request(bytes, &request);
    Verdict::Complete {
        len: request.len,
        method: request.method.to_owned(),
        target: request.target.to_owned(),
        route: http::classify(&request, true),
        handshake: format!("{:?}", request.websocket()),
    }
}

fn check_request(bytes: &[u8], request: &Request<'_>) {
    assert!(request.len <= bytes.len().min(HEAD_BYTES_MAX));
    assert!(bytes[..request.len].ends_with(b"\r\n\r\n"), "a head ends with an empty line");
    assert!(request.target.is_ascii() && !request.target.contains([' ', '#']));
    assert!(request.header_values("host").count() <= 1);
    for (name, value) in request.query_pairs() {
        assert!(name.len() + value.len() <= 3 * request.query.len(), "decoding hardly adds");
    }
    let route = http::classify(request, true);
    if request.path.starts_with("/sse/") {
        assert!(!matches!(route, Route::ControlPlane | Route::Room(_) | Route::Realtime(_) | Route::Echo));
    } else if request.upgrade() == UpgradeKind::None {
        let feed = request.path == "/events" && route == Route::Feed { as_stream: true };
        assert!(route == Route::ControlPlane || feed);
    }
    if let Route::Room(session) = route {
        let written = request.path.strip_prefix("/ws/").expect("a room's path");
        assert!(spells(written, session.as_str()), "{written} is no {session}");
    }
    if let Route::Realtime(session) = http::classify(request, true) {
        assert_eq!(request.path, "/v1/realtime");
        let named = request.query_pairs().find(|(name, _)| name == "session_id");
        assert_eq!(session.as_ref().map(SessionId::as_str), named.as_ref().map(|(_, id)| &**id));
    }
    if let Ok(handshake) = request.websocket() {
        assert_eq!(handshake.key.len(), 24);
        assert!(handshake.subprotocols.len() <= SUBPROTOCOLS_MAX);
        assert!(handshake.subprotocols.iter().all(|name| !name.is_empty() && name.is_ascii()));
    }
}

/// Whether this is a way to write the name in a path: as it is, or with some of it percent-encoded.
fn spells(written: &str, name: &str) -> bool {
    let mut written = written.bytes();
    let spelled = name.bytes().all(|byte| match written.next() {
        Some(b'%') => {
            let digits: Option<Vec<u8>> = (0..2).map(|_| written.next()).collect();
            let text = digits.and_then(|digits| String::from_utf8(digits).ok());
            text.and_then(|text| u8::from_str_radix(&text, 16).ok()) == Some(byte)
        }
        plain => plain == Some(byte),
    });
    spelled && written.next().is_none()
}

/// Takes tokens that begin with `good`.
#[derive(Debug)]
struct PlainGate;

impl Gate for PlainGate {
    fn check(&self, token: &str) -> Result<Pass, Denied> {
        if !token.starts_with("good") {
            return Err(Denied::Unauthorized("the token is not good"));
        }
        let rooms = token.contains("-a").then(|| ["a*".into()].into());
        Ok(Pass {
            sub: "u".into(),
            valid_for: Some(Micros::from_s(9)),
            rooms,
            channels: Channels::default(),
            engine: None,
            realtime: None,
            subscriptions: Box::default(),
            role: Role::Member,
        })
    }
}

fn config(conditions: u8) -> ShardConfig {
    let is = |bit: u8| conditions & 1 << bit != 0;
    let mut config = ShardConfig { echo_endpoint: is(0), ..ShardConfig::default() };
    config.limits.head_bytes_max = HEAD_BYTES_MAX;
    config.deflate.enabled = is(1);
    if is(2) {
        config.gate = Some(Arc::new(PlainGate));
    }
    config.origins = match conditions >> 3 & 3 {
        0 => Origins::Any,
        1 => Origins::SameHost,
        _ => Origins::Listed(["https://*.example".into(), "null".into()].into()),
    };
    if is(6) {
        config.shards = 3;
    }
    config
}

/// What may be agreed on.
const SUBPROTOCOLS: [&str; 4] = ["voxhall.v1", "voxhall.v1.plain", "voxhall.v1.msgpack", "realtime"];

/// What a shard says before a connection is a WebSocket.
fn check_answer(answer: &str) {
    let mut headers = [httparse::EMPTY_HEADER; 12];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(answer.as_bytes()).expect("an answer is HTTP");
    let httparse::Status::Complete(len) = parsed else { panic!("half an answer: {answer}") };
    let status = response.code.expect("a complete answer has one");
    assert!(STATUSES.contains(&status), "{answer}");
    let line = |wanted: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(wanted));
        found.map(|header| std::str::from_utf8(header.value).expect("an answer is text"))
    };
    for header in &*response.headers {
        let name = header.name.to_ascii_lowercase();
        assert!(LINES.contains(&&*name) || name == "retry-after", "{answer}");
    }
    if status == 101 {
        assert_eq!(line("sec-websocket-accept").map(str::len), Some(28));
        let chosen = line("sec-websocket-protocol");
        assert!(chosen.is_none_or(|name| SUBPROTOCOLS.contains(&name)), "{answer}");
        return;
    }
    if status == 200 {
        // A stream, of which this is the head.
        assert_eq!(line("content-type"), Some("text/event-stream"));
        return;
    }
    if status == 204 {
        assert!(line("allow").is_some() && line("content-length").is_none(), "{answer}");
        return;
    }
    let body = &answer[len..];
    assert_eq!(line("content-length"), Some(&*body.len().to_string()));
    assert!(line("connection").is_some(), "{answer}");
    let problem: serde_json::Value = serde_json::from_str(body).expect("a refusal has a body of JSON");
    assert_eq!(problem["status"], status);
}
