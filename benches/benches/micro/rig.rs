//! A shard driven as the pump drives it, with a kernel that takes every byte at once and costs nothing.

use std::sync::Arc;

use divan::black_box;
use shards::core::{
    ConnKey, Effect, Effects, Gather, Input, Micros, SendOutcome, Shard, ShardConfig, ShardId,
};

/// So far away that no connection gets a ping while a bench runs.
const NEVER: Micros = Micros::from_s(1 << 40);

/// One room and its members.
pub(crate) struct Rig {
    shard: Shard,
    now: Micros,
    fx: Effects,
    gather: Gather,
    members: Vec<ConnKey>,
}

impl Rig {
    /// A room of this engine, with a member for each of the subprotocols.
    pub(crate) fn new(engine: &str, subprotocols: &[&str]) -> Self {
        let mut config = ShardConfig::default();
        config.limits.members_per_room_max = subprotocols.len();
        (config.heartbeat.ping, config.heartbeat.idle) = (NEVER, NEVER);
        let shard = Shard::new(ShardId(0), Arc::new(config), 1);
        let mut rig =
            Self { shard, now: Micros(1), fx: Vec::new(), gather: Gather::default(), members: Vec::new() };
        for subprotocol in subprotocols {
            rig.join(engine, subprotocol);
        }
        // What members were told of each other is not a bench's.
        rig.turn_after(Micros::from_s(1));
        rig
    }

    fn join(&mut self, engine: &str, subprotocol: &str) {
        let conn = ConnKey { index: self.members.len() as u32, generation: 1 };
        let peer = "127.0.0.1:1000".parse().expect("an address");
        let mut head = format!(
            "GET /ws/room?engine={engine} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
        )
        .into_bytes();
        self.shard.handle(self.now, Input::Adopted { conn, peer, via: None, head: &mut head }, &mut self.fx);
        self.turn_after(Micros::from_ms(30));
        self.members.push(conn);
    }

    /// Bytes arrive from a member.
    pub(crate) fn receive(&mut self, member: usize, bytes: &mut [u8]) {
        let conn = self.members[member];
        self.shard.handle(self.now, Input::Received { conn, bytes }, &mut self.fx);
    }

    /// Ends the turn so much later. How many sends the kernel took, and how many bytes.
    pub(crate) fn turn_after(&mut self, span: Micros) -> (usize, usize) {
        self.now = self.now + span;
        self.shard.end_turn(self.now, &mut self.fx);
        let (mut sends, mut bytes) = (0, 0);
        while let Some(effect) = self.fx.pop() {
            if let Effect::Send(conn) = effect {
                self.shard.gather(conn, &mut self.gather);
                self.gather.slices().for_each(|slice| {
                    black_box(slice.as_ptr());
                });
                let taken = self.gather.len();
                self.gather.clear();
                (sends, bytes) = (sends + 1, bytes + taken);
                let outcome = SendOutcome::Sent(taken);
                self.shard.handle(self.now, Input::Sent { conn, outcome }, &mut self.fx);
            }
        }
        (sends, bytes)
    }
}
