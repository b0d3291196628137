//! A node as its clients and its operator see it: real sockets, real threads.

#![expect(clippy::disallowed_methods, reason = "an operator has a clock")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use shards::core::counters::Counters;
use shards::core::message::{Answer, AskId, Query};
use shards::core::{Micros, ShardConfig, ShardId, ShardMessage};
use shards::rt::{Clock, ControlLine, DrainOutcome, Listen, Node, NodeConfig, StartError, WireConfig, start};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

/// Far longer than anything here takes; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn loopback() -> Listen {
    Listen::Tcp("127.0.0.1:0".parse().expect("an address"))
}

fn address(node: &Node) -> SocketAddr {
    node.listens_at().tcp().expect("an address")
}

fn config(shards: u16) -> NodeConfig {
    let mut shard = ShardConfig { shards, echo_endpoint: true, ..ShardConfig::default() };
    // What is tested here is the wire, as hard as a client can.
    (shard.limits.messages_per_s, shard.limits.bytes_per_s) = (0, 0);
    NodeConfig {
        listen: loopback(),
        cores: vec![None; usize::from(shards)],
        wire: WireConfig { ring_entries: 256, receive_buffers: 16, ..WireConfig::default() },
        shard,
        descriptors_max: 1_000,
        seed: 7,
        audit: Vec::new(),
        clock: Clock::start(),
    }
}

fn node(shards: u16) -> (Node, ControlLine) {
    start(config(shards)).expect("the host can run a node")
}

fn drain(node: Node, line: &ControlLine, window: Micros) -> DrainOutcome {
    for shard in 0..line.shards() {
        line.tell(ShardId(shard as u16), ShardMessage::Drain { window }).expect("room for one message");
    }
    node.join(Instant::now() + PATIENCE)
}

