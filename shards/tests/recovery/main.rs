//! Coming back: what a member is told of what it has missed, over the core as the pump drives it.

mod client_seq;
mod gaps;
mod recalled;
mod rig;
mod stored;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use rig::{Names, Rig, messages, token, types};
use serde_json::{Value, json};
use shards::core::{Micros, ShardConfig};

#[test]
fn who_comes_back_is_told_all_that_it_missed_in_order_and_then_what_happens() {
    let mut rig = Rig::new(|_| {});
    let (ann, _) = rig.join();
    let (ben, welcome) = rig.join();
    assert_eq!(welcome["session"]["resume"]["seq"], 0, "a welcome is no event of the room");
    for n in 1..=3 {
        rig.tell_others(ann, n);
    }
    let heard = rig.heard(ben);
    assert_eq!(messages(&heard[..1]), [(2, json!(1))], "the first was that it joined");
    rig.cut(ben);
    for n in 4..=6 {
        rig.tell_others(ann, n);
    }
    rig.heard(ann);
    let (ben, events) = rig.come_back(&welcome, 2);
    assert_eq!(events[0]["session"]["member"], 2, "it is who it was");
    let restored = &events[1];
    assert_eq!((&restored["recovered"], &restored["missed"]), (&json!(true), &json!(5)));
    assert_eq!(restored["epoch"], welcome["session"]["resume"]["epoch"]);
    assert_eq!(restored["last_seq"], 8);
    assert!(restored.get("reason").is_none() && restored.get("last_seq").is_some_and(Value::is_u64));
    let missed = [(3, json!(2)), (4, json!(3)), (6, json!(4)), (7, json!(5)), (8, json!(6))];
    assert_eq!(messages(&events), missed);
    assert_eq!(events.len(), 2 + 5, "not that it had left");
    assert_eq!(types(&rig.heard(ann)), ["room.member_joined"]);
    rig.tell_others(ann, 7);
    assert_eq!(messages(&rig.heard(ben)), [(10, json!(7))]);
}

#[test]
fn what_was_not_for_it_is_not_told_again_either() {
    let mut rig = Rig::new(|_| {});
    let (ann, _) = rig.join();
    let (ben, welcome) = rig.join();
    let (cat, _) = rig.join();
    rig.cut(ben);
    rig.tell_others(ann, "to all");
    for to in [3, 2] {
        rig.say(ann, &json!({"type": "room.send", "data": to, "to": to}));
    }
    let error = rig.heard(ann).pop().expect("an error");
    assert_eq!(error["error"]["param"], "to", "it is not there: {error}");
    rig.tell_others(cat, "from cat");
    let (_, events) = rig.come_back(&welcome, 0);
    let data: Vec<Value> = messages(&events).into_iter().map(|(_, data)| data).collect();
    assert_eq!(data, [json!("to all"), json!("from cat")]);
}

#[test]
fn a_room_that_nobody_is_in_remembers_and_is_the_same_when_its_member_comes_back() {
    let mut rig = Rig::new(|_| {});
    let (ann, welcome) = rig.join();
    rig.say(ann, &json!({"type": "session.update", "state": {"page": 7}}));
    rig.cut(ann);
    let post = shards::core::message::RoomPost { to: None, data: "1".into() };
    let room = shards::core::SessionId::parse("r").expect("a name");
    let query = shards::core::message::Query::Send(room, post);
    let id = shards::core::message::AskId(1);
    rig.shard.handle(rig.now, shards::core::Input::Ask { id, query }, &mut Vec::new());
    rig.wait(59_000);
    let (_, events) = rig.come_back(&welcome, 0);
    assert_eq!(events[1]["state"], json!({"page": 7}));
    assert_eq!(messages(&events), [(1, json!(1))], "told when nobody was there");
    assert_eq!(rig.counters().rooms_lingering, 0);
}

