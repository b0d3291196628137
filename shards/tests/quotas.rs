//! What a node gives out only so often: connections in all, for each user and each address, and rooms. Two shards of one
//! node share each bound; here they race for the last place, and give everything back however a connection ends.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};

use shards::core::config::Limits;
use shards::core::counters::{Counters, REFUSALS};
use shards::core::message::{Answer, AskId, Query};
use shards::core::quota::Out;
use shards::core::{
    Caller, Channels, ConnKey, Denied, Effect, Effects, Ended, Gate, Input, Micros, Pass, Quotas, Role,
    SendOutcome, SessionId, Shard, ShardConfig, ShardId, route,
};

const SHARDS: u16 = 2;

/// Takes tokens such as `ann.1000`: the user, and for how many milliseconds.
#[derive(Debug)]
struct PlainGate;

impl Gate for PlainGate {
    fn check(&self, token: &str) -> Result<Pass, Denied> {
        let (sub, ms) = token.split_once('.').ok_or(Denied::Unauthorized("it has no dot"))?;
        let valid_for = ms.parse().ok().map(Micros::from_ms);
        Ok(Pass {
            sub: sub.into(),
            valid_for,
            rooms: None,
            channels: Channels::default(),
            engine: None,
            realtime: None,
            subscriptions: Box::default(),
            role: Role::Member,
        })
    }
}

fn config(limit: impl FnOnce(&mut Limits)) -> Arc<ShardConfig> {
    let mut config = ShardConfig { shards: SHARDS, echo_endpoint: true, ..ShardConfig::default() };
    config.limits.upgrades_per_s_per_ip = 0;
    limit(&mut config.limits);
    Arc::new(config)
}

fn with_users(limit: impl FnOnce(&mut Limits)) -> Arc<ShardConfig> {
    let config = Arc::unwrap_or_clone(config(limit));
    Arc::new(ShardConfig { gate: Some(Arc::new(PlainGate)), ..config })
}

/// One shard of a node, and the kernel under it, which takes everything at once.
struct Rig {
    id: u16,
    shard: Shard,
    quotas: Arc<Quotas>,
    now: Micros,
    next: u32,
    fx: Effects,
    answers: Vec<Answer>,
}

impl Rig {
    fn new(id: u16, config: &Arc<ShardConfig>, quotas: &Arc<Quotas>) -> Self {
        let shard = Shard::among(ShardId(id), Arc::clone(config), Arc::clone(quotas), 1);
        let (now, fx, answers) = (Micros(1), Effects::new(), Vec::new());
        Self { id, shard, quotas: Arc::clone(quotas), now, next: 0, fx, answers }
    }

    /// The shards of a node.
    fn node(config: &Arc<ShardConfig>) -> [Self; 2] {
        let quotas = Arc::new(Quotas::new(config, 9));
        [Self::new(0, config, &quotas), Self::new(1, config, &quotas)]
    }

    /// The path of a room that lives here.
    fn room(&self, number: usize) -> String {
        let names = (0..).map(|salt| format!("room-{number}-{salt}"));
        let mut ours = names.filter(|name| route::owner(name, SHARDS) == ShardId(self.id));
        format!("/ws/{}", ours.next().expect("there is one for each shard"))
    }

    /// Asks for an upgrade: the connection, and the answer.
    fn ask(&mut self, from: &str, target: &str) -> (ConnKey, String) {
        self.ask_with(from, target, "")
    }

