//! From the dial to the goodbye, one thing at a time.

use super::super::super::effect::Ended;
use super::*;

/// A message as the engine is told of it.
fn message(text: &str) -> String {
    format!("Message({text})")
}

#[test]
fn a_dial_asks_answers_and_talks() {
    let mut rig = Rig::new(|_| {});
    rig.dial(LINE);
    assert!(rig.dials.is_empty() && rig.told().is_empty(), "nothing happens within the call");
    rig.turn();
    assert_eq!(rig.dials, [(rig.room, LINE, address(1))]);
    assert_eq!((rig.server.sessions(), rig.counters().connecting), (1, 1));
    let conn = rig.take_dial();
    assert_eq!(rig.at(conn).sent, b"", "nothing is said before the connection stands");
    rig.give(Input::Connected { conn, outcome: Ok(()) });
    let request = String::from_utf8(rig.at(conn).sent.clone()).expect("ASCII");
    assert!(
        request.starts_with("GET /v1/realtime?model=m HTTP/1.1\r\nHost: models.example\r\n"),
        "{request}"
    );
    assert!(request.contains("\r\nAuthorization: Bearer k\r\n"), "{request}");
    assert_eq!(rig.at(conn).mode, ReceiveMode::Stream);
    // The answer comes byte by byte, and the first messages right behind it.
    let mut stream = rig.accept(conn);
    stream.extend(text("one"));
    stream.extend(frame(0x01, b"tw"));
    stream.extend(frame(0x89, b"p"));
    stream.extend(frame(0x80, b"o"));
    rig.at(conn).sent.clear();
    for byte in &mut stream {
        rig.receive(conn, std::slice::from_mut(byte));
    }
    assert_eq!(rig.told_of(LINE), ["Open".to_owned(), message("one"), message("two")]);
    assert_eq!(rig.said(conn), ["pong p"]);
    rig.send(LINE, "{\"type\":\"response.create\"}");
    rig.turn();
    assert_eq!(rig.said(conn), ["{\"type\":\"response.create\"}"]);
    let counters = rig.counters();
    assert_eq!((counters.opened, counters.open, counters.connecting), (1, 1, 0));
    assert_eq!((counters.messages_received, counters.messages_sent), (2, 1));
    assert_eq!(rig.shard.counters.open, 1, "an upstream session is no client");
}

#[test]
fn all_at_once_is_the_same() {
    let mut rig = Rig::new(|_| {});
    rig.dial(LINE);
    rig.turn();
    let conn = rig.take_dial();
    rig.give(Input::Connected { conn, outcome: Ok(()) });
    let mut stream = [rig.accept(conn), text("one"), text("two"), close(1000, "done")].concat();
    rig.receive(conn, &mut stream);
    let over = "Over(Closed { code: 1000, reason: \"done\" })".to_owned();
    assert_eq!(rig.told_of(LINE), ["Open".to_owned(), message("one"), message("two"), over]);
    rig.assert_over();
}

#[test]
fn what_is_no_websocket_is_told_as_what_it_is() {
    let cases = [
        (
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\n\r\nslow down",
            "Over(Refused { status: 429, retry_after: Some(Micros(3000000)) })",
        ),
        ("HTTP/1.1 503 x\r\n\r\n", "Over(Refused { status: 503, retry_after: None })"),
        ("SMTP ready\r\n", "Over(Unreachable { why: \"its answer is not HTTP\" })"),
    ];
    for (answer, over) in cases {
        let mut rig = Rig::new(|_| {});
        rig.dial(LINE);
        rig.turn();
        let conn = rig.take_dial();
        rig.give(Input::Connected { conn, outcome: Ok(()) });
        rig.receive(conn, &mut answer.as_bytes().to_vec());
        assert_eq!(rig.told_of(LINE), [over], "{answer}");
        assert_eq!(rig.at(conn).closed, Some(CloseMode::Reset));
        rig.assert_over();
    }
}

