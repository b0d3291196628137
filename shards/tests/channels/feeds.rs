//! The feed of application events: who hears what on it, in which form, and what is said on it.

use std::sync::Arc;

use serde_json::json;
use shards::core::channel::{ChannelConfig, Publication, Publisher};
use shards::core::gate::{Channels, Right, Rights};
use shards::core::{Denied, Gate, Micros, Pass, Role, SessionId, ShardConfig};

use super::rig::{Client, Node, texts};

fn feed(node: &mut Node, shard: usize, query: &str, lines: &str) -> Client {
    node.dial(
        shard,
        &format!(
            "GET /events{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        ),
    )
}

fn stream(node: &mut Node, query: &str, lines: &str) -> Client {
    node.dial(
        0,
        &format!("GET /events{query} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{lines}\r\n"),
    )
}

fn event(node: &mut Node, kind: &str, data: &str, session: Option<&str>) -> usize {
    let publication = Publication {
        session: session.map(|session| SessionId::parse(session).expect("valid")),
        ..Publication::new(&format!("events:{kind}"), data, Publisher::Server)
    };
    let subscribers = node.publish(publication).expect("taken").subscribers;
    node.settle();
    subscribers
}

fn heard(node: &mut Node, client: Client) -> Vec<String> {
    let said = node.said(client);
    texts(&said).into_iter().map(|text| String::from_utf8(text).expect("text")).collect()
}

#[test]
fn events_are_flat_and_only_those_that_are_wanted() {
    let mut node = Node::new(2);
    let all = feed(&mut node, 0, "", "");
    let some = feed(&mut node, 1, "?types=a,c.d&x=y", "");
    let one = feed(&mut node, 1, "?types=a", "");
    let of_session = feed(&mut node, 0, "?session_id=s:1", "");
    let under = feed(&mut node, 0, "?types=job:*", "");
    node.settle();
    event(&mut node, "a", r#"{"n":1}"#, None);
    event(&mut node, "b", r#"{"event":"b","n":2}"#, Some("s:1"));
    event(&mut node, "c.d", "[3]", Some("s:2"));
    event(&mut node, "job:done", "{}", None);
    let (a, b) = (r#"{"event":"a","n":1}"#, r#"{"event":"b","n":2}"#);
    let (c, d) = (r#"{"event":"c.d","data":[3]}"#, r#"{"event":"job:done"}"#);
    assert_eq!(heard(&mut node, all), [a, b, c, d]);
    assert_eq!(heard(&mut node, some), [a, c]);
    assert_eq!(heard(&mut node, one), [a]);
    assert_eq!(heard(&mut node, of_session), [b]);
    assert_eq!(heard(&mut node, under), [d]);
    for client in [all, some, one, of_session, under] {
        node.hang_up(client);
    }
    node.settle();
    assert_eq!(event(&mut node, "a", "{}", None), 0, "nobody listens any more");
    assert_eq!(node.counters(0).channels.subscriptions + node.counters(1).channels.subscriptions, 0);
}

#[test]
fn members_and_the_feed_hear_the_same_event_each_in_their_form() {
    let mut node = Node::new(1);
    let member = node.client(0);
    node.say(member, r#"{"type":"channel.subscribe","channel":"events:*"}"#);
    let feed = feed(&mut node, 0, "?session_id=s", "");
    assert_eq!(event(&mut node, "a", r#"{"n":1}"#, None), 1, "the feed wants another session's");
    assert_eq!(event(&mut node, "a", r#"{"n":2}"#, Some("s")), 2);
    assert_eq!(node.told(member), [r#"{"n":1}"#, r#"{"n":2}"#]);
    assert_eq!(heard(&mut node, feed), [r#"{"event":"a","n":2}"#]);
}

#[test]
fn a_batch_is_one_message_of_lines_where_that_was_agreed_on() {
    let mut node = Node::new(1);
    let client = feed(&mut node, 0, "", "Sec-WebSocket-Protocol: realtime, voxhall.v1\r\n");
    event(&mut node, "a", "{}", None);
    event(&mut node, "b", "{}", None);
    node.now = node.now + Micros::from_ms(30);
    node.turn(0, shards::core::Effects::new());
    assert_eq!(heard(&mut node, client), ["{\"event\":\"a\"}\n{\"event\":\"b\"}"]);
}

#[test]
fn what_a_client_wrote_over_several_lines_is_one_line_of_a_batch() {
    let mut channels = ChannelConfig::default();
    let events = channels.namespaces.iter_mut().find(|namespace| &*namespace.name == "events");
    events.expect("a namespace").publishers.user = true;
    let mut node = Node::with(ShardConfig { shards: 1, channels, ..ShardConfig::default() });
    let client = feed(&mut node, 0, "?types=a", "Sec-WebSocket-Protocol: voxhall.v1\r\n");
    let member = node.client(0);
    for data in ["{\n  \"n\": 1\n}", "{ }", "[1,\r\n2]"] {
        let said = format!(r#"{{"type":"channel.publish","channel":"events:a","data":{data}}}"#);
        node.say(member, &said);
    }
    node.now = node.now + Micros::from_ms(30);
    node.turn(0, shards::core::Effects::new());
    let heard = heard(&mut node, client);
    let lines: Vec<serde_json::Value> =
        heard[0].lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let expected =
        [json!({"event": "a", "n": 1}), json!({"event": "a"}), json!({"event": "a", "data": [1, 2]})];
    assert_eq!(lines, expected, "{heard:?}");
}

#[test]
fn whoever_comes_back_with_a_position_hears_what_was_missed() {
    let mut node = Node::new(2);
    let client = feed(&mut node, 0, "?positions=true", "");
    node.settle();
    event(&mut node, "a", r#"{"n":1}"#, None);
    let events = heard(&mut node, client);
    assert!(events[0].starts_with(r#"{"event":"feed.started","position":""#), "{events:?}");
    let position = |event: &str| {
        let event: serde_json::Value = serde_json::from_str(event).expect("JSON");
        event["position"].as_str().expect("a position").to_owned()
    };
    let last = position(&events[1]);
    assert_eq!(events[1], format!(r#"{{"event":"a","n":1,"position":"{last}"}}"#));
    node.hang_up(client);
    event(&mut node, "b", r#"{"n":2}"#, None);
    event(&mut node, "a", r#"{"n":3}"#, None);
    let back = feed(&mut node, 1, &format!("?types=a,z&after={last}"), "");
    node.settle();
    event(&mut node, "a", r#"{"n":4}"#, None);
    let events = heard(&mut node, back);
    assert!(events[0].starts_with(r#"{"event":"feed.started","recovered":true,"missed":"#), "{events:?}");
    assert_eq!(events[1..], [r#"{"event":"a","n":3}"#, r#"{"event":"a","n":4}"#]);
    let lost = feed(&mut node, 1, "?after=1-1", "");
    node.settle();
    let events = heard(&mut node, lost);
    assert!(events[0].contains(r#""recovered":false,"reason":"epoch""#), "{events:?}");
}

#[test]
fn a_stream_has_positions_as_ids_and_goes_on_behind_the_last() {
    let mut node = Node::new(1);
    let client = stream(&mut node, "?types=a", "");
    event(&mut node, "a", r#"{"n":1}"#, None);
    event(&mut node, "b", "{}", None);
    let said = String::from_utf8(node.said(client)).expect("text");
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("text/event-stream"), "{said}");
    let ids: Vec<&str> =
        said.split("id: ").skip(1).map(|rest| rest.split('\n').next().expect("a line")).collect();
    assert_eq!(ids.len(), 2, "where it begins, and the event: {said}");
    assert!(said.contains(&format!("id: {}\ndata: {{\"event\":\"a\",\"n\":1}}\n\n", ids[1])), "{said}");
    event(&mut node, "a", r#"{"n":2}"#, None);
    for lines in [format!("Last-Event-ID: {}\r\n", ids[1]), "Last-Event-ID: nonsense\r\n".to_owned()] {
        let back = stream(&mut node, "?types=a", &lines);
        let said = String::from_utf8(node.said(back)).expect("text");
        assert_eq!(said.contains(r#"{"event":"a","n":2}"#), !lines.contains("nonsense"), "{said}");
        assert!(!said.contains(r#""n":1"#), "{said}");
    }
    let refused = node
        .dial(0, "GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nContent-Length: 1\r\n\r\n");
    assert!(node.said(refused).starts_with(b"HTTP/1.1 400"));
}

#[test]
fn a_client_of_messagepack_has_its_pong_as_well() {
    let mut node = Node::new(1);
    let client = feed(&mut node, 0, "", "Sec-WebSocket-Protocol: voxhall.v1.msgpack\r\n");
    node.said(client);
    let header = |kind| [kind, 0, 0, 0, 0, 0, 0, 0];
    let ping = *b"\x82\xa4type\xa4ping\xa1t\x07";
    let wrong = *b"\x82\xa4type\xaaroom.close\xa8event_id\xa1e";
    node.send(client, 2, &[&header(2)[..], &ping, &wrong].concat());
    let said = node.said(client);
    let holds = |said: &[u8], text: &[u8]| said.windows(text.len()).any(|part| part == text);
    assert!(holds(&said, b"\xa5event\xa4pong") && holds(&said, b"\xa8event_id\xa1e"), "{said:?}");
    node.send(client, 2, &[&header(1)[..], &[0; 4]].concat());
    assert!(holds(&node.said(client), b"not_supported_on_feed"));
}

#[test]
fn a_fresh_token_counts_if_it_is_for_what_is_heard() {
    let gate: Arc<dyn Gate> = Arc::new(PlainGate);
    let mut node = Node::with(ShardConfig { shards: 1, gate: Some(gate), ..ShardConfig::default() });
    let client = feed(&mut node, 0, "?types=a", "Authorization: Bearer events:a\r\n");
    node.said(client);
    for (token, answer) in [
        ("events:*", r#"{"event":"session.updated"}"#),
        ("events:b", r#""param":"token","event_id":"mine""#),
        ("bad", r#""param":"token","event_id":"mine""#),
        ("admin", r#"{"event":"session.updated"}"#),
    ] {
        let said = format!(r#"{{"type":"session.update","token":"{token}","event_id":"mine"}}"#);
        node.say(client, &said);
        let heard = heard(&mut node, client);
        assert!(heard.len() == 1 && heard[0].contains(answer), "{token}: {heard:?}");
    }
    assert_eq!(node.counters(0).tokens_refreshed, 2);
    event(&mut node, "a", "{}", None);
    assert_eq!(heard(&mut node, client).len(), 1);
}

#[test]
fn nothing_but_a_ping_and_a_token_is_taken() {
    let mut node = Node::new(1);
    let client = feed(&mut node, 0, "", "");
    node.said(client);
    for said in [
        r#"{"type":"ping","t":7}"#,
        r#"{"type":"channel.subscribe","channel":"system:*","event_id":"e"}"#,
        r#"{"type":"session.update","session":{}}"#,
        "no JSON",
    ] {
        node.say(client, said);
    }
    let events = heard(&mut node, client);
    assert_eq!(events.len(), 4, "{events:?}");
    assert!(events[0].starts_with(r#"{"event":"pong","#), "{events:?}");
    for event in &events[1..3] {
        assert!(event.contains(r#""code":"not_supported_on_feed""#), "{event}");
    }
    assert!(events[1].contains(r#""event_id":"e""#), "{events:?}");
    assert!(events[3].starts_with(r#"{"event":"error","#), "{events:?}");
    assert!(!node.is_closed(client));
}

#[test]
fn a_wish_that_makes_no_sense_is_a_400() {
    let mut node = Node::new(1);
    let many: Vec<String> = (0..200).map(|n| format!("t{n}")).collect();
    for query in [
        "?types=",
        "?types=a,,b",
        "?types=a**",
        "?session_id=a%20b",
        "?after=soon",
        "?positions=maybe",
        &format!("?types={}", many.join(",")),
        // Each would be looked for among all before it.
        &format!("?types={}", ["a"; 200].join(",")),
    ] {
        let client = feed(&mut node, 0, query, "");
        let answer = String::from_utf8(node.said(client)).expect("text");
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("problem+json"), "{query}: {answer}");
    }
}

/// A token is what it allows on channels: `events:a=`, or `admin`.
#[derive(Debug)]
struct PlainGate;

impl Gate for PlainGate {
    fn check(&self, token: &str) -> Result<Pass, Denied> {
        let hear = Rights::default().and(Right::Subscribe);
        let channels = match token {
            "bad" => return Err(Denied::Unauthorized("bad")),
            "plain" | "admin" => Channels::default(),
            claims => Channels::only(claims.split('+').map(|claim| (claim.into(), hear))),
        };
        let role = if token == "admin" { Role::Admin } else { Role::Member };
        let sub = "u".into();
        let subscriptions = Box::default();
        Ok(Pass {
            sub,
            valid_for: None,
            rooms: None,
            engine: None,
            realtime: None,
            channels,
            subscriptions,
            role,
        })
    }
}

#[test]
fn with_tokens_the_feed_is_for_those_whose_claims_name_it_and_for_admins() {
    let gate: Arc<dyn Gate> = Arc::new(PlainGate);
    let mut node = Node::with(ShardConfig { shards: 1, gate: Some(gate), ..ShardConfig::default() });
    for (token, query, status) in [
        ("bad", "", 401),
        ("plain", "", 403),
        ("plain", "?types=a", 403),
        ("admin", "", 101),
        ("events:*", "", 101),
        ("events:*", "?types=a,b", 101),
        ("events:a", "?types=a", 101),
        ("events:a+events:b", "?types=a,b", 101),
        ("events:a", "?types=a,b", 403),
        ("events:a", "", 403),
        ("system:*", "", 403),
    ] {
        let client = feed(&mut node, 0, query, &format!("Authorization: Bearer {token}\r\n"));
        let answer = node.said(client);
        assert!(answer.starts_with(format!("HTTP/1.1 {status}").as_bytes()), "{token} {query}");
    }
}
