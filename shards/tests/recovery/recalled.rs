//! Rooms that a store remembers, on a shard that does not.

use serde_json::json;
use shards::core::SessionId;
use shards::core::memory::{Earlier, Memory};

use crate::rig::{Rig, messages};

fn room() -> SessionId {
    SessionId::parse("r").expect("a name")
}

#[test]
fn a_room_goes_on_where_a_store_has_it() {
    let mut before = Rig::new(|_| {});
    let (ann, _) = before.join();
    let (ben, welcome) = before.join();
    before.say(ann, &json!({"type": "session.update", "state": {"page": 7}}));
    before.say(ben, &json!({"type": "room.send", "data": 1, "client_seq": 9}));
    before.tell_others(ann, 2);
    let memory = before.shard.memory(&room(), 0).expect("a room");
    assert_eq!((memory.seq, memory.events.len(), memory.last_member), (3, 3, 2));
    assert_eq!(before.shard.memory(&room(), 2).expect("a room").events, memory.events[2..]);
    assert_eq!(before.shard.memory(&room(), 3).expect("a room").events, []);
    assert_eq!(before.shard.memory(&room(), 77).expect("a room").events, []);

    let mut after = Rig::seeded(2, |_| {});
    after.shard.recall(after.now, memory.clone(), true).expect("a place");
    assert_eq!(after.shard.memory(&room(), 0).expect("a room"), memory, "nothing of it was lost");
    let counters = after.counters();
    assert_eq!((counters.rooms, counters.rooms_lingering, counters.history.events), (1, 1, 3));
    let (ben, events) = after.come_back(&welcome, 2);
    let restored = &events[1];
    assert_eq!((&restored["recovered"], &restored["restarted"]), (&json!(true), &json!(true)));
    assert_eq!((&restored["state"], &restored["client_seq"]), (&json!({"page": 7}), &json!(9)));
    assert_eq!(restored["epoch"], welcome["session"]["resume"]["epoch"], "the numbering goes on");
    assert_eq!(messages(&events), [(3, json!(2))]);
    let (cat, welcome) = after.join();
    assert_eq!(welcome["session"]["member"], 3, "nobody gets another's number");
    after.tell_others(cat, 3);
    assert_eq!(messages(&after.heard(ben)), [(5, json!(3))]);
}

#[test]
fn a_room_that_comes_back_is_told_of_as_opened() {
    let mut before = Rig::new(|_| {});
    before.join();
    let memory = before.shard.memory(&room(), 0).expect("a room");
    let mut after = Rig::seeded(2, |_| {});
    let feed = after.try_join("/events?types=room.opened", "").expect("a feed");
    after.shard.recall(after.now, memory, true).expect("a place");
    after.wait(1_000);
    let heard = after.heard(feed);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!((&heard[0]["session_id"], &heard[0]["recalled"]), (&json!("r"), &json!(true)));
}

#[test]
fn who_saw_what_the_store_was_not_told_is_told_that_it_is_lost() {
    let mut before = Rig::new(|_| {});
    let (ann, _) = before.join();
    let (_, welcome) = before.join();
    before.tell_others(ann, 1);
    let memory = before.shard.memory(&room(), 0).expect("a room");
    before.tell_others(ann, "lost with the process");
    let (_, late) = before.join();

    let recalled = |seed, memory: Memory| {
        let mut rig = Rig::seeded(seed, |_| {});
        rig.shard.recall(rig.now, memory, false).expect("a place");
        rig
    };
    let mut after = recalled(2, memory);
    let (ann, _) = after.join();
    after.tell_others(ann, "instead");
    let (_, events) = after.come_back(&welcome, 3);
    assert_eq!((&events[1]["recovered"], &events[1]["reason"]), (&json!(false), &json!("lost")));
    assert_eq!(events[0]["session"]["member"], 2, "it is who it was");
    let (_, events) = after.come_back(&welcome, 1);
    assert_eq!(messages(&events), [(2, json!(1)), (3, json!("instead"))], "what it has is what was saved");
    let epoch = &events[1]["epoch"];
    assert_ne!(epoch, &welcome["session"]["resume"]["epoch"], "another numbering");
    let (_, events) = after.come_back(&late, 2);
    assert_eq!(events[0]["session"]["member"], 3, "nobody else has had its number since");

    let memory = after.shard.memory(&room(), 0).expect("a room");
    let epoch = welcome["session"]["resume"]["epoch"].as_u64().expect("a number");
    assert_eq!(memory.earlier, [Earlier { epoch, seq: 2, members: 2 + 256 }]);
    let mut again = recalled(3, memory);
    let (_, events) = again.come_back(&welcome, 1);
    assert_eq!(events[1]["recovered"], true, "over two crashes: {events:?}");
    let (_, events) = again.come_back(&welcome, 3);
    assert_eq!(events[1]["reason"], "lost");
}