fn connect(address: SocketAddr, path: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(address).expect("the node listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    let (socket, _) = tungstenite::client(format!("ws://{address}{path}"), stream).expect("an upgrade");
    socket
}

/// Waits for the next message from a shard, by the doorbell.
fn receive(line: &ControlLine) -> ShardMessage<shards::rt::Link> {
    let begun = Instant::now();
    loop {
        if let Some(message) = line.receive() {
            return message;
        }
        if line.prepare_to_sleep() {
            let left = PATIENCE.checked_sub(begun.elapsed()).expect("an answer in time");
            wait_readable(line, left);
            line.clear_doorbell();
        }
    }
}

/// Blocks until the doorbell rings.
fn wait_readable(line: &ControlLine, patience: Duration) {
    // Reading a clone of the descriptor would silence the bell for everyone, so this polls it as a reactor would.
    let begun = Instant::now();
    let bell = line.doorbell().try_clone_to_owned().expect("a descriptor");
    let mut bell = std::fs::File::from(bell);
    loop {
        match bell.read(&mut [0; 8]) {
            Ok(_) => return,
            Err(error) if error.kind() == ErrorKind::WouldBlock && begun.elapsed() < patience => {
                std::thread::yield_now();
            }
            Err(error) => panic!("the doorbell did not ring: {error}"),
        }
    }
}

fn counters(line: &ControlLine, shard: u16) -> Box<Counters> {
    let id = AskId(99);
    line.tell(ShardId(shard), ShardMessage::Ask { id, query: Query::Counters }).expect("room");
    loop {
        if let ShardMessage::Answer { from, id: answered, answer: Answer::Counters(counters) } = receive(line)
        {
            assert_eq!((from, answered), (ShardId(shard), id));
            return counters;
        }
    }
}

#[test]
fn messages_of_every_size_come_back_whole() {
    let (node, line) = node(1);
    let mut client = connect(address(&node), "/echo");
    for len in [0, 1, 125, 126, 16_383, 16_384, 16_385, 65_536, 300_000, 1_048_576] {
        let sent: Vec<u8> = (0..len).map(|i| (i * 31 + len) as u8).collect();
        client.send(Message::binary(sent.clone())).expect("sent");
        assert_eq!(client.read().expect("an echo"), Message::binary(sent), "{len} bytes");
    }
    drop(client);
    assert_eq!(drain(node, &line, Micros(0)), DrainOutcome::Clean);
}

#[test]
fn many_clients_at_once_are_all_served_and_all_gone_afterwards() {
    let (node, line) = node(2);
    let address = address(&node);
    for _ in 0..3 {
        let mut clients: Vec<_> =
            (0..120).map(|i| connect(address, &format!("/ws/room-{i}?engine=echo"))).collect();
        for (i, client) in clients.iter_mut().enumerate() {
            assert!(client.read().expect("a welcome").is_text(), "client {i}");
            client.send(Message::binary(vec![i as u8; 640])).expect("sent");
        }
        for (i, client) in clients.iter_mut().enumerate() {
            loop {
                let message = client.read().expect("an echo");
                if message.is_binary() {
                    assert_eq!(message.into_data(), vec![i as u8; 640]);
                    break;
                }
            }
        }
    }
    let opened: u64 = (0..2).map(|shard| counters(&line, shard).opened).sum();
    let moved: (u64, u64) = (0..2)
        .map(|shard| counters(&line, shard))
        .fold((0, 0), |(out, into), counters| (out + counters.moved_out, into + counters.moved_in));
    assert_eq!(opened, 360);
    assert_eq!(moved.0, moved.1);
    assert!(moved.0 > 0, "with two shards some connection is accepted where its room is not");
    // The clients have hung up: when the shards have seen it, only doorbell and accepts are in flight.
    loop {
        let all: Vec<_> = (0..2).map(|shard| counters(&line, shard)).collect();
        if all.iter().all(|counters| counters.wire.descriptors == 0) {
            for counters in all {
                assert_eq!(counters.wire.in_flight, 1 + 32, "one doorbell, {} accepts", 32);
                assert_eq!(counters.wire.enters_per_turn_max, 1);
                assert_eq!(counters.wire.turns, counters.wire.enters);
            }
            break;
        }
    }
    assert_eq!(drain(node, &line, Micros(0)), DrainOutcome::Clean);
}

#[test]
fn a_drain_says_goodbye_to_everyone_and_ends_clean() {
    let (node, line) = node(2);
    let mut clients: Vec<_> =
        (0..20).map(|i| connect(address(&node), &format!("/ws/room-{i}?engine=echo"))).collect();
    let end = std::thread::spawn(move || drain(node, &line, Micros::from_ms(200)));
    for client in &mut clients {
        let mut warned = false;
        loop {
            match client.read() {
                Ok(Message::Text(text)) => warned |= text.contains("session.draining"),
                Ok(Message::Close(frame)) => {
                    assert_eq!(frame.expect("a code").code, CloseCode::Away);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(warned);
        // Reads on until the node closes, as a browser does.
        while client.read().is_ok() {}
    }
    assert_eq!(end.join().expect("no panic"), DrainOutcome::Clean);
}

#[test]
fn a_deadline_cuts_who_will_not_go() {
    let (node, line) = node(1);
    let client = connect(address(&node), "/ws/stubborn?engine=echo");
    line.tell(ShardId(0), ShardMessage::Drain { window: Micros::from_s(3_600) }).expect("room");
    assert_eq!(node.join(Instant::now()), DrainOutcome::Forced { connections: 1 });
    drop(client);
}

#[test]
fn stop_ends_a_shard_at_once() {
    let (node, line) = node(1);
    line.tell(ShardId(0), ShardMessage::Stop).expect("room");
    assert_eq!(node.join(Instant::now() + PATIENCE), DrainOutcome::Clean);
    let Err(_) = line.tell(ShardId(0), ShardMessage::Stop) else {
        panic!("a shard that has left takes nothing")
    };
}

#[test]
fn a_client_that_reads_late_still_gets_everything() {
    const MESSAGES: usize = 100;
    let (node, line) = node(1);
    let mut client = connect(address(&node), "/echo");
    let mut writer = client.get_ref().try_clone().expect("a descriptor");
    // Twelve megabytes: more than the sockets and the lane hold together, so that both directions fill up.
    let sender = std::thread::spawn(move || {
        for number in 0..MESSAGES {
            let payload = vec![number as u8; 120_000];
            let mut frame = vec![0x82, 0xff];
            frame.extend((payload.len() as u64).to_be_bytes());
            frame.extend([0; 4]);
            frame.extend(payload);
            writer.write_all(&frame).expect("sent");
        }
    });
    // The node must have met the full socket before anybody reads.
    while counters(&line, 0).sends_blocked == 0 {}
    for number in 0..MESSAGES {
        assert_eq!(client.read().expect("an echo"), Message::binary(vec![number as u8; 120_000]), "{number}");
    }
    sender.join().expect("no panic");
    drop(client);
    assert_eq!(drain(node, &line, Micros(0)), DrainOutcome::Clean);
}

#[test]
fn at_the_descriptor_mark_the_next_client_waits_until_one_leaves() {
    let (node, line) =
        start(NodeConfig { descriptors_max: 3, ..config(1) }).expect("the host can run a node");
    let mut clients: Vec<_> = (0..3).map(|_| connect(address(&node), "/echo")).collect();
    let address = address(&node);
    let next = std::thread::spawn(move || connect(address, "/echo"));
    while counters(&line, 0).wire.accept_paused == 0 {}
    assert_eq!(counters(&line, 0).wire.descriptors, 3);
    drop(clients.pop());
    let mut next = next.join().expect("served at last");
    next.send(Message::text("here")).expect("sent");
    assert_eq!(next.read().expect("an echo"), Message::text("here"));
    drop((next, clients));
    assert_eq!(drain(node, &line, Micros(0)), DrainOutcome::Clean);
}

#[test]
fn a_plain_request_goes_to_the_control_plane_with_its_head() {
    let (node, line) = node(1);
    let mut client = TcpStream::connect(address(&node)).expect("the node listens");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n").expect("sent");
    let ShardMessage::Serve(handoff) = receive(&line) else { panic!("a hand-off") };
    assert!(handoff.head.starts_with(b"GET /healthz HTTP/1.1\r\n"));
    assert_eq!(handoff.peer, client.local_addr().expect("bound"));
    let mut socket = TcpStream::from(handoff.socket.socket);
    socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("nothing else uses the socket");
    drop(socket);
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("the socket closes with its owner");
    assert_eq!(answer, "HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(drain(node, &line, Micros(0)), DrainOutcome::Clean);
}

#[test]
fn what_can_not_work_is_refused_with_a_sentence() {
    let (node, line) = node(1);
    let taken = NodeConfig { listen: node.listens_at().clone(), ..config(1) };
    assert!(matches!(start(taken), Err(StartError::AddressInUse(taken)) if taken == address(&node)));
    let impossible = NodeConfig { cores: vec![Some(100_000)], ..config(1) };
    assert!(matches!(start(impossible), Err(StartError::ImpossibleCore { core: 100_000, .. })));
    let greedy = NodeConfig { descriptors_max: usize::MAX >> 8, ..config(1) };
    assert!(matches!(start(greedy), Err(StartError::Descriptors { .. })));
    let confused = NodeConfig { cores: vec![None; 2], ..config(1) };
    assert!(matches!(start(confused), Err(StartError::Configuration(_))));
    let elsewhere =
        NodeConfig { listen: Listen::Tcp("192.0.2.1:80".parse().expect("an address")), ..config(1) };
    assert!(matches!(start(elsewhere), Err(StartError::Listen { .. })));
    assert_eq!(drain(node, &line, Micros(0)), DrainOutcome::Clean);
}

#[test]
fn a_shard_whose_turns_are_late_says_503() {
    let mut config = config(1);
    // Every turn is late by so much.
    config.shard.shed_lag = Micros(1);
    let (node, line) = start(config).expect("the host can run a node");
    let begun = Instant::now();
    loop {
        let mut client = TcpStream::connect(address(&node)).expect("the node listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let head = "GET /ws/a HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        client.write_all(head.as_bytes()).expect("sent");
        let mut status = [0; 12];
        client.read_exact(&mut status).expect("an answer");
        if status == *b"HTTP/1.1 503" {
            break;
        }
        assert!(status == *b"HTTP/1.1 101" && begun.elapsed() < PATIENCE, "it is never late");
    }
    assert_eq!(counters(&line, 0).shedding, [true, false]);
    assert_eq!(drain(node, &line, Micros(0)), DrainOutcome::Clean);
}
