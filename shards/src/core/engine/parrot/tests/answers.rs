//! When and how it answers.

use serde_json::Value;

use super::room::{Room, Seen, silence, voice};
use crate::core::engine::EngineInput;
use crate::core::event::{ClientCommand, Modality, ResponseRequest, SessionSettings};
use crate::core::time::Micros;

#[test]
fn when_speech_ends_it_commits_and_answers_by_itself() {
    let mut room = Room::new(SessionSettings::default());
    room.hear(&[silence(400), voice(600), silence(1_600)].concat());
    let names = [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "audio",
        "response.output_audio_transcript.delta",
        "audio",
        "response.output_audio_transcript.delta",
        "audio",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
        "rate_limits.updated",
    ];
    assert_eq!(room.names(), names);
    let started = room.event("input_audio_buffer.speech_started");
    let stopped = room.event("input_audio_buffer.speech_stopped");
    let committed = room.event("input_audio_buffer.committed");
    assert_eq!((&started["audio_start_ms"], &stopped["audio_end_ms"]), (&100.into(), &1_100.into()));
    assert_eq!((&started["item_id"], &committed["previous_item_id"]), (&committed["item_id"], &Value::Null));
    let assistant = room.event("conversation.item.added");
    assert_eq!(assistant["previous_item_id"], committed["item_id"]);
    assert_eq!(room.played(), [silence(300), voice(600), silence(100)].concat());
}

#[test]
fn the_transcript_counts_what_it_heard_in_deltas() {
    let mut room = Room::manual();
    room.hear(&voice(1_240));
    room.command(ClientCommand::Commit);
    room.create();
    room.wait(2_000);
    let deltas: Vec<&Value> =
        room.events("response.output_audio_transcript.delta").map(|event| &event["delta"]).collect();
    assert_eq!(deltas, ["heard", " 1.24", " s"]);
    assert_eq!(room.event("response.output_audio_transcript.done")["transcript"], "heard 1.24 s");
    assert_eq!(room.event("response.content_part.done")["part"]["transcript"], "heard 1.24 s");
}