#[test]
fn a_room_that_is_there_is_not_recalled_again() {
    let mut rig = Rig::new(|config| config.limits.rooms_max = 1);
    rig.join();
    let memory = rig.shard.memory(&room(), 0).expect("a room");
    assert!(rig.shard.recall(rig.now, memory.clone(), true).is_err());
    let other = Memory { session: SessionId::parse("other").expect("a name"), ..memory };
    assert!(rig.shard.recall(rig.now, other, true).is_err(), "there is no place for it");
    assert_eq!(rig.counters().rooms, 1);
}

#[test]
fn nobody_is_taken_for_another_when_numbers_are_given_again() {
    let mut before = Rig::new(|_| {});
    let (_, old) = before.join();
    let memory = before.shard.memory(&room(), 0).expect("a room");
    let mut rig = Rig::seeded(2, |_| {});
    let nearly = Memory { last_member: u16::MAX - 1, ..memory };
    rig.shard.recall(rig.now, nearly, true).expect("a place");
    let (last, welcome) = rig.join();
    assert_eq!(welcome["session"]["member"], u16::MAX);
    rig.say(last, &json!({"type": "room.send", "data": 0, "client_seq": 9}));
    let (first, again) = rig.join();
    assert_eq!(again["session"]["member"], 1);
    assert_ne!(again["session"]["resume"]["epoch"], welcome["session"]["resume"]["epoch"]);
    for gone in [&old, &welcome] {
        let (_, events) = rig.come_back(gone, 0);
        assert_eq!((&events[1]["recovered"], &events[1]["reason"]), (&json!(false), &json!("room_ended")));
        assert!(events[0]["session"]["member"].as_u64().is_some_and(|number| number > 1 && number < 9));
    }
    assert_eq!(rig.goodbye(first), None, "nobody takes its place");
    let (_, events) = rig.come_back(&again, 1);
    assert_eq!((&events[0]["session"]["member"], &events[1]["recovered"]), (&json!(1), &json!(true)));
    assert_eq!(events[1].get("client_seq"), None, "its numbers are not those of its predecessor");
}

#[test]
fn who_came_too_late_before_a_crash_to_be_told_from_others_is_somebody_new() {
    let mut before = Rig::new(|config| config.limits.members_per_room_max = 1_000);
    before.join();
    let memory = before.shard.memory(&room(), 0).expect("a room");
    let lost: Vec<_> = (0..257).map(|_| before.join().1).collect();
    let mut after = Rig::seeded(2, |_| {});
    after.shard.recall(after.now, memory, false).expect("a place");
    let (there, welcome) = after.join();
    assert_eq!(welcome["session"]["member"], lost[256]["session"]["member"]);
    let (_, events) = after.come_back(&lost[256], 0);
    assert_eq!((&events[1]["recovered"], &events[1]["reason"]), (&json!(false), &json!("lost")));
    assert_eq!(after.goodbye(there), None, "nobody takes its place");
    let (_, events) = after.come_back(&lost[255], 0);
    assert_eq!(events[0]["session"]["member"], lost[255]["session"]["member"]);
}

#[test]
fn a_second_crash_before_the_store_knew_of_the_first_costs_nobody_what_was_kept() {
    let mut before = Rig::new(|_| {});
    let (ann, _) = before.join();
    let (_, welcome) = before.join();
    before.tell_others(ann, 1);
    let memory = before.shard.memory(&room(), 0).expect("a room");
    let mut between = Rig::seeded(2, |_| {});
    between.shard.recall(between.now, memory.clone(), false).expect("a place");
    let (_, events) = between.come_back(&welcome, 2);
    let fresh = events[0].clone();
    let (_, other) = between.join();
    let mut after = Rig::seeded(3, |_| {});
    after.shard.recall(after.now, memory, false).expect("a place");
    let (_, events) = after.come_back(&fresh, 1);
    assert_eq!((&events[1]["recovered"], &events[0]["session"]["member"]), (&json!(true), &json!(2)));
    assert_eq!(messages(&events), [(2, json!(1))]);
    let (_, events) = after.come_back(&fresh, 3);
    assert_eq!((&events[1]["reason"], &events[0]["session"]["member"]), (&json!("lost"), &json!(2)));
    let (there, welcome) = after.join();
    assert_eq!(welcome["session"]["member"], other["session"]["member"], "the number is given again");
    let (_, events) = after.come_back(&other, 1);
    assert_eq!(events[1]["reason"], "lost");
    assert_eq!(after.goodbye(there), None, "nobody takes its place");
}
