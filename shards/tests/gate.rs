//! Who a shard lets in, for how long, and how a stay ends: with simulated time and a gate whose tokens say what they
//! mean.

mod support;

use std::sync::Arc;

use shards::core::engine::EngineKind;
use shards::core::message::{Answer, AskId, Query};
use shards::core::{
    ConnKey, Denied, Effect, Effects, Gate, Input, Micros, Origins, Pass, Role, Shard, ShardConfig, ShardId,
};

/// Takes tokens such as `ann.1000.class*.echo`: the user, for how many milliseconds, which rooms, which engine; `-`
/// for what is not limited.
#[derive(Debug)]
struct PlainGate;

impl Gate for PlainGate {
    fn check(&self, token: &str) -> Result<Pass, Denied> {
        let parts: Vec<&str> = token.split('.').collect();
        let [sub, ms, rooms, engine] = parts[..] else {
            return Err(Denied::Unauthorized("it has not four parts"));
        };
        let said = |part: &'static str| move |text: &&str| *text != part;
        Ok(Pass {
            sub: sub.into(),
            valid_for: ms.parse().ok().map(Micros::from_ms),
            rooms: Some(rooms).filter(said("-")).map(|rooms| [rooms.into()].into()),
            engine: engine.parse::<EngineKind>().ok(),
            realtime: None,
            channels: shards::core::Channels::default(),
            subscriptions: Box::default(),
            role: Role::Member,
        })
    }
}

struct Rig {
    shard: Shard,
    now: Micros,
    next: u32,
    fx: Effects,
    answers: Vec<Answer>,
    said: Vec<u8>,
}

impl Rig {
    fn new() -> Self {
        Self::with(ShardConfig {
            gate: Some(Arc::new(PlainGate)),
            echo_endpoint: true,
            ..ShardConfig::default()
        })
    }

    fn with(config: ShardConfig) -> Self {
        let shard = Shard::new(ShardId(0), Arc::new(config), 1);
        let (fx, answers, said) = (Effects::new(), Vec::new(), Vec::new());
        Self { shard, now: Micros(1), next: 0, fx, answers, said }
    }

    /// Asks for an upgrade with these header lines besides: the connection, and what it was answered.
    fn ask(&mut self, target: &str, lines: &str) -> (ConnKey, String) {
        let conn = ConnKey { index: self.next, generation: 1 };
        self.next += 1;
        let peer = "127.0.0.1:1000".parse().expect("an address");
        let mut head = format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        )
        .into_bytes();
        self.shard.handle(self.now, Input::Adopted { conn, peer, via: None, head: &mut head }, &mut self.fx);
        (conn, self.turn())
    }

    fn status(&mut self, target: &str, lines: &str) -> u16 {
        let (_, answer) = self.ask(target, lines);
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }

    /// A member says something: what it was answered.
    fn say(&mut self, conn: ConnKey, event: &str) -> String {
        let mut frame = support::masked(1, event.as_bytes());
        self.shard.handle(self.now, Input::Received { conn, bytes: &mut frame }, &mut self.fx);
        self.turn()
    }

    /// Time passes, in steps that no timer is lost in: what was said meanwhile.
    fn wait(&mut self, ms: u64) -> String {
        self.now = self.now + Micros::from_ms(ms);
        self.turn()
    }

    fn question(&mut self, query: Query) -> Answer {
        self.shard.handle(self.now, Input::Ask { id: AskId(1), query }, &mut self.fx);
        self.turn();
        self.answers.pop().expect("an answer")
    }

    /// Ends a turn; the kernel takes everything. What was sent, close frames included, as text.
    fn turn(&mut self) -> String {
        let Self { shard, now, fx, said, answers, .. } = self;
        support::turn(shard, *now, fx, |shard, effect, fx| match effect {
            Effect::Send(conn) => support::send(shard, *now, conn, fx, said),
            Effect::Answer(_, answer) => answers.push(answer),
            _ => {}
        });
        String::from_utf8_lossy(&std::mem::take(said)).into_owned()
    }
}

const EXPIRED: &str = "the token has expired";

