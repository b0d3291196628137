//! A shard with clients around it, as the pump drives it: what each is sent, whether it reads, and how it ends.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};
use shards::core::counters::Counters;
use shards::core::memory::{Recalled, Remember, Remembered, StoreFailed};
use shards::core::message::{Answer, AskId, Query};
use shards::core::{
    Channels, ConnKey, Denied, Effect, Effects, Ended, Gate, Input, Micros, Pass, Role, SessionId, Shard,
    ShardConfig, ShardId,
};

use crate::support::{self, masked, send, send_nothing};

/// Whoever says a name has it.
#[derive(Debug)]
pub(crate) struct Names;

impl Gate for Names {
    fn check(&self, token: &str) -> Result<Pass, Denied> {
        Ok(Pass {
            sub: token.into(),
            valid_for: None,
            rooms: None,
            engine: None,
            realtime: None,
            channels: Channels::default(),
            subscriptions: Box::default(),
            role: Role::Member,
        })
    }
}

pub(crate) struct Rig {
    pub(crate) shard: Shard,
    pub(crate) now: Micros,
    fx: Effects,
    sent: HashMap<ConnKey, Vec<u8>>,
    /// Those that don't read.
    stopped: HashSet<ConnKey>,
    conns: u32,
    /// Rooms that the store was asked for.
    pub(crate) recalls: Vec<SessionId>,
}

/// What a client is told at its end.
pub(crate) type Goodbye = (u16, String);

impl Rig {
    pub(crate) fn new(change: impl FnOnce(&mut ShardConfig)) -> Self {
        Self::seeded(1, change)
    }

    pub(crate) fn seeded(seed: u64, change: impl FnOnce(&mut ShardConfig)) -> Self {
        let mut config = ShardConfig { resume_key: [9; 32], ..ShardConfig::default() };
        change(&mut config);
        let shard = Shard::new(ShardId(0), Arc::new(config), seed);
        let (sent, stopped) = (HashMap::new(), HashSet::new());
        Self { shard, now: Micros::from_s(1), fx: Vec::new(), sent, stopped, conns: 0, recalls: Vec::new() }
    }

    /// Asks for an upgrade; the status of a refusal.
    pub(crate) fn try_join(&mut self, target: &str, headers: &str) -> Result<ConnKey, u16> {
        let conn = self.knock(target, headers);
        self.answered(conn).expect("an answer")
    }

    /// Asks for an upgrade.
    pub(crate) fn knock(&mut self, target: &str, headers: &str) -> ConnKey {
        let conn = ConnKey { index: self.conns, generation: 1 };
        self.conns += 1;
        let mut head = format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{headers}\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .into_bytes();
        let peer = "192.0.2.1:1000".parse().expect("an address");
        self.shard.handle(self.now, Input::Adopted { conn, peer, via: None, head: &mut head }, &mut self.fx);
        self.turn();
        conn
    }

    /// What the client was answered, if it was.
    pub(crate) fn answered(&mut self, conn: ConnKey) -> Option<Result<ConnKey, u16>> {
        let sent = self.sent.get_mut(&conn)?;
        let end = sent.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let head: Vec<u8> = sent.drain(..end).collect();
        Some(match str::from_utf8(&head[9..12]).expect("text").parse().expect("a status") {
            101 => Ok(conn),
            status => Err(status),
        })
    }

    /// What a client was sent that is no WebSocket.
    pub(crate) fn plain(&mut self, conn: ConnKey) -> String {
        String::from_utf8(self.sent.remove(&conn).unwrap_or_default()).expect("text")
    }

    /// The store says what it has of the room `r`.
    pub(crate) fn recalled(&mut self, memory: Result<Option<Remembered>, StoreFailed>) {
        let session = SessionId::parse("r").expect("a name");
        let recalled = Box::new(Recalled { session, memory });
        self.shard.handle(self.now, Input::Recalled(recalled), &mut self.fx);
        self.turn();
    }

    /// The store lacks something of the room.
    pub(crate) fn remember_again(&mut self, room: &str) {
        let session = SessionId::parse(room).expect("a name");
        self.shard.handle(self.now, Input::RememberAgain(session), &mut self.fx);
        self.turn();
    }

    /// What the store is told by now.
    pub(crate) fn told(&mut self) -> Vec<Remember> {
        std::iter::from_fn(|| self.shard.next_remembers(self.now)).flat_map(|told| told.all).collect()
    }

    pub(crate) fn drain(&mut self) {
        self.shard.handle(self.now, Input::Drain { window: Micros::from_ms(10) }, &mut self.fx);
        self.turn();
    }

    /// A client of the room `r` that has heard its welcome.
    pub(crate) fn join(&mut self) -> (ConnKey, Value) {
        self.join_with("/ws/r?engine=relay", "")
    }

    pub(crate) fn join_with(&mut self, target: &str, headers: &str) -> (ConnKey, Value) {
        let conn = self.try_join(target, headers).expect("welcome");
        let events = self.heard(conn);
        assert_eq!(events.len(), 1, "{events:?}");
        (conn, events.into_iter().next().expect("one"))
    }

