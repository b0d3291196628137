//! Events that gave way in a slow client's queue, and events that are more than its queue may hold.

use serde_json::{Value, json};
use shards::core::{ConnKey, MemberNumber, SessionId};

use crate::rig::{Rig, messages, token, types};

/// A member of a room in which a parrot answers.
fn parrot(rig: &mut Rig, headers: &str) -> (ConnKey, Value) {
    rig.join_with("/ws/r?engine=parrot", headers)
}

/// The parrot is given a text; it answers with more deltas than the queue holds.
fn answer(rig: &mut Rig, conn: ConnKey) {
    let text: Vec<String> = (0..60).map(|n| format!("word{n}")).collect();
    let content = json!([{"type": "input_text", "text": text.join(" ")}]);
    let item = json!({"type": "message", "role": "user", "content": content});
    rig.say(conn, &json!({"type": "conversation.item.create", "item": item}));
    rig.say(conn, &json!({"type": "response.create", "response": {"output_modalities": ["text"]}}));
    rig.wait(9_000);
}

/// What the room has told a member: what it would be told if it came now and had nothing.
fn told(rig: &Rig, member: u16) -> Vec<Value> {
    let room = SessionId::parse("r").expect("a name");
    let events = rig.shard.memory(&room, 0).expect("a room").events;
    let concerned = events.iter().filter(|event| event.to.concerns(MemberNumber(member)));
    concerned.map(|event| serde_json::from_slice(&event.json).expect("JSON")).collect()
}

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().filter_map(|event| event["seq"].as_u64()).collect()
}

#[test]
fn what_gave_way_is_named_and_can_be_told_again() {
    for headers in ["", "Sec-WebSocket-Protocol: voxhall.v1\r\n"] {
        let mut rig = Rig::new(|config| config.outbox.messages_max = 24);
        let (ann, _) = parrot(&mut rig, headers);
        rig.stop(ann);
        answer(&mut rig, ann);
        rig.go_on(ann);
        rig.wait(100);
        let mut heard = rig.heard(ann);
        let note = heard.iter().find(|event| event["type"] == "outbox.dropped").expect("some gave way");
        assert_eq!(note["class"], "droppable");
        assert!(note["seq"].is_u64(), "it is kept like any other event");
        let (first, last) = (note["first_seq"].as_u64().expect("it"), note["last_seq"].as_u64().expect("it"));
        let before = numbers(&heard);
        assert!(!before.contains(&first) && !before.contains(&last));
        rig.say(ann, &json!({"type": "session.update", "after": first - 1}));
        let again = rig.heard(ann);
        assert_eq!((&again[0]["type"], &again[0]["recovered"]), (&json!("session.restored"), &json!(true)));
        assert_eq!(again[0]["missed"], again.len() as u64 - 1);
        heard.extend(again.into_iter().skip(1));
        heard.retain(|event| event["seq"].is_u64());
        heard.sort_by_key(|event| event["seq"].as_u64());
        heard.dedup_by_key(|event| event["seq"].as_u64());
        assert_eq!(heard, told(&rig, 1), "word for word");
    }
}

#[test]
fn what_gave_way_is_named_when_the_client_comes_back_if_it_was_not_before() {
    let mut rig = Rig::new(|config| config.outbox.messages_max = 24);
    let (ann, welcome) = parrot(&mut rig, "");
    rig.stop(ann);
    answer(&mut rig, ann);
    rig.cut(ann);
    let all = told(&rig, 1);
    let (note, before) = all.split_last().expect("events");
    assert_eq!((&note["type"], &note["class"]), (&json!("outbox.dropped"), &json!("droppable")));
    let first = note["first_seq"].as_u64().expect("the first that gave way");
    assert!(
        numbers(&all).contains(&first)
            && numbers(&all).contains(&note["last_seq"].as_u64().expect("the last"))
    );
    let mut come_back = |after: u64| {
        let target = format!("/ws/r?resume={}&after={after}", token(&welcome));
        let ann = rig.try_join(&target, "").expect("welcome");
        let events = rig.heard(ann);
        assert_eq!(events[1]["missed"], events.len() as u64 - 2);
        events[2..].to_vec()
    };
    assert_eq!(
        come_back(first),
        all[all.len() - come_back(first).len()..],
        "who has a later one has to know"
    );
    assert_eq!(come_back(first).last(), Some(note));
    assert_eq!(come_back(0), before, "who is told those again needs no word of them");
    assert_eq!(come_back(first - 1).last(), before.last());
}

#[test]
fn more_than_a_queue_holds_is_told_again_and_nothing_gives_way_to_it() {
    let mut rig = Rig::new(|config| {
        (config.outbox.messages_max, config.outbox.bytes_max) = (8, 4_096);
        (config.limits.messages_per_s, config.limits.bytes_per_s) = (0, 0);
    });
    let (ann, _) = rig.join();
    let (ben, welcome) = rig.join();
    rig.cut(ben);
    for n in 0..200 {
        rig.tell_others(ann, format!("{n}{}", "x".repeat(100)));
    }
    let target = format!("/ws/r?engine=relay&resume={}&after=1", token(&welcome));
    let ben = rig.try_join(&target, "Sec-WebSocket-Protocol: voxhall.v1\r\n").expect("welcome");
    let events = rig.heard(ben);
    assert_eq!(messages(&events).len(), 200);
    assert_eq!(events[1]["missed"], 200);

    // The same to one that does not read, and then lives on.
    rig.stop(ben);
    let again = json!({"type": "session.update", "after": 1}).to_string();
    rig.send(ben, 1, format!("{again}\n{again}").as_bytes());
    for n in 0..4 {
        rig.tell_others(ann, n);
    }
    rig.wait(1_000);
    rig.go_on(ben);
    rig.wait(100);
    let events = rig.heard(ben);
    let kinds = types(&events);
    assert_eq!(kinds.iter().filter(|&&kind| kind == "session.restored").count(), 1, "{kinds:?}");
    let refused = events.iter().find(|event| event["type"] == "error").expect("one at a time");
    assert_eq!(
        (&refused["error"]["code"], &refused["error"]["retryable"]),
        (&json!("recovery_under_way"), &json!(true))
    );
    assert!(!kinds.contains(&"outbox.dropped"), "{kinds:?}");
    let told = messages(&events);
    assert_eq!(told.len(), 204);
    assert!(told.windows(2).all(|two| two[0].0 < two[1].0), "in order, and live ones behind");
    rig.say(ben, &json!({"type": "session.update", "after": 1}));
    assert_eq!(messages(&rig.heard(ben)).len(), 204, "and again, when it has read all");
}
