//! A node on a Unix-domain socket: all shards accept from it, and the last to leave leaves nobody waiting.

#![expect(clippy::disallowed_methods, reason = "an operator has a clock")]

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use shards::core::counters::Counters;
use shards::core::message::{Answer, AskId, Query};
use shards::core::{Micros, ShardConfig, ShardId, ShardMessage, route};
use shards::rt::{Clock, ControlLine, DrainOutcome, Listen, Node, NodeConfig, StartError, WireConfig, start};
use tungstenite::{Message, WebSocket};

const SHARDS: u16 = 3;
/// How long an answer is waited for that may never come, because the shard leaves first.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// Far longer than anything here takes; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("voxhall-node-{}-{name}.sock", std::process::id())))
    }

    fn config(&self) -> NodeConfig {
        let mut shard = ShardConfig { shards: SHARDS, ..ShardConfig::default() };
        (shard.limits.messages_per_s, shard.limits.bytes_per_s) = (0, 0);
        NodeConfig {
            audit: Vec::new(),
            clock: Clock::start(),
            listen: Listen::Unix { path: self.0.clone(), mode: 0o600 },
            cores: vec![None; usize::from(SHARDS)],
            wire: WireConfig { ring_entries: 256, receive_buffers: 16, ..WireConfig::default() },
            shard,
            descriptors_max: 1_000,
            seed: 7,
        }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.0).expect("the node listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn join(&self, room: &str) -> WebSocket<UnixStream> {
        let url = format!("ws://localhost/ws/{room}?engine=echo");
        let (mut socket, _) = tungstenite::client(url, self.connect()).expect("an upgrade");
        assert!(socket.read().expect("a welcome").is_text());
        socket
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn tell_all(line: &ControlLine, window: Micros) {
    for shard in 0..SHARDS {
        line.tell(ShardId(shard), ShardMessage::Drain { window }).expect("room for one message");
    }
}

fn counters(line: &ControlLine, shard: u16) -> Option<Box<Counters>> {
    line.tell(ShardId(shard), ShardMessage::Ask { id: AskId(1), query: Query::Counters }).ok()?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(ShardMessage::Answer { answer: Answer::Counters(counters), .. }) = line.receive() {
            return Some(counters);
        }
        std::thread::yield_now();
    }
    None
}

fn end(node: Node) -> DrainOutcome {
    node.join(Instant::now() + PATIENCE)
}

#[test]
fn rooms_of_every_shard_are_reached_and_slow_readers_get_every_byte() {
    const MESSAGES: usize = 40;
    const BYTES: usize = 64 << 10;
    let place = Place::new("rooms");
    let mut config = place.config();
    config.shard.outbox.bytes_max = 16 << 20;
    let (node, line) = start(config).expect("the host can run a node");
    assert_eq!(node.listens_at().to_string(), format!("unix:{}", place.0.display()));
    let mut clients: Vec<_> = (0..60).map(|number| place.join(&format!("room-{number}"))).collect();
    let moved: u64 = (0..SHARDS).map(|shard| counters(&line, shard).expect("it lives").moved_in).sum();
    assert!(moved > 0, "some rooms were owned by another shard than the one that accepted");
    // As fast as they can, and nobody reads yet: sends fall short and are gone on with.
    let frame = |number: usize, message: usize| vec![(number * 7 + message) as u8; BYTES];
    for message in 0..MESSAGES {
        for (number, client) in clients.iter_mut().enumerate().take(4) {
            client.send(Message::binary(frame(number, message))).expect("the node reads");
        }
    }
    for (number, client) in clients.iter_mut().enumerate().take(4) {
        for message in 0..MESSAGES {
            let read = client.read().expect("an echo");
            assert_eq!(read.into_data(), frame(number, message), "message {message} of {number}");
        }
    }
    let blocked: u64 = (0..SHARDS).map(|shard| counters(&line, shard).expect("it lives").sends_blocked).sum();
    assert!(blocked > 0, "some sends found the socket full");
    drop(clients);
    tell_all(&line, Micros(0));
    assert_eq!(end(node), DrainOutcome::Clean);
    assert!(!place.0.exists(), "the file goes with the node");
}

#[test]
fn shards_without_clients_wait_for_the_others_and_the_last_leaves_nobody_waiting() {
    let place = Place::new("leaving");
    let (node, line) = start(place.config()).expect("the host can run a node");
    let room =
        (0..).map(|number| format!("room-{number}")).find(|room| route::owner(room, SHARDS) == ShardId(0));
    let mut last = place.join(&room.expect("one of the rooms is owned by the first shard"));
    // The window is long: only a member that goes by itself lets its shard leave.
    tell_all(&line, Micros::from_s(3_600));
    // All of them serve whoever comes, and draining refuses.
    for number in 0..40 {
        let mut late = place.connect();
        let head = format!(
            "GET /ws/late-{number} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        late.write_all(head.as_bytes()).expect("the node reads");
        let mut answer = String::new();
        late.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    }
    for shard in 1..SHARDS {
        assert!(counts(&line, shard), "that client may need the channels of shard {shard}");
    }
    last.close(None).expect("connected");
    while last.read().is_ok() {}
    assert_eq!(end(node), DrainOutcome::Clean);
    let gone = UnixStream::connect(&place.0).expect_err("nobody listens");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

/// Whether the shard answers.
fn counts(line: &ControlLine, shard: u16) -> bool {
    let query = ShardMessage::Ask { id: AskId(2), query: Query::Counters };
    if line.tell(ShardId(shard), query).is_err() {
        return false;
    }
    let begun = Instant::now();
    while begun.elapsed() < ANSWER_PATIENCE {
        if line.receive().is_some() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

#[test]
fn a_second_node_is_refused_and_one_after_a_crash_is_not() {
    let place = Place::new("second");
    drop(std::os::unix::net::UnixListener::bind(&place.0).expect("a socket as a crash leaves it"));
    let (node, line) = start(place.config()).expect("it replaces the dead one's");
    let refused = start(place.config()).expect_err("somebody listens");
    assert!(matches!(&refused, StartError::SocketInUse(path) if *path == place.0), "{refused}");
    place.join("still-served");
    tell_all(&line, Micros(0));
    assert_eq!(end(node), DrainOutcome::Clean);
}
