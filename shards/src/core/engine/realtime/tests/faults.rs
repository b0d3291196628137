//! What goes wrong with a model server, and what clients see of it.

use serde_json::json;

use super::rig::{Rig, noise};
use crate::core::event::ClientCommand;
use crate::core::time::Micros;
use crate::core::upstream::UpstreamEnd;

fn unreachable() -> UpstreamEnd {
    UpstreamEnd::Unreachable { why: "no route".into() }
}

#[test]
fn a_server_that_is_away_is_tried_again_and_then_given_up_with_one_error() {
    let mut rig = Rig::manual();
    let audio = noise(1, 48_000);
    rig.hear(&audio);
    rig.create();
    let mut attempts = 0;
    while rig.errors().is_empty() {
        let before = rig.dialled.len();
        if before > attempts {
            attempts = before;
            let line = rig.dialled.last().expect("dialled").0;
            rig.over(line, unreachable());
        }
        rig.wait(10);
    }
    assert!((4..=20).contains(&attempts), "{attempts}");
    assert!(rig.now < Micros::from_s(22));
    assert_eq!(rig.errors(), ["upstream_unavailable"]);
    let error = &rig.event("error")["error"];
    assert_eq!((&error["type"], &error["retryable"]), (&json!("server_error"), &json!(true)));
    assert!(error["message"].as_str().expect("text").contains("1000 ms of audio and 1 commands"));
    rig.wait(60_000);
    assert_eq!(rig.dialled.len(), attempts, "nothing waits, so nothing is tried");
    rig.create();
    let line = rig.greet();
    assert_eq!(rig.got(line), ["session.update", "response.create"], "what was given up is not said later");
}

#[test]
fn a_server_that_comes_back_in_time_gets_everything() {
    let mut rig = Rig::manual();
    let audio = noise(2, 4_800);
    rig.hear(&audio);
    for _ in 0..4 {
        let line = rig.dialled.last().expect("dialled").0;
        let dialled = rig.dialled.len();
        rig.over(line, unreachable());
        assert_eq!(rig.dialled.len(), dialled, "never at once");
        while rig.dialled.len() == dialled {
            rig.wait(10);
        }
    }
    let line = rig.greet();
    assert_eq!(rig.heard(line), audio);
    assert!(rig.errors().is_empty());
}

#[test]
fn a_refusal_that_no_patience_helps_is_told_at_once() {
    let mut rig = Rig::new();
    rig.create();
    let line = rig.dialled[0].0;
    rig.over(line, UpstreamEnd::Refused { status: 401, retry_after: None });
    assert_eq!(rig.errors(), ["upstream_refused"]);
    assert_eq!(rig.event("error")["error"]["retryable"], false);
}

#[test]
fn throttling_and_breakers_say_when_to_come_back() {
    for (end, from_s) in [
        (UpstreamEnd::Refused { status: 429, retry_after: Some(Micros::from_s(7)) }, 7),
        (UpstreamEnd::Broken { until: Micros::from_s(1 + 9) }, 9),
    ] {
        let mut rig = Rig::new();
        rig.create();
        let line = rig.dialled[0].0;
        rig.over(line, end);
        rig.wait(from_s * 1_000 - 1);
        assert_eq!(rig.dialled.len(), 1);
        rig.wait(1_000);
        assert_eq!(rig.dialled.len(), 2);
        assert!(rig.errors().is_empty());
    }
    let mut rig = Rig::new();
    rig.create();
    let line = rig.dialled[0].0;
    rig.over(line, UpstreamEnd::Broken { until: Micros::from_s(100) });
    assert_eq!(rig.errors(), ["upstream_unavailable"], "it would come too late");
}

#[test]
fn a_server_that_shakes_hands_and_does_not_greet_is_left() {
    let mut rig = Rig::new();
    rig.create();
    let line = rig.dialled[0].0;
    rig.turn(|engine, cx| engine.upstream(line, crate::core::upstream::UpstreamNews::Open, cx));
    rig.wait(11_000);
    assert_eq!(rig.closed, [line]);
    assert_eq!(rig.dialled.len(), 2);
}

