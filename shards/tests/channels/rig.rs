//! A node of several shards without a runtime: parcels travel when the test says so, and the kernel takes everything.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;
use shards::core::channel::{DeadLetter, Parcel, Publication, Published, Undeliverable, owner};
use shards::core::message::{Answer, AskId, Query};
use shards::core::{ConnKey, Effect, Effects, Input, Micros, Quotas, Shard, ShardConfig, ShardId, route};

use crate::support::{self, masked, send, send_nothing};

/// A client: its shard and its connection there.
pub(crate) type Client = (usize, ConnKey);

pub(crate) struct Node {
    pub(crate) shards: Vec<Shard>,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) now: Micros,
    /// By sender and receiver; as many as fit.
    mesh: BTreeMap<(usize, usize), VecDeque<Parcel>>,
    pub(crate) mesh_max: usize,
    pub(crate) letters: Vec<DeadLetter>,
    pub(crate) answers: Vec<(usize, AskId, Answer)>,
    /// How many letters there were when the last answer came.
    pub(crate) letters_before_answer: usize,
    said: BTreeMap<(usize, u32), Vec<u8>>,
    /// Connections whose sockets take nothing.
    pub(crate) stuck: Vec<Client>,
    closed: Vec<Client>,
    next: u32,
    asked: u64,
}

impl Node {
    pub(crate) fn new(shards: u16) -> Self {
        Self::with(ShardConfig { shards, ..ShardConfig::default() })
    }

    pub(crate) fn with(config: ShardConfig) -> Self {
        let (shards, config) = (config.shards, Arc::new(config));
        let quotas = Arc::new(Quotas::new(&config, 1));
        let make = |id| Shard::among(ShardId(id), Arc::clone(&config), Arc::clone(&quotas), 1);
        Self {
            shards: (0..shards).map(make).collect(),
            quotas: Arc::clone(&quotas),
            now: Micros::from_s(1),
            mesh: BTreeMap::new(),
            mesh_max: usize::MAX,
            letters: Vec::new(),
            answers: Vec::new(),
            letters_before_answer: 0,
            said: BTreeMap::new(),
            stuck: Vec::new(),
            closed: Vec::new(),
            next: 0,
            asked: 0,
        }
    }

    /// A client of a room that lives on this shard.
    pub(crate) fn client(&mut self, shard: usize) -> Client {
        self.client_with(shard, "", "")
    }