#[test]
fn a_token_is_found_in_three_places_and_is_never_echoed() {
    let mut rig = Rig::new();
    let good = "ann.1000.-.-";
    for (target, lines) in [
        ("/ws/a".to_owned(), format!("Authorization: Bearer {good}\r\n")),
        ("/ws/a".to_owned(), format!("authorization: bearer  {good} \r\n")),
        ("/ws/a".to_owned(), format!("Sec-WebSocket-Protocol: bearer.{good}, voxhall.v1\r\n")),
        (format!("/ws/a?x=1&token={good}"), String::new()),
        (format!("/ws/a?token={good}"), format!("Authorization: Bearer {good}\r\n")),
        (format!("/echo?token={good}"), "Authorization: Basic eDp5\r\n".to_owned()),
    ] {
        let (_, answer) = rig.ask(&target, &lines);
        assert!(answer.starts_with("HTTP/1.1 101"), "{target} {lines}: {answer}");
        assert!(!answer.contains(good) && !answer.contains("bearer"), "{answer}");
        assert_eq!(answer.contains("Sec-WebSocket-Protocol: voxhall.v1"), lines.contains("voxhall.v1"));
    }
}

#[test]
fn who_is_not_let_in_is_told_why_and_what_is_wanted() {
    let mut rig = Rig::new();
    let two = "Authorization: Bearer ann.1.-.-\r\nSec-WebSocket-Protocol: bearer.bob.1.-.-\r\n";
    for (target, lines, status, word) in [
        ("/ws/a", "", 401, "a token is needed"),
        ("/echo", "", 401, "a token is needed"),
        ("/ws/a", "Authorization: Basic eDp5\r\n", 401, "a token is needed"),
        ("/ws/a?token=", "", 401, "four parts"),
        ("/ws/a", "Authorization: Bearer \u{ff}\r\n", 401, "four parts"),
        ("/ws/a?token=ann.-.b*.-", "", 403, "not for this room"),
        ("/ws/a?token=ann.-.-.echo&engine=relay", "", 403, "for another engine"),
        ("/ws/a", two, 400, "more than one token"),
        ("/ws/a?token=ann.1.-.-&token=ann.2.-.-", "", 400, "more than one token"),
    ] {
        let (_, answer) = rig.ask(target, lines);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target} {lines}: {answer}");
        assert!(answer.contains(word), "{answer}");
        assert_eq!(answer.contains("WWW-Authenticate: Bearer\r\n"), status == 401, "{answer}");
    }
    let Answer::Counters(counters) = rig.question(Query::Counters) else { panic!("counters were asked for") };
    assert_eq!((counters.refused[5], counters.refused[6], counters.refused[0]), (5, 2, 2));
}

