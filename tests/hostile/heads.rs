//! Request heads that are broken, ambiguous, oversized, late, or ask for what is not there.

use crate::attack::{Case, plain};
use crate::wire::upgrade;

/// Whole heads, and the status of the answer.
const HEADS: &[(&str, &str, u16)] = &[
    ("a TLS client hello", "\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03\0\x01", 400),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("a greeting of another protocol", "EHLO example.com\r\n", 400),
    ("no version", "GET /healthz\r\nHost: h\r\n\r\n", 400),
    ("version 1.2", "GET /healthz HTTP/1.2\r\nHost: h\r\n\r\n", 400),
    ("a version in lower case", "GET /healthz http/1.1\r\nHost: h\r\n\r\n", 400),
    ("no Host", "GET /healthz HTTP/1.1\r\n\r\n", 400),
    ("two Hosts", "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("bare line feeds", "GET /healthz HTTP/1.1\nHost: h\n\n", 400),
    ("a bare carriage return in a value", "GET /healthz HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", 400),
    ("NUL in a value", "GET /healthz HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n", 400),
    ("a folded line", "GET /healthz HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", 400),
    ("a blank before the colon", "GET /healthz HTTP/1.1\r\nHost : h\r\n\r\n", 400),
    ("a line without a colon", "GET /healthz HTTP/1.1\r\nHost: h\r\nnonsense\r\n\r\n", 400),
    ("a header without a name", "GET /healthz HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n", 400),
    ("a target with a blank", "GET /health z HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("a target that is not ASCII", "GET /healthz/é HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("a target with a fragment", "GET /healthz#a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("two lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nGET /", 400),
    ("a list of lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0, 5\r\n\r\nGET /", 400),
    ("a length with a sign", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nGET /", 400),
    ("a negative length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400),
    ("an endless length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
    (
        "a length and chunks",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /",
        400,
    ),
    (
        "chunks that are not the last coding",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "two Transfer-Encodings",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "a second request behind the first",
        "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\nGET /healthz HTTP/1.1\r\nHost: h\r\n\r\n",
        200,
    ),
    (
        "a request in a body",
        "POST /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 37\r\n\r\nGET /healthz HTTP/1.1\r\nHost: h\r\n\r\n",
        405,
    ),
    ("an unknown path", "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n", 404),
    ("the parent of the page", "GET /../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n", 404),
    ("another method for health", "DELETE /healthz HTTP/1.1\r\nHost: h\r\n\r\n", 405),
    ("another method for a room", "POST /ws/a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 405),
    ("a method of no standard", "BREW / HTTP/1.1\r\nHost: h\r\n\r\n", 405),
    ("a proxy's CONNECT", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 404),
    ("a room without an upgrade", "GET /ws/a HTTP/1.1\r\nHost: h\r\n\r\n", 426),
    (
        "an upgrade to HTTP/2",
        "GET /ws/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        426,
    ),
    (
        "an upgrade by HTTP/1.0",
        "GET /ws/a HTTP/1.0\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        426,
    ),
    (
        "an upgrade by POST",
        "POST /ws/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
        405,
    ),
];

/// Upgrades: path, lines besides the valid ones, status.
const UPGRADES: &[(&str, &str, &str, u16)] = &[
    ("of an unknown path", "/nothing", "", 404),
    ("of the page", "/", "", 200),
    ("of health", "/healthz", "", 200),
    ("without a session id", "/ws/", "", 400),
    ("with a slash in the session id", "/ws/a/b", "", 400),
    ("with an encoded session id", "/ws/a%20b", "", 400),
    ("with another alphabet in the session id", "/ws/a*b", "", 400),
    ("with an unknown engine", "/ws/a?engine=cello", "", 400),
    ("with an unknown format", "/ws/a?format=mp3", "", 400),
    ("with a rate that is no number", "/ws/a?rate=1e9", "", 400),
    ("with two versions", "/ws/a", "Sec-WebSocket-Version: 8\r\n", 426),
    ("with two keys", "/ws/a", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", 400),
    ("with a subprotocol that is no token", "/ws/a", "Sec-WebSocket-Protocol: a b\r\n", 400),
    ("with a subprotocol twice", "/ws/a", "Sec-WebSocket-Protocol: a, a\r\n", 400),
    ("with a body", "/ws/a", "Content-Length: 5\r\n", 400),
    ("with chunks", "/ws/a", "Transfer-Encoding: chunked\r\n", 400),
    ("of the echo with a body", "/echo", "Content-Length: 5\r\n", 400),
];

/// Heads in which one thing is wrong with the handshake itself.
const HANDSHAKES: &[(&str, &str, u16)] = &[
    ("no version", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 426),
    ("version 8", "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 426),
    ("no key", "Sec-WebSocket-Version: 13\r\n", 400),
    ("a short key", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhl\r\n", 400),
    (
        "a key out of base64",
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==\r\n",
        400,
    ),
];

pub(crate) fn cases() -> Vec<Case> {
    let heads =
        HEADS.iter().map(|(name, head, status)| plain(format!("head: {name}"), *head).answered(*status));
    let upgrades = UPGRADES.iter().map(|(name, path, lines, status)| {
        plain(format!("upgrade {name}"), upgrade(path, lines)).answered(*status)
    });
    let handshakes = HANDSHAKES.iter().map(|(name, lines, status)| {
        let head = format!(
            "GET /ws/a HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{lines}\r\n"
        );
        plain(format!("upgrade with {name}"), head).answered(*status)
    });
    heads.chain(upgrades).chain(handshakes).chain(oversized()).chain(unfinished()).collect()
}

fn oversized() -> Vec<Case> {
    let request = |rest: &str| format!("GET /healthz HTTP/1.1\r\nHost: h\r\n{rest}");
    let subprotocols: Vec<_> = (0..17).map(|number| number.to_string()).collect();
    let subprotocols = format!("Sec-WebSocket-Protocol: {}\r\n", subprotocols.join(","));
    vec![
        plain("65 header lines", request(&format!("{}\r\n", "A: b\r\n".repeat(64)))).answered(431),
        plain("a head over its limit", request(&format!("A: {}\r\n\r\n", "b".repeat(9_000)))).answered(431),
        plain("a megabyte of head without an end", request(&"A: b\r\n".repeat(170_000))).answered(431),
        plain("a header name without an end", request(&"a".repeat(100_000))).answered(431),
        plain("a target without an end", format!("GET /{}", "a".repeat(100_000))).answered(431),
        plain("a method without an end", "A".repeat(100_000)).answered(431),
        plain("16 MiB of noise", vec![0xff; 16 << 20]),
        plain("17 subprotocols", upgrade("/ws/a", &subprotocols)).answered(400),
        plain(
            "a subprotocol of 9,000 bytes",
            upgrade("/ws/a", &format!("Sec-WebSocket-Protocol: {}\r\n", "a".repeat(9_000))),
        )
        .answered(431),
        plain("a session id of 129 bytes", upgrade(&format!("/ws/{}", "a".repeat(129)), "")).answered(400),
        plain("a session id of 9,000 bytes", upgrade(&format!("/ws/{}", "a".repeat(9_000)), ""))
            .answered(431),
    ]
}

fn unfinished() -> Vec<Case> {
    let half = "GET /ws/a HTTP/1.1\r\nHost: h\r\nUpgr";
    vec![
        plain("nothing at all", "").answered(408),
        plain("half a head and silence", half).answered(408),
        plain("a head a byte at a time, forever", half).then_drip(b'a').answered(408),
        plain("header lines forever", "GET /ws/a HTTP/1.1\r\nHost: h\r\n").then_drip(b'\n').answered(400),
        plain("half-closed before a byte", "").then_half_close(),
        plain("half-closed within the head", half).then_half_close(),
        plain("half-closed behind a request", "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
            .then_half_close()
            .answered(200),
        plain("half-closed behind an upgrade", upgrade("/ws/a", "")).then_half_close(),
        plain("reset before a byte", "").then_reset(),
        plain("reset within the head", half).then_reset(),
        plain("reset behind an upgrade", upgrade("/ws/a", "")).then_reset(),
    ]
}
