//! Members that hear server-sent events, over the core as the pump drives it: what time does to them, what they may hold, and
//! where their connections go between two requests.

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use shards::core::{
    CloseMode, ConnKey, Destination, Effect, Effects, Input, Micros, ReceiveMode, Shard, ShardConfig,
    ShardId, route,
};

/// What became of a connection.
#[derive(Debug, PartialEq)]
enum End {
    Closed(CloseMode),
    Moved(Destination, Vec<u8>),
}

/// A shard, and what its connections were sent.
struct Rig {
    shard: Shard,
    now: Micros,
    fx: Effects,
    sent: HashMap<ConnKey, Vec<u8>>,
    modes: HashMap<ConnKey, ReceiveMode>,
    ends: HashMap<ConnKey, End>,
    conns: u32,
}

impl Rig {
    fn new(change: impl FnOnce(&mut ShardConfig)) -> Self {
        let mut config = ShardConfig::default();
        change(&mut config);
        Self {
            shard: Shard::new(ShardId(0), Arc::new(config), 1),
            now: Micros::from_s(1),
            fx: Vec::new(),
            sent: HashMap::new(),
            modes: HashMap::new(),
            ends: HashMap::new(),
            conns: 0,
        }
    }

    /// A connection that was accepted and sends this.
    fn connect(&mut self, bytes: &str) -> ConnKey {
        let conn = ConnKey { index: self.conns, generation: 1 };
        self.conns += 1;
        let peer = shards::core::Caller::At("192.0.2.1:1000".parse().expect("an address"));
        self.shard.handle(self.now, Input::Accepted { conn, peer }, &mut self.fx);
        self.turn();
        self.send(conn, bytes);
        conn
    }

    fn send(&mut self, conn: ConnKey, bytes: &str) {
        self.send_bytes(conn, bytes.as_bytes());
    }

    fn send_bytes(&mut self, conn: ConnKey, bytes: &[u8]) {
        assert_ne!(self.modes[&conn], ReceiveMode::Paused, "nobody reads");
        if self.modes[&conn] == ReceiveMode::Once {
            self.modes.insert(conn, ReceiveMode::Paused);
        }
        let mut bytes = bytes.to_vec();
        self.shard.handle(self.now, Input::Received { conn, bytes: &mut bytes }, &mut self.fx);
        self.turn();
    }

    /// Ends turns until nothing is left to do; the kernel takes everything.
    fn turn(&mut self) {
        let Self { shard, now, fx, sent, modes, ends, .. } = self;
        support::turn(shard, *now, fx, |shard, effect, fx| {
            let (conn, end) = match effect {
                Effect::Send(conn) => {
                    return support::send(shard, *now, conn, fx, sent.entry(conn).or_default());
                }
                Effect::Receive(conn, mode) => {
                    modes.insert(conn, mode);
                    return;
                }
                Effect::Close(conn, mode) => (conn, End::Closed(mode)),
                Effect::Move { conn, to, head, .. } => {
                    assert_ne!(modes[&conn], ReceiveMode::Stream, "a receive is in flight");
                    (conn, End::Moved(to, head))
                }
                _ => return,
            };
            assert!(ends.insert(conn, end).is_none(), "one end each");
            shard.handle(*now, Input::Closed { conn }, fx);
        });
    }

    /// Time goes by, as far as anything is due in it.
    fn pass(&mut self, span: Micros) {
        let until = self.now + span;
        while let Some(due) = self.shard.next_deadline().filter(|&due| due <= until) {
            self.now = due.max(Micros(self.now.0 + 1));
            self.turn();
        }
        self.now = until;
        self.turn();
    }

    /// What it was sent since this was last asked.
    fn heard(&mut self, conn: ConnKey) -> String {
        String::from_utf8(self.sent.remove(&conn).unwrap_or_default()).expect("text")
    }

    /// One who hears the room `r`, and has heard its welcome.
    fn listen(&mut self) -> ConnKey {
        let conn = self.connect("GET /sse/r?engine=relay HTTP/1.1\r\nHost: x\r\n\r\n");
        let heard = self.heard(conn);
        assert!(heard.starts_with("HTTP/1.1 200 OK\r\n") && heard.contains("session.created"), "{heard}");
        conn
    }
}