    fn ask_with(&mut self, from: &str, target: &str, lines: &str) -> (ConnKey, String) {
        let conn = ConnKey { index: self.next, generation: 1 };
        self.next += 1;
        let peer = Caller::At(from.parse().expect("an address"));
        let mut head = format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        )
        .into_bytes();
        self.shard.handle(self.now, Input::Accepted { conn, peer }, &mut self.fx);
        self.shard.handle(self.now, Input::Received { conn, bytes: &mut head }, &mut self.fx);
        (conn, self.turn())
    }

    fn status(&mut self, from: &str, target: &str) -> u16 {
        let (_, answer) = self.ask(from, target);
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }

    /// A token's bearer asks for a room of its own here.
    fn visit(&mut self, token: &str) -> (ConnKey, String) {
        let target = format!("{}?token={token}", self.room(self.next as usize));
        self.ask("198.51.100.7:1", &target)
    }

    fn receive(&mut self, conn: ConnKey, frame: &[u8]) -> String {
        let mut bytes = frame.to_vec();
        self.shard.handle(self.now, Input::Received { conn, bytes: &mut bytes }, &mut self.fx);
        self.turn()
    }

    fn input(&mut self, input: Input<'_>) {
        self.shard.handle(self.now, input, &mut self.fx);
        self.turn();
    }

    fn question(&mut self, query: Query) -> Answer {
        self.input(Input::Ask { id: AskId(1), query });
        self.answers.pop().expect("an answer")
    }

    fn refused(&mut self, reason: &str) -> u64 {
        let Answer::Counters(counters) = self.question(Query::Counters) else { panic!("not counters") };
        let Counters { refused, .. } = *counters;
        refused[REFUSALS.iter().position(|name| *name == reason).expect("a reason")]
    }

    fn out(&self) -> Out {
        self.quotas.out()
    }

    /// Ends a turn: what was sent.
    fn turn(&mut self) -> String {
        let mut said = Vec::new();
        let Self { shard, now, fx, answers, .. } = self;
        support::turn(shard, *now, fx, |shard, effect, fx| match effect {
            Effect::Send(conn) => support::send(shard, *now, conn, fx, &mut said),
            Effect::Close(conn, _) | Effect::Move { conn, .. } => {
                shard.handle(*now, Input::Closed { conn }, fx);
            }
            Effect::Answer(_, answer) => answers.push(answer),
            _ => {}
        });
        String::from_utf8_lossy(&said).into_owned()
    }
}

fn retry_after(answer: &str) -> u32 {
    let line = answer.lines().find_map(|line| line.strip_prefix("Retry-After: "));
    line.and_then(|seconds| seconds.parse().ok()).unwrap_or_else(|| panic!("no Retry-After in {answer}"))
}

#[test]
fn the_eleventh_connection_of_a_user_gets_429_wherever_the_others_are() {
    let config = with_users(|_| {});
    let [mut one, mut other] = Rig::node(&config);
    let mut first = None;
    for number in 0..10 {
        let rig = if number % 2 == 0 { &mut one } else { &mut other };
        let (conn, answer) = rig.visit("ann.-");
        assert!(answer.starts_with("HTTP/1.1 101"), "{number}: {answer}");
        first = first.or(Some(conn));
    }
    for rig in [&mut one, &mut other] {
        let (_, answer) = rig.visit("ann.-");
        assert!(answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{answer}");
        assert!((5..9).contains(&retry_after(&answer)) && answer.contains("this user has"), "{answer}");
        assert_eq!(rig.refused("user_full"), 1);
        assert!(rig.visit("bob.-").1.starts_with("HTTP/1.1 101"), "others are not concerned");
    }
    one.input(Input::Ended { conn: first.expect("it came in"), how: Ended::Broken });
    assert!(other.visit("ann.-").1.starts_with("HTTP/1.1 101"), "the place is free on every shard");
}

#[test]
fn without_tokens_there_are_no_users() {
    let [mut one, _other] = Rig::node(&config(|_| {}));
    for number in 0..50 {
        let room = one.room(number);
        assert_eq!(one.status("198.51.100.7:1", &room), 101);
    }
    assert_eq!(one.out(), Out { connections: 50, rooms: 50, ..Out::default() });
}

#[test]
fn an_address_has_so_many_connections_to_the_node_and_this_host_any_number() {
    let config = config(|limits| limits.connections_per_ip_max = 2);
    let [mut one, mut other] = Rig::node(&config);
    let (here, there) = (one.room(0), other.room(0));
    assert_eq!(one.status("198.51.100.7:1", &here), 101);
    assert_eq!(other.status("198.51.100.7:2", "/echo"), 101);
    let (_, answer) = other.ask("198.51.100.7:3", &there);
    assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("this address has"), "{answer}");
    assert!(retry_after(&answer) >= 5);
    assert_eq!(other.refused("address_full"), 1);
    assert_eq!(other.status("198.51.100.8:1", &there), 101);
    for port in 1..5 {
        assert_eq!(
            one.status(&format!("[2001:db8::{port}]:{port}"), &here),
            if port < 3 { 101 } else { 429 }
        );
        assert_eq!(one.status(&format!("127.0.0.1:{port}"), &here), 101);
    }
}