#[test]
fn every_step_of_opening_has_the_same_deadline() {
    for steps in 0..3 {
        let mut rig = Rig::new(|_| {});
        rig.dial(LINE);
        rig.turn();
        let conn = rig.take_dial();
        if steps > 0 {
            rig.wait(Micros::from_s(2));
            rig.give(Input::Connected { conn, outcome: Ok(()) });
        }
        if steps > 1 {
            rig.wait(Micros::from_s(2));
            rig.receive(conn, &mut b"HTTP/1.1 101 ".to_vec());
        }
        rig.wait(Micros::from_s(5).max(Micros(1)));
        assert_eq!(rig.told_of(LINE), ["Over(TimedOut)"], "after {steps} steps");
        assert_eq!(rig.at(conn).closed, Some(CloseMode::Reset));
        rig.assert_over();
    }
}

#[test]
fn addresses_take_turns_and_one_that_failed_is_passed_over() {
    let mut rig = Rig::new(|_| {});
    rig.server.set_addresses(vec![address(1), address(2)]);
    rig.dial(LINE);
    rig.turn();
    assert_eq!(rig.dials[0].2, address(1));
    let first = rig.take_dial();
    rig.give(Input::Connected { conn: first, outcome: Err("refused".into()) });
    assert_eq!(rig.dials[0].2, address(2), "the same line tries the next");
    let second = rig.take_dial();
    rig.give(Input::Connected { conn: second, outcome: Err("refused as well".into()) });
    assert_eq!(rig.told_of(LINE), ["Over(Unreachable { why: \"refused as well\" })"]);
    rig.assert_over();
    rig.wait(Micros::from_s(31));
    for line in [2, 3] {
        rig.dial(Line(line));
        rig.turn();
    }
    let tried: Vec<_> = rig.dials.iter().map(|dial| dial.2).collect();
    assert_eq!(tried, [address(1), address(2)], "in turn");
    // Without a socket it is the same as without a connection.
    let (room, line, _) = rig.dials.remove(0);
    rig.give(Input::Dialled { room, line, outcome: Err("no sockets".into()) });
    rig.dial(Line(4));
    rig.turn();
    assert!(rig.dials.iter().all(|dial| dial.2 == address(2)), "{:?}", rig.dials);
}

#[test]
fn without_an_address_there_is_nothing_to_dial() {
    let mut rig = Rig::new(|_| {});
    rig.server.set_addresses(Vec::new());
    rig.dial(LINE);
    assert!(rig.told().is_empty(), "not within the call");
    rig.turn();
    assert_eq!(rig.told_of(LINE), ["Over(Unreachable { why: \"its name has no address\" })"]);
    rig.assert_over();
}

#[test]
fn limits_and_the_breaker_answer_without_a_dial() {
    let mut rig = Rig::new(|settings| (settings.sessions_max, settings.breaker_failures) = (1, 1));
    let conn = rig.open(LINE);
    rig.dial(Line(2));
    rig.turn();
    assert_eq!(rig.told_of(Line(2)), ["Over(Limited)"]);
    rig.give(Input::Ended { conn, how: Ended::Broken });
    assert_eq!(rig.told_of(LINE), ["Over(Closed { code: 1006, reason: \"the connection broke\" })"]);
    rig.dial(Line(3));
    rig.turn();
    let conn = rig.take_dial();
    rig.give(Input::Ended { conn, how: Ended::Unsecured });
    let unsecured = "Over(Unreachable { why: \"no secure channel came about\" })";
    assert_eq!(rig.told_of(Line(3)), [unsecured]);
    rig.dial(Line(4));
    rig.turn();
    let until = rig.now + Micros::from_s(10);
    assert_eq!(rig.told_of(Line(4)), [format!("Over(Broken {{ until: {until:?} }})")]);
    assert!(rig.dials.is_empty());
    rig.assert_over();
}

