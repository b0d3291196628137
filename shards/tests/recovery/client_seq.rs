//! Events that a client numbers are done once.

use serde_json::{Value, json};

use crate::rig::{Rig, messages, types};

#[test]
fn an_event_sent_twice_is_done_once_even_over_two_connections() {
    let mut rig = Rig::new(|_| {});
    let (ann, _) = rig.join();
    let (ben, welcome) = rig.join();
    rig.heard(ann);
    let send = |n: u64| json!({"type": "room.send", "data": n, "client_seq": n});
    for n in [1, 2, 2, 1, 5, 4] {
        rig.say(ben, &send(n));
    }
    let data =
        |events: &[Value]| -> Vec<Value> { messages(events).into_iter().map(|(_, data)| data).collect() };
    assert_eq!(data(&rig.heard(ann)), [1, 2, 5]);
    rig.tell_others(ben, "not numbered");
    rig.send(ben, 2, b"binary frames are not numbered");
    assert_eq!(data(&rig.heard(ann)), ["not numbered"]);
    rig.cut(ben);
    let (ben, events) = rig.come_back(&welcome, 0);
    assert_eq!(events[1]["client_seq"], 5, "what was taken");
    for n in 3..=7 {
        rig.say(ben, &send(n));
    }
    assert_eq!(data(&rig.heard(ann)), [6, 7]);
    assert_eq!(rig.counters().history.repeated, 6);
    let (_, fresh) = rig.come_back(&json!({"session": {"resume": {"token": "none"}}}), 0);
    assert!(fresh[1].get("client_seq").is_none(), "another member has numbered nothing");
}

#[test]
fn an_event_that_was_refused_has_been_seen() {
    let mut rig = Rig::new(|_| {});
    let (ann, welcome) = rig.join();
    rig.say(ann, &json!({"type": "room.send", "data": 1, "to": 9, "client_seq": 1}));
    rig.say(ann, &json!({"type": "nonsense", "client_seq": 2}));
    rig.say(ann, &json!({"type": "room.send", "client_seq": 3}));
    assert_eq!(types(&rig.heard(ann)), ["error"; 3]);
    for n in 1..=3 {
        rig.say(ann, &json!({"type": "ping", "client_seq": n}));
    }
    assert!(rig.heard(ann).is_empty(), "an event with that number was here");
    rig.say(ann, &json!({"type": "ping", "client_seq": "4"}));
    rig.say(ann, &json!({"type": "ping", "client_seq": 4}));
    assert_eq!(types(&rig.heard(ann)), ["error", "pong"], "what is no number counts for nothing");
    rig.cut(ann);
    let (_, events) = rig.come_back(&welcome, 0);
    assert_eq!(events[1]["client_seq"], 4);
}