#[test]
fn the_client_behind_a_trusted_proxy_is_counted_and_not_the_proxy() {
    let mut config = Arc::unwrap_or_clone(config(|limits| limits.connections_per_ip_max = 1));
    config.proxies.trusted = "10.0.0.0/8".parse().expect("a network");
    let [mut one, _other] = Rig::node(&Arc::new(config));
    let room = one.room(0);
    for (client, status) in [("192.0.2.1", "101"), ("192.0.2.2", "101"), ("192.0.2.1", "429")] {
        let (_, answer) = one.ask_with("10.1.1.1:1000", &room, &format!("X-Forwarded-For: {client}\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{client}: {answer}");
    }
    assert_eq!(one.out().addresses, 2);
}

#[test]
fn connections_and_rooms_are_counted_over_all_shards() {
    let config = config(|limits| (limits.connections_max, limits.rooms_max) = (3, 2));
    let [mut one, mut other] = Rig::node(&config);
    let rooms = [one.room(0), one.room(1), other.room(0)];
    let (first, answer) = one.ask("127.0.0.1:1", &rooms[0]);
    assert!(answer.starts_with("HTTP/1.1 101"));
    assert_eq!(one.status("127.0.0.1:1", &rooms[1]), 101);
    let (_, answer) = other.ask("127.0.0.1:1", &rooms[2]);
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("as many rooms"), "{answer}");
    assert!(retry_after(&answer) >= 5);
    assert_eq!(
        one.out(),
        Out { connections: 2, rooms: 2, ..Out::default() },
        "the refused one gave its own back"
    );
    assert_eq!(other.status("127.0.0.1:1", "/echo"), 101);
    let (_, answer) = one.ask("127.0.0.1:1", &rooms[1]);
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("this node is full"), "{answer}");
    // The first room lingers now: its place is the next one's on that shard.
    one.input(Input::Ended { conn: first, how: Ended::Broken });
    let next = one.room(2);
    assert_eq!(one.status("127.0.0.1:1", &next), 101);
    assert_eq!(one.out(), Out { connections: 3, rooms: 2, ..Out::default() });
}

#[test]
fn who_is_sent_away_together_is_not_asked_back_together() {
    let [mut one, _other] = Rig::node(&config(|limits| limits.connections_max = 0));
    let room = one.room(0);
    let mut waits: Vec<u32> = (0..50).map(|_| retry_after(&one.ask("127.0.0.1:1", &room).1)).collect();
    waits.sort_unstable();
    waits.dedup();
    assert_eq!(waits, [2, 3, 4, 5]);
}

#[test]
fn everything_is_given_back_however_a_connection_ends() {
    let config = with_users(|limits| limits.connections_per_ip_max = 5);
    type End = fn(&mut Rig, ConnKey);
    let ends: [(&str, End); 12] = [
        ("the peer closes", |rig, conn| drop(rig.receive(conn, &[0x88, 0x80, 0, 0, 0, 0]))),
        ("the peer ends the stream", |rig, conn| rig.input(Input::Ended { conn, how: Ended::Eof })),
        ("it is reset", |rig, conn| rig.input(Input::Ended { conn, how: Ended::Broken })),
        ("it can't be sent to", |rig, conn| {
            rig.input(Input::Sent { conn, outcome: SendOutcome::Broken });
        }),
        ("it breaks the protocol", |rig, conn| drop(rig.receive(conn, &[0xff, 0xff]))),
        ("it is kicked", |rig, conn| {
            rig.question(Query::CloseConnection(conn, 1008, "out".into()));
        }),
        ("its room is closed", |rig, _| {
            let room = rig.room(0).split_off(4);
            rig.question(Query::CloseRoom(SessionId::parse(&room).expect("its id")));
        }),
        ("its user is disconnected", |rig, _| {
            rig.question(Query::DisconnectUser("ann".into()));
        }),
        ("its token expires", |rig, _| {
            rig.now = rig.now + Micros::from_s(6);
            rig.turn();
        }),
        ("it is refreshed, then expires", |rig, conn| {
            let event = br#"{"type":"session.update","token":"ann.10000"}"#;
            assert!(rig.receive(conn, &support::masked(1, event)).contains("session.updated"));
            rig.now = rig.now + Micros::from_s(6);
            rig.turn();
            assert_eq!(rig.out().users, 1, "a fresh token keeps the place");
            rig.now = rig.now + Micros::from_s(6);
            rig.turn();
        }),
        ("the node drains", |rig, _| {
            rig.input(Input::Drain { window: Micros::from_s(1) });
            rig.now = rig.now + Micros::from_s(2);
            rig.turn();
        }),
        ("the shard leaves", |rig, _| {
            rig.shard = Shard::new(ShardId(0), Arc::new(ShardConfig::default()), 1);
        }),
    ];
    for (how, end) in ends {
        let [mut rig, _other] = Rig::node(&config);
        let (conn, answer) = rig.visit("ann.5000");
        assert!(answer.starts_with("HTTP/1.1 101"), "{how}: {answer}");
        assert_eq!(rig.out(), Out { connections: 1, rooms: 1, users: 1, addresses: 1 }, "{how}");
        end(&mut rig, conn);
        assert_eq!(Out { rooms: 0, ..rig.out() }, Out::default(), "{how}");
        drop(rig.shard);
        assert_eq!(rig.quotas.out(), Out::default(), "{how}: rooms may have lingered till here");
    }
}

