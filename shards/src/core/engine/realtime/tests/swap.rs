//! Sessions that grow old.

use serde_json::json;

use super::rig::{Rig, noise};
use crate::core::event::ClientCommand;
use crate::core::time::Micros;
use crate::core::upstream::Line;

fn old() -> (Rig, Line) {
    let mut rig = Rig::manual();
    rig.config.realtime.age = Micros::from_s(10);
    rig.config.realtime.stall = Micros::from_s(100);
    rig.create();
    let line = rig.greet();
    rig.begin_response(line, "r");
    rig.wait(11_000);
    assert_eq!(rig.dialled.len(), 2, "another one is dialled");
    rig.forget();
    (rig, line)
}

#[test]
fn the_younger_session_takes_over_when_the_response_is_done() {
    let (mut rig, line) = old();
    let second = rig.greet();
    assert!(rig.sent.is_empty() && rig.closed.is_empty(), "not in the middle of a response");
    rig.delta(line, "r", &noise(1, 960));
    rig.end_response(line, "r", "four");
    assert_eq!(rig.closed, [line]);
    assert_eq!(rig.got(second), ["session.update", "conversation.item.create"]);
    assert_eq!(rig.message("conversation.item.create")["item"]["content"][0]["text"], "four");
    assert_eq!(rig.names(), ["audio", "response.output_item.done", "response.done"]);
    let audio = noise(2, 960);
    rig.hear(&audio);
    assert_eq!((rig.heard(line), rig.heard(second)), (vec![], audio));
}

#[test]
fn two_sessions_may_use_a_name_twice() {
    let (mut rig, line) = old();
    let second = rig.greet();
    rig.delta(line, "r", &noise(1, 96_000));
    rig.end_response(line, "r", "four");
    rig.forget();
    rig.say(second, json!({ "type": "input_audio_buffer.speech_started", "item_id": "u" }));
    let told = |last: &str| {
        let item = json!({ "id": "item_r", "type": "message", "role": "assistant", "content": [] });
        json!({ "type": format!("conversation.item.{last}"), "item": item })
    };
    rig.say(second, told("added"));
    rig.say(second, told("done"));
    assert_eq!(rig.names(), ["input_audio_buffer.speech_started"], "what it was told is no news");
    rig.forget();
    rig.begin_response(second, "r");
    rig.delta(second, "r", &noise(2, 960));
    rig.end_response(second, "r", "five");
    rig.say(second, told("done"));
    assert_eq!(
        rig.names(),
        ["response.created", "audio", "response.output_item.done", "response.done", "conversation.item.done"]
    );
}

#[test]
fn nobody_takes_over_while_audio_is_not_committed_or_answers_are_due() {
    let (mut rig, line) = old();
    let second = rig.greet();
    rig.hear(&noise(3, 960));
    rig.end_response(line, "r", "");
    rig.wait(5_000);
    assert!(rig.closed.is_empty());
    rig.command(ClientCommand::Commit);
    rig.create();
    rig.say(line, json!({ "type": "input_audio_buffer.committed", "item_id": "u" }));
    assert!(rig.closed.is_empty());
    rig.begin_response(line, "s");
    rig.end_response(line, "s", "");
    assert_eq!(rig.closed, [line]);
    assert!(rig.heard(second).is_empty());
}

#[test]
fn nobody_takes_over_between_a_commit_and_the_wish_for_its_answer() {
    let (mut rig, line) = old();
    let second = rig.greet();
    rig.hear(&noise(3, 960));
    rig.end_response(line, "r", "");
    rig.command(ClientCommand::Commit);
    rig.say(line, json!({ "type": "input_audio_buffer.committed", "item_id": "u" }));
    rig.wait(5_000);
    assert!(rig.closed.is_empty(), "the younger one has not heard it");
    rig.create();
    assert!(rig.got(line).contains(&"response.create") && rig.got(second).is_empty());
    rig.begin_response(line, "s");
    rig.end_response(line, "s", "");
    assert_eq!(rig.closed, [line]);
    // Nobody asks: it goes on without an answer at last.
    rig.hear(&noise(4, 960));
    rig.command(ClientCommand::Commit);
    rig.say(second, json!({ "type": "input_audio_buffer.committed", "item_id": "v" }));
    rig.wait(11_000);
    rig.greet();
    rig.wait(30_000);
    assert_eq!(rig.closed, [line]);
    rig.wait(31_000);
    rig.say(second, json!({ "type": "rate_limits.updated" }));
    assert_eq!(rig.closed, [line, second]);
}

