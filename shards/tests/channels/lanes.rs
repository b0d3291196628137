//! Messages of channels in lanes that are full.

use serde_json::{Value, json};
use shards::core::channel::{ChannelConfig, Importance, Namespace, Publication, Publisher, Publishers};
use shards::core::config::Outbox;
use shards::core::{Micros, ShardConfig};

use super::rig::Node;

fn node() -> Node {
    let mut channels = ChannelConfig::default();
    channels.namespaces.push(Namespace {
        importance: Importance::Droppable,
        rate: None,
        ..Namespace::named("noise")
    });
    channels.namespaces.push(Namespace { rate: None, ..Namespace::named("news") });
    let outbox =
        Outbox { messages_max: 64, slow_client: Micros::from_s(60), ..ShardConfig::default().outbox };
    Node::with(ShardConfig { channels, outbox, ..ShardConfig::default() })
}

fn publish(node: &mut Node, channel: &str, n: u64) {
    let published = node.publish(Publication::new(channel, &n.to_string(), Publisher::Admin));
    assert!(published.is_ok(), "{published:?}");
}

fn numbers(heard: &[Value], namespace: &str) -> Vec<u64> {
    let messages = heard
        .iter()
        .filter(|event| event["channel"].as_str().is_some_and(|name| name.starts_with(namespace)));
    messages.filter_map(|event| event["data"].as_u64()).collect()
}

#[test]
fn under_a_full_lane_control_arrives_in_order_and_drops_are_told_as_counted() {
    for subprotocol in ["", "Sec-WebSocket-Protocol: voxhall.v1\r\n"] {
        let mut node = node();
        let client = node.client_with(0, "", subprotocol);
        for channel in ["noise:*", "news:*", "system:*"] {
            node.say(client, &json!({ "type": "channel.subscribe", "channel": channel }).to_string());
        }
        node.say(client, r#"{"type":"ping"}"#);
        node.heard(client);
        let (mut heard, mut sent) = (Vec::new(), [0; 3]);
        for _ in 0..20 {
            node.stuck.push(client);
            for n in 0..200 {
                publish(&mut node, "noise:a", n);
                sent[0] += 1;
                if n % 20 == 0 {
                    publish(&mut node, "news:a", sent[1]);
                    sent[1] += 1;
                }
                if n % 50 == 0 {
                    publish(&mut node, "system:a", sent[2]);
                    sent[2] += 1;
                }
            }
            node.unstick(client);
            node.now = node.now + Micros::from_ms(100);
            node.turn(0, Vec::new());
            heard.extend(node.heard(client));
        }
        assert!(!node.is_closed(client));
        assert_eq!(numbers(&heard, "news"), (0..sent[1]).collect::<Vec<_>>());
        assert_eq!(numbers(&heard, "system"), (0..sent[2]).collect::<Vec<_>>());
        let told = heard.iter().filter(|event| event["type"] == "outbox.dropped");
        let told: u64 = told
            .inspect(|event| assert_eq!(event["class"], "droppable"))
            .map(|event| event["count"].as_u64().expect("a count"))
            .sum();
        let dropped = node.counters(0).dropped;
        let counted: u64 = dropped[..3].iter().map(|by_class| by_class[2]).sum();
        let lost: u64 = dropped.iter().flatten().sum();
        assert_eq!((told, counted), (counted, lost), "nothing else was dropped");
        assert_eq!(numbers(&heard, "noise").len() as u64, sent[0] - told);
        assert!(told > 1_000, "{told}");
    }
}

#[test]
fn the_highest_goes_ahead_of_what_may_be_lost_and_of_nothing_else() {
    let mut node = node();
    let client = node.client(0);
    for channel in ["noise:*", "news:*", "system:*"] {
        node.say(client, &json!({ "type": "channel.subscribe", "channel": channel }).to_string());
    }
    node.heard(client);
    node.stuck.push(client);
    for (channel, n) in [
        ("noise:a", 0),
        ("news:a", 1),
        ("noise:a", 2),
        ("system:a", 3),
        ("noise:a", 4),
        ("system:a", 5),
        ("news:a", 6),
    ] {
        publish(&mut node, channel, n);
    }
    node.unstick(client);
    node.turn(0, Vec::new());
    let told: Vec<String> = node.told(client);
    assert_eq!(told, ["0", "1", "3", "5", "2", "4", "6"]);
}

/// Many messages of one client's in one turn, which it says in one breath.
fn publish_at_once(node: &mut Node, from: super::rig::Client, count: u64) {
    let line = |n: u64| json!({ "type": "channel.publish", "channel": "news:a", "data": n }).to_string();
    let lines: Vec<String> = (0..count).map(line).collect();
    node.say(from, &lines.join("\n"));
}

#[test]
fn a_reader_is_not_sent_away_for_what_comes_at_once_and_one_that_does_not_read_is() {
    for subprotocol in ["", "Sec-WebSocket-Protocol: voxhall.v1\r\n"] {
        for reads in [true, false] {
            let mut channels = ChannelConfig::default();
            let publishers = Publishers { admin: true, server: true, user: true };
            channels.namespaces.push(Namespace { rate: None, publishers, ..Namespace::named("news") });
            let mut config = ShardConfig { channels, ..ShardConfig::default() };
            config.outbox.messages_max = 64;
            (config.limits.messages_per_s, config.limits.bytes_per_s) = (0, 0);
            let mut node = Node::with(config);
            let speaker = node.client_with(0, "", "Sec-WebSocket-Protocol: voxhall.v1\r\n");
            let listener = node.client_with(0, "", subprotocol);
            node.say(listener, r#"{"type":"channel.subscribe","channel":"news:*"}"#);
            node.now = node.now + Micros::from_ms(100);
            node.turn(0, Vec::new());
            node.heard(listener);
            if !reads {
                node.stuck.push(listener);
                publish_at_once(&mut node, speaker, 1);
                node.now = node.now + Micros::from_ms(100);
                node.turn(0, Vec::new());
            }
            publish_at_once(&mut node, speaker, 200);
            node.unstick(listener);
            node.now = node.now + Micros::from_ms(100);
            node.turn(0, Vec::new());
            let said = node.said(listener);
            let close =
                said.windows(4).position(|bytes| bytes[0] == 0x88 && bytes[2..] == 1013_u16.to_be_bytes());
            assert_eq!(close.is_none(), reads, "{subprotocol:?}");
            let told = said.windows(15).filter(|bytes| bytes == b"channel.message").count();
            assert_eq!(told, if reads { 200 } else { 0 });
        }
    }
}
