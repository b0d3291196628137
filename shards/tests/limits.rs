//! What becomes of a client that sends more than its limits allow, over the core as the pump drives it.

mod support;

use std::sync::Arc;

use shards::core::counters::{Counters, Refusal};
use shards::core::message::{Answer, AskId, Query};
use shards::core::{Caller, ConnKey, Effect, Effects, Input, Micros, Shard, ShardConfig, ShardId};

const KEY: ConnKey = ConnKey { index: 0, generation: 1 };
const AUDIO: [u8; 7] = [0x82, 0x81, 0, 0, 0, 0, 7];
const PING: [u8; 6] = [0x89, 0x80, 0, 0, 0, 0];

struct Rig {
    shard: Shard,
    now: Micros,
    fx: Effects,
    /// Everything sent to the connection, as it would be on the wire.
    sent: Vec<u8>,
}

impl Rig {
    /// A connection to `target` on a shard that allows 100 messages a second, 10 at once.
    fn open(target: &str) -> Self {
        let mut config = ShardConfig { echo_endpoint: true, ..ShardConfig::default() };
        (config.limits.messages_per_s, config.limits.messages_burst) = (100, 10);
        let mut rig = Self::on(config);
        rig.knock(KEY, "127.0.0.1:1000", target);
        assert!(rig.said("101 Switching"));
        rig
    }

    fn on(config: ShardConfig) -> Self {
        let shard = Shard::new(ShardId(0), Arc::new(config), 1);
        Self { shard, now: Micros::from_s(1), fx: Vec::new(), sent: Vec::new() }
    }

    /// An upgrade from somewhere.
    fn knock(&mut self, conn: ConnKey, from: &str, target: &str) {
        let peer = Caller::At(from.parse().expect("an address"));
        self.shard.handle(self.now, Input::Accepted { conn, peer }, &mut self.fx);
        let mut head = format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: voxhall.v1\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        )
        .into_bytes();
        self.shard.handle(self.now, Input::Received { conn, bytes: &mut head }, &mut self.fx);
        self.turn();
    }

    fn counters(&mut self) -> Counters {
        self.shard.handle(self.now, Input::Ask { id: AskId(1), query: Query::Counters }, &mut self.fx);
        match self.fx.pop() {
            Some(Effect::Answer(_, Answer::Counters(counters))) => *counters,
            other => panic!("{other:?}"),
        }
    }

    fn receive(&mut self, frame: &[u8]) {
        let mut bytes = frame.to_vec();
        self.shard.handle(self.now, Input::Received { conn: KEY, bytes: &mut bytes }, &mut self.fx);
        self.turn();
    }

    fn text(&mut self, text: &str) {
        self.receive(&support::masked(1, text.as_bytes()));
    }

    fn turn(&mut self) {
        let Self { shard, now, fx, sent, .. } = self;
        support::turn(shard, *now, fx, |shard, effect, fx| {
            if let Effect::Send(conn) = effect {
                support::send(shard, *now, conn, fx, sent);
            }
        });
    }

    fn pass(&mut self, time: Micros) {
        self.now = self.now + time;
    }

    /// Whether it was sent since the last question.
    fn said(&mut self, words: &str) -> bool {
        self.count(words) > 0
    }

    fn count(&mut self, words: &str) -> usize {
        let sent = std::mem::take(&mut self.sent);
        sent.windows(words.len()).filter(|window| *window == words.as_bytes()).count()
    }

    /// Whether the last that was sent is a close frame with this code.
    fn closed_with(&self, code: u16) -> bool {
        let frame = self.sent.windows(2).rposition(|pair| pair[0] == 0x88);
        frame.is_some_and(|at| self.sent[at + 2..at + 4] == code.to_be_bytes())
    }
}

#[test]
fn a_client_is_warned_then_refused_then_closed() {
    let mut rig = Rig::open("/ws/a?engine=echo");
    (0..8).for_each(|_| rig.receive(&AUDIO));
    assert!(!rig.said("rate_limit"), "four fifths of the burst are nobody's business");
    rig.receive(&AUDIO);
    assert!(rig.said(
        r#""rate_limits":[{"name":"messages","limit":10,"remaining":1,"reset_seconds":0.09}],"refused":0"#
    ));
    rig.receive(&AUDIO);
    assert_eq!(rig.count("rate_limit"), 0, "a warning comes once");
    (0..10).for_each(|_| rig.receive(&AUDIO));
    assert_eq!(rig.count("rate_limit_exceeded"), 1, "and so does the refusal");
    rig.receive(&AUDIO);
    assert!(rig.closed_with(1008));
}

