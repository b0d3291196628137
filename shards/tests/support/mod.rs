//! What the rigs around a shard have in common: frames as clients send them, and turns as the pump ends them.

#![allow(dead_code, reason = "each test file uses its share")]

use shards::core::{ConnKey, Effect, Effects, Gather, Input, Micros, SendOutcome, Shard};

/// A client's whole message of this opcode, with a mask of zeros.
pub(crate) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ ..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(long).expect("no longer than that").to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// Ends turns until nothing is left to do. What has to be done is the rig's to carry out.
pub(crate) fn turn(
    shard: &mut Shard,
    now: Micros,
    fx: &mut Effects,
    mut carry_out: impl FnMut(&mut Shard, Effect, &mut Effects),
) {
    loop {
        shard.end_turn(now, fx);
        if fx.is_empty() {
            return;
        }
        for effect in std::mem::take(fx) {
            carry_out(shard, effect, fx);
        }
    }
}

/// A connection's send: the kernel takes all of it.
pub(crate) fn send(shard: &mut Shard, now: Micros, conn: ConnKey, fx: &mut Effects, sent: &mut Vec<u8>) {
    let mut gather = Gather::default();
    shard.gather(conn, &mut gather);
    gather.slices().for_each(|slice| sent.extend_from_slice(slice));
    let outcome = SendOutcome::Sent(gather.len());
    gather.clear();
    shard.handle(now, Input::Sent { conn, outcome }, fx);
}

/// A connection's send: the kernel takes nothing.
pub(crate) fn send_nothing(shard: &mut Shard, now: Micros, conn: ConnKey, fx: &mut Effects) {
    let mut gather = Gather::default();
    shard.gather(conn, &mut gather);
    gather.clear();
    shard.handle(now, Input::Sent { conn, outcome: SendOutcome::WouldBlock }, fx);
}
