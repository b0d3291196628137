//! What a shard tells a store and when, and how it asks.

use serde_json::{Value, json};
use shards::core::config::Store;
use shards::core::memory::{Memory, Remember, Remembered, StoreFailed};
use shards::core::{ConnKey, Micros, ShardConfig, ShardId};

use crate::rig::{Rig, messages, token};

const LAG: u64 = 500;
const RECALL: u64 = 2_000;

fn with_store(config: &mut ShardConfig) {
    config.store = Some(Store { lag: Micros::from_ms(LAG), recall: Micros::from_ms(RECALL) });
}

/// A member of the room `r`, which no store has.
fn join(rig: &mut Rig) -> (ConnKey, Value) {
    let conn = rig.knock("/ws/r?engine=relay", "");
    if !rig.recalls.is_empty() {
        rig.recalls.clear();
        rig.recalled(Ok(None));
    }
    assert_eq!(rig.answered(conn), Some(Ok(conn)));
    let welcome = rig.heard(conn).remove(0);
    (conn, welcome)
}

/// What was told of the room, and nothing else.
fn only(told: Vec<Remember>) -> Memory {
    let [Remember::Room(memory)] = <[Remember; 1]>::try_from(told).expect("one") else { panic!("a room") };
    *memory
}

#[test]
fn a_room_is_told_from_its_first_welcome_once_in_a_lag_and_only_what_is_new() {
    let mut rig = Rig::new(with_store);
    let (ann, welcome) = join(&mut rig);
    assert!(rig.told().is_empty(), "not before its time");
    rig.wait(LAG);
    let first = only(rig.told());
    assert_eq!((first.seq, first.last_member, first.events.len()), (0, 1, 0));
    assert_eq!(json!(first.epoch), welcome["session"]["resume"]["epoch"]);
    rig.wait(10 * LAG);
    assert!(rig.told().is_empty(), "a quiet room is told once");
    let (_ben, _) = join(&mut rig);
    for n in 0..20 {
        rig.tell_others(ann, n);
    }
    rig.wait(LAG - 1);
    assert!(rig.told().is_empty());
    rig.wait(1);
    let news = only(rig.told());
    assert_eq!((news.seq, news.oldest, news.events.len()), (21, 1, 21));
    rig.tell_others(ann, "more");
    rig.say(ann, &json!({"type": "session.update", "state": {"page": 7}}));
    rig.wait(LAG);
    let news = only(rig.told());
    assert_eq!((news.events.len() as u64, news.state.as_deref()), (news.seq - 21, Some(r#"{"page":7}"#)));
    rig.remember_again();
    rig.wait(LAG);
    let whole = only(rig.told());
    assert_eq!(
        (whole.seq, whole.events.len() as u64),
        (news.seq, news.seq),
        "what the store lacks comes whole"
    );
}

#[test]
fn what_finds_no_room_on_its_way_comes_first_the_next_time() {
    let mut rig = Rig::new(with_store);
    let (ann, _) = join(&mut rig);
    rig.tell_others(ann, 1);
    rig.wait(LAG);
    let told = rig.shard.next_remembers(rig.now).expect("something");
    rig.shard.return_remembers(told);
    assert!(rig.shard.has_remembers() && rig.shard.must_tell_store(rig.now));
    rig.tell_others(ann, 2);
    rig.wait(LAG);
    let seqs: Vec<u64> = rig
        .told()
        .iter()
        .map(|told| if let Remember::Room(memory) = told { memory.seq } else { panic!("a room") })
        .collect();
    assert_eq!(seqs, [1, 2]);
    assert!(!rig.shard.has_remembers());
}

#[test]
fn rooms_that_end_are_forgotten_and_those_that_end_with_the_node_are_not() {
    let mut rig = Rig::new(|config| {
        with_store(config);
        config.room.linger = Micros::from_s(60);
    });
    let (ann, _) = join(&mut rig);
    rig.wait(LAG);
    only(rig.told());
    rig.cut(ann);
    rig.wait(61_000);
    let told = rig.told();
    assert!(matches!(&told[..], [Remember::Forget(session)] if session.as_str() == "r"), "{told:?}");

    let (ann, _) = join(&mut rig);
    let (ben, _) = join(&mut rig);
    rig.tell_others(ann, "last");
    rig.drain();
    rig.cut(ann);
    rig.cut(ben);
    let last = only(rig.told());
    assert_eq!((last.seq, last.events.len()), (3, 3));
    rig.shard.tell_store_all(rig.now);
    let told = rig.told();
    assert!(matches!(told[..], [Remember::Complete(ShardId(0))]), "{told:?}");
}

#[test]
fn clients_wait_for_the_store_together_and_find_the_room_as_it_was() {
    let mut before = Rig::new(with_store);
    let (ann, _) = join(&mut before);
    let (_, welcome) = join(&mut before);
    before.tell_others(ann, "kept");
    before.wait(LAG);
    let memory = only(before.told());

    for (whole, restarts) in [(true, false), (false, true)] {
        let mut rig = Rig::seeded(2, with_store);
        let back = rig.knock(&format!("/ws/r?engine=relay&resume={}&after=1", token(&welcome)), "");
        let fresh = rig.knock("/ws/r?engine=relay", "");
        assert_eq!((rig.answered(back), rig.answered(fresh)), (None, None), "both wait");
        assert_eq!(rig.recalls.len(), 1, "it is asked once");
        rig.recalled(Ok(Some(Remembered { memory: Box::new(memory.clone()), whole })));
        assert_eq!((rig.answered(back), rig.answered(fresh)), (Some(Ok(back)), Some(Ok(fresh))));
        let events = rig.heard(back);
        assert_eq!((&events[1]["recovered"], &events[1]["missed"]), (&json!(true), &json!(1)));
        assert_eq!(messages(&events), [(2, json!("kept"))]);
        assert_ne!(rig.heard(fresh)[0]["session"]["member"], json!(2));
        rig.wait(LAG);
        let news = only(rig.told());
        assert_eq!(news.epoch != memory.epoch, restarts);
        assert_eq!(
            news.seq,
            memory.seq + news.events.len() as u64,
            "what the store has it is not told again"
        );
        // Whoever comes now finds the room.
        rig.recalls.clear();
        join(&mut rig);
        assert!(rig.recalls.is_empty());
    }
}

#[test]
fn a_store_that_fails_or_is_too_slow_does_not_keep_anybody_out() {
    let mut rig = Rig::new(with_store);
    let failed = rig.knock("/ws/r?engine=relay&resume=x&after=1", "");
    rig.recalled(Err(StoreFailed));
    assert_eq!(rig.answered(failed), Some(Ok(failed)));
    assert_eq!(rig.heard(failed)[1]["recovered"], json!(false));

    let mut rig = Rig::new(with_store);
    let slow = rig.knock("/ws/r?engine=relay", "");
    rig.wait(RECALL - 500);
    let later = rig.knock("/ws/r?engine=relay", "");
    assert_eq!((rig.answered(slow), rig.answered(later)), (None, None));
    rig.wait(501);
    assert_eq!((rig.answered(slow), rig.answered(later)), (Some(Ok(slow)), Some(Ok(later))));
    // What comes too late changes nothing.
    let memory = rig.shard.memory(&rig.recalls[0].clone(), 0).expect("a room");
    let late = Memory { seq: 90, ..memory.clone() };
    rig.recalled(Ok(Some(Remembered { memory: Box::new(late), whole: true })));
    assert_eq!(rig.shard.memory(&memory.session, 0), Some(memory));
    assert_eq!((rig.counters().store.failed, rig.counters().rooms), (1, 1));
}

#[test]
fn a_room_with_a_new_numbering_is_told_even_where_nobody_comes_in() {
    let mut before = Rig::new(with_store);
    join(&mut before);
    before.wait(LAG);
    let memory = only(before.told());
    let mut rig = Rig::seeded(2, |config| {
        with_store(config);
        config.limits.connections_max = 1;
        config.echo_endpoint = true;
    });
    let late = rig.knock("/ws/r?engine=relay", "");
    let waits = rig.knock("/echo", "");
    assert_eq!(rig.answered(waits), Some(Ok(waits)), "it takes the last place");
    rig.recalled(Ok(Some(Remembered { memory: Box::new(memory.clone()), whole: false })));
    assert_eq!(rig.answered(late), Some(Err(503)));
    rig.wait(LAG);
    // Otherwise the store would take what it has for all there was, once the node has ended in good order.
    let told = only(rig.told());
    assert_eq!(told.earlier, [(memory.epoch, memory.seq)]);
}

#[test]
fn who_waits_for_the_store_is_not_taken_for_silent() {
    let mut rig = Rig::new(|config| {
        with_store(config);
        config.heartbeat.ping = Micros::from_ms(1_000);
        config.heartbeat.idle = Micros::from_ms(1_800);
    });
    let conn = rig.knock("/ws/r?engine=relay", "");
    rig.wait(RECALL - 100);
    rig.recalled(Ok(None));
    assert_eq!(rig.answered(conn), Some(Ok(conn)));
    rig.wait(500);
    assert_eq!(rig.goodbye(conn), None);
}

#[test]
fn only_so_many_wait_for_the_store() {
    let mut rig = Rig::new(|config| {
        with_store(config);
        config.limits.upgrades_in_flight_max = 4;
    });
    let waiting: Vec<_> = (0..3).map(|n| rig.knock(&format!("/ws/room-{n}"), "")).collect();
    assert!(waiting.into_iter().all(|conn| rig.answered(conn).is_none()));
    let next = rig.knock("/ws/r", "");
    assert_eq!(rig.answered(next), Some(Ok(next)));
    assert_eq!((rig.recalls.len(), rig.counters().store.not_asked), (3, 1));
    // But a room that is asked for does not begin anew under those who wait for it.
    let second = rig.knock("/ws/room-0", "");
    assert_eq!((rig.answered(second), rig.recalls.len()), (None, 3));
}

#[test]
fn a_node_that_leaves_turns_those_away_who_wait_for_the_store() {
    let mut rig = Rig::new(with_store);
    let late = rig.knock("/ws/r?engine=relay", "");
    rig.drain();
    rig.recalled(Ok(None));
    assert_eq!(rig.answered(late), Some(Err(503)));
    assert_eq!(rig.counters().rooms, 0);
}

#[test]
fn without_a_store_nothing_of_it_happens() {
    let mut rig = Rig::new(|_| {});
    let (ann, _) = rig.join();
    rig.tell_others(ann, 1);
    rig.wait(60_000);
    rig.shard.tell_store_all(rig.now);
    assert!(rig.told().is_empty() && rig.recalls.is_empty());
}
