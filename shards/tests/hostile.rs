//! What a hostile client may cost: the core, as the pump drives it, against one that goes on and on.

use std::sync::Arc;

use shards::core::counters::Counters;
use shards::core::message::{Answer, AskId, Query};
use shards::core::{
    CloseMode, ConnKey, Effect, Effects, Gather, Input, Micros, SendOutcome, Shard, ShardConfig, ShardId,
};

const CONN: ConnKey = ConnKey { index: 0, generation: 1 };
const NOW: Micros = Micros(1);

/// A shard with one connection, on which this head has arrived.
struct Rig {
    shard: Shard,
    fx: Effects,
}

impl Rig {
    fn new(head: &str) -> Self {
        let mut config = ShardConfig::default();
        // Nobody is stopped for sending much before it has been looked at.
        (config.limits.messages_per_s, config.limits.bytes_per_s) = (0, 0);
        let shard = Shard::new(ShardId(0), Arc::new(config), 1);
        let mut rig = Self { shard, fx: Vec::new() };
        let peer = "127.0.0.1:1000".parse().expect("an address");
        let mut head = head.as_bytes().to_vec();
        rig.shard.handle(NOW, Input::Adopted { conn: CONN, peer, via: None, head: &mut head }, &mut rig.fx);
        rig
    }

    /// The mode in which the connection was closed by what has happened, if it was.
    fn close_mode(&self) -> Option<CloseMode> {
        self.fx.iter().find_map(|effect| match effect {
            Effect::Close(_, mode) => Some(*mode),
            _ => None,
        })
    }

    fn receive(&mut self, bytes: &mut [u8]) {
        self.shard.handle(NOW, Input::Received { conn: CONN, bytes }, &mut self.fx);
    }

    /// Ends a turn; the kernel takes everything.
    fn turn(&mut self) {
        self.shard.end_turn(NOW, &mut self.fx);
        let mut gather = Gather::default();
        if self.fx.iter().any(|effect| matches!(effect, Effect::Send(_))) {
            self.fx.clear();
            self.shard.gather(CONN, &mut gather);
            let outcome = SendOutcome::Sent(gather.len());
            self.shard.handle(NOW, Input::Sent { conn: CONN, outcome }, &mut self.fx);
        }
    }

    fn counters(&mut self) -> Box<Counters> {
        let mut fx = Vec::new();
        self.shard.handle(NOW, Input::Ask { id: AskId(1), query: Query::Counters }, &mut fx);
        match fx.pop() {
            Some(Effect::Answer(_, Answer::Counters(counters))) => counters,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_message_of_many_events_ends_where_its_answers_overflow() {
    let mut rig = Rig::new(
        "GET /ws/room HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: voxhall.v1\r\n\r\n",
    );
    rig.turn();
    let events = b"x\n".repeat(400_000);
    let mut message = vec![0x81, 0xff];
    message.extend((events.len() as u64).to_be_bytes());
    message.extend([0; 4]);
    message.extend(events);
    rig.receive(&mut message);
    let counters = rig.counters();
    let lane = 4 * ShardConfig::default().outbox.messages_max as u64;
    assert!(counters.client_errors <= lane + 1, "{} events were looked at", counters.client_errors);
    assert_eq!(counters.close_codes, [(1013, 1)]);
}

#[test]
fn a_peer_that_sends_on_after_its_refusal_is_cut() {
    let mut rig = Rig::new("NO HTTP\r\n\r\n");
    rig.turn();
    let mut noise = vec![b'x'; 1 << 20];
    for _ in 0..4 {
        rig.receive(&mut noise);
        assert_eq!(rig.close_mode(), None, "it may be the rest of what was refused");
    }
    rig.receive(&mut noise[..1]);
    assert_eq!(rig.close_mode(), Some(CloseMode::Reset));
}
