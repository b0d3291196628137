//! Frames that break RFC 6455 or a limit, stop half-way, or are too many.

use crate::attack::{Case, echo, room};
use crate::wire::*;

/// `limits.message_bytes_max`.
const MESSAGE_MAX: usize = 1_048_576;

pub(crate) fn cases() -> Vec<Case> {
    [headers(), order(), lengths(), control(), utf8(), endings(), floods()].into_iter().flatten().collect()
}

/// Section 5.2: what a header may say.
fn headers() -> Vec<Case> {
    let mut cases = vec![
        room("an unmasked text", *b"\x81\x05Hello").closed(1002),
        room("an unmasked ping", *b"\x89\x00").closed(1002),
        echo("an unmasked close", *b"\x88\x02\x03\xe8").closed(1002),
        room("a request where frames belong", "GET / HTTP/1.1\r\nHost: h\r\n\r\n").closed(1002),
        room("a TLS client hello where frames belong", *b"\x16\x03\x01\x02\x00\x01\x00\x01").closed(1002),
        room("noise where frames belong", [0xff; 64]).closed(1002),
    ];
    for bit in [0x40, 0x20, 0x10] {
        cases.push(room(format!("reserved bit {bit:02x}"), frame(FIN | bit | TEXT, b"{}")).closed(1002));
        cases.push(
            echo(format!("reserved bit {bit:02x} on a ping"), frame(FIN | bit | PING, b"")).closed(1002),
        );
    }
    for opcode in (3..=7).chain(11..=15) {
        cases.push(room(format!("reserved opcode {opcode}"), frame(FIN | opcode, b"x")).closed(1002));
    }
    cases
}

/// Section 5.4: which frame may follow which.
fn order() -> Vec<Case> {
    let two = |first, second| [frame(first, b"a"), frame(second, b"b")].concat();
    vec![
        room("a continuation of nothing", frame(FIN | CONTINUE, b"x")).closed(1002),
        room("an unfinished continuation of nothing", frame(CONTINUE, b"x")).closed(1002),
        echo("a continuation of what was finished", two(FIN | BINARY, FIN | CONTINUE)).closed(1002),
        room("a text within a text", two(TEXT, FIN | TEXT)).closed(1002),
        room("a binary within a text", two(TEXT, FIN | BINARY)).closed(1002),
        echo("a text within a binary", two(BINARY, TEXT)).closed(1002),
        echo(
            "a hundred thousand fragments of nothing",
            [frame(BINARY, b""), frame(CONTINUE, b"").repeat(100_000)].concat(),
        )
        .then_say(frame(FIN | CONTINUE, b""))
        .served(),
    ]
}

/// Sections 5.2 and 10.4: lengths that lie, and messages that are too long.
fn lengths() -> Vec<Case> {
    let long = |bytes: &[u8]| [&[FIN | BINARY, MASK | 127], bytes, &KEY].concat();
    let short = |bytes: &[u8]| [&[FIN | BINARY, MASK | 126], bytes, &KEY].concat();
    let half = vec![b'a'; MESSAGE_MAX / 2 + 1];
    vec![
        room("5 bytes in 16 bits", short(&5_u16.to_be_bytes())).closed(1002),
        room("5 bytes in 64 bits", long(&5_u64.to_be_bytes())).closed(1002),
        room("65,535 bytes in 64 bits", long(&65_535_u64.to_be_bytes())).closed(1002),
        room("a length with its top bit", long(&(1_u64 << 63).to_be_bytes())).closed(1002),
        room("a length of all ones", long(&u64::MAX.to_be_bytes())).closed(1002),
        room("a claim of 2^63-1 bytes", long(&(u64::MAX >> 1).to_be_bytes())).closed(1009),
        room("a claim of a byte too many", claim(FIN | TEXT, MESSAGE_MAX as u64 + 1)).closed(1009),
        room("a text of a byte too many", text(vec![b'a'; MESSAGE_MAX + 1])).closed(1009),
        echo("an unfinished frame of 3 MiB", frame(BINARY, &vec![0; 3 * MESSAGE_MAX])).closed(1009),
        echo(
            "two fragments that are too long",
            [frame(BINARY, &half), frame(FIN | CONTINUE, &half)].concat(),
        )
        .closed(1009),
        echo("the longest message", frame(FIN | BINARY, &vec![0; MESSAGE_MAX])).served(),
        room("a claim of a mebibyte, then silence", claim(FIN | BINARY, MESSAGE_MAX as u64))
            .then_say(*b"0123456789")
            .then_half_close(),
        room("a claim of a mebibyte, then a reset", claim(FIN | BINARY, MESSAGE_MAX as u64))
            .then_say(*b"0123456789")
            .then_reset(),
    ]
}