#[test]
fn a_token_for_one_engine_opens_rooms_of_that_engine_only() {
    let mut rig = Rig::new();
    let (conn, welcome) = rig.ask("/ws/mine?token=ann.-.-.echo", "");
    assert!(welcome.contains(r#""engine":"echo""#), "{welcome}");
    assert!(
        rig.say(conn, r#"{"type":"session.update","session":{"engine":"relay"}}"#)
            .contains("for the engine echo")
    );
    assert_eq!(rig.status("/ws/other?token=bob.-.-.-&engine=relay", ""), 101);
    assert_eq!(rig.status("/ws/other?token=ann.-.-.echo", ""), 403);
}

#[test]
fn a_stay_ends_with_its_token() {
    let mut rig = Rig::new();
    rig.ask("/ws/a?token=ann.700.-.-", "");
    rig.ask("/echo?token=bob.900.-.-", "");
    assert!(!rig.wait(699).contains(EXPIRED));
    assert!(rig.wait(2).contains(EXPIRED));
    let Answer::Counters(counters) = rig.question(Query::Counters) else { panic!("counters were asked for") };
    assert_eq!((counters.open, counters.tokens_expired, &counters.close_codes[..]), (1, 1, &[(1008, 1)][..]));
    assert!(rig.wait(200).contains(EXPIRED), "the echo endpoint too");
}

#[test]
fn a_token_without_an_end_does_not_end_a_stay() {
    let mut rig = Rig::new();
    let (conn, _) = rig.ask("/ws/a?token=ann.-.-.-", "");
    for _ in 0..100 {
        assert!(!rig.wait(20_000).contains(EXPIRED));
        assert!(rig.say(conn, r#"{"type":"ping","t":1}"#).contains("pong"));
    }
}

#[test]
fn a_fresh_token_moves_the_end_both_ways() {
    let mut rig = Rig::new();
    let (conn, _) = rig.ask("/ws/a?token=ann.500.-.-", "");
    let answer = rig.say(conn, r#"{"type":"session.update","token":"ann.2000.-.-"}"#);
    assert!(answer.contains("session.updated"), "{answer}");
    assert!(!rig.wait(1_900).contains(EXPIRED));
    assert!(rig.say(conn, r#"{"type":"session.update","token":"ann.50.-.-"}"#).contains("session.updated"));
    assert!(rig.wait(60).contains(EXPIRED));
    let Answer::Counters(counters) = rig.question(Query::Counters) else { panic!("counters were asked for") };
    assert_eq!(counters.tokens_refreshed, 2);
}

#[test]
fn a_token_that_is_not_taken_changes_nothing() {
    let mut rig = Rig::new();
    let (conn, _) = rig.ask("/ws/a?token=ann.500.-.-", "");
    for (token, word) in [
        ("bob.9000.-.-", "another user's"),
        ("rubbish", "four parts"),
        ("ann.9000.b.-", "not for this room"),
        ("ann.9000.-.relay", "for another engine"),
    ] {
        let event =
            format!(r#"{{"type":"session.update","event_id":"e","token":"{token}","state":{{"x":1}}}}"#);
        let answer = rig.say(conn, &event);
        assert!(answer.contains(r#""param":"token""#) && answer.contains(word), "{answer}");
        assert!(answer.contains(r#""event_id":"e""#) && !answer.contains("session.updated"), "{answer}");
    }
    assert!(rig.wait(501).contains(EXPIRED));
}

#[test]
fn a_disconnected_user_loses_every_connection_and_nobody_else_does() {
    let mut rig = Rig::new();
    rig.ask("/ws/a?token=ann.-.-.-", "");
    rig.ask("/ws/b?token=ann.5000.-.-", "");
    rig.ask("/echo?token=ann.-.-.-", "");
    rig.ask("/ws/a?token=bob.-.-.-", "");
    assert!(matches!(rig.question(Query::DisconnectUser("an".into())), Answer::UserDisconnected(0)));
    assert!(matches!(rig.question(Query::DisconnectUser("ann".into())), Answer::UserDisconnected(3)));
    assert!(matches!(rig.question(Query::DisconnectUser("ann".into())), Answer::UserDisconnected(0)));
    let Answer::Counters(counters) = rig.question(Query::Counters) else { panic!("counters were asked for") };
    assert_eq!((counters.open, counters.tokens_revoked, &counters.close_codes[..]), (1, 3, &[(1008, 3)][..]));
}

#[test]
fn pages_of_other_origins_are_refused_before_their_token_is_looked_at() {
    let config = ShardConfig { origins: Origins::SameHost, ..ShardConfig::default() };
    let mut rig = Rig::with(config);
    for (origin, status) in [("", 101), ("Origin: http://x\r\n", 101), ("Origin: http://y\r\n", 403)] {
        assert_eq!(rig.status("/ws/a", origin), status, "{origin}");
    }
    let gate = Some(Arc::new(PlainGate) as Arc<dyn Gate>);
    let origins = Origins::Listed(["https://app".into()].into());
    let mut rig = Rig::with(ShardConfig { gate, origins, ..ShardConfig::default() });
    assert_eq!(rig.status("/ws/a", "Origin: https://x\r\n"), 403);
    assert_eq!(rig.status("/ws/a", "Origin: https://app\r\n"), 401);
    assert_eq!(rig.status("/ws/a?token=ann.-.-.-", "Origin: https://app\r\n"), 101);
}

#[test]
fn without_a_gate_tokens_mean_nothing() {
    let mut rig = Rig::with(ShardConfig::default());
    let (conn, answer) = rig.ask("/ws/a?token=x&token=y", "Authorization: Bearer z\r\n");
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let answer = rig.say(conn, r#"{"type":"session.update","token":"x"}"#);
    assert!(answer.contains("without authentication"), "{answer}");
}