#[test]
fn input_past_the_bound_is_refused_once_and_its_amount_told() {
    let mut rig = Rig::manual();
    let audio = noise(3, 48 * 1_000);
    (0..12).for_each(|_| rig.hear(&audio));
    (0..70).for_each(|_| rig.command(ClientCommand::Commit));
    assert_eq!(rig.errors(), ["upstream_backlog_full"]);
    let line = rig.greet();
    assert_eq!(rig.heard(line).len(), 48 * 10_000);
    assert_eq!(rig.errors(), ["upstream_backlog_full", "upstream_input_lost"]);
    let error = &rig.event("error")["error"];
    assert!(error["message"].as_str().expect("text").contains("2000 ms of audio and 6 commands"), "{error}");
}

#[test]
fn a_response_whose_server_dies_is_done_as_failed_and_the_room_goes_on() {
    let (mut rig, line) = Rig::ready();
    rig.wait(3_000);
    rig.begin_response(line, "r");
    rig.delta(line, "r", &noise(4, 960));
    rig.lose(line, 1006);
    assert_eq!(rig.names(), ["response.created", "audio", "response.output_audio.done", "response.done"]);
    let done = &rig.event("response.done")["response"];
    assert_eq!((&done["id"], &done["status"]), (&json!("r"), &json!("failed")));
    assert_eq!(rig.event("response.output_audio.done")["item_id"], "item_r");
    assert!(!rig.engine.busy());
    rig.forget();
    rig.create();
    let second = rig.greet();
    assert_eq!(rig.got(second), ["session.update", "response.create"]);
    rig.begin_response(second, "r2");
    rig.delta(second, "r2", &noise(5, 960));
    assert_eq!(rig.played(), noise(5, 960));
    rig.delta(line, "r", &noise(4, 960));
    assert_eq!(rig.played(), noise(5, 960), "nothing is heard of the old line");
}

#[test]
fn a_server_that_hangs_in_the_middle_of_a_response_is_left() {
    let (mut rig, line) = Rig::ready();
    rig.begin_response(line, "r");
    rig.wait(29_000);
    rig.delta(line, "r", &[0; 960]);
    rig.wait(29_000);
    assert!(rig.closed.is_empty());
    rig.wait(1_000);
    assert_eq!(rig.closed, [line]);
    assert_eq!(rig.event("response.done")["response"]["status"], "failed");
}

#[test]
fn a_wish_that_hangs_a_server_is_told_and_not_said_to_the_next() {
    let (mut rig, line) = Rig::ready();
    rig.create();
    rig.wait(31_000);
    assert_eq!(rig.closed, [line]);
    assert_eq!(rig.errors(), ["upstream_lost"]);
    assert_eq!(rig.dialled.len(), 1);
}

#[test]
fn an_error_answers_the_wish_that_it_names_or_any() {
    for named in [true, false] {
        let (mut rig, line) = Rig::ready();
        rig.create();
        let id = if named { json!("mine") } else { json!(null) };
        rig.say(line, json!({ "type": "error", "error": { "type": "x", "code": "no", "event_id": id } }));
        rig.wait(40_000);
        assert!(rig.closed.is_empty());
    }
}

#[test]
fn a_wish_that_a_lost_server_had_not_answered_is_said_again() {
    let (mut rig, line) = Rig::ready();
    rig.wait(3_000);
    rig.create();
    rig.lose(line, 1011);
    let second = rig.greet();
    assert_eq!(rig.got(second), ["session.update", "response.create"]);
    assert!(rig.errors().is_empty());
}

