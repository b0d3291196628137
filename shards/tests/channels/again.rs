//! Subscribing again, and to what another pattern names as well: nothing is lost by it, and nothing is told twice.

use serde_json::{Value, json};
use shards::core::ShardConfig;
use shards::core::channel::{ChannelConfig, Publication, Publisher, owner};
use shards::core::config::Limits;

use super::rig::{Client, Node};

fn publish(node: &mut Node, channel: &str, data: u64) -> String {
    let publication = Publication::new(channel, &data.to_string(), Publisher::Admin);
    node.publish(publication).expect("taken").id.into()
}

fn subscribe(node: &mut Node, client: Client, channel: &str) {
    node.say(client, &json!({ "type": "channel.subscribe", "channel": channel }).to_string());
}

/// Two shards without limits for publishers, and a client on the one that does not own `user:7`.
fn far_one() -> (Node, Client, usize) {
    let mut channels = ChannelConfig::default();
    channels.namespaces[0].rate = None;
    let limits = Limits { messages_per_s: 0, bytes_per_s: 0, ..ShardConfig::default().limits };
    let mut node = Node::with(ShardConfig { shards: 2, channels, limits, ..ShardConfig::default() });
    let owner = owner("user:7", 2).index();
    let far = node.client(1 - owner);
    (node, far, owner)
}

fn kinds(heard: &[Value]) -> Vec<&str> {
    heard.iter().map(|event| event["type"].as_str().expect("a type")).collect()
}

#[test]
fn a_gap_is_told_to_whoever_hears_on_while_it_asks_again() {
    let (mut node, far, _) = far_one();
    subscribe(&mut node, far, "user:7:*");
    subscribe(&mut node, far, "user:*");
    node.settle();
    node.heard(far);
    // More than may wait between two shards.
    (0..4_200).for_each(|n| drop(publish(&mut node, "user:7:a", n)));
    subscribe(&mut node, far, "user:7:*");
    node.settle();
    let heard = node.heard(far);
    let answers = heard.iter().filter(|event| event["type"] == "channel.subscribed");
    let answers: Vec<_> =
        answers.map(|event| (event["channel"].as_str(), event["reason"].as_str())).collect();
    let (one, all) = (Some("user:7:*"), Some("user:*"));
    let gap = Some("overloaded");
    assert_eq!(answers, [(one, gap), (all, gap), (one, None)]);
    assert_eq!(node.shards.iter().filter(|shard| shard.has_parcels()).count(), 0);
}

#[test]
fn who_asks_twice_at_once_has_both_answers() {
    let plain = json!({ "type": "channel.subscribe", "channel": "user:7:*" });
    let after = json!({ "type": "channel.subscribe", "channel": "user:7:*", "after": 0 });
    let all = json!({ "recovered": true, "missed": 2 });
    let nothing = json!({ "recovered": null, "missed": null });
    for (asked, expected, told) in [
        ([&after, &plain], [&all, &nothing], &[1, 2, 3][..]),
        ([&plain, &after], [&nothing, &all], &[1, 2, 3]),
        ([&plain, &plain], [&nothing, &nothing], &[3]),
        ([&after, &after], [&all, &all], &[1, 2, 1, 2, 3]),
    ] {
        let (mut node, far, owner) = far_one();
        let near = node.client(owner);
        (1..=2).for_each(|n| drop(publish(&mut node, "user:7:a", n)));
        node.settle();
        for client in [far, near] {
            asked.iter().for_each(|event| node.say(client, &event.to_string()));
        }
        node.settle();
        publish(&mut node, "user:7:a", 3);
        node.settle();
        for client in [far, near] {
            let heard = node.heard(client);
            let answers = heard.iter().filter(|event| event["type"] == "channel.subscribed");
            let answers: Vec<_> = answers
                .map(|event| json!({ "recovered": event["recovered"], "missed": event["missed"] }))
                .collect();
            assert_eq!(answers.iter().collect::<Vec<_>>(), expected, "{asked:?}");
            let data: Vec<_> = heard.iter().filter_map(|event| event["data"].as_u64()).collect();
            assert_eq!(data, told, "{asked:?}");
        }
    }
}

#[test]
fn a_subscription_goes_on_when_there_is_no_room_to_ask_again() {
    let (mut node, far, owner) = far_one();
    subscribe(&mut node, far, "user:7:*");
    node.settle();
    node.heard(far);
    let wordy = json!({ "type": "channel.publish", "channel": "user:7:b", "data": "x".repeat(60_000) });
    let speaker = node.client(1 - owner);
    (0..300).for_each(|_| node.say(speaker, &wordy.to_string()));
    for again in [json!({ "after": 0 }), json!({}), json!({ "channel": "user:7:new" })] {
        let mut event = json!({ "type": "channel.subscribe", "channel": "user:7:*" });
        event.as_object_mut().expect("an object").extend(again.as_object().expect("an object").clone());
        node.say(far, &event.to_string());
        assert_eq!(node.heard(far)[0]["error"]["code"], "overloaded", "{event}");
    }
    assert_eq!(node.counters(1 - owner).channels.subscriptions, 1);
    publish(&mut node, "user:7:a", 7);
    while node.carry(owner, 1 - owner) {}
    assert_eq!(node.told(far), ["7"], "it hears what comes as before");
}

#[test]
fn what_another_pattern_has_told_meanwhile_is_not_told_again() {
    for told_before_it_asked in [0, 2] {
        let (mut node, far, owner) = far_one();
        let first = publish(&mut node, "user:7:a", 0);
        subscribe(&mut node, far, "user:7:*");
        node.settle();
        let mut heard = node.heard(far);
        heard.clear();
        (1..=told_before_it_asked).for_each(|n| drop(publish(&mut node, "user:7:a", n)));
        node.settle();
        heard.extend(node.heard(far));
        let last = heard.last().map_or(first, |event| event["id"].as_str().expect("an id").to_owned());
        let after = json!({ "type": "channel.subscribe", "channel": "user:7:a", "after": last });
        node.say(far, &after.to_string());
        (3..=5).for_each(|n| drop(publish(&mut node, "user:7:a", n)));
        publish(&mut node, "user:7:b", 6);
        // They come before the owner has read the question.
        while node.carry(owner, 1 - owner) {}
        node.settle();
        publish(&mut node, "user:7:a", 7);
        node.settle();
        heard.extend(node.heard(far));
        let answer = heard.iter().find(|event| event["type"] == "channel.subscribed").expect("an answer");
        assert_eq!((&answer["recovered"], &answer["missed"]), (&json!(true), &json!(0)));
        let told: Vec<_> = heard.iter().filter_map(|event| event["data"].as_u64()).collect();
        let expected: Vec<_> = (1..=told_before_it_asked).chain(3..=7).collect();
        assert_eq!(told, expected, "each once");
        // Whoever asks for what it has been told is told it.
        node.say(far, &after.to_string());
        node.settle();
        assert_eq!(node.told(far), ["3", "4", "5", "7"], "{:?}", kinds(&heard));
    }
}