#[test]
fn a_line_that_is_closed_is_heard_of_no_more() {
    let mut rig = Rig::new(|_| {});
    let conn = rig.open(LINE);
    rig.send(LINE, "last words");
    rig.order(UpstreamOrder::Close { line: LINE });
    rig.send(LINE, "too late");
    rig.turn();
    assert_eq!(rig.said(conn), ["last words", "close Some(1000)"]);
    rig.receive(conn, &mut [text("still here"), close(1000, "")].concat());
    assert_eq!(rig.at(conn).closed, Some(CloseMode::Graceful));
    assert_eq!(rig.told(), []);
    rig.assert_over();
    // One that does not answer is cut; one that has not opened has nothing to say.
    let conn = rig.open(Line(2));
    rig.order(UpstreamOrder::Close { line: Line(2) });
    rig.turn();
    assert_eq!(rig.server.sessions(), 0, "its place is free at once");
    rig.wait(Micros::from_s(16));
    assert_eq!(rig.at(conn).closed, Some(CloseMode::Reset));
    rig.dial(Line(3));
    rig.turn();
    let conn = rig.take_dial();
    rig.dial(Line(4));
    rig.order(UpstreamOrder::Close { line: Line(4) });
    rig.order(UpstreamOrder::Close { line: Line(3) });
    rig.turn();
    assert_eq!(rig.at(conn).closed, Some(CloseMode::Reset));
    assert!(rig.dials.is_empty() && rig.told().is_empty());
    rig.assert_over();
}

#[test]
fn a_room_that_ends_closes_its_lines() {
    let mut rig = Rig::new(|_| {});
    let conn = rig.open(LINE);
    rig.dial(Line(2));
    rig.turn();
    rig.dial(Line(3));
    let client = rig.sockets[0].conn;
    rig.give(Input::Ended { conn: client, how: Ended::Broken });
    rig.wait(Micros::from_s(61));
    assert_eq!(rig.shard.rooms.len(), 0, "the room has lingered and ended");
    assert_eq!(rig.said(conn).last().map(String::as_str), Some("close Some(1000)"));
    // The socket that was asked for meanwhile finds nobody.
    let late = rig.take_dial();
    assert_eq!(rig.at(late).closed, Some(CloseMode::Reset));
    rig.receive(conn, &mut close(1000, ""));
    assert_eq!((rig.told(), rig.shard.connections()), (vec![], 0));
    assert_eq!(rig.server.sessions(), 0);
}

#[test]
fn a_node_that_ends_says_goodbye_upstream() {
    let mut rig = Rig::new(|_| {});
    let conn = rig.open(LINE);
    rig.give(Input::Evacuate);
    assert_eq!(rig.said(conn), ["close Some(1001)"]);
    let mut rig = Rig::new(|_| {});
    let server = Arc::clone(&rig.server);
    rig.open(LINE);
    drop(rig);
    assert_eq!(server.sessions(), 0, "a shard that dies gives back what it had");
}

#[test]
fn a_server_that_breaks_the_rules_is_told_which() {
    let big = vec![b' '; 2_000];
    for (bytes, code) in [
        (vec![0x81, 0x81, 0, 0, 0, 0, b'x'], 1002),
        (frame(0x82, b"x"), 1003),
        (frame(0x81, b"\xff"), 1007),
        (frame(0x81, &big), 1009),
        (frame(0xc1, b"x"), 1002),
    ] {
        let mut rig = Rig::new(|settings| settings.message_bytes_max = 1_000);
        let conn = rig.open(LINE);
        rig.receive(conn, &mut bytes.clone());
        let told = rig.told_of(LINE);
        assert!(told.len() == 1 && told[0].starts_with(&format!("Over(Closed {{ code: {code}")), "{told:?}");
        assert_eq!(rig.said(conn), [format!("close Some({code})")]);
        assert_eq!(rig.counters().ended[6], 1, "{:?}", rig.counters().ended);
        rig.give(Input::Ended { conn, how: Ended::Eof });
        assert!(rig.at(conn).closed.is_some());
        rig.assert_over();
    }
}