/// Section 5.5: control frames and their payloads.
fn control() -> Vec<Case> {
    let mut cases = vec![
        room("an unfinished ping", frame(PING, b"x")).closed(1002),
        room("an unfinished pong", frame(PONG, b"x")).closed(1002),
        room("an unfinished close", frame(CLOSE, b"")).closed(1002),
        room("a ping of 126 bytes", frame(FIN | PING, &[0; 126])).closed(1002),
        room("a ping that claims 64 bits", [FIN | PING, MASK | 127]).closed(1002),
        room("a close of 126 bytes", close(1000, &[b'a'; 124])).closed(1002),
        room("a close of one byte", frame(FIN | CLOSE, b"\x03")).closed(1002),
        room("a close reason out of UTF-8", close(1000, b"\xce\xba\xff")).closed(1007),
        room("a close reason cut within a character", close(1000, b"\xe2\x82")).closed(1007),
        room("a close without a code", frame(FIN | CLOSE, b"")).closed(1005),
        room("a close and frames behind it", [close(1000, b"bye"), text("{}"), close(1001, b"")].concat())
            .closed(1000),
        room("a close and noise behind it", [close(4999, b""), vec![0xff; 1_000]].concat()).closed(4999),
        room("pongs that nobody asked for", frame(FIN | PONG, &[0; 125]).repeat(1_000)).served(),
    ];
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        cases.push(room(format!("close code {code}"), close(code, b"")).closed(1002));
    }
    cases
}

/// Section 8.1: text is UTF-8, and fails at the first byte that isn't.
fn utf8() -> Vec<Case> {
    let split = |front: &[u8], back: &[u8]| [frame(TEXT, front), frame(FIN | CONTINUE, back)].concat();
    let mut started = claim(FIN | TEXT, 100_000);
    started.extend(b"good \xed\xa0".iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    vec![
        room("a byte out of UTF-8", text(b"\xff")).closed(1007),
        echo("an overlong slash", text(b"\xc0\xaf")).closed(1007),
        echo("a surrogate", text(b"\xed\xa0\x80")).closed(1007),
        echo("a character above the last", text(b"\xf4\x90\x80\x80")).closed(1007),
        echo("a text cut within a character", text(b"\xe2\x82")).closed(1007),
        echo("a text cut within a character by its last fragment", split(b"a", b"\xe2\x82")).closed(1007),
        echo("a surrogate over two fragments", split(b"\xed", b"\xa0\x80")).closed(1007),
        echo("a bad first fragment and no second", frame(TEXT, b"\xff")).closed(1007),
        echo("a bad byte at the start of what never ends", started).closed(1007),
        echo(
            "a character over fragments and pings",
            [
                frame(TEXT, b"\xe2"),
                frame(FIN | PING, b""),
                frame(CONTINUE, b"\x82"),
                frame(FIN | CONTINUE, b"\xac"),
            ]
            .concat(),
        )
        .served(),
    ]
}

/// Peers that go at the wrong moment.
fn endings() -> Vec<Case> {
    vec![
        room("half-closed when idle", *b"").then_half_close(),
        room("half-closed within a header", [FIN | TEXT]).then_half_close(),
        room("half-closed within a frame", &text("{\"type\":\"ping\"}")[..12]).then_half_close(),
        room("half-closed within a message", frame(TEXT, b"{")).then_half_close(),
        room("half-closed behind a close", close(1000, b"")).then_half_close().closed(1000),
        room("reset when idle", *b"").then_reset(),
        room("reset within a header", [FIN | TEXT, MASK | 126, 1]).then_reset(),
        room("reset within a frame", &text("{\"type\":\"ping\"}")[..12]).then_reset(),
        room("reset within a message", frame(TEXT, b"{")).then_reset(),
        room("reset behind a close", close(1000, b"")).then_reset(),
    ]
}

/// Much of what is allowed, from a client that reads the answers.
fn floods() -> Vec<Case> {
    vec![
        room("a flood of pings", frame(FIN | PING, &[7; 125]).repeat(3_000)).served(),
        echo("a flood of empty pings", frame(FIN | PING, b"").repeat(20_000)).served(),
        echo("a flood of empty messages", frame(FIN | BINARY, b"").repeat(20_000)).served(),
        room("a flood of audio of one byte", frame(FIN | BINARY, b"x").repeat(20_000)).served(),
    ]
}