#[test]
fn a_newer_connection_takes_over_and_nobody_left() {
    let mut rig = Rig::new(|config| {
        config.limits.connections_per_user_max = 2;
        config.gate = Some(Arc::new(Names));
    });
    let join = |rig: &mut Rig, user: &str, more: &str| {
        rig.try_join(&format!("/ws/r?engine=relay&token={user}{more}"), "").expect("welcome")
    };
    let ann = join(&mut rig, "ann", "");
    let (ben, also_ben) = (join(&mut rig, "ben", ""), join(&mut rig, "ben", ""));
    let welcome = rig.heard(ben).remove(0);
    rig.heard(also_ben);
    rig.heard(ann);
    rig.stop(ben);
    rig.tell_others(ann, 1);
    let more = format!("&resume={}&after=2", token(&welcome));
    let again = join(&mut rig, "ben", &more);
    let events = rig.heard(again);
    assert_eq!(messages(&events), [(3, json!(1))], "what lay in the older one's queue");
    rig.tell_others(ann, 2);
    assert_eq!(messages(&rig.heard(again)), [(4, json!(2))]);
    assert!(rig.heard(ann).is_empty(), "nobody has left or joined");
    rig.go_on(ben);
    assert_eq!(rig.goodbye(ben), Some((1008, "replaced by a newer connection".into())));
    assert_eq!(rig.counters().history.taken_over, 1);
    let refused = rig.try_join("/ws/r?engine=relay&token=ben", "");
    assert_eq!(refused, Err(429), "it counts as one connection");
    rig.cut(again);
    assert_eq!(types(&rig.heard(ann)), ["room.member_left"]);
}

#[test]
fn a_token_is_of_no_use_to_others_or_elsewhere() {
    let mut rig = Rig::new(|config| config.gate = Some(Arc::new(Names)));
    let join = |rig: &mut Rig, room: &str, user: &str, token: &str| {
        let target = format!("/ws/{room}?engine=relay&token={user}&resume={token}");
        let conn = rig.try_join(&target, "").expect("welcome");
        rig.heard(conn)
    };
    let conn = rig.try_join("/ws/r?engine=relay&token=ann", "").expect("welcome");
    let welcome = rig.heard(conn).remove(0);
    let good = token(&welcome);
    let forged = format!("{}B{}", &good[..20], &good[21..]);
    for (room, user, token) in
        [("r", "ben", good), ("s", "ann", good), ("r", "ann", &forged), ("r", "ann", ""), ("r", "ann", "%00")]
    {
        let events = join(&mut rig, room, user, token);
        let restored = &events[1];
        assert_eq!(restored["type"], "session.restored");
        assert_eq!((&restored["recovered"], &restored["reason"]), (&json!(false), &json!("invalid_token")));
        assert!(room == "s" || events[0]["session"]["member"] != 1, "somebody else: {events:?}");
        assert_eq!((events.len(), &restored["state"], &restored["missed"]), (2, &Value::Null, &json!(0)));
    }
    assert_eq!(join(&mut rig, "r", "ann", good)[1]["recovered"], true);
    let counters = rig.counters().history;
    assert_eq!((counters.recovered, counters.not_recovered), (1, [5, 0, 0, 0, 0, 0]));
}