#[test]
fn a_server_that_says_goodbye_gets_an_answer() {
    let mut rig = Rig::new(|_| {});
    let conn = rig.open(LINE);
    rig.at(conn).full = true;
    rig.send(LINE, "one");
    rig.turn();
    rig.at(conn).full = false;
    rig.receive(conn, &mut close(1001, "maximum age"));
    assert_eq!(rig.told_of(LINE), ["Over(Closed { code: 1001, reason: \"maximum age\" })"]);
    rig.give(Input::Writable { conn });
    assert_eq!(rig.said(conn), ["close Some(1001)"], "what had not begun to leave does not leave");
    assert_eq!(rig.at(conn).closed, Some(CloseMode::Graceful));
    assert_eq!(rig.counters().dropped, 1);
    rig.assert_over();
}

#[test]
fn a_server_that_takes_nothing_is_lost() {
    let mut rig = Rig::new(|_| {});
    let conn = rig.open(LINE);
    rig.at(conn).full = true;
    rig.send(LINE, "one");
    rig.turn();
    for _ in 0..12 {
        rig.receive(conn, &mut text("it still speaks"));
        rig.wait(Micros::from_s(1));
    }
    let told = rig.told_of(LINE);
    assert_eq!(
        told.last().map(String::as_str),
        Some("Over(Closed { code: 1006, reason: \"it takes nothing any more\" })")
    );
    assert_eq!((rig.at(conn).closed, rig.counters().dropped), (Some(CloseMode::Reset), 1));
    rig.assert_over();
}

#[test]
fn a_lane_that_overflows_loses_its_line() {
    let mut rig = Rig::new(|settings| settings.outbox.messages_max = 4);
    let conn = rig.open(LINE);
    rig.at(conn).full = true;
    rig.send(LINE, "first");
    rig.turn();
    for _ in 0..7 {
        rig.send(LINE, "more");
    }
    assert!(rig.told().is_empty(), "not within the call");
    rig.turn();
    let lost = "Over(Closed { code: 1006, reason: \"too much is waiting to be sent to it\" })";
    assert_eq!(rig.told_of(LINE), [lost]);
    assert_eq!(rig.at(conn).closed, Some(CloseMode::Reset));
    assert_eq!(rig.counters().dropped, 6, "those that waited and the one that was too many");
    rig.assert_over();
    assert_eq!(rig.shard.counters.dropped, [[0; 3]; 5], "clients have missed nothing");
}

#[test]
fn a_silent_server_is_asked_and_given_up() {
    let mut rig = Rig::new(|_| {});
    let conn = rig.open(LINE);
    rig.wait(Micros::from_s(26));
    assert_eq!(rig.said(conn), ["ping 0"]);
    rig.receive(conn, &mut frame(0x8a, b""));
    rig.wait(Micros::from_s(40));
    assert_eq!(rig.said(conn), ["ping 0"], "it answered, and is asked again");
    rig.wait(Micros::from_s(30));
    assert_eq!(rig.told_of(LINE), ["Over(Closed { code: 1006, reason: \"no answer to pings\" })"]);
    rig.assert_over();
}

#[test]
fn a_conversation_takes_its_blocks_from_the_pool() {
    let mut rig = Rig::new(|_| {});
    let conn = rig.open(LINE);
    let talk = |rig: &mut Rig| {
        rig.send(LINE, &"a".repeat(1_000));
        rig.turn();
        rig.receive(conn, &mut [text(&"b".repeat(3_000)), frame(0x89, b"p")].concat());
        rig.at(conn).sent.clear();
    };
    talk(&mut rig);
    let allocated = rig.shard.pool.allocated();
    (0..1_000).for_each(|_| talk(&mut rig));
    assert_eq!(rig.shard.pool.allocated(), allocated);
}
