//! Voxhall behind Voxhall: rooms whose model server is another node with the parrot.

use crate::support::{Member, PATIENCE, Server};
use serde_json::{Value, json};
use tungstenite::Message;

/// A model server, and a node whose rooms have their sessions with it.
fn pair(settings: &[&str]) -> (Server, Server) {
    let behind = Server::start(&["--shards", "1", "--engine", "parrot"]);
    let url = format!("realtime.url=ws://{}/v1/realtime", behind.public);
    let mut arguments = vec!["--shards", "1", "--engine", "realtime", "--set", &url];
    arguments.extend(settings);
    let front = Server::start(&arguments);
    (front, behind)
}

fn say(member: &mut Member, words: &str) {
    let content = json!([{ "type": "input_text", "text": words }]);
    let item = json!({ "type": "message", "role": "user", "content": content });
    member.send(json!({ "type": "conversation.item.create", "item": item }).to_string());
    member.send(json!({ "type": "response.create", "event_id": "ask" }).to_string());
}

/// The next event of this type, whatever comes before it.
fn event(member: &mut Member, kind: &str) -> Value {
    loop {
        if let Message::Text(text) = member.read() {
            let event: Value = serde_json::from_str(&text).expect("JSON");
            if event["type"] == kind {
                return event;
            }
        }
    }
}

fn status(event: &Value) -> &str {
    event["response"]["status"].as_str().expect("a status")
}

#[test]
fn a_room_opens_its_session_when_somebody_speaks_and_passes_the_answer_on() {
    let (front, behind) = pair(&[]);
    let mut silent = front.join("silent", Some("voxhall.v1.plain"));
    silent.event("session.created");
    let mut member = front.join("talks", Some("voxhall.v1.plain"));
    assert_eq!(event(&mut member, "session.created")["session"]["engine"], "realtime");
    assert_eq!(behind.metric("voxhall_rooms"), 0.0);
    say(&mut member, "one two");
    assert_eq!(event(&mut member, "response.output_audio_transcript.done")["transcript"], "one two");
    assert_eq!(status(&event(&mut member, "response.done")), "completed");
    assert_eq!(behind.metric("voxhall_rooms"), 1.0);
    assert_eq!(front.metric("voxhall_upstream_opened_total"), 1.0);
}

#[test]
fn what_a_client_cancels_is_cut_where_it_was_heard() {
    let (front, _behind) = pair(&[]);
    let mut member = front.join("room", Some("voxhall.v1.plain"));
    say(&mut member, "one two three four five six seven eight nine ten");
    let mut heard = 0;
    while heard < 16_000 {
        if let Message::Binary(audio) = member.read() {
            heard += audio.len();
        }
    }
    member.send(json!({ "type": "response.cancel" }).to_string());
    let mut cleared = false;
    loop {
        match member.read() {
            Message::Binary(audio) => {
                assert!(!cleared, "no audio comes behind the cut");
                heard += audio.len();
            }
            Message::Text(text) => {
                let event: Value = serde_json::from_str(&text).expect("JSON");
                match event["type"].as_str() {
                    Some("output_audio_buffer.cleared") => cleared = true,
                    Some("response.done") => assert_eq!(status(&event), "cancelled"),
                    Some("conversation.item.truncated") => {
                        // At 16 kHz a millisecond has 32 bytes.
                        assert_eq!(event["audio_end_ms"], heard / 32);
                        break;
                    }
                    _ => {}
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(cleared);
}

#[test]
fn a_room_outlives_its_model_server() {
    let (front, behind) = pair(&["--set", "realtime.retry_s=1"]);
    let mut member = front.join("room", Some("voxhall.v1.plain"));
    say(&mut member, "one two three four five six seven eight nine ten");
    event(&mut member, "response.content_part.added");
    behind.signal("KILL");
    assert_eq!(status(&event(&mut member, "response.done")), "failed");
    say(&mut member, "hello?");
    let error = event(&mut member, "error")["error"].clone();
    assert_eq!((&error["code"], &error["retryable"]), (&json!("upstream_unavailable"), &json!(true)));
    member.send(json!({ "type": "ping", "t": 1 }).to_string());
    event(&mut member, "pong");
}

#[test]
fn a_room_that_takes_another_engine_lets_its_session_go() {
    let (front, _behind) = pair(&[]);
    let mut member = front.join("room", Some("voxhall.v1.plain"));
    say(&mut member, "one");
    event(&mut member, "response.done");
    assert_eq!(front.metric("voxhall_upstream_open"), 1.0);
    member.send(json!({ "type": "session.update", "session": { "engine": "parrot" } }).to_string());
    event(&mut member, "session.updated");
    let begun = std::time::Instant::now();
    while front.metric("voxhall_upstream_sessions") > 0.0 {
        assert!(begun.elapsed() < PATIENCE, "it is closed");
    }
    say(&mut member, "two");
    event(&mut member, "response.done");
    assert_eq!(front.metric("voxhall_upstream_opened_total"), 1.0);
}