    pub(crate) fn client_with(&mut self, shard: usize, query: &str, lines: &str) -> Client {
        self.next += 1;
        let key = ConnKey { index: self.next, generation: 1 };
        let shards = self.shards.len() as u16;
        let mine = |room: &String| route::owner(room, shards).index() == shard;
        let base = self.next;
        let room = (0..).map(|n| format!("room-{base}-{n}")).find(mine).expect("a room of the shard");
        let mut head = format!(
            "GET /ws/{room}?engine=relay{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        )
        .into_bytes();
        let peer = "127.0.0.1:1000".parse().expect("an address");
        self.input(shard, Input::Adopted { conn: key, peer, via: None, head: &mut head });
        (shard, key)
    }

    /// Whoever sends this head to a shard.
    pub(crate) fn dial(&mut self, shard: usize, head: &str) -> Client {
        self.next += 1;
        let key = ConnKey { index: self.next, generation: 1 };
        let peer = "127.0.0.1:1000".parse().expect("an address");
        let mut head = head.as_bytes().to_vec();
        self.input(shard, Input::Adopted { conn: key, peer, via: None, head: &mut head });
        (shard, key)
    }

    /// A client says something; it is not heard elsewhere before [`Node::settle`].
    pub(crate) fn say(&mut self, client: Client, event: &str) {
        self.send(client, 1, event.as_bytes());
    }

    /// A whole message of this opcode.
    pub(crate) fn send(&mut self, client: Client, opcode: u8, message: &[u8]) {
        let mut frame = masked(opcode, message);
        let (shard, conn) = client;
        self.input(shard, Input::Received { conn, bytes: &mut frame });
    }

    /// The client hangs up.
    pub(crate) fn hang_up(&mut self, client: Client) {
        self.input(client.0, Input::Ended { conn: client.1, how: shards::core::Ended::Eof });
    }

    /// The control plane publishes; the answer of the owner.
    pub(crate) fn publish(&mut self, publication: Publication) -> Result<Published, Undeliverable> {
        let owner = owner(&publication.channel, self.shards.len() as u16).index();
        self.asked += 1;
        let id = AskId(self.asked);
        self.input(owner, Input::Ask { id, query: Query::Publish(Box::new(publication)) });
        let at = self.answers.iter().position(|(_, asked, _)| *asked == id).expect("an answer at once");
        match self.answers.remove(at).2 {
            Answer::Published(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// Everything that is on its way arrives.
    pub(crate) fn settle(&mut self) {
        while self.step() {}
    }

    /// One parcel of each pair travels; false when there is none left.
    pub(crate) fn step(&mut self) -> bool {
        let shards = self.shards.len();
        let mut moved = false;
        for from in 0..shards {
            for to in 0..shards {
                moved |= self.carry(from, to);
            }
        }
        moved
    }

    /// One parcel between two shards arrives, and others follow it into the queue.
    pub(crate) fn carry(&mut self, from: usize, to: usize) -> bool {
        let queue = self.mesh.entry((from, to)).or_default();
        let to_id = ShardId(to as u16);
        while let Some(parcel) = self.shards[from].next_parcel(to_id) {
            if queue.len() >= self.mesh_max {
                self.shards[from].return_parcel(to_id, parcel);
                break;
            }
            queue.push_back(parcel);
        }
        let Some(parcel) = queue.pop_front() else { return false };
        self.input(to, Input::Parcel { from: ShardId(from as u16), parcel });
        true
    }

    /// Everything that was written to a client since it was last asked.
    pub(crate) fn said(&mut self, client: Client) -> Vec<u8> {
        self.said.remove(&(client.0, client.1.index)).unwrap_or_default()
    }

    /// The events that a client has heard since it was last asked, of channels and errors.
    pub(crate) fn heard(&mut self, client: Client) -> Vec<Value> {
        let said = self.said(client);
        let texts = texts(&said);
        let lines = texts.iter().flat_map(|text| text.split(|&byte| byte == b'\n'));
        let events = lines.map(|line| serde_json::from_slice(line).expect("JSON"));
        let concerns = |event: &Value| {
            let kind = event["type"].as_str().unwrap_or_default();
            kind.starts_with("channel.") || kind.starts_with("outbox.") || kind == "error"
        };
        events.filter(concerns).collect()
    }

    /// The data of the channel messages that a client has heard.
    pub(crate) fn told(&mut self, client: Client) -> Vec<String> {
        let heard = self.heard(client);
        let messages = heard.iter().filter(|event| event["type"] == "channel.message");
        messages.map(|event| event["data"].to_string()).collect()
    }

    /// Whether the shard has closed the connection.
    pub(crate) fn is_closed(&self, client: Client) -> bool {
        self.closed.contains(&client)
    }

    pub(crate) fn counters(&mut self, shard: usize) -> shards::core::counters::Counters {
        self.asked += 1;
        let id = AskId(self.asked);
        self.input(shard, Input::Ask { id, query: Query::Counters });
        match self.answers.pop().expect("an answer").2 {
            Answer::Counters(counters) => *counters,
            other => panic!("{other:?}"),
        }
    }

    /// A stuck socket takes again.
    pub(crate) fn unstick(&mut self, client: Client) {
        self.stuck.retain(|stuck| *stuck != client);
        self.input(client.0, Input::Writable { conn: client.1 });
    }

    fn input(&mut self, at: usize, input: Input<'_>) {
        let mut fx = Effects::new();
        self.shards[at].handle(self.now, input, &mut fx);
        self.turn(at, fx);
    }

    /// Time passes at a shard.
    pub(crate) fn turn(&mut self, at: usize, mut fx: Effects) {
        let Self { shards, now, stuck, said, closed, answers, letters, letters_before_answer, .. } = self;
        support::turn(&mut shards[at], *now, &mut fx, |shard, effect, fx| match effect {
            Effect::Send(conn) if stuck.contains(&(at, conn)) => send_nothing(shard, *now, conn, fx),
            Effect::Send(conn) => send(shard, *now, conn, fx, said.entry((at, conn.index)).or_default()),
            Effect::Close(conn, _) => {
                closed.push((at, conn));
                shard.handle(*now, Input::Closed { conn }, fx);
            }
            Effect::Answer(id, answer) => {
                *letters_before_answer = letters.len();
                answers.push((at, id, answer));
            }
            Effect::DeadLetter(letter) => letters.push(*letter),
            _ => {}
        });
    }
}

/// The payloads of the text messages behind the answer to the handshake.
pub(crate) fn texts(mut said: &[u8]) -> Vec<Vec<u8>> {
    if said.starts_with(b"HTTP/") {
        let end = said.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
        said = &said[end + 4..];
    }
    let mut texts = Vec::new();
    while let [first, length, rest @ ..] = said {
        let (length, rest) = match length {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => panic!("too long for this test"),
            short => (usize::from(*short), rest),
        };
        if *first == 0x81 {
            texts.push(rest[..length].to_vec());
        }
        said = &rest[length..];
    }
    texts
}