#[test]
fn a_client_that_waits_is_served_again() {
    let mut rig = Rig::open("/ws/a?engine=echo");
    (0..15).for_each(|_| rig.receive(&AUDIO));
    assert!(rig.said("rate_limit_exceeded"));
    rig.pass(Micros::from_s(1));
    rig.receive(&AUDIO);
    assert!(rig.said(r#""refused":5}"#), "and told what was lost");
    (0..8).for_each(|_| rig.receive(&AUDIO));
    assert_eq!(rig.count("rate_limits.updated"), 1, "then as if nothing had been");
}

#[test]
fn exactly_the_rate_is_never_too_much() {
    let mut rig = Rig::open("/ws/a?engine=echo");
    for _ in 0..1_000 {
        rig.receive(&AUDIO);
        rig.pass(Micros::from_ms(10));
    }
    assert_eq!(rig.count("rate_limit"), 0);
}

#[test]
fn lines_of_a_batch_and_pings_buy_no_way_around() {
    let mut rig = Rig::open("/ws/a");
    rig.text(&"{}\n".repeat(21));
    assert!(rig.closed_with(1008), "each line is a message");
    let mut rig = Rig::open("/ws/a");
    (0..21).for_each(|_| rig.receive(&PING));
    assert!(rig.closed_with(1008), "each ping is");
}

#[test]
fn echo_takes_what_comes() {
    let mut rig = Rig::open("/echo");
    (0..100).for_each(|_| rig.receive(&AUDIO));
    assert_eq!(rig.sent[rig.sent.len() - 300..], [0x82, 1, 7].repeat(100));
}

#[test]
fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    let mut rig = Rig::open("/ws/a");
    let conn = |index| ConnKey { index, generation: 1 };
    for index in 1..=200 {
        rig.knock(conn(index), "198.51.100.7:1000", &format!("/ws/{index}"));
    }
    rig.sent.clear();
    rig.knock(conn(201), "198.51.100.7:1001", "/ws/a");
    assert!(rig.said("HTTP/1.1 429 Too Many Requests\r\n"));
    rig.knock(conn(202), "198.51.100.7:1001", "/ws/a");
    assert!(rig.said("\r\nRetry-After: "));
    rig.knock(conn(203), "198.51.100.8:1000", "/ws/c");
    assert!(rig.said("101 Switching"), "others are not concerned");
    for index in 204..604 {
        rig.knock(conn(index), "127.0.0.1:1000", &format!("/ws/{index}"));
    }
    assert_eq!(rig.count("101 Switching"), 400, "this host is not limited");
}

#[test]
fn under_tls_an_address_is_refused_before_its_handshake() {
    let mut config = ShardConfig::default();
    config.limits.handshakes = true;
    config.proxies.trusted = "203.0.113.0/24".parse().expect("a network");
    let mut rig = Rig::on(config);
    let mut index = 0;
    let mut knocks = |rig: &mut Rig, from: &str, count: usize| {
        let admitted = (0..count).filter(|_| {
            index += 1;
            let conn = ConnKey { index, generation: 1 };
            let peer = Caller::At(from.parse().expect("an address"));
            rig.shard.handle(rig.now, Input::Accepted { conn, peer }, &mut rig.fx);
            let closes =
                rig.fx.iter().any(|effect| matches!(effect, Effect::Close(closed, _) if *closed == conn));
            rig.fx.clear();
            if closes {
                rig.shard.handle(rig.now, Input::Closed { conn }, &mut rig.fx);
            }
            !closes
        });
        admitted.count()
    };
    assert_eq!(knocks(&mut rig, "198.51.100.7:1000", 300), 200);
    assert_eq!(knocks(&mut rig, "198.51.100.8:1000", 10), 10, "others are not concerned");
    assert_eq!(knocks(&mut rig, "203.0.113.5:1000", 300), 300, "a proxy speaks for others");
    assert_eq!(knocks(&mut rig, "127.0.0.1:1000", 300), 300, "this host is not limited");
    assert_eq!(rig.counters().refused[Refusal::TooOften as usize], 100);
    rig.now = rig.now + Micros::from_ms(500);
    assert_eq!(knocks(&mut rig, "198.51.100.7:1000", 300), 100);
}

#[test]
fn what_inflates_is_charged_for_what_it_becomes() {
    let mut config = ShardConfig { echo_endpoint: true, ..ShardConfig::default() };
    config.deflate.enabled = true;
    (config.limits.bytes_per_s, config.limits.message_bytes_max) = (1_000, 100_000);
    let mut rig = Rig::on(config);
    rig.knock(KEY, "127.0.0.1:1000", "/ws/a");
    // A hundred thousand zeros in some hundred bytes.
    let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
    let mut bomb = Vec::with_capacity(1_000);
    deflate.compress_vec(&[b'0'; 99_000], &mut bomb, flate2::FlushCompress::Sync).expect("it fits");
    bomb.truncate(bomb.len() - 4);
    let mut frame = vec![0xc1, 0x80 | u8::try_from(bomb.len()).expect("a short frame"), 0, 0, 0, 0];
    frame.extend_from_slice(&bomb);
    rig.receive(&frame);
    assert!(!rig.said("rate_limit_exceeded"), "one may be as long as a message may be");
    rig.receive(&frame);
    assert!(rig.said("rate_limit_exceeded"));
}