#[test]
fn a_response_is_complete_enough_for_a_strict_client() {
    let mut room = Room::manual();
    room.hear(&voice(1_000));
    room.command(ClientCommand::Commit);
    let metadata = Some(r#"{"turn":"7"}"#.into());
    room.command(ClientCommand::ResponseCreate(ResponseRequest { metadata, ..ResponseRequest::default() }));
    let response = &room.event("response.created")["response"];
    assert_eq!(
        (&response["status"], &response["output"], &response["usage"]),
        (&"in_progress".into(), &Value::Array(vec![]), &Value::Null)
    );
    room.wait(1_000);
    let response = &room.event("response.done")["response"];
    assert_eq!(response["object"], "realtime.response");
    assert_eq!(response["status"], "completed");
    assert_eq!(response["metadata"]["turn"], "7");
    assert_eq!(response["output_modalities"][0], "audio");
    let item = &response["output"][0];
    assert_eq!((&item["object"], &item["type"]), (&"realtime.item".into(), &"message".into()));
    assert_eq!((&item["role"], &item["status"]), (&"assistant".into(), &"completed".into()));
    assert_eq!(item["content"][0]["transcript"], "heard 1.00 s");
    let usage = &response["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&10.into(), &23.into()));
    assert_eq!(usage["total_tokens"], 33);
    let done = room.event("response.output_item.done");
    assert_eq!((&done["response_id"], &done["item"]["id"]), (&response["id"], &item["id"]));
}

#[test]
fn it_plays_at_the_pace_of_speech_without_drifting() {
    let mut room = Room::manual();
    room.hear(&voice(2_000));
    room.command(ClientCommand::Commit);
    let began = room.now;
    room.create();
    for _ in 0..5 {
        room.now = room.now + Micros::from_ms(170);
        room.handle(EngineInput::Tick);
    }
    room.wait(3_000);
    let mut chunks = 0;
    for seen in &room.seen {
        let Seen::Audio { at, bytes, first, last, timestamp_ms } = seen else { continue };
        assert_eq!((*timestamp_ms, bytes.len()), (chunks * 20, 640));
        assert_eq!((*first, *last), (chunks == 0, chunks == 99));
        let due = began + Micros::from_ms((chunks * 20).into());
        assert!(due <= *at && at.since(due) < Micros::from_ms(170), "{due:?} {at:?}");
        if chunks > 50 {
            assert_eq!(*at, due, "late once, it is on time again");
        }
        chunks += 1;
    }
    assert_eq!(chunks, 100);
    assert_eq!(room.engine.deadline(), None);
}

#[test]
fn a_manual_commit_commits_and_the_answer_waits_for_response_create() {
    let mut room = Room::manual();
    room.hear(&[voice(300), silence(2_000), voice(100)].concat());
    assert_eq!(room.names(), [""; 0]);
    room.command(ClientCommand::Commit);
    room.wait(5_000);
    let names = ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"];
    assert_eq!(room.names(), names);
    room.create();
    room.wait(5_000);
    assert_eq!(room.event("response.done")["response"]["status"], "completed");
    assert_eq!(room.played(), [voice(300), silence(2_000), voice(100)].concat());
}

#[test]
fn a_commit_of_an_empty_buffer_is_an_error_and_the_session_lives_on() {
    for mut room in [Room::manual(), Room::new(SessionSettings::default())] {
        room.command(ClientCommand::Commit);
        let error = &room.event("error")["error"];
        assert_eq!(error["code"], "input_audio_buffer_commit_empty");
        assert_eq!(error["event_id"], "mine");
        room.hear(&voice(200));
        room.command(ClientCommand::Commit);
        room.create();
        room.wait(1_000);
        assert_eq!(room.played(), voice(200));
    }
}

#[test]
fn to_a_text_item_it_answers_with_that_text_and_a_tone_per_word() {
    let mut room = Room::new(SessionSettings::default());
    room.text("Polly wants a cracker");
    assert_eq!(room.event("conversation.item.done")["item"]["content"][0]["text"], "Polly wants a cracker");
    room.create();
    room.wait(3_000);
    assert_eq!(room.transcript(), "Polly wants a cracker");
    let played = room.played();
    let notes: Vec<&[u8]> = played.chunks(6_400).collect();
    assert_eq!(notes.len(), 4);
    assert!(notes.iter().all(|note| note.iter().any(|&b| b != 0) && note[5_120..].iter().all(|&b| b == 0)));
    assert_eq!(room.event("response.done")["response"]["usage"]["input_token_details"]["text_tokens"], 4);
}

#[test]
fn a_response_create_with_nothing_new_repeats_the_last_answer() {
    let mut room = Room::new(SessionSettings::default());
    room.create();
    room.wait(3_000);
    let greeting = room.transcript();
    assert!(greeting.contains("parrot") && room.played().iter().any(|&b| b != 0));
    room.forget();
    room.hear(&[voice(300), silence(1_500)].concat());
    let answer = (room.transcript(), room.played());
    assert_ne!(answer.0, greeting);
    for _ in 0..2 {
        room.forget();
        room.create();
        room.wait(3_000);
        assert_eq!((room.transcript(), room.played()), answer);
    }
}

#[test]
fn speech_interrupts_a_response() {
    let mut room = Room::new(SessionSettings::default());
    room.hear(&[voice(1_000), silence(700)].concat());
    assert!(room.engine.busy());
    room.forget();
    room.hear(&voice(60));
    let names = room.names();
    let from = names.iter().position(|&name| name == "input_audio_buffer.speech_started").expect("speech");
    assert_eq!(
        names[from + 1..],
        [
            "flush",
            "output_audio_buffer.cleared",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
            "rate_limits.updated",
        ]
    );
    let response = &room.event("response.done")["response"];
    assert_eq!(response["status"], "cancelled");
    assert_eq!(response["status_details"]["reason"], "turn_detected");
    assert_eq!(response["output"][0]["status"], "incomplete");
    assert_eq!(room.event("output_audio_buffer.cleared")["response_id"], response["id"]);
    assert!(!room.engine.busy());
}

#[test]
fn without_interrupt_response_the_next_answer_waits_for_the_running_one() {
    let mut room = Room::with_vad(|vad| vad.interrupt_response = false);
    room.hear(&[voice(3_000), silence(600), voice(200), silence(600)].concat());
    assert!(room.engine.busy());
    assert_eq!(room.events("input_audio_buffer.committed").count(), 2);
    assert_eq!(room.events("response.created").count(), 1);
    room.wait(6_000);
    let statuses: Vec<&Value> =
        room.events("response.done").map(|event| &event["response"]["status"]).collect();
    assert_eq!(statuses, ["completed", "completed"]);
    assert!(room.names().iter().all(|&name| name != "flush"));
}

#[test]
fn without_create_response_it_commits_and_waits() {
    let mut room = Room::with_vad(|vad| vad.create_response = false);
    room.hear(&[voice(200), silence(1_000)].concat());
    assert_eq!(room.events("input_audio_buffer.committed").count(), 1);
    assert_eq!(room.events("response.created").count(), 0);
    room.create();
    room.wait(1_000);
    assert_eq!(room.event("response.done")["response"]["status"], "completed");
}

#[test]
fn a_client_cancels_a_response() {
    let mut room = Room::new(SessionSettings::default());
    room.create();
    room.wait(100);
    room.command(ClientCommand::ResponseCancel { response_id: Some("resp_ffff".into()) });
    assert_eq!(room.event("error")["error"]["code"], "response_cancel_not_active");
    assert!(room.engine.busy());
    room.command(ClientCommand::ResponseCancel { response_id: None });
    let response = &room.event("response.done")["response"];
    assert_eq!(response["status_details"]["reason"], "client_cancelled");
    assert!(room.names().contains(&"flush"));
    room.forget();
    room.command(ClientCommand::ResponseCancel { response_id: None });
    assert_eq!(room.event("error")["error"]["code"], "response_cancel_not_active");
    assert_eq!(room.event("error")["error"]["event_id"], "mine");
}

#[test]
fn only_one_response_runs_at_a_time() {
    let mut room = Room::new(SessionSettings::default());
    room.create();
    room.create();
    assert_eq!(room.event("error")["error"]["code"], "conversation_already_has_active_response");
    room.wait(5_000);
    assert_eq!(room.events("response.done").count(), 1);
}

#[test]
fn where_text_was_asked_for_it_answers_in_writing() {
    let mut room = Room::new(SessionSettings { modality: Modality::Text, ..SessionSettings::default() });
    room.text("say it in writing");
    room.create();
    assert_eq!(room.played(), b"");
    let text: String =
        room.events("response.output_text.delta").filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(text, "say it in writing");
    let item = &room.event("response.done")["response"]["output"][0];
    assert_eq!(item["content"][0]["type"], "output_text");
}
