//! Barge-in.

use serde_json::json;

use super::rig::{Rig, Seen, noise};
use crate::core::engine::ResponseNumber;
use crate::core::event::ClientCommand;
use crate::core::upstream::Line;

/// A room in which a response of 400 ms is being heard.
fn speaking() -> (Rig, Line) {
    let (mut rig, line) = Rig::ready();
    rig.begin_response(line, "r");
    for part in noise(1, 48 * 400).chunks(48 * 40) {
        rig.delta(line, "r", part);
    }
    rig.forget();
    (rig, line)
}

#[test]
fn speech_interrupts_what_is_heard_and_the_model_server_learns_how_much_was_sent() {
    let (mut rig, line) = speaking();
    rig.unsent_frames = 3;
    rig.say(
        line,
        json!({ "type": "input_audio_buffer.speech_started", "item_id": "u", "audio_start_ms": 9 }),
    );
    rig.delta(line, "r", &[0; 960]);
    assert_eq!(rig.names(), ["flush", "output_audio_buffer.cleared", "input_audio_buffer.speech_started"]);
    assert_eq!(rig.seen[0], Seen::Flush(ResponseNumber(1)));
    assert_eq!(rig.event("output_audio_buffer.cleared")["response_id"], "r");
    assert_eq!(rig.got(line), ["conversation.item.truncate"]);
    let truncate = rig.message("conversation.item.truncate");
    assert_eq!(truncate["item_id"], "item_r");
    assert_eq!((&truncate["content_index"], &truncate["audio_end_ms"]), (&json!(0), &json!(280)));
    rig.say(line, json!({ "type": "response.done", "response": { "id": "r", "status": "cancelled" } }));
    assert_eq!(rig.event("response.done")["response"]["status"], "cancelled");
    assert!(!rig.engine.busy());
}

#[test]
fn a_client_cancels_and_the_model_server_is_told_first_to_stop_then_where() {
    let (mut rig, line) = speaking();
    rig.command(ClientCommand::ResponseCancel { response_id: None });
    assert_eq!(rig.names(), ["flush", "output_audio_buffer.cleared"]);
    assert_eq!(rig.got(line), ["response.cancel", "conversation.item.truncate"]);
    assert_eq!(rig.message("conversation.item.truncate")["audio_end_ms"], 400);
    rig.command(ClientCommand::ResponseCancel { response_id: Some("r".into()) });
    assert_eq!(rig.names().len(), 2, "what is flushed once is not flushed again");
}

#[test]
fn a_client_clears_what_is_queued_and_the_response_runs_on_unheard() {
    let (mut rig, line) = speaking();
    rig.command(ClientCommand::OutputClear);
    rig.delta(line, "r", &[0; 960]);
    rig.say(
        line,
        json!({ "type": "response.output_audio_transcript.delta", "response_id": "r", "delta": "x" }),
    );
    assert_eq!(
        rig.names(),
        ["flush", "output_audio_buffer.cleared", "response.output_audio_transcript.delta"]
    );
    assert_eq!(rig.got(line), ["conversation.item.truncate"]);
    assert!(rig.engine.busy());
}

#[test]
fn a_response_that_was_made_whole_is_interrupted_as_long_as_it_may_be_heard() {
    let speech = json!({ "type": "input_audio_buffer.speech_started", "item_id": "u" });
    for (after_ms, names) in [
        (399, &["flush", "output_audio_buffer.cleared", "input_audio_buffer.speech_started"][..]),
        (400, &["input_audio_buffer.speech_started"]),
    ] {
        let (mut rig, line) = speaking();
        rig.end_response(line, "r", "words");
        rig.wait(after_ms);
        rig.forget();
        rig.say(line, speech.clone());
        assert_eq!(rig.names(), names);
    }
}

#[test]
fn speech_interrupts_nothing_where_it_should_not() {
    let (mut rig, line) = speaking();
    rig.settings.turn_detection.as_mut().expect("on").interrupt_response = false;
    rig.say(line, json!({ "type": "input_audio_buffer.speech_started", "item_id": "u" }));
    rig.delta(line, "r", &[0; 960]);
    assert_eq!(rig.names(), ["input_audio_buffer.speech_started", "audio"]);
}

#[test]
fn a_model_server_that_clears_by_itself_clears_once() {
    let (mut rig, line) = speaking();
    rig.say(line, json!({ "type": "output_audio_buffer.cleared", "response_id": "r" }));
    rig.say(line, json!({ "type": "input_audio_buffer.speech_started", "item_id": "u" }));
    assert_eq!(rig.names(), ["flush", "output_audio_buffer.cleared", "input_audio_buffer.speech_started"]);
}

#[test]
fn frames_that_all_came_back_leave_nothing_sent() {
    let (mut rig, line) = speaking();
    rig.unsent_frames = 10;
    rig.command(ClientCommand::ResponseCancel { response_id: Some("r".into()) });
    assert_eq!(rig.message("conversation.item.truncate")["audio_end_ms"], 0);
    assert_eq!(rig.message("response.cancel")["response_id"], "r");
    let _ = line;
}