fn post(lines: &str, body: &str) -> String {
    format!("POST /sse/r HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn ping(seq: u64) -> String {
    format!(r#"{{"type":"ping","t":{seq},"client_seq":{seq}}}"#)
}

#[test]
fn a_silent_stream_is_sent_a_comment_every_fifteen_seconds_and_nothing_else() {
    let mut rig = Rig::new(|_| {});
    let conn = rig.listen();
    let mut last = rig.now;
    for _ in 0..6_000 {
        rig.pass(Micros::from_ms(100));
        let heard = rig.heard(conn);
        if !heard.is_empty() {
            assert_eq!(heard, "7\r\n: ping\n\r\n");
            let since = rig.now.since(last).0 / 1_000;
            assert!((14_900..=15_300).contains(&since), "{since} ms after the one before");
            last = rig.now;
        }
    }
    assert!(rig.now.since(last) < Micros::from_s(16), "they go on");
    assert!(rig.ends.is_empty());
}

#[test]
fn what_waits_for_a_missing_event_is_taken_after_five_seconds() {
    let mut rig = Rig::new(|_| {});
    let stream = rig.listen();
    let poster = rig.connect(&post("", &format!("[{},{}]", ping(3), ping(2))));
    let answer = rig.heard(poster);
    assert!(
        answer.ends_with(r#"{"accepted":0,"client_seq":0,"waiting":2}"#),
        "they go with their stream: {answer}"
    );
    rig.pass(Micros::from_ms(4_900));
    assert_eq!(rig.heard(stream), "");
    rig.pass(Micros::from_ms(400));
    let heard = rig.heard(stream);
    let place = |what: &str| heard.find(what).unwrap_or_else(|| panic!("{what} is not in {heard}"));
    assert!(place("Event 1 did not come") < place("\"t\":2") && place("\"t\":2") < place("\"t\":3"));
    rig.send(poster, &post("", &ping(1)));
    assert!(rig.heard(poster).ends_with(r#"{"accepted":1,"client_seq":3}"#));
    assert_eq!(rig.heard(stream), "", "it was given up");
}

#[test]
fn requests_and_silence_between_them_have_deadlines() {
    let mut rig = Rig::new(|_| {});
    rig.listen();
    let slow = rig.connect("POST /sse/r HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n");
    let silent = rig.connect(&post("", "[]"));
    let begun = rig.connect(&post("", "[]"));
    assert!(rig.heard(begun).starts_with("HTTP/1.1 200"));
    rig.pass(Micros::from_s(10));
    rig.send(slow, "[");
    rig.send(begun, "POST /sse/r HT");
    rig.pass(Micros::from_ms(4_900));
    assert_eq!(rig.heard(begun), "");
    rig.pass(Micros::from_ms(200));
    assert!(rig.heard(begun).starts_with("HTTP/1.1 408"), "a head that began");
    rig.pass(Micros::from_ms(14_800));
    assert_eq!((rig.heard(slow), rig.ends.get(&silent)), (String::new(), None));
    rig.pass(Micros::from_ms(200));
    assert!(rig.heard(slow).starts_with("HTTP/1.1 408"), "a body that never ends");
    assert_eq!(rig.ends.get(&silent), Some(&End::Closed(CloseMode::Graceful)), "nothing is begun there");
}

#[test]
fn between_two_requests_a_connection_may_go_anywhere() {
    let mut rig = Rig::new(|config| config.shards = 2);
    let owned = |shard: u16| {
        let mut names = (0..).map(|number| format!("r{number}"));
        names.find(|name| route::owner(name, 2) == ShardId(shard)).expect("half of all")
    };
    let (here, there) = (owned(0), owned(1));
    rig.connect(&format!("GET /sse/{here}?engine=relay HTTP/1.1\r\nHost: x\r\n\r\n"));
    let request = |room: &str| post("", "[]").replace("/sse/r ", &format!("/sse/{room} "));
    for next in [request(&there), "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()] {
        let to =
            if next.starts_with("GET") { Destination::ControlPlane } else { Destination::Shard(ShardId(1)) };
        // Afterwards, and at once.
        let conn = rig.connect(&request(&here));
        rig.send(conn, &next);
        assert_eq!(rig.ends.get(&conn), Some(&End::Moved(to, next.clone().into_bytes())));
        let conn = rig.connect(&[request(&here), request(&here), next.clone()].concat());
        assert_eq!(rig.heard(conn).matches("HTTP/1.1 200").count(), 2, "both were answered first");
        assert_eq!(rig.ends.get(&conn), Some(&End::Moved(to, next.into_bytes())));
    }
}

#[test]
fn every_request_of_a_proxy_is_its_own_client_s() {
    let mut rig = Rig::new(|config| {
        config.proxies.trusted = "192.0.2.1".parse().expect("a network");
        config.limits.connections_per_ip_max = 1;
    });
    let of = |client: &str| format!("X-Forwarded-For: {client}\r\n");
    let listen = |client: &str| format!("GET /sse/r?engine=relay HTTP/1.1\r\nHost: x\r\n{}\r\n", of(client));
    let first = rig.connect(&listen("198.51.100.1"));
    assert!(rig.heard(first).starts_with("HTTP/1.1 200"));
    // One connection brings a post of the one, and then another who wants to listen: the one may not once more.
    for (client, status) in [("198.51.100.2", "200"), ("198.51.100.1", "429")] {
        let conn = rig.connect(&post(&of("198.51.100.1"), "[]"));
        assert!(rig.heard(conn).contains("Connection: keep-alive"));
        rig.send(conn, &listen(client));
        assert_eq!(rig.heard(conn)[9..12], *status, "{client}");
        rig.shard.handle(rig.now, Input::Ended { conn, how: shards::core::Ended::Eof }, &mut rig.fx);
        rig.turn();
    }
}

#[test]
fn what_waits_and_has_its_turn_in_the_same_request_was_taken() {
    let mut rig = Rig::new(|_| {});
    let stream = rig.listen();
    let poster = rig.connect(&post("", &format!("[{},{},{},{}]", ping(3), ping(2), ping(1), ping(5))));
    let answer = rig.heard(poster);
    assert!(answer.ends_with(r#"{"accepted":3,"client_seq":3,"waiting":1}"#), "{answer}");
    rig.send(poster, &post("", &format!("[{},{}]", ping(5), ping(4))));
    let answer = rig.heard(poster);
    assert!(answer.ends_with(r#"{"accepted":2,"client_seq":5}"#), "{answer}");
    assert_eq!(rig.heard(stream).matches("pong").count(), 5, "each once");
}

/// A body of so many bytes that lacks the last, for this room.
fn unfinished(room: &str, len: usize) -> String {
    let spaces = " ".repeat(len - 2);
    format!("POST /sse/{room} HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n[{spaces}")
}

#[test]
fn a_member_holds_no_more_than_its_share_of_the_bodies() {
    let mut rig = Rig::new(|config| config.limits.message_bytes_max = 1_000);
    rig.listen();
    rig.connect("GET /sse/other?engine=relay HTTP/1.1\r\nHost: x\r\n\r\n");
    let two = [0; 2].map(|_| rig.connect(&unfinished("r", 100)));
    let third = rig.connect(&unfinished("r", 100));
    let answer = rig.heard(third);
    assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("\r\nRetry-After: "), "{answer}");
    let whole = rig.connect(&post("", "[]"));
    assert!(rig.heard(whole).starts_with("HTTP/1.1 200"), "what has come already is not under way");
    let other = rig.connect(&unfinished("other", 100));
    assert_eq!(rig.heard(other), "", "another member has its own share");
    for conn in two {
        rig.send(conn, "]");
        assert!(rig.heard(conn).starts_with("HTTP/1.1 200"));
    }
    // Those that broke off have given back what they held, and so have those that were too long.
    for _ in 0..4 {
        let two = [0; 2].map(|_| rig.connect(&unfinished("r", 900)));
        let whole = rig.connect(&post("", &format!("[{}]", " ".repeat(300))));
        assert!(rig.heard(whole).starts_with("HTTP/1.1 429"), "the bytes count too");
        for conn in two {
            assert_eq!(rig.heard(conn), "");
            rig.shard.handle(rig.now, Input::Ended { conn, how: shards::core::Ended::Eof }, &mut rig.fx);
        }
        rig.turn();
    }
    // What waits for its turn leaves room for what it waits for.
    let long = |seq| ping(seq).replace('}', &format!(",\"pad\":\"{}\"}}", "x".repeat(500)));
    for (seq, status) in [(3, "200"), (2, "429"), (1, "200")] {
        let conn = rig.connect(&post("", &long(seq)));
        assert_eq!(rig.heard(conn)[9..12], *status, "{seq}");
    }
}

#[test]
fn bodies_that_are_held_are_bounded_over_all_connections() {
    let mut rig = Rig::new(|config| config.limits.message_bytes_max = 1_000);
    let rooms: Vec<String> = (0..20).map(|number| format!("r{number}")).collect();
    let listen = |rig: &mut Rig, room: &str| {
        rig.connect(&format!("GET /sse/{room}?engine=relay HTTP/1.1\r\nHost: x\r\n\r\n"))
    };
    let streams: Vec<ConnKey> = rooms.iter().map(|room| listen(&mut rig, room)).collect();
    let mut begun = Vec::new();
    for room in &rooms[..8] {
        begun.extend([0; 2].map(|_| rig.connect(&unfinished(room, 1_000))));
    }
    for room in &rooms[8..11] {
        let late = rig.connect(&unfinished(room, 1_000));
        assert!(rig.heard(late).starts_with("HTTP/1.1 503"));
    }
    for conn in begun {
        rig.send(conn, "]");
        assert!(rig.heard(conn).starts_with("HTTP/1.1 200"));
    }
    let conn = rig.connect(&unfinished("r9", 1_000));
    rig.send(conn, "]");
    assert!(rig.heard(conn).starts_with("HTTP/1.1 200"), "there is room again");
    // What waits for its turn counts too, and goes with its stream.
    let early = ping(2).replace('}', &format!(",\"pad\":\"{}\"}}", "x".repeat(900)));
    let mut taken = 0;
    for room in &rooms {
        let conn = rig.connect(&post("", &early).replace("/sse/r ", &format!("/sse/{room} ")));
        taken += usize::from(rig.heard(conn).starts_with("HTTP/1.1 200"));
    }
    assert!((15..=17).contains(&taken), "{taken}");
    for conn in streams {
        rig.shard.handle(rig.now, Input::Ended { conn, how: shards::core::Ended::Eof }, &mut rig.fx);
    }
    rig.turn();
    rig.listen();
    let conn = rig.connect(&unfinished("r", 1_000));
    rig.send(conn, "]");
    assert!(rig.heard(conn).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_connection_that_is_answered_while_the_node_drains_waits_for_nothing() {
    let mut rig = Rig::new(|_| {});
    rig.listen();
    let conn = rig.connect(&post("", "[]"));
    assert!(rig.heard(conn).contains("Connection: keep-alive"));
    let mut next = post("", "[]").into_bytes();
    rig.shard.handle(rig.now, Input::Received { conn, bytes: &mut next }, &mut rig.fx);
    let window = Micros::from_s(20);
    rig.shard.handle(rig.now, Input::Drain { window }, &mut rig.fx);
    rig.turn();
    assert!(rig.heard(conn).starts_with("HTTP/1.1 200"));
    rig.pass(Micros::from_s(1));
    assert_eq!(rig.ends.get(&conn), Some(&End::Closed(CloseMode::Graceful)));
}

#[test]
fn a_stream_goes_on_behind_the_event_that_it_names_only_if_it_is_told_the_rest() {
    let mut rig = Rig::new(|config| config.room.history_events_max = 2);
    rig.listen();
    (0..3).for_each(|_| _ = rig.listen());
    let last = |heard: &str, what: &str| {
        let at = heard.find(what).unwrap_or_else(|| panic!("{what} is not in {heard}")) + what.len();
        heard[at..].split(|c: char| !c.is_ascii_digit()).next().and_then(|seq| seq.parse::<u64>().ok())
    };
    // One behind which all is kept, one behind which it is not, and one that never was: there have been three.
    for (named, told) in [(2, true), (0, false), (999, false)] {
        let conn = rig.connect(&format!(
            "GET /sse/r?engine=relay HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {named}\r\n\r\n"
        ));
        let heard = rig.heard(conn);
        assert_eq!(heard.contains(r#""recovered":true"#), told, "{heard}");
        let goes_on = if told { Some(named) } else { last(&heard, r#""last_seq":"#) };
        assert_eq!(last(&heard, "\nid: "), goes_on, "{heard}");
    }
}

#[test]
fn a_member_that_goes_over_to_a_websocket_is_sent_audio_as_others_are() {
    let mut rig = Rig::new(|_| {});
    let stream = rig.connect("GET /sse/r?engine=parrot HTTP/1.1\r\nHost: x\r\n\r\n");
    let welcome = rig.heard(stream);
    let token =
        welcome.split(r#""token":""#).nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    let socket = rig.connect(&format!(
        "GET /ws/r?engine=parrot&resume={token} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    assert!(rig.heard(stream).contains(r#""code":1008"#), "it was taken over from");
    let content = r#"[{"type":"input_text","text":"some words"}]"#;
    let item = format!(r#"{{"type":"message","role":"user","content":{content}}}"#);
    for event in [
        format!(r#"{{"type":"conversation.item.create","item":{item}}}"#),
        r#"{"type":"response.create"}"#.to_owned(),
    ] {
        let len = event.len() as u16;
        let head = if len < 126 {
            vec![0x81, 0x80 | len as u8]
        } else {
            [&[0x81, 0xfe], &len.to_be_bytes()[..]].concat()
        };
        rig.send_bytes(socket, &[&head, &[0; 4][..], event.as_bytes()].concat());
    }
    rig.pass(Micros::from_s(1));
    let sent = rig.sent.remove(&socket).expect("an answer");
    // 20 ms of 16 kHz in a binary frame; with members that take events only, it would be more at once.
    let frame = [0x82, 126, 0x02, 0x80];
    assert!(sent.windows(4).any(|bytes| bytes == frame), "{}", String::from_utf8_lossy(&sent));
}
