//! Who may subscribe and publish where tokens say who they are, and what a token subscribes its bearer to.

use std::sync::Arc;

use serde_json::json;
use shards::core::channel::{Pattern, Publication, Publisher};
use shards::core::{Channels, Denied, Gate, Pass, Right, Rights, Role, ShardConfig};

use super::rig::{Client, Node};

/// A token is `sub;channels;subscriptions`, the latter two separated by commas; `-` for a claim that is not there.
#[derive(Debug)]
struct PlainGate;

impl Gate for PlainGate {
    fn check(&self, token: &str) -> Result<Pass, Denied> {
        let parts: Vec<&str> = token.split(';').collect();
        let [sub, channels, subscriptions] = parts[..] else {
            return Err(Denied::Unauthorized("it has not three parts"));
        };
        let both = Rights::default().and(Right::Subscribe).and(Right::Publish);
        let channels = match channels {
            "-" => Channels::default(),
            patterns => Channels::only(patterns.split(',').map(|pattern| (pattern.into(), both))),
        };
        let patterns = subscriptions.split(',').filter(|&text| text != "-");
        Ok(Pass {
            sub: sub.into(),
            valid_for: None,
            rooms: None,
            engine: None,
            realtime: None,
            channels,
            subscriptions: patterns.map(|text| Pattern::parse(text).expect(text)).collect(),
            role: Role::Member,
        })
    }
}

fn node() -> Node {
    Node::with(ShardConfig { shards: 2, gate: Some(Arc::new(PlainGate)), ..ShardConfig::default() })
}

fn client(node: &mut Node, token: &str) -> Client {
    let client = node.client_with(0, &format!("&token={token}"), "");
    node.settle();
    client
}

/// What a client is answered: the code of the error, or the kind of the event; empty when it is told nothing.
fn answer(node: &mut Node, client: Client, event: &serde_json::Value) -> String {
    node.say(client, &event.to_string());
    node.settle();
    let heard = node.heard(client);
    let Some(last) = heard.last() else { return String::new() };
    last["error"]["code"].as_str().or(last["type"].as_str()).expect("a kind").to_owned()
}

#[test]
fn a_connection_has_to_do_with_what_its_user_and_its_token_allow() {
    let mut node = node();
    for (token, channel, subscribes, publishes) in [
        ("7;-;-", "user:7:a", true, true),
        ("7;-;-", "user:8:a", false, false),
        ("7;user:8:*;-", "user:8:a", false, false),
        ("7;system:*;-", "user:7:a", false, false),
        ("7;-;-", "system:a", true, false),
        ("7;-;-", "collection:1:a", false, false),
        ("7;collection:1:*;-", "collection:1:a", true, false),
        ("7;collection:1:*;-", "collection:2:a", false, false),
        ("7;-;-", "events:room.opened", false, false),
        ("7;events:*;-", "events:room.opened", true, false),
    ] {
        let client = client(&mut node, token);
        let subscribe = json!({ "type": "channel.subscribe", "channel": channel });
        let outcome = if subscribes { "channel.subscribed" } else { "forbidden" };
        assert_eq!(answer(&mut node, client, &subscribe), outcome, "{token} {channel}");
        let publish = json!({ "type": "channel.publish", "channel": channel, "data": 1 });
        let outcome = if publishes { "channel.message" } else { "forbidden" };
        assert_eq!(answer(&mut node, client, &publish), outcome, "{token} {channel}");
        node.hang_up(client);
    }
    let everyones = client(&mut node, "7;-;-");
    for pattern in ["user:*", "user:*:a", "collection:*"] {
        let subscribe = json!({ "type": "channel.subscribe", "channel": pattern });
        assert_eq!(answer(&mut node, everyones, &subscribe), "forbidden", "{pattern}");
    }
    let called_all = client(&mut node, "*;-;-");
    for pattern in ["user:*", "user:*:a"] {
        let subscribe = json!({ "type": "channel.subscribe", "channel": pattern });
        assert_eq!(answer(&mut node, called_all, &subscribe), "forbidden", "{pattern}");
    }
}

#[test]
fn a_token_subscribes_its_bearer_until_another_does_not_allow_it() {
    let mut node = node();
    let member = client(&mut node, "7;-;user:7:*,collection:1:*,nowhere:1");
    let heard = node.heard(member);
    let kinds: Vec<_> = heard.iter().map(|event| event["type"].as_str().expect("a kind")).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "channel.subscribed").count(), 2, "{heard:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "error").count(), 1, "there is no such namespace");
    for channel in ["user:7:a", "collection:1:b"] {
        node.publish(Publication::new(channel, "1", Publisher::Admin)).expect("taken");
    }
    node.settle();
    assert_eq!(node.told(member).len(), 2);
    node.say(member, r#"{"type":"session.update","token":"7;-;user:7:*"}"#);
    let heard = node.heard(member);
    assert_eq!(
        (&heard[0]["type"], &heard[0]["channel"]),
        (&json!("channel.unsubscribed"), &json!("collection:1:*"))
    );
    assert_eq!((&heard[0]["reason"], heard.len()), (&json!("forbidden"), 1));
    node.publish(Publication::new("collection:1:b", "1", Publisher::Admin)).expect("taken");
    node.settle();
    assert!(node.told(member).is_empty());
}

#[test]
fn vendor_clients_have_no_channels() {
    let mut node = node();
    let lines = "Sec-WebSocket-Protocol: realtime\r\n";
    let client = node.client_with(0, "&token=7;-;user:7:*", lines);
    node.settle();
    assert!(node.heard(client).is_empty(), "nor what their tokens subscribe them to");
    let subscribe = json!({ "type": "channel.subscribe", "channel": "user:7:*" });
    assert_eq!(answer(&mut node, client, &subscribe), "channels_not_supported");
}

#[test]
fn rooms_lives_are_published_to_whoever_listens() {
    let mut node = Node::new(2);
    let listener = node.client(0);
    assert_eq!(
        node.counters(0).channels.published + node.counters(1).channels.published,
        0,
        "nobody listened"
    );
    node.say(listener, r#"{"type":"channel.subscribe","channel":"events:*"}"#);
    node.settle();
    node.heard(listener);
    let guest = node.client(1);
    node.settle();
    node.hang_up(guest);
    node.settle();
    let told: Vec<serde_json::Value> =
        node.told(listener).iter().map(|data| serde_json::from_str(data).expect("JSON")).collect();
    let kinds: Vec<_> = told.iter().map(|event| event["event"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["room.opened", "room.member_joined", "room.member_left"]);
    assert_eq!(
        (&told[0]["engine"], &told[1]["members"], &told[2]["members"]),
        (&json!("relay"), &json!(1), &json!(0))
    );
    assert!(told.iter().all(|event| event["session_id"] == told[0]["session_id"] && event["shard"] == 1));
}