    /// The same member again, with what it is told first.
    pub(crate) fn come_back(&mut self, welcome: &Value, after: u64) -> (ConnKey, Vec<Value>) {
        let token = token(welcome);
        let target = format!("/ws/r?engine=relay&resume={token}&after={after}");
        let conn = self.try_join(&target, "").expect("welcome");
        let events = self.heard(conn);
        assert_eq!(
            (&events[0]["type"], &events[1]["type"]),
            (&json!("session.created"), &json!("session.restored"))
        );
        (conn, events)
    }

    pub(crate) fn say(&mut self, conn: ConnKey, event: &Value) {
        self.send(conn, 1, event.to_string().as_bytes());
    }

    /// A message to the others.
    pub(crate) fn tell_others(&mut self, conn: ConnKey, data: impl Into<Value>) {
        self.say(conn, &json!({"type": "room.send", "data": data.into()}));
    }

    /// A frame with a mask of zeros.
    pub(crate) fn send(&mut self, conn: ConnKey, opcode: u8, payload: &[u8]) {
        let mut frame = masked(opcode, payload);
        self.shard.handle(self.now, Input::Received { conn, bytes: &mut frame }, &mut self.fx);
        self.turn();
    }

    /// The network between breaks.
    pub(crate) fn cut(&mut self, conn: ConnKey) {
        self.shard.handle(self.now, Input::Ended { conn, how: Ended::Broken }, &mut self.fx);
        self.turn();
    }

    /// The client stops reading.
    pub(crate) fn stop(&mut self, conn: ConnKey) {
        self.stopped.insert(conn);
    }

    /// It reads on.
    pub(crate) fn go_on(&mut self, conn: ConnKey) {
        self.stopped.remove(&conn);
        self.shard.handle(self.now, Input::Writable { conn }, &mut self.fx);
        self.turn();
    }

    /// Whatever the store is due to be told stays where it is.
    pub(crate) fn wait(&mut self, ms: u64) {
        let end = self.now + Micros::from_ms(ms);
        while let Some(deadline) = self.shard.next_deadline().filter(|&deadline| deadline <= end) {
            if deadline <= self.now && self.shard.must_tell_store(self.now) {
                break;
            }
            self.now = self.now.max(deadline);
            self.turn();
        }
        self.now = end;
        self.turn();
    }

    pub(crate) fn counters(&mut self) -> Counters {
        let mut fx = Vec::new();
        self.shard.handle(self.now, Input::Ask { id: AskId(1), query: Query::Counters }, &mut fx);
        match fx.pop() {
            Some(Effect::Answer(_, Answer::Counters(counters))) => *counters,
            other => panic!("{other:?}"),
        }
    }

    fn turn(&mut self) {
        let Self { shard, now, fx, sent, stopped, recalls, .. } = self;
        support::turn(shard, *now, fx, |shard, effect, fx| match effect {
            Effect::Send(conn) if stopped.contains(&conn) => send_nothing(shard, *now, conn, fx),
            Effect::Send(conn) => send(shard, *now, conn, fx, sent.entry(conn).or_default()),
            Effect::Recall(session) => recalls.push(session),
            Effect::Close(conn, _) => shard.handle(*now, Input::Closed { conn }, fx),
            _ => {}
        });
    }

    /// The events that a client has heard since it was last asked; audio and pings are left out.
    pub(crate) fn heard(&mut self, conn: ConnKey) -> Vec<Value> {
        self.take(conn).0
    }

    /// The goodbye that a client has heard, if it was the last that it heard.
    pub(crate) fn goodbye(&mut self, conn: ConnKey) -> Option<Goodbye> {
        self.take(conn).1
    }

    fn take(&mut self, conn: ConnKey) -> (Vec<Value>, Option<Goodbye>) {
        let mut bytes = self.sent.remove(&conn).unwrap_or_default();
        let (mut events, mut goodbye) = (Vec::new(), None);
        while !bytes.is_empty() {
            assert!(goodbye.is_none(), "something behind a goodbye");
            let (at, len) = match bytes[1] {
                126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
                127 => (10, u64::from_be_bytes(bytes[2..10].try_into().expect("eight")) as usize),
                len => (2, usize::from(len)),
            };
            let payload = &bytes[at..at + len];
            match bytes[0] & 0x0f {
                1 => {
                    let lines = payload.split(|&byte| byte == b'\n');
                    events.extend(lines.map(|line| serde_json::from_slice::<Value>(line).expect("JSON")));
                }
                8 => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    goodbye = Some((code, String::from_utf8_lossy(&payload[2..]).into_owned()));
                }
                _ => {}
            }
            bytes.drain(..at + len);
        }
        (events, goodbye)
    }
}

/// The resume token of a welcome.
pub(crate) fn token(welcome: &Value) -> &str {
    welcome["session"]["resume"]["token"].as_str().expect("a token")
}

/// The types of events.
pub(crate) fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().expect("a type")).collect()
}

/// What was sent with `room.send`, with its numbers.
pub(crate) fn messages(events: &[Value]) -> Vec<(u64, Value)> {
    let messages = events.iter().filter(|event| event["type"] == "room.message");
    messages.map(|event| (event["seq"].as_u64().expect("a number"), event["data"].clone())).collect()
}
