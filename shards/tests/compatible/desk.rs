//! A shard as the pump drives it, and what its members were told.

use std::sync::Arc;

use serde_json::Value;
use shards::core::counters::Counters;
use shards::core::message::{Answer, AskId, Query};
use shards::core::{
    ConnKey, Effect, Effects, Gather, Input, Micros, SendOutcome, Shard, ShardConfig, ShardId,
};

use crate::support::masked;

/// A shard, and what each connection was sent and has not looked at.
pub(crate) struct Desk {
    shard: Shard,
    now: Micros,
    fx: Effects,
    sent: Vec<Vec<u8>>,
    events: Vec<Vec<Value>>,
    audio: Vec<Vec<Vec<u8>>>,
    encoded: u64,
    /// The kernel takes nothing.
    blocked: bool,
}

impl Default for Desk {
    fn default() -> Self {
        Self::with(ShardConfig::default())
    }
}

impl Desk {
    pub(crate) fn with(config: ShardConfig) -> Self {
        Self {
            shard: Shard::new(ShardId(0), Arc::new(config), 1),
            now: Micros(1),
            fx: Vec::new(),
            sent: Vec::new(),
            events: Vec::new(),
            audio: Vec::new(),
            encoded: 0,
            blocked: false,
        }
    }

    /// Asks for a WebSocket: who asked, and the head of the answer.
    fn ask(&mut self, target: &str, lines: &[&str]) -> (ConnKey, String) {
        let conn = ConnKey { index: self.sent.len() as u32, generation: 1 };
        self.sent.push(Vec::new());
        self.events.push(Vec::new());
        self.audio.push(Vec::new());
        let peer = "127.0.0.1:1000".parse().expect("an address");
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let mut head = format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        )
        .into_bytes();
        self.shard.handle(self.now, Input::Adopted { conn, peer, via: None, head: &mut head }, &mut self.fx);
        self.wait(1);
        let sent = &mut self.sent[conn.index as usize];
        let end = sent.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8(sent.drain(..end).collect()).expect("ASCII");
        (conn, head)
    }

    pub(crate) fn knock(&mut self, target: &str, lines: &[&str]) -> String {
        self.ask(target, lines).1
    }

    pub(crate) fn join(&mut self, target: &str, lines: &[&str]) -> ConnKey {
        let (conn, head) = self.ask(target, lines);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        conn
    }

    pub(crate) fn send(&mut self, conn: ConnKey, event: &Value) {
        self.receive(conn, 1, event.to_string().as_bytes());
    }

    pub(crate) fn send_audio(&mut self, conn: ConnKey, audio: &[u8]) {
        self.receive(conn, 2, audio);
    }

    fn receive(&mut self, conn: ConnKey, opcode: u8, payload: &[u8]) {
        let mut bytes = masked(opcode, payload);
        self.shard.handle(self.now, Input::Received { conn, bytes: &mut bytes }, &mut self.fx);
        self.wait(1);
    }

    /// Ends the turn so much later; the kernel takes everything.
    pub(crate) fn wait(&mut self, ms: u64) {
        self.now = Micros(self.now.0 + ms * 1_000);
        self.shard.end_turn(self.now, &mut self.fx);
        let mut gather = Gather::default();
        while let Some(effect) = self.fx.pop() {
            let Effect::Send(conn) = effect else { continue };
            if self.blocked {
                let input = Input::Sent { conn, outcome: SendOutcome::WouldBlock };
                self.shard.handle(self.now, input, &mut self.fx);
            } else {
                self.shard.gather(conn, &mut gather);
                for slice in gather.slices() {
                    self.sent[conn.index as usize].extend_from_slice(slice);
                }
                let input = Input::Sent { conn, outcome: SendOutcome::Sent(gather.len()) };
                gather.clear();
                self.shard.handle(self.now, input, &mut self.fx);
            }
        }
    }

    /// Says goodbye for it.
    pub(crate) fn leave(&mut self, conn: ConnKey) {
        self.receive(conn, 8, &1000u16.to_be_bytes());
        self.sent[conn.index as usize].clear();
    }

    /// From now on the kernel takes nothing.
    pub(crate) fn block(&mut self) {
        self.blocked = true;
    }

    /// The kernel takes everything again.
    pub(crate) fn unblock(&mut self, conn: ConnKey) {
        self.blocked = false;
        self.shard.handle(self.now, Input::Writable { conn }, &mut self.fx);
        self.wait(1);
    }

    /// The first event of this type that it was sent and has not looked at; those before it are forgotten.
    pub(crate) fn event(&mut self, conn: ConnKey, kind: &str) -> Value {
        self.sort(conn);
        let events = &mut self.events[conn.index as usize];
        let names: Vec<&Value> = events.iter().map(|event| &event["type"]).collect();
        let Some(at) = names.iter().position(|name| *name == kind) else {
            panic!("no {kind} among {names:?}");
        };
        events.drain(..=at).next_back().expect("it is there")
    }

    /// All events that it was sent and has not looked at.
    pub(crate) fn all(&mut self, conn: ConnKey) -> Vec<Value> {
        self.sort(conn);
        std::mem::take(&mut self.events[conn.index as usize])
    }

    /// The binary messages that it was sent.
    pub(crate) fn audio(&mut self, conn: ConnKey) -> Vec<Vec<u8>> {
        self.sort(conn);
        std::mem::take(&mut self.audio[conn.index as usize])
    }

    /// The audio in the events of this type that it was sent; other events are forgotten.
    pub(crate) fn deltas(&mut self, conn: ConnKey, kind: &str) -> Vec<Vec<u8>> {
        let events = self.all(conn);
        let deltas = events.iter().filter(|event| event["type"] == kind);
        let decode = |delta: &Value| {
            base64_simd::STANDARD.decode_to_vec(delta.as_str().expect("text")).expect("base64")
        };
        deltas.map(|event| decode(&event["delta"])).collect()
    }

    /// How many frames were encoded since the last call.
    pub(crate) fn encoded(&mut self) -> u64 {
        let counters = self.counters();
        let since = counters.frames_encoded - self.encoded;
        self.encoded = counters.frames_encoded;
        since
    }

    fn counters(&mut self) -> Box<Counters> {
        self.shard.handle(self.now, Input::Ask { id: AskId(1), query: Query::Counters }, &mut self.fx);
        match self.fx.pop() {
            Some(Effect::Answer(_, Answer::Counters(counters))) => counters,
            other => panic!("{other:?}"),
        }
    }

    fn sort(&mut self, conn: ConnKey) {
        let at = conn.index as usize;
        let sent = std::mem::take(&mut self.sent[at]);
        let mut rest = &sent[..];
        while let [first, short, ..] = *rest {
            let (len, header) = match short {
                126 => (usize::from(u16::from_be_bytes([rest[2], rest[3]])), 4),
                127 => (u64::from_be_bytes(rest[2..10].try_into().expect("eight")) as usize, 10),
                short => (short.into(), 2),
            };
            let payload = &rest[header..header + len];
            match first {
                0x82 => self.audio[at].push(payload.to_vec()),
                0x81 => {
                    let lines = payload.split(|&byte| byte == b'\n');
                    self.events[at].extend(lines.map(|line| serde_json::from_slice(line).expect("JSON")));
                }
                other => panic!("a frame that begins with {other:x}"),
            }
            rest = &rest[header + len..];
        }
    }
}
