//! Idle sessions.

use serde_json::json;

use super::rig::{Rig, noise};
use crate::core::event::ClientCommand;

#[test]
fn an_idle_session_is_closed_and_opened_again_with_the_conversation_so_far() {
    let (mut rig, line) = Rig::ready();
    rig.text("two and two?");
    let id = rig.message("conversation.item.create")["item"]["id"].clone();
    assert!(id.as_str().is_some_and(|id| id.starts_with("item_v")));
    rig.begin_response(line, "r");
    rig.delta(line, "r", &[0; 960]);
    rig.end_response(line, "r", "four");
    rig.say(line, json!({ "type": "input_audio_buffer.committed", "item_id": "u" }));
    rig.begin_response(line, "s");
    rig.end_response(line, "s", "five");
    let heard = "conversation.item.input_audio_transcription.completed";
    rig.say(line, json!({ "type": heard, "item_id": "u", "transcript": "are you sure?" }));
    rig.wait(299_000);
    assert!(rig.closed.is_empty());
    rig.wait(2_000);
    assert_eq!(rig.closed, [line]);
    assert_eq!(rig.engine.deadline(), None);
    rig.forget();

    rig.text("and three?");
    let second = rig.greet();
    assert_ne!(second, line);
    let said: Vec<_> = rig.sent[1..].iter().map(|(_, message)| message["item"].clone()).collect();
    let words: Vec<_> = said.iter().map(|item| item["content"][0]["text"].as_str().expect("words")).collect();
    assert_eq!(words, ["two and two?", "four", "are you sure?", "five", "and three?"]);
    assert_eq!(said[0]["id"], id);
    assert_eq!(
        (&said[1]["role"], &said[1]["content"][0]["type"]),
        (&json!("assistant"), &json!("output_text"))
    );
    for item in said {
        rig.say(second, json!({ "type": "conversation.item.added", "item": item }));
    }
    assert_eq!(rig.names(), ["conversation.item.added"], "clients know what was said before");
}

#[test]
fn what_was_answered_beside_the_conversation_is_no_part_of_it() {
    let (mut rig, line) = Rig::ready();
    rig.say(line, json!({ "type": "response.created", "response": { "id": "r", "conversation_id": null } }));
    rig.end_response(line, "r", "a label");
    rig.begin_response(line, "s");
    rig.end_response(line, "s", "four");
    rig.wait(301_000);
    rig.forget();
    rig.text("and?");
    let second = rig.greet();
    assert_eq!(rig.got(second).len(), 3);
    assert_eq!(rig.sent[1].1["item"]["content"][0]["text"], "four");
    rig.say(second, json!({ "type": "conversation.created", "conversation": {} }));
    assert!(rig.seen.is_empty());
}

#[test]
fn audio_commands_and_responses_keep_a_session() {
    let (mut rig, line) = Rig::ready();
    for _ in 0..4 {
        rig.wait(250_000);
        rig.hear(&[0; 960]);
    }
    rig.begin_response(line, "r");
    for _ in 0..20 {
        rig.wait(25_000);
        rig.delta(line, "r", &[0; 960]);
    }
    assert!(rig.closed.is_empty());
}

#[test]
fn audio_that_a_client_has_not_committed_survives_an_idle_close() {
    let mut rig = Rig::manual();
    let audio = noise(1, 4_800);
    rig.hear(&audio);
    let line = rig.greet();
    rig.wait(301_000);
    assert_eq!(rig.closed, [line]);
    rig.command(ClientCommand::Commit);
    let second = rig.greet();
    assert_eq!(rig.heard(second), audio);
    assert_eq!(rig.got(second).last(), Some(&"input_audio_buffer.commit"));
}