#[test]
fn an_old_session_that_dies_first_makes_way_for_the_one_that_stands_ready() {
    let (mut rig, line) = old();
    let second = rig.greet();
    rig.hear(&noise(4, 960));
    rig.lose(line, 1001);
    assert_eq!(rig.event("response.done")["response"]["status"], "failed");
    assert_eq!(rig.heard(second), noise(4, 960));
    assert_eq!(rig.dialled.len(), 2);
}

#[test]
fn a_younger_session_that_can_not_be_had_is_tried_again_while_the_old_one_serves() {
    let (mut rig, line) = old();
    for _ in 0..3 {
        let dialled = rig.dialled.len();
        let next = rig.dialled.last().expect("dialled").0;
        rig.lose(next, 1006);
        rig.delta(line, "r", &[0; 960]);
        rig.wait(5_001);
        assert_eq!(rig.dialled.len(), dialled + 1);
    }
    assert!(rig.errors().is_empty());
}

#[test]
fn a_server_that_drains_is_left_between_two_turns() {
    let (mut rig, line) = Rig::ready();
    rig.wait(5_000);
    rig.say(line, json!({ "type": "session.draining", "reconnect_in_ms": 5 }));
    rig.wait(1);
    rig.greet();
    assert_eq!(rig.closed, [line]);
    assert!(rig.seen.is_empty());
}

/// A model server with turn detection, as far as the test needs it: bytes but zero are speech, and an utterance that half a
/// second of silence ends is committed and said back.
#[derive(Default)]
struct Server {
    greeted: usize,
    line: Option<Line>,
    buffer: Vec<u8>,
    speaking: bool,
    responses: usize,
}

impl Server {
    fn serve(&mut self, rig: &mut Rig, patient: bool) {
        if rig.dialled.len() > self.greeted && !patient {
            self.greeted = rig.dialled.len();
            rig.greet();
        }
        for (line, message) in std::mem::take(&mut rig.sent) {
            match message["type"].as_str().expect("a type") {
                "session.update" => {
                    assert!(!self.speaking, "no session changes while somebody speaks");
                    (self.line, self.buffer) = (Some(line), Vec::new());
                }
                "input_audio_buffer.append" => {
                    assert_eq!(self.line, Some(line));
                    let audio = message["audio"].as_str().expect("base64");
                    self.buffer.extend(base64_simd::STANDARD.decode_to_vec(audio).expect("strict"));
                }
                "conversation.item.create" | "conversation.item.truncate" => {}
                other => panic!("{other}"),
            }
        }
        let Some(line) = self.line else { return };
        if !self.speaking && self.buffer.iter().any(|byte| *byte != 0) {
            self.speaking = true;
            rig.say(line, json!({ "type": "input_audio_buffer.speech_started", "item_id": "u" }));
        }
        if self.speaking && self.buffer.ends_with(&[0; 960 * 25]) {
            self.speaking = false;
            self.answer(rig, line);
        }
    }

    fn answer(&mut self, rig: &mut Rig, line: Line) {
        self.responses += 1;
        let said: Vec<u8> = std::mem::take(&mut self.buffer).into_iter().filter(|byte| *byte != 0).collect();
        let id = format!("r{}", self.responses);
        rig.say(line, json!({ "type": "input_audio_buffer.speech_stopped", "item_id": "u" }));
        rig.say(line, json!({ "type": "input_audio_buffer.committed", "item_id": "u" }));
        rig.begin_response(line, &id);
        for piece in said.chunks(4_799) {
            rig.delta(line, &id, piece);
        }
        rig.end_response(line, &id, "words");
    }
}

#[test]
fn a_long_conversation_loses_and_doubles_nothing_however_often_its_sessions_change() {
    let mut rig = Rig::new();
    rig.config.realtime.age = Micros::from_ms(700);
    let mut server = Server::default();
    for turn in 0..200u64 {
        let utterance: Vec<u8> =
            noise(turn, 960 * (3 + turn as usize % 20)).iter().map(|byte| byte | 1).collect();
        let silence = vec![0; 960 * (26 + turn as usize % 30)];
        for frame in utterance.chunks(960).chain(silence.chunks(960)) {
            rig.hear(frame);
            server.serve(&mut rig, turn % 3 == 2);
            rig.wait(20);
        }
        assert!(
            rig.played() == utterance,
            "turn {turn}: {} of {} bytes",
            rig.played().len(),
            utterance.len()
        );
        rig.forget();
    }
    assert!(rig.closed.len() > 50, "{} changes", rig.closed.len());
    assert!(rig.errors().is_empty());
}
