//! How it answers where it is told to think, to hurry, to take big bites, or to fail.

use serde_json::json;

use super::room::{Room, Seen, voice};
use crate::core::event::{ClientCommand, Modality};
use crate::core::time::Micros;

/// Audio frames with when they came, in milliseconds since `began`, and how long they are in milliseconds.
fn frames(room: &Room, began: Micros) -> Vec<(u64, usize)> {
    let frame = |seen: &Seen| match seen {
        Seen::Audio { at, bytes, .. } => Some((at.since(began).as_ms(), bytes.len() / 32)),
        _ => None,
    };
    room.seen.iter().filter_map(frame).collect()
}

fn heard(ms: usize) -> Room {
    let mut room = Room::manual();
    room.hear(&voice(ms));
    room.command(ClientCommand::Commit);
    room.forget();
    room
}

#[test]
fn where_all_take_audio_in_events_it_speaks_a_tenth_of_a_second_at_a_time() {
    let mut room = heard(500 + 40);
    room.only_events = true;
    let began = room.now;
    room.create();
    room.wait(1_000);
    let expected = [(0, 100), (100, 100), (200, 100), (300, 100), (400, 100), (500, 40)];
    assert_eq!(frames(&room, began), expected);
    assert_eq!(room.played(), voice(540));
    assert_eq!(room.transcript(), "heard 0.54 s");
    let marks: Vec<(bool, bool)> = room
        .seen
        .iter()
        .filter_map(|seen| match seen {
            Seen::Audio { first, last, .. } => Some((*first, *last)),
            _ => None,
        })
        .collect();
    assert_eq!((marks[0], marks[5]), ((true, false), (false, true)));
    assert!(marks[1..5].iter().all(|&mark| mark == (false, false)));
}

#[test]
fn it_thinks_takes_bites_and_hurries_as_it_is_told() {
    let mut room = heard(480);
    room.config.parrot.delay = Micros::from_ms(300);
    room.config.parrot.chunk = Micros::from_ms(200);
    room.config.parrot.pace = 4;
    let began = room.now;
    room.create();
    assert_eq!(room.names().last(), Some(&"response.content_part.added"), "the response is there at once");
    room.wait(1_000);
    assert_eq!(frames(&room, began), [(300, 200), (350, 200), (400, 80)]);
    assert_eq!(room.played(), voice(480));
}

#[test]
fn without_a_pace_it_answers_as_fast_as_clients_can_take_it() {
    let mut room = heard(5_000);
    room.config.parrot.pace = 0;
    let began = room.now;
    room.create();
    room.wait(100);
    assert_eq!(room.event("response.done")["response"]["status"], "completed");
    assert_eq!(room.played(), voice(5_000));
    let when: Vec<u64> = frames(&room, began).iter().map(|&(at, _)| at).collect();
    assert_eq!((when[0], when[99], when[100], when[249]), (0, 0, 20, 40));
}

#[test]
fn after_so_many_answers_one_fails_half_way() {
    let mut room = heard(1_000);
    room.config.parrot.fail_after = 2;
    let mut statuses = Vec::new();
    for _ in 0..7 {
        room.forget();
        room.create();
        room.wait(1_100);
        let response = &room.event("response.done")["response"];
        if response["status"] == "failed" {
            assert_eq!(response["status_details"]["error"]["type"], "server_error");
            assert_eq!(response["output"][0]["status"], "incomplete");
            assert_eq!(room.played(), voice(500));
        }
        statuses.push(response["status"].as_str().expect("a status").to_owned());
    }
    let (good, bad) = ("completed", "failed");
    assert_eq!(statuses, [good, good, bad, good, good, bad, good]);
    // The eighth is good, the ninth is not: in writing as well.
    room.settings.modality = Modality::Text;
    room.create();
    room.forget();
    room.create();
    assert_eq!(room.event("response.done")["response"]["status"], "failed");
    assert_eq!(room.event("response.output_text.done")["text"], "");
}

#[test]
fn a_delay_lets_a_client_interrupt_what_has_not_begun() {
    let mut room = heard(500);
    room.config.parrot.delay = Micros::from_ms(300);
    room.create();
    room.wait(200);
    room.say(&json!({"type": "response.cancel"}));
    room.wait(1_000);
    assert_eq!(room.event("response.done")["response"]["status"], "cancelled");
    assert!(room.played().is_empty());
}
