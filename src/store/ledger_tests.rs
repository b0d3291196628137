//! What is on its way to a store.

use shards::core::memory::Remember;

use super::form::tests::memory;
use super::form::weight;
use super::ledger::{Change, Ledger, Taken};
use super::*;

const LAG: Micros = Micros::from_ms(500);
const COMMIT: Micros = Micros::from_ms(100);
/// Everything is told when the lag is over.
const MADE: Micros = Micros::from_s(10);
const NOW: Micros = Micros(MADE.0 + LAG.0);

fn room(session: &str, numbers: std::ops::RangeInclusive<u64>) -> Remember {
    Remember::Room(Box::new(memory(session, 1, numbers)))
}

fn session(name: &str) -> SessionId {
    SessionId::parse(name).expect("valid")
}

fn forget(name: &str) -> Remember {
    Remember::Forget(session(name))
}

fn only(ledger: &mut Ledger) -> Box<Memory> {
    match ledger.take_changes().pop() {
        Some(Change::Room(memory)) => memory,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_told_of_a_room_grows_together_while_it_waits_and_keeps_to_what_the_room_keeps() {
    let mut ledger = Ledger::new(LAG, COMMIT, 1 << 20);
    assert_eq!(ledger.remember(NOW, MADE, room("a", 1..=3)), Taken::Waits);
    let mut second = memory("a", 1, 4..=5);
    second.oldest = 1;
    assert_eq!(ledger.remember(NOW + COMMIT, MADE + COMMIT, Remember::Room(Box::new(second))), Taken::Waits);
    assert_eq!(ledger.due(NOW), Some(NOW + COMMIT), "counted from the first");
    let mut third = memory("a", 1, 6..=6);
    third.oldest = 3;
    assert_eq!(ledger.remember(NOW, MADE, Remember::Room(Box::new(third))), Taken::Waits);
    let whole = only(&mut ledger);
    assert_eq!((whole.events.len(), whole.seq, whole.oldest), (4, 6, 3));
    assert_eq!(ledger.waiting(), (0, 0));
    assert_eq!(ledger.due(NOW), None);
}

#[test]
fn what_does_not_follow_takes_the_place_of_what_waits() {
    let mut ledger = Ledger::new(LAG, COMMIT, 1 << 20);
    for numbers in [1..=3, 5..=6] {
        assert_eq!(ledger.remember(NOW, MADE, room("a", numbers)), Taken::Waits);
    }
    assert_eq!(only(&mut ledger).events.len(), 2);
    assert_eq!(ledger.remember(NOW, MADE, room("a", 1..=3)), Taken::Waits);
    assert_eq!(ledger.remember(NOW, MADE, forget("a")), Taken::Waits);
    assert_eq!(ledger.take_changes(), [Change::Forget(session("a"))]);
}

#[test]
fn what_is_too_much_is_asked_for_again_when_there_is_room() {
    let bytes_max = weight(&memory("a", 1, 1..=3)) * 5 / 2;
    let mut ledger = Ledger::new(LAG, COMMIT, bytes_max);
    let taken: Vec<_> = ["a", "b", "c"].map(|name| ledger.remember(NOW, MADE, room(name, 1..=3))).into();
    assert_eq!(taken, [Taken::Waits, Taken::Waits, Taken::Dropped]);
    assert_eq!(ledger.due(NOW), Some(NOW), "it is time to write");
    assert_eq!((ledger.behind(), ledger.ask_again()), (1, Vec::new()));
    assert_eq!(ledger.take_changes().len(), 2);
    assert_eq!(ledger.ask_again(), [session("c")]);
    assert_eq!(ledger.behind(), 1, "until it is told");
    assert_eq!(ledger.remember(NOW, MADE, room("c", 1..=3)), Taken::Waits);
    assert_eq!(ledger.behind(), 0);
}

#[test]
fn a_store_that_breaks_leaves_names_and_what_is_to_be_forgotten() {
    let mut ledger = Ledger::new(LAG, COMMIT, 1 << 20);
    let unwritten = vec![Change::Room(Box::new(memory("a", 1, 1..=3))), Change::Forget(session("b"))];
    for told in [room("c", 1..=1), room("b", 1..=1), forget("a")] {
        assert_eq!(ledger.remember(NOW, MADE, told), Taken::Waits);
    }
    ledger.broke(NOW, unwritten);
    assert_eq!(ledger.remember(NOW, MADE, room("d", 1..=1)), Taken::Dropped);
    assert_eq!(ledger.remember(NOW, MADE, forget("d")), Taken::Waits);
    assert_eq!(ledger.ask_again(), [], "there is nowhere to write it");
    ledger.try_again();
    let mut again = ledger.ask_again();
    again.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    assert_eq!(again, [session("b"), session("c")]);
    let mut forgotten: Vec<_> =
        ledger.take_changes().iter().map(|change| change.session().to_string()).collect();
    forgotten.sort();
    assert_eq!(forgotten, ["a", "d"]);
}

#[test]
fn a_question_about_what_waits_hurries_the_writing() {
    let mut ledger = Ledger::new(LAG, COMMIT, 1 << 20);
    let ask = |name: &str| Recall { shard: ShardId(0), session: session(name) };
    assert_eq!(ledger.remember(NOW, MADE, room("a", 1..=1)), Taken::Waits);
    ledger.recall(ask("b"));
    assert_eq!(ledger.due(NOW), Some(NOW + COMMIT));
    ledger.recall(ask("a"));
    assert_eq!(ledger.due(NOW), Some(NOW));
    assert_eq!(ledger.take_recalls().len(), 1, "the other comes behind the writing");
    assert_eq!(ledger.take_changes().len(), 1);
    assert_eq!(ledger.take_recalls().len(), 1);
    assert_eq!(ledger.remember(NOW, MADE, Remember::Complete(ShardId(1))), Taken::Waits);
    assert_eq!((ledger.complete(), ledger.ends()), (1, false));
}

#[test]
fn what_comes_late_does_not_wait_for_others() {
    let mut ledger = Ledger::new(LAG, COMMIT, 1 << 20);
    let late = Micros::from_ms(30);
    assert_eq!(ledger.remember(NOW + late, MADE, room("a", 1..=1)), Taken::Waits);
    assert_eq!(ledger.due(NOW), Some(NOW + COMMIT), "as if it had come in time");
    assert_eq!(ledger.take_changes().len(), 1);
    assert_eq!(ledger.remember(NOW, NOW, room("a", 2..=2)), Taken::Waits);
    assert_eq!(ledger.due(NOW), Some(NOW + COMMIT), "what comes early is gathered as long as anything else");
    assert_eq!(ledger.remember(NOW + late, MADE, room("a", 3..=3)), Taken::Waits);
    assert_eq!(ledger.remember(NOW + late, MADE - late - COMMIT, room("b", 1..=1)), Taken::Waits);
    assert_eq!(ledger.due(NOW), Some(NOW - late), "the latest counts, also among those of one room");
}

#[test]
fn a_change_has_its_moment_until_it_is_saved_however_it_gets_there() {
    let mut ledger = Ledger::new(LAG, COMMIT, 1 << 20);
    let later = MADE + COMMIT;
    assert_eq!(ledger.unsaved_since(), None);
    assert_eq!(ledger.remember(NOW, MADE, room("a", 1..=1)), Taken::Waits);
    assert_eq!(ledger.unsaved_since(), Some(MADE), "while it waits");
    let unwritten = ledger.take_changes();
    assert_eq!(ledger.remember(NOW, later, room("b", 1..=1)), Taken::Waits);
    assert_eq!(ledger.unsaved_since(), Some(MADE), "while it is written");
    ledger.broke(NOW, unwritten);
    assert_eq!(ledger.remember(NOW, later, room("c", 1..=1)), Taken::Dropped);
    assert_eq!(ledger.unsaved_since(), Some(MADE), "while nothing can be written");
    ledger.try_again();
    assert_eq!(ledger.ask_again().len(), 3);
    assert_eq!(ledger.unsaved_since(), Some(MADE), "while it is asked for");
    let mut part = memory("a", 1, 3..=3);
    part.oldest = 1;
    assert_eq!(ledger.remember(NOW, NOW, Remember::Room(Box::new(part))), Taken::Waits);
    assert_eq!(ledger.behind(), 3, "that is not all of it");
    assert_eq!(ledger.remember(NOW, NOW, room("a", 1..=4)), Taken::Waits);
    assert_eq!((ledger.behind(), ledger.unsaved_since()), (2, Some(MADE)), "while it waits again");
    assert_eq!((ledger.take_changes().len(), ledger.wrote()), (1, Some(MADE)));
    assert_eq!(ledger.remember(NOW, NOW, Remember::Nothing(session("b"))), Taken::Waits);
    assert_eq!(ledger.remember(NOW, NOW, Remember::Nothing(session("d"))), Taken::Waits);
    assert_eq!(ledger.lost(), 1, "what was asked for and is gone stays away for ever");
    assert_eq!(ledger.remember(NOW, NOW, room("c", 1..=1)), Taken::Waits);
    assert_eq!((ledger.take_changes().len(), ledger.behind()), (1, 0));
    assert!(ledger.wrote().is_some_and(|since| since < NOW));
    assert_eq!(ledger.unsaved_since(), None);
}

#[test]
fn a_room_that_finds_no_room_has_the_moment_of_all_that_is_not_written_of_it() {
    let bytes_max = weight(&memory("a", 1, 1..=3)) * 3 / 2;
    let mut ledger = Ledger::new(LAG, COMMIT, bytes_max);
    assert_eq!(ledger.remember(NOW, MADE, room("a", 1..=3)), Taken::Waits);
    assert_eq!(ledger.remember(NOW, MADE + COMMIT, room("a", 4..=6)), Taken::Dropped);
    assert_eq!((ledger.waiting(), ledger.unsaved_since()), ((0, 0), Some(MADE)));
    assert!(ledger.take_changes().is_empty());
    assert_eq!(ledger.unsaved_since(), Some(MADE));
    assert_eq!(ledger.remember(NOW, NOW, forget("a")), Taken::Waits);
    assert_eq!((ledger.take_changes().len(), ledger.wrote()), (1, Some(NOW)));
    assert_eq!(ledger.unsaved_since(), None, "it has ended");
}

#[test]
fn a_room_larger_than_everything_that_may_wait_goes_alone() {
    let mut ledger = Ledger::new(LAG, COMMIT, 100);
    assert_eq!(ledger.remember(NOW, MADE, room("large", 1..=50)), Taken::Waits);
    assert_eq!(ledger.due(NOW), Some(NOW), "at once");
    assert_eq!(ledger.remember(NOW, MADE, room("other", 1..=1)), Taken::Dropped);
    assert_eq!(only(&mut ledger).seq, 50);
}