#[test]
fn whoever_cannot_be_told_all_is_told_so_and_is_a_member() {
    let few = |config: &mut ShardConfig| {
        config.room.history_events_max = 4;
        config.room.linger = Micros::from_s(5);
    };
    let mut rig = Rig::new(few);
    let (ann, _) = rig.join();
    let (ben, welcome) = rig.join();
    rig.cut(ben);
    for n in 0..6 {
        rig.tell_others(ann, n);
    }
    // One joined, one left, and six messages.
    for (after, reason) in [(0, "too_old"), (3, "too_old"), (1_000, "ahead"), (u64::MAX, "ahead")] {
        let (ben, events) = rig.come_back(&welcome, after);
        let outcome = (&events[1]["recovered"], &events[1]["reason"], &events[1]["last_seq"]);
        let seq =
            rig.shard.memory(&shards::core::SessionId::parse("r").expect("a name"), 0).expect("there").seq;
        assert!(events.len() == 2, "never a part of it: {events:?}");
        assert_eq!(events[0]["session"]["member"], 2);
        assert_eq!((outcome.0, outcome.1), (&json!(false), &json!(reason)), "after {after}");
        assert!(outcome.2.as_u64().is_some_and(|told| told <= seq));
        rig.heard(ann);
        rig.tell_others(ann, "live");
        assert_eq!(messages(&rig.heard(ben)).len(), 1, "it is a member all the same");
    }
    let counters = rig.counters().history;
    assert_eq!(counters.not_recovered, [0, 0, 0, 0, 2, 2]);
    assert_eq!(counters.events, 4);
    rig.shard.memory(&shards::core::SessionId::parse("r").expect("a name"), 0).expect("there");

    let mut rig = Rig::new(few);
    let (ann, welcome) = rig.join();
    rig.cut(ann);
    rig.wait(6_000);
    let (_, events) = rig.come_back(&welcome, 0);
    assert_eq!(events[1]["reason"], "room_ended");
    assert_ne!(events[1]["epoch"], welcome["session"]["resume"]["epoch"], "another room of that name");
}

#[test]
fn without_a_history_only_who_missed_nothing_is_told_so() {
    let mut rig = Rig::new(|config| config.room.history_events_max = 0);
    let (ann, _) = rig.join();
    let (_, welcome) = rig.join();
    let (ben, events) = rig.come_back(&welcome, 1);
    assert_eq!((&events[1]["recovered"], &events[1]["missed"]), (&json!(true), &json!(0)));
    rig.tell_others(ann, 1);
    rig.cut(ben);
    let (_, events) = rig.come_back(&welcome, 1);
    assert_eq!(events[1]["reason"], "too_old");
    assert_eq!(rig.counters().history.events, 0);
}

#[test]
fn a_number_that_is_none_is_refused() {
    let mut rig = Rig::new(|_| {});
    for after in ["x", "-1", "", "1.5", "18446744073709551616"] {
        let refused = rig.try_join(&format!("/ws/r?resume=x&after={after}"), "");
        assert_eq!(refused, Err(400), "{after}");
    }
    assert!(rig.try_join("/ws/r?after=7", "").is_ok(), "who was never here has nothing to come back to");
}

#[test]
fn clients_of_the_vendors_words_are_offered_nothing_and_refused_nothing() {
    let mut rig = Rig::new(|_| {});
    let (_, welcome) = rig.join();
    let target = format!("/v1/realtime?session_id=r&resume={}&after=x", token(&welcome));
    assert_eq!(rig.try_join(&target, ""), Err(400), "a number is a number");
    let target = format!("/v1/realtime?session_id=r&resume={}&after=0", token(&welcome));
    let (conn, created) = rig.join_with(&target, "");
    assert!(created["session"].get("resume").is_none(), "{created}");
    assert_eq!(created["session"]["member"], 2, "a new member");
    rig.say(conn, &json!({"type": "session.update", "after": 0}));
    let error = rig.heard(conn).pop().expect("an answer");
    assert_eq!((&error["type"], &error["error"]["param"]), (&json!("error"), &json!("after")));
}

#[test]
fn what_is_kept_is_counted_and_goes_with_its_room() {
    let mut rig = Rig::new(|config| config.room.linger = Micros::from_s(5));
    let (ann, _) = rig.join();
    assert_eq!(rig.counters().history.events, 0, "a room without events keeps nothing");
    let (ben, _) = rig.join();
    rig.tell_others(ann, "x".repeat(100));
    let history = rig.counters().history;
    assert_eq!(history.events, 2);
    assert!((200..400).contains(&history.bytes), "{history:?}");
    rig.cut(ann);
    rig.cut(ben);
    assert_eq!(rig.counters().history.events, 3);
    rig.wait(6_000);
    let history = rig.counters().history;
    assert_eq!((history.events, history.bytes), (0, 0));
}
