//! What a shard tells a store and when, and how it asks.

use std::sync::Arc;

use serde_json::{Value, json};
use shards::core::config::Store;
use shards::core::memory::{Memory, Remember, Remembered, StoreFailed};
use shards::core::{ConnKey, Denied, Gate, Micros, Pass, ShardConfig, ShardId};

use crate::rig::{Names, Rig, messages, token};

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
    rig.remember_again("none");
    let told = rig.told();
    assert!(matches!(&told[..], [Remember::Nothing(session)] if session.as_str() == "none"), "{told:?}");
    rig.remember_again("r");
    rig.wait(LAG);
    let whole = only(rig.told());
    assert_eq!(
        (whole.seq, whole.events.len() as u64),
        (news.seq, news.seq),
        "what the store lacks comes whole"
    );
}

#[test]
fn every_change_is_told_when_the_lag_is_over_with_the_moment_of_the_oldest() {
    let mut rig = Rig::new(with_store);
    let (ann, _) = join(&mut rig);
    rig.wait(LAG);
    rig.told();
    assert_eq!(rig.counters().store.untold_since, None);
    for changes in [1, 3] {
        let made = rig.now;
        for n in 0..changes {
            rig.tell_others(ann, n);
            rig.wait(LAG / 4);
            assert_eq!(rig.counters().store.untold_since, Some(made), "the first counts");
        }
        let due = made + Micros::from_ms(LAG);
        assert_eq!(rig.shard.next_deadline(), Some(due), "nobody has to come along for it");
        assert!(rig.shard.next_remembers(Micros(due.0 - 1)).is_none() && !rig.shard.must_tell_store(rig.now));
        rig.wait(due.since(rig.now).as_ms());
        assert!(rig.shard.must_tell_store(rig.now));
        let told = rig.shard.next_remembers(rig.now).expect("it is time");
        assert_eq!((told.since, only(told.all).events.len()), (made, changes));
        assert_eq!(rig.counters().store.untold_since, None);
    }
}

#[test]
fn what_finds_no_room_on_its_way_comes_first_the_next_time() {
    let mut rig = Rig::new(with_store);
    let made = rig.now;
    let (ann, _) = join(&mut rig);
    rig.tell_others(ann, 1);
    rig.wait(LAG);
    let told = rig.shard.next_remembers(rig.now).expect("something");
    rig.shard.return_remembers(told);
    assert_eq!(rig.counters().store.untold_since, Some(made));
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
    assert_eq!(rig.heard(failed)[1]["reason"], "invalid_token");

    let mut before = Rig::new(with_store);
    let (_, welcome) = join(&mut before);
    let mut rig = Rig::seeded(2, with_store);
    let resume = format!("/ws/r?engine=relay&resume={}&after=0", token(&welcome));
    let (_, other) = join(&mut before);
    let failed = rig.knock(&resume, "");
    let other = rig.knock(&format!("/ws/r?engine=relay&resume={}&after=0", token(&other)), "");
    rig.recalled(Err(StoreFailed));
    assert_eq!((rig.answered(failed), rig.answered(other)), (Some(Ok(failed)), Some(Ok(other))));
    let later = rig.try_join(&resume, "").expect("the room is there");
    for conn in [failed, other, later] {
        let events = rig.heard(conn);
        let restored = events.iter().find(|event| event["type"] == "session.restored").expect("an outcome");
        assert_eq!(restored["reason"], "store_failed");
    }

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
    assert!(told.goes_on_from(memory.epoch, memory.seq), "{:?}", told.earlier);
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
    assert_eq!(
        rig.answered(next),
        Some(Err(503)),
        "without asking, its room would replace the one in the store"
    );
    assert_eq!((rig.recalls.len(), rig.counters().store.not_asked), (3, 1));
    assert_eq!(rig.counters().rooms, 0);
    // But who wants a room that is asked for waits with the others.
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

/// A token is `engine:ms`: for that engine, and for so long.
#[derive(Debug)]
struct Engines;

impl Gate for Engines {
    fn check(&self, token: &str) -> Result<Pass, Denied> {
        let (engine, ms) = token.split_once(':').ok_or(Denied::Unauthorized("it has not two parts"))?;
        let valid_for = ms.parse().ok().map(Micros::from_ms);
        Ok(Pass { valid_for, engine: engine.parse().ok(), ..Names.check("u")? })
    }
}

#[test]
fn a_token_is_held_against_the_room_that_the_store_has_and_is_no_longer_good_for_the_wait() {
    let mut before = Rig::new(with_store);
    join(&mut before);
    before.wait(LAG);
    let memory = Box::new(only(before.told()));
    let mut rig = Rig::seeded(2, |config| {
        with_store(config);
        config.gate = Some(Arc::new(Engines));
    });
    let other = rig.knock("/ws/r?engine=parrot&token=parrot:", "");
    let same = rig.knock("/ws/r?engine=relay&token=relay:1500", "");
    rig.wait(1_000);
    rig.recalled(Ok(Some(Remembered { memory, whole: true })));
    assert_eq!(rig.answered(other), Some(Err(403)));
    assert_eq!(rig.answered(same), Some(Ok(same)));
    rig.wait(499);
    assert_eq!(rig.goodbye(same), None);
    rig.wait(100);
    assert_eq!(rig.goodbye(same), Some((1008, "the token has expired".into())));
}

#[test]
fn a_stream_of_a_stored_room_begins_behind_its_last_event() {
    let mut rig = Rig::new(with_store);
    let (ann, _) = join(&mut rig);
    join(&mut rig);
    (0..6).for_each(|n| rig.tell_others(ann, n));
    rig.wait(LAG);
    let memory = Box::new(only(rig.told()));
    let mut rig = Rig::new(with_store);
    let stream = rig.knock("/sse/r?engine=relay", "");
    assert_eq!((rig.plain(stream), rig.recalls.len()), (String::new(), 1));
    rig.recalled(Ok(Some(Remembered { memory, whole: true })));
    let said = rig.plain(stream);
    assert!(said.contains("\nid: 7\n"), "{said}");
}
