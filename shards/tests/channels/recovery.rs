//! What a subscriber is told of what it has missed, also when the owner of the stream is another shard.

use serde_json::{Value, json};
use shards::core::channel::{ChannelConfig, Namespace, Publication, Publisher, owner};
use shards::core::config::{Limits, Outbox};
use shards::core::{Micros, ShardConfig};

use super::rig::{Client, Node};

fn publish(node: &mut Node, channel: &str, data: impl ToString) -> String {
    let publication = Publication::new(channel, &data.to_string(), Publisher::Admin);
    node.publish(publication).expect("taken").id.into()
}

fn subscribe(node: &mut Node, client: Client, channel: &str, after: Value) {
    node.say(client, &json!({ "type": "channel.subscribe", "channel": channel, "after": after }).to_string());
}

/// A client on the shard that owns the stream, and one on another.
fn near_and_far(node: &mut Node, stream: &str) -> [Client; 2] {
    let owner = owner(stream, node.shards.len() as u16).index();
    [node.client(owner), node.client((owner + 1) % node.shards.len())]
}

#[test]
fn what_was_missed_is_told_in_order_behind_the_answer() {
    let mut node = Node::new(2);
    let ids: Vec<String> = (1..=5).map(|n| publish(&mut node, &format!("user:7:op:{}", n % 2), n)).collect();
    for client in near_and_far(&mut node, "user:7") {
        for (after, pattern, missed) in [
            (json!(ids[1]), "user:7:*", &[3, 4, 5][..]),
            (json!(2), "user:7:op:1", &[3, 5]),
            (json!(5), "user:7:op:0", &[]),
            (json!(0), "user:7:op:*", &[1, 2, 3, 4, 5]),
        ] {
            subscribe(&mut node, client, pattern, after);
            node.settle();
            let heard = node.heard(client);
            let answer = json!({
                "type": "channel.subscribed", "event_id": heard[0]["event_id"], "channel": pattern,
                "id": ids[4], "offset": 5, "recovered": true, "missed": missed.len(),
            });
            assert_eq!(heard[0], answer);
            let told: Vec<_> =
                heard[1..].iter().map(|event| event["data"].as_i64().expect("a number")).collect();
            assert_eq!(told, missed, "{pattern}");
        }
    }
}

#[test]
fn who_asks_for_nothing_is_told_where_the_stream_stands() {
    let mut node = Node::new(2);
    let id = publish(&mut node, "user:7:a", 1);
    for client in near_and_far(&mut node, "user:7") {
        subscribe(&mut node, client, "user:7:*", Value::Null);
        subscribe(&mut node, client, "user:*", Value::Null);
        node.settle();
        let heard = node.heard(client);
        let by =
            |channel: &str| heard.iter().find(|event| event["channel"] == channel).expect(channel).clone();
        assert_eq!(by("user:7:*")["id"], json!(id));
        assert_eq!(by("user:7:*").get("recovered"), None);
        assert_eq!(by("user:*").get("id"), None, "several streams have no common position");
    }
}

#[test]
fn an_id_names_one_message_among_those_of_all_streams() {
    let mut node = Node::new(1);
    let client = node.client(0);
    let mut before = Vec::new();
    for stream in ["user:7:*", "user:8:*", "system:*"] {
        subscribe(&mut node, client, stream, Value::Null);
        before.push(node.heard(client)[0]["id"].as_str().expect("a position").to_owned());
    }
    let ids = ["user:7:a", "user:8:a", "system:a"].map(|channel| publish(&mut node, channel, 1));
    for (at, (before, id)) in before.iter().zip(&ids).enumerate() {
        assert_eq!(before.split('-').next(), id.split('-').next(), "the numbering that it was told before");
        assert!(!ids[..at].contains(id), "{ids:?}");
    }
    for (channel, other) in [("user:7:*", 1), ("user:8:*", 0), ("user:9:*", 0)] {
        node.heard(client);
        subscribe(&mut node, client, channel, json!(ids[other]));
        assert_eq!(node.heard(client)[0]["reason"], "epoch", "a position in another stream");
    }
}

