//! What a shard does that has more work, or less memory, than it can bear: fed with how late its turns are.

mod support;

use std::sync::Arc;

use shards::core::counters::{Counters, REFUSALS};
use shards::core::message::{Answer, AskId, Query};
use shards::core::{
    Caller, ConnKey, Effect, Effects, Input, Micros, Quotas, Shard, ShardConfig, ShardId, Shedding,
};

const AUDIO: [u8; 7] = [0x82, 0x81, 0, 0, 0, 0, 7];

struct Rig {
    shard: Shard,
    quotas: Arc<Quotas>,
    now: Micros,
    next: u32,
    fx: Effects,
    answers: Vec<Answer>,
}

impl Rig {
    fn new() -> Self {
        let mut config = ShardConfig { echo_endpoint: true, ..ShardConfig::default() };
        config.limits.upgrades_in_flight_max = 16;
        let quotas = Arc::new(Quotas::new(&config, 1));
        let shard = Shard::among(ShardId(0), Arc::new(config), Arc::clone(&quotas), 1);
        let (now, fx, answers) = (Micros::from_s(1), Effects::new(), Vec::new());
        Self { shard, quotas, now, next: 0, fx, answers }
    }

    /// A turn that is late by so much.
    fn late(&mut self, ms: u64) -> Option<Shedding> {
        self.now = self.now + Micros::from_ms(100);
        self.shard.lagged(self.now, Micros::from_ms(ms))
    }

    fn connect(&mut self) -> ConnKey {
        let conn = ConnKey { index: self.next, generation: 1 };
        self.next += 1;
        let peer = Caller::At("127.0.0.1:1".parse().expect("an address"));
        self.shard.handle(self.now, Input::Accepted { conn, peer }, &mut self.fx);
        conn
    }

    fn ask(&mut self, target: &str) -> (ConnKey, String) {
        let conn = self.connect();
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let answer = self.receive(conn, head.as_bytes());
        (conn, String::from_utf8_lossy(&answer).into_owned())
    }

    fn receive(&mut self, conn: ConnKey, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        self.shard.handle(self.now, Input::Received { conn, bytes: &mut bytes }, &mut self.fx);
        self.turn()
    }

    fn counters(&mut self) -> Counters {
        let query = Query::Counters;
        self.shard.handle(self.now, Input::Ask { id: AskId(1), query }, &mut self.fx);
        self.turn();
        match self.answers.pop() {
            Some(Answer::Counters(counters)) => *counters,
            other => panic!("not counters: {other:?}"),
        }
    }

    fn turn(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        let Self { shard, now, fx, answers, .. } = self;
        support::turn(shard, *now, fx, |shard, effect, fx| match effect {
            Effect::Send(conn) => support::send(shard, *now, conn, fx, &mut said),
            Effect::Answer(_, answer) => answers.push(answer),
            _ => {}
        });
        said
    }
}

#[test]
fn a_shard_that_is_late_turns_new_clients_away_and_serves_those_it_has() {
    let mut rig = Rig::new();
    let (old, answer) = rig.ask("/ws/a?engine=echo");
    assert!(answer.starts_with("HTTP/1.1 101"));
    assert_eq!((rig.late(400), rig.late(10), rig.late(400)), (None, None, None), "once is nothing");
    assert_eq!(rig.late(400), Some(Shedding::Begins));
    for target in ["/ws/b", "/ws/a", "/echo"] {
        let (_, answer) = rig.ask(target);
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{target}: {answer}");
        assert!(answer.contains("\r\nRetry-After: ") && answer.contains("too much to do"), "{answer}");
    }
    assert!(rig.receive(old, &AUDIO).ends_with(&[0x82, 1, 7]), "who is in stays in");
    let counters = rig.counters();
    let reason = REFUSALS.iter().position(|name| *name == "shedding").expect("a reason");
    assert_eq!((counters.refused[reason], counters.shedding), (3, [true, false]));
    let deadline = rig.shard.next_deadline().expect("it looks again");
    assert!(deadline <= rig.now + Micros::from_s(1), "though nothing happens before");
    rig.now = deadline;
    assert_eq!(rig.late(10), Some(Shedding::Ends));
    assert!(rig.ask("/ws/b").1.starts_with("HTTP/1.1 101"));
    assert_eq!(rig.counters().shedding, [false, false]);
}

#[test]
fn a_node_that_is_short_of_memory_turns_new_clients_away_until_it_is_not() {
    let mut rig = Rig::new();
    let (old, _) = rig.ask("/ws/a?engine=echo");
    rig.quotas.set_memory_short(true);
    let (_, answer) = rig.ask("/ws/b");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("short of memory"), "{answer}");
    assert_eq!(rig.counters().shedding, [false, true]);
    assert!(rig.receive(old, &AUDIO).ends_with(&[0x82, 1, 7]));
    rig.quotas.set_memory_short(false);
    assert!(rig.ask("/ws/b").1.starts_with("HTTP/1.1 101"));
}

#[test]
fn fewer_heads_are_read_at_once_while_new_work_is_turned_away() {
    let mut rig = Rig::new();
    let room = |rig: &mut Rig| {
        let mut taken = 0;
        while rig.shard.accepting() {
            rig.connect();
            taken += 1;
        }
        taken
    };
    rig.quotas.set_memory_short(true);
    assert_eq!(room(&mut rig), 2);
    rig.quotas.set_memory_short(false);
    assert_eq!(room(&mut rig), 14);
}