#[test]
fn audio_that_nobody_committed_is_heard_by_the_next_server() {
    for commit in [false, true] {
        let mut rig = Rig::manual();
        rig.create();
        let line = rig.greet();
        rig.begin_response(line, "r");
        rig.end_response(line, "r", "");
        rig.wait(3_000);
        let audio = noise(6, 9_600);
        rig.hear(&audio[..4_800]);
        if commit {
            rig.command(ClientCommand::Commit);
        }
        rig.hear(&audio[4_800..]);
        rig.forget();
        rig.lose(line, 1001);
        let second = rig.greet();
        assert_eq!(rig.heard(second), audio);
        let got = rig.got(second);
        assert_eq!(
            got[2] == "input_audio_buffer.commit" || got[3] == "input_audio_buffer.commit",
            commit,
            "{got:?}"
        );
        if commit {
            let at =
                rig.sent.iter().position(|(_, m)| m["type"] == "input_audio_buffer.commit").expect("sent");
            rig.sent.truncate(at);
            assert_eq!(rig.heard(second), audio[..4_800]);
        }
    }
}

#[test]
fn audio_whose_commit_was_refused_is_not_lost_with_it() {
    let mut rig = Rig::manual();
    rig.hear(&noise(8, 960));
    let line = rig.greet();
    rig.command(ClientCommand::Commit);
    let error = json!({ "type": "invalid_request_error", "code": "no", "event_id": "mine" });
    rig.say(line, json!({ "type": "error", "error": error }));
    rig.wait(3_000);
    rig.forget();
    rig.lose(line, 1006);
    let second = rig.greet();
    assert_eq!(rig.got(second), ["session.update", "input_audio_buffer.append"]);
    assert_eq!(rig.heard(second), noise(8, 960));
}

#[test]
fn a_session_that_nothing_waits_for_is_given_up_without_a_word() {
    let (mut rig, line) = Rig::ready();
    rig.config.realtime.retry = Micros::from_s(1);
    rig.wait(5_000);
    rig.say(line, json!({ "type": "session.draining" }));
    rig.wait(1);
    rig.lose(line, 1001);
    let next = rig.dialled.last().expect("dialled").0;
    rig.over(next, UpstreamEnd::Limited);
    rig.wait(10_000);
    let last = rig.dialled.last().expect("dialled").0;
    rig.over(last, UpstreamEnd::Limited);
    rig.wait(10_000);
    assert!(rig.seen.is_empty());
}

#[test]
fn a_turn_that_the_lost_server_was_to_answer_by_itself_is_told() {
    let (mut rig, line) = Rig::ready();
    rig.wait(3_000);
    rig.say(line, json!({ "type": "input_audio_buffer.committed", "item_id": "u" }));
    rig.lose(line, 1006);
    assert_eq!(rig.errors(), ["upstream_lost"]);
    assert_eq!(rig.event("error")["error"]["retryable"], true);
}

#[test]
fn bad_json_is_told_once_and_costs_the_session_when_it_repeats() {
    let (mut rig, line) = Rig::ready();
    for bad in [&b"{\"type\":"[..], b"{\"type\":\"x\",\"a\":[1,}"] {
        rig.say_raw(line, bad);
    }
    assert_eq!(rig.errors(), ["upstream_event_invalid"]);
    assert!(rig.closed.is_empty());
    rig.say(line, json!({ "type": "fine" }));
    rig.say_raw(line, b"\xff");
    assert_eq!(rig.closed, [line]);
    assert_eq!(rig.names(), ["error", "fine"]);
}

#[test]
fn a_server_that_greets_and_dies_is_not_dialled_without_a_pause() {
    let mut rig = Rig::manual();
    rig.hear(&noise(7, 960));
    let mut dials = 0;
    for _ in 0..200 {
        if rig.dialled.len() > dials {
            dials = rig.dialled.len();
            let line = rig.greet();
            rig.lose(line, 1011);
        }
        rig.wait(50);
    }
    assert!((3..12).contains(&dials), "{dials} in ten seconds");
}
