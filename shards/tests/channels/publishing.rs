//! What becomes of a publication.

use serde_json::json;
use shards::core::channel::{ChannelConfig, Publication, Publisher, Undeliverable, owner};
use shards::core::message::Answer;
use shards::core::{Micros, ShardConfig};

use super::rig::Node;

fn admin(channel: &str, data: &str) -> Publication {
    Publication::new(channel, data, Publisher::Admin)
}

#[test]
fn a_publication_reaches_subscribers_on_every_shard_once() {
    let mut node = Node::new(3);
    let clients: Vec<_> = (0..6).map(|at| node.client(at % 3)).collect();
    for &client in &clients {
        node.say(client, r#"{"type":"channel.subscribe","channel":"system:*"}"#);
        node.say(client, r#"{"type":"channel.subscribe","channel":"system:*:now"}"#);
    }
    node.settle();
    let encoded: u64 = (0..3).map(|shard| node.counters(shard).events_encoded).sum();
    for &client in &clients {
        node.heard(client);
    }
    let published = node.publish(admin("system:notice:now", r#"{"n":1}"#)).expect("taken");
    node.settle();
    for &client in &clients {
        assert_eq!(node.told(client), [r#"{"n":1}"#], "several patterns, one message");
    }
    let more: u64 = (0..3).map(|shard| node.counters(shard).events_encoded).sum();
    assert_eq!(more - encoded, 3, "each shard writes it once");
    let elsewhere: usize = node
        .answers
        .iter()
        .map(|(_, _, answer)| match answer {
            Answer::Delivered(subscribers) => *subscribers,
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!((published.shards, published.seq, published.duplicate), (3, 1, false));
    assert_eq!((published.subscribers, elsewhere), (2, 4));
}

#[test]
fn clients_publish_with_rights_and_hear_what_was_refused() {
    let mut node = Node::new(2);
    let (one, other) = (node.client(0), node.client(1));
    for client in [one, other] {
        node.say(client, r#"{"type":"channel.subscribe","channel":"user:7:*"}"#);
    }
    node.settle();
    node.heard(one);
    node.heard(other);
    for client in [one, other] {
        node.say(
            client,
            r#"{"type":"channel.publish","channel":"user:7:operation:1","data":{"at":50},"event_id":"e1"}"#,
        );
    }
    node.settle();
    for client in [one, other] {
        assert_eq!(node.told(client), [r#"{"at":50}"#, r#"{"at":50}"#]);
    }
    for (event, code) in [
        (r#"{"type":"channel.publish","channel":"system:x","data":1,"event_id":"e2"}"#, "forbidden"),
        (r#"{"type":"channel.publish","channel":"nowhere:x","data":1,"event_id":"e2"}"#, "invalid_value"),
        (r#"{"type":"channel.publish","channel":"user:*","data":1,"event_id":"e2"}"#, "invalid_value"),
        (r#"{"type":"channel.publish","channel":"user:1","event_id":"e2"}"#, "missing_required_parameter"),
        (r#"{"type":"channel.subscribe","channel":"*","event_id":"e2"}"#, "invalid_value"),
        (r#"{"type":"channel.subscribe","channel":"user:*","after":3,"event_id":"e2"}"#, "invalid_value"),
        (r#"{"type":"channel.subscribe","channel":"user:1","after":"x","event_id":"e2"}"#, "invalid_value"),
        (r#"{"type":"channel.unsubscribe","channel":"user:1","event_id":"e2"}"#, "invalid_value"),
    ] {
        node.say(one, event);
        node.settle();
        let heard = node.heard(one);
        assert_eq!(heard.len(), 1, "{event}: {heard:?}");
        assert_eq!(
            (&heard[0]["error"]["code"], &heard[0]["error"]["event_id"]),
            (&json!(code), &json!("e2"))
        );
    }
    assert!(node.letters.is_empty(), "nobody will try again what a client may not");
    let refused = node.counters(0).channels.dead_letters[Undeliverable::Refused as usize];
    assert_eq!(refused, 1, "but it is counted, other than what is no publication at all");
}

#[test]
fn a_repeated_key_is_delivered_once_within_its_window() {
    let mut node = Node::new(1);
    let client = node.client(0);
    node.say(client, r#"{"type":"channel.subscribe","channel":"user:7:*"}"#);
    node.heard(client);
    let publication = |data: &str| Publication { dedupe: Some("k".into()), ..admin("user:7:a", data) };
    let first = node.publish(publication("1")).expect("taken");
    let again = node.publish(publication("2")).expect("taken");
    assert_eq!((&again.id, again.seq, again.duplicate), (&first.id, 1, true));
    let elsewhere = Publication { dedupe: Some("k".into()), ..admin("user:7:b", "3") };
    assert!(!node.publish(elsewhere).expect("taken").duplicate, "a key is its channel's");
    node.now = node.now + Micros::from_s(121);
    assert_eq!(node.publish(publication("4")).expect("taken").seq, 3);
    assert_eq!(node.told(client), ["1", "3", "4"]);
    assert_eq!(node.counters(0).channels.duplicates, 1);
}

#[test]
fn what_cannot_be_delivered_is_a_dead_letter_with_its_reason() {
    let mut node = Node::new(2);
    let publish =
        |node: &mut Node, publication: Publication| node.publish(publication).map(|published| published.seq);
    let required = Publication { needs_subscriber: true, ..admin("user:7:a", "1") };
    assert_eq!(publish(&mut node, required), Err(Undeliverable::NoSubscriber));
    assert_eq!(node.letters_before_answer, 1, "whoever hears of it finds the letter");
    let over = Publication { ttl: Some(Micros(0)), ..admin("user:7:a", "1") };
    assert_eq!(publish(&mut node, over), Err(Undeliverable::Expired));
    assert_eq!(publish(&mut node, admin("nowhere:7", "1")), Err(Undeliverable::Refused));
    let mut outcomes: Vec<_> = (0..201).map(|_| publish(&mut node, admin("user:7:a", "1"))).collect();
    assert_eq!(outcomes.pop(), Some(Err(Undeliverable::RateLimited)));
    assert_eq!(outcomes.pop(), Some(Ok(200)), "refused ones take no number");
    node.now = node.now + Micros::from_ms(10);
    assert_eq!(publish(&mut node, admin("user:7:a", "1")), Ok(201));
    let reasons: Vec<_> = node.letters.iter().map(|letter| letter.reason).collect();
    assert_eq!(
        reasons,
        [
            Undeliverable::NoSubscriber,
            Undeliverable::Expired,
            Undeliverable::Refused,
            Undeliverable::RateLimited
        ]
    );
    let counted: u64 =
        (0..2).map(|shard| node.counters(shard).channels.dead_letters.iter().sum::<u64>()).sum();
    assert_eq!(counted, 4);
}

#[test]
fn what_has_its_place_can_be_published_again_as_something_new() {
    let mut channels = ChannelConfig::default();
    channels.namespaces[0].rate = None;
    let mut node = Node::with(ShardConfig { shards: 2, channels, ..ShardConfig::default() });
    let far = node.client(1 - owner("user:7", 2).index());
    node.say(far, r#"{"type":"channel.subscribe","channel":"user:7:*"}"#);
    node.settle();
    let keyed = |n: usize, ttl| Publication {
        dedupe: Some(format!("k{n}").into()),
        ttl,
        ..admin("user:7:a", &n.to_string())
    };
    node.publish(keyed(0, Some(Micros::from_s(1)))).expect("taken");
    node.now = node.now + Micros::from_s(2);
    node.settle();
    for n in 1..=4_097 {
        node.publish(keyed(n, None)).expect("it has its place");
    }
    node.settle();
    node.told(far);
    let letters = std::mem::take(&mut node.letters);
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons, [Undeliverable::Expired, Undeliverable::Overloaded]);
    for letter in letters {
        let again = Publication { ttl: None, ..letter.publication };
        assert!(!node.publish(again).expect("taken").duplicate, "its key is known");
    }
    node.settle();
    assert_eq!(node.told(far), ["0", "4097"]);
    let refused = Publication { ttl: Some(Micros(0)), ..keyed(9_999, None) };
    node.publish(refused).expect_err("too late");
    assert_eq!(
        node.letters[0].publication.dedupe.as_deref(),
        Some("k9999"),
        "it has no place: the key is unused"
    );
}