#[test]
fn what_can_not_be_told_any_more_is_said_with_its_reason() {
    let mut channels = ChannelConfig { streams_max: 2, ..ChannelConfig::default() };
    channels.namespaces[0] =
        Namespace { history_messages_max: 3, ttl: Micros::from_s(10), ..channels.namespaces[0].clone() };
    let outbox = Outbox { messages_max: 8, ..ShardConfig::default().outbox };
    let mut node = Node::with(ShardConfig { shards: 1, channels, outbox, ..ShardConfig::default() });
    let client = node.client(0);
    let reason = |node: &mut Node, channel: &str, after: Value| {
        subscribe(node, client, channel, after);
        let heard = node.heard(client);
        let answer = heard.iter().find(|event| event["type"] == "channel.subscribed").expect("an answer");
        (answer["recovered"].clone(), answer.get("reason").cloned().unwrap_or_default())
    };
    let lost = |why: &str| (json!(false), json!(why));
    let told = (json!(true), Value::Null);
    let ids: Vec<String> = (0..5).map(|n| publish(&mut node, "user:7:a", n)).collect();
    assert_eq!(reason(&mut node, "user:7:*", json!(ids[0])), lost("expired"), "three are kept");
    assert_eq!(reason(&mut node, "user:7:*", json!(ids[1])), told);
    assert_eq!(reason(&mut node, "user:7:*", json!(6)), lost("ahead"));
    assert_eq!(reason(&mut node, "user:7:*", json!("1-1")), lost("epoch"));
    node.now = node.now + Micros::from_s(11);
    publish(&mut node, "user:7:a", 5);
    assert_eq!(reason(&mut node, "user:7:*", json!(ids[3])), lost("expired"), "their time is over");
    // Two other streams push it out: what it is called later is another numbering.
    let nothing_yet = "user:9:*";
    subscribe(&mut node, client, nothing_yet, Value::Null);
    let position = node.heard(client)[0]["id"].clone();
    assert_eq!(reason(&mut node, nothing_yet, position.clone()), told, "nothing has been published since");
    for stream in ["user:8:a", "user:10:a", "user:11:a"] {
        publish(&mut node, stream, 1);
    }
    node.heard(client);
    assert_eq!(reason(&mut node, "user:7:*", json!(ids[4])), lost("epoch"));
    assert_eq!(reason(&mut node, nothing_yet, position), lost("epoch"), "there may have been something");
}

#[test]
fn more_than_a_lane_takes_is_not_told_at_once() {
    let outbox = Outbox { messages_max: 16, ..ShardConfig::default().outbox };
    let mut node = Node::with(ShardConfig { outbox, ..ShardConfig::default() });
    let client = node.client(0);
    for n in 0..20 {
        publish(&mut node, "system:a", n);
    }
    subscribe(&mut node, client, "system:*", json!(0));
    let heard = node.heard(client);
    assert_eq!(
        (&heard[0]["recovered"], &heard[0]["reason"], heard.len()),
        (&json!(false), &json!("too_much"), 1)
    );
    subscribe(&mut node, client, "system:*", json!(15));
    assert_eq!(node.told(client).len(), 5);
    assert!(!node.is_closed(client));
}

#[test]
fn a_publication_in_the_middle_of_a_subscription_is_heard_once() {
    // In every order of the parcels between the two shards.
    for before in 0..4 {
        let mut node = Node::new(2);
        let owner = owner("user:7", 2).index();
        let (far, client) = (1 - owner, node.client(1 - owner));
        let first = publish(&mut node, "user:7:a", 0);
        node.settle();
        subscribe(&mut node, client, "user:7:*", json!(first));
        let step = |node: &mut Node, n: usize| {
            publish(node, "user:7:a", n);
            if n == before {
                node.carry(far, owner);
            }
        };
        (1..=5).for_each(|n| step(&mut node, n));
        for _ in 0..before {
            node.carry(owner, far);
        }
        // It asks anew, while the answer is on its way.
        subscribe(&mut node, client, "user:7:*", json!(first));
        publish(&mut node, "user:7:a", 6);
        node.settle();
        publish(&mut node, "user:7:a", 7);
        node.settle();
        let heard = node.heard(client);
        let last = heard.iter().rposition(|event| event["type"] == "channel.subscribed").expect("an answer");
        let told: Vec<_> =
            heard[last + 1..].iter().map(|event| event["data"].as_i64().expect("a number")).collect();
        assert_eq!(told, [1, 2, 3, 4, 5, 6, 7], "{before}");
    }
}

