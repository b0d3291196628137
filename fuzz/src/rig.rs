//! One connection to a shard of its own, to see what becomes of the bytes that arrive on it.

use std::net::SocketAddr;
use std::sync::Arc;

use shards::core::{
    Caller, ConnKey, Destination, Effect, Effects, Gather, Input, Micros, SendOutcome, Shard, ShardConfig,
    ShardId,
};

const CONN: ConnKey = ConnKey { index: 0, generation: 1 };
const NOW: Micros = Micros(1);

/// What became of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// More is needed, and nothing was said.
    Waiting,
    /// It was answered with this, all of it when that is a refusal, the head of it when more may follow.
    Answered(String),
    /// It went there with these bytes, and with the address it is taken to come from.
    Moved(Destination, Vec<u8>, SocketAddr),
}

/// Brings the pieces to a shard of this configuration, over a connection from this peer.
pub(crate) fn fate<'p>(
    config: ShardConfig,
    peer: SocketAddr,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Fate {
    let mut config = config;
    // Its tables are made for each input, and are as large as this.
    config.limits.connections_max = 8;
    let mut shard = Shard::new(ShardId(0), Arc::new(config), 1);
    let mut seen = Seen::default();
    let mut fx = Effects::new();
    shard.handle(NOW, Input::Accepted { conn: CONN, peer: Caller::At(peer) }, &mut fx);
    seen.turn(&mut shard, &mut fx);
    for piece in pieces {
        if let Some((_, head, _)) = &mut seen.moved {
            // Whoever has it now reads the rest.
            head.extend_from_slice(piece);
        } else if !seen.over {
            shard.handle(NOW, Input::Received { conn: CONN, bytes: &mut piece.to_vec() }, &mut fx);
            seen.turn(&mut shard, &mut fx);
        }
    }
    assert!(!seen.over || !seen.said.is_empty(), "a connection was ended without a word");
    match seen.moved {
        // What follows an answer is another request, and may go elsewhere.
        Some((to, head, peer)) if seen.said.is_empty() => Fate::Moved(to, head, peer),
        _ if seen.said.is_empty() => Fate::Waiting,
        _ => Fate::Answered(first_answer(&seen.said)),
    }
}

#[derive(Default)]
struct Seen {
    said: Vec<u8>,
    moved: Option<(Destination, Vec<u8>, SocketAddr)>,
    over: bool,
}

impl Seen {
    /// Ends a turn; the kernel takes everything.
    fn turn(&mut self, shard: &mut Shard, fx: &mut Effects) {
        shard.end_turn(NOW, fx);
        let mut gather = Gather::default();
        while !fx.is_empty() {
            for effect in std::mem::take(fx) {
                match effect {
                    Effect::Send(conn) => {
                        shard.gather(conn, &mut gather);
                        gather.slices().for_each(|slice| self.said.extend_from_slice(slice));
                        let outcome = SendOutcome::Sent(gather.len());
                        gather.clear();
                        shard.handle(NOW, Input::Sent { conn, outcome }, fx);
                    }
                    Effect::Move { to, head, peer, .. } => self.moved = Some((to, head, peer)),
                    Effect::Close(..) => self.over = true,
                    _ => {}
                }
            }
            shard.end_turn(NOW, fx);
        }
    }
}

/// What was said, up to the end of the head when frames follow it.
fn first_answer(said: &[u8]) -> String {
    let head = said.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    let head = head.expect("the first that is said is a whole head");
    let more = [&b"HTTP/1.1 101 "[..], b"HTTP/1.1 200 ", b"HTTP/1.1 204 "]
        .iter()
        .any(|status| said.starts_with(status));
    let end = if more { head } else { said.len() };
    String::from_utf8(said[..end].to_vec()).expect("an answer is text")
}