#[test]
fn who_is_refused_after_the_reservation_leaves_nothing_behind() {
    let config = with_users(|limits| (limits.members_per_room_max, limits.connections_per_ip_max) = (1, 9));
    let [mut rig, _other] = Rig::node(&config);
    let room = rig.room(0);
    let (first, _) = rig.ask("198.51.100.7:1", &format!("{room}?token=ann.-"));
    let before = rig.out();
    for _ in 0..20 {
        let (_, answer) = rig.ask("198.51.100.8:1", &format!("{room}?token=bob.-"));
        assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("as many members"), "{answer}");
        assert_eq!(rig.out(), before);
    }
    rig.input(Input::Ended { conn: first, how: Ended::Broken });
    assert_eq!(Out { rooms: 0, ..rig.out() }, Out::default());
}

/// Two shards, each on a thread of its own, ask for the last place at the same moment, again and again.
fn race(config: &Arc<ShardConfig>, rounds: usize) {
    let quotas = Arc::new(Quotas::new(config, 9));
    let (barrier, winners) = (Barrier::new(usize::from(SHARDS)), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for id in 0..SHARDS {
            let (quotas, barrier, winners) = (&quotas, &barrier, &winners);
            scope.spawn(move || {
                let mut rig = Rig::new(id, config, quotas);
                for round in 0..rounds {
                    barrier.wait();
                    let (conn, answer) = rig.visit("ann.-");
                    let won = answer.starts_with("HTTP/1.1 101");
                    winners.fetch_add(usize::from(won), SeqCst);
                    barrier.wait();
                    assert_eq!(winners.load(SeqCst), 1, "round {round}");
                    barrier.wait();
                    winners.store(0, SeqCst);
                    if won {
                        rig.input(Input::Ended { conn, how: Ended::Broken });
                    }
                }
            });
        }
    });
    assert_eq!(Out { rooms: 0, ..quotas.out() }, Out::default());
}

#[test]
fn one_of_two_shards_gets_the_last_place_of_the_node_of_a_user_of_an_address() {
    race(&with_users(|limits| limits.connections_max = 1), 300);
    race(&with_users(|limits| limits.connections_per_user_max = 1), 300);
    race(&with_users(|limits| limits.connections_per_ip_max = 1), 300);
}

#[test]
fn many_come_and_go_on_two_shards_and_nobody_is_left_or_stuck() {
    const ROUNDS: u32 = 20_000;
    let config = config(|limits| limits.connections_per_ip_max = 2);
    let quotas = Arc::new(Quotas::new(&config, 9));
    std::thread::scope(|scope| {
        for id in 0..SHARDS {
            let (quotas, config) = (&quotas, &config);
            scope.spawn(move || {
                let mut rig = Rig::new(id, config, quotas);
                for round in 0..ROUNDS {
                    // Every other one comes to both shards.
                    let half = if round % 2 == 0 { 0 } else { u32::from(id) };
                    let address = std::net::Ipv4Addr::from_bits(10 << 24 | half << 20 | round);
                    let (conn, answer) = rig.ask(&format!("{address}:1"), "/echo");
                    assert!(answer.starts_with("HTTP/1.1 101"), "{address}: {answer}");
                    rig.input(Input::Ended { conn, how: Ended::Broken });
                }
            });
        }
    });
    assert_eq!(quotas.out(), Out::default());
}