#[test]
fn a_full_mesh_leaves_a_gap_that_subscribers_are_told_of() {
    let mut channels = ChannelConfig::default();
    channels.namespaces[0].rate = None;
    channels.namespaces[0].history_messages_max = 100;
    let mut node = Node::with(ShardConfig { shards: 2, channels, ..ShardConfig::default() });
    let [near, far] = near_and_far(&mut node, "user:7");
    for client in [near, far] {
        subscribe(&mut node, client, "user:7:*", Value::Null);
    }
    node.settle();
    node.heard(near);
    node.heard(far);
    let mut near_told = Vec::new();
    for n in 0..5_000 {
        publish(&mut node, "user:7:a", n);
        near_told.extend(node.told(near));
    }
    assert_eq!(near_told.len(), 5_000);
    assert_eq!(node.letters.len(), 5_000 - 4_096, "what was lost on the way is a dead letter each");
    node.settle();
    publish(&mut node, "user:7:a", 5_000);
    node.settle();
    let heard = node.heard(far);
    let told = |events: &[Value]| {
        let messages = events.iter().filter(|event| event["type"] == "channel.message");
        messages.map(|event| event["offset"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    let gap = heard.iter().position(|event| event["type"] == "channel.subscribed").expect("news of the gap");
    assert_eq!(told(&heard[..gap]), (1..=4_096).collect::<Vec<u64>>());
    assert_eq!((&heard[gap]["reason"], &heard[gap]["offset"]), (&json!("overloaded"), &json!(5_000)));
    assert_eq!(told(&heard[gap..]), [5_001]);
    // The history has the rest of it, if it is asked in time.
    subscribe(&mut node, far, "user:7:*", json!(4_950));
    node.settle();
    assert_eq!(told(&node.heard(far)), (4_951..=5_001).collect::<Vec<u64>>());
}

#[test]
fn a_small_mesh_loses_nothing() {
    let mut channels = ChannelConfig::default();
    channels.namespaces[0].rate = None;
    let mut node = Node::with(ShardConfig { shards: 2, channels, ..ShardConfig::default() });
    node.mesh_max = 1;
    let [_, far] = near_and_far(&mut node, "user:7");
    subscribe(&mut node, far, "user:7:*", Value::Null);
    node.settle();
    for n in 0..1_000 {
        publish(&mut node, "user:7:a", n);
    }
    assert!(node.shards.iter().any(shards::core::Shard::has_parcels));
    node.settle();
    assert_eq!(node.told(far), (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(node.letters.is_empty());
}

#[test]
fn subscriptions_are_bounded_and_end_with_their_connection() {
    let limits = Limits { subscriptions_max: 3, ..ShardConfig::default().limits };
    let mut node = Node::with(ShardConfig { shards: 2, limits, ..ShardConfig::default() });
    let client = node.client(0);
    for channel in ["user:1:*", "user:2:*", "user:*", "user:1:*"] {
        subscribe(&mut node, client, channel, Value::Null);
    }
    node.settle();
    assert!(node.heard(client).iter().all(|event| event["type"] == "channel.subscribed"));
    subscribe(&mut node, client, "user:3", Value::Null);
    assert_eq!(node.heard(client)[0]["error"]["code"], "too_many_subscriptions");
    assert_eq!((node.counters(0).channels.subscriptions, node.quotas.subscriptions()), (3, 3));
    node.say(client, r#"{"type":"channel.unsubscribe","channel":"user:2:*"}"#);
    assert_eq!(node.heard(client)[0]["type"], "channel.unsubscribed");
    publish(&mut node, "user:2:a", 1);
    node.settle();
    assert_eq!(node.told(client), ["1"], "the other pattern names it still");
    subscribe(&mut node, client, "user:5:*", Value::Null);
    node.hang_up(client);
    node.settle();
    assert_eq!((node.counters(0).channels.subscriptions, node.quotas.subscriptions()), (0, 0));
    publish(&mut node, "user:1:a", 1);
}
