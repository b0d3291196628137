//! Rooms with a model server behind them: what clients see of its faults, and that rooms outlive them.

#![expect(clippy::disallowed_methods, reason = "tests have a clock")]

#[path = "../support/mod.rs"]
mod support;

mod behind;
mod chain;
mod model;

use serde_json::{Value, json};
use tungstenite::Message;

use model::{Model, Script, answer, session, silence};
use support::{Member, Server};

const MANUAL: &str = r#"{"type":"session.update","session":{"turn_detection":null}}"#;
const COMMIT: &str = r#"{"type":"input_audio_buffer.commit"}"#;
const RESPOND: &str = r#"{"type":"response.create"}"#;

fn serve(model: &Model, settings: &[&str]) -> Server {
    let url = model.url();
    let mut arguments = vec!["--shards", "1", "--engine", "realtime", "--set", &url];
    settings.iter().for_each(|setting| arguments.extend(["--set", *setting]));
    Server::start(&arguments)
}

fn join(server: &Server) -> Member {
    let mut member = server.join("room?rate=24000", None);
    member.event("session.created");
    member.send(MANUAL);
    member.event("session.updated");
    member
}

/// Says 100 ms and asks for an answer.
fn ask(member: &mut Member) {
    (0..5).for_each(|_| member.send(vec![9_u8; 960]));
    member.send(COMMIT);
    member.send(RESPOND);
}

/// Reads on to the event of this type: it, and how many bytes of audio came before it.
fn read_to(member: &mut Member, kind: &str) -> (Value, usize) {
    read_to_any(member, &[kind])
}

fn read_to_any(member: &mut Member, kinds: &[&str]) -> (Value, usize) {
    let mut audio = 0;
    loop {
        match member.read() {
            Message::Binary(bytes) => audio += bytes.len(),
            Message::Text(text) => {
                let event: Value = serde_json::from_str(&text).expect("JSON");
                if event["type"].as_str().is_some_and(|kind| kinds.contains(&kind)) {
                    return (event, audio);
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The room answers as if nothing had been.
fn lives(member: &mut Member) {
    ask(member);
    let (done, audio) = read_to(member, "response.done");
    assert_eq!((&done["response"]["status"], audio), (&json!("completed"), 4_800));
}

fn sound() -> Script {
    session(|session| session.respond("resp_ok", 100))
}

#[test]
fn a_server_that_refuses_is_told_of_at_once_and_asked_again_with_the_next_word() {
    let model = Model::play(vec![answer("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"), sound()]);
    let server = serve(&model, &[]);
    let mut member = join(&server);
    ask(&mut member);
    let error = read_to(&mut member, "error").0;
    assert_eq!(
        (&error["error"]["code"], &error["error"]["retryable"]),
        (&json!("upstream_refused"), &json!(false))
    );
    lives(&mut member);
}

#[test]
fn a_server_that_throttles_is_asked_again_when_it_says_and_nobody_notices() {
    let model = Model::play(vec![
        answer("HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"),
        sound(),
    ]);
    let server = serve(&model, &[]);
    let mut member = join(&server);
    lives(&mut member);
    assert_eq!(server.metric_where("voxhall_upstream_ended_total", "refused"), 1.0);
}

#[test]
fn a_server_that_takes_connections_and_is_silent_is_given_up_with_a_retryable_error() {
    let model = Model::play(vec![silence(), silence(), sound()]);
    let server = serve(&model, &["realtime.connect_ms=400", "realtime.retry_s=1"]);
    let mut member = join(&server);
    ask(&mut member);
    let error = read_to(&mut member, "error").0;
    assert_eq!(
        (&error["error"]["code"], &error["error"]["retryable"]),
        (&json!("upstream_unavailable"), &json!(true))
    );
    // Whoever asks again may meet it a second time, and is told again; then it is well.
    loop {
        ask(&mut member);
        if read_to_any(&mut member, &["error", "response.done"]).0["type"] == "response.done" {
            return;
        }
    }
}

#[test]
fn a_server_that_stops_in_the_middle_of_an_answer_fails_it_and_the_room_goes_on() {
    let stops = session(|session| {
        session.begin("resp_a");
        session.speak("resp_a", 100);
        session.hang();
    });
    let model = Model::play(vec![stops, sound()]);
    let server = serve(&model, &["realtime.stall_s=1"]);
    let mut member = join(&server);
    ask(&mut member);
    let (done, audio) = read_to(&mut member, "response.done");
    assert_eq!(
        (&done["response"]["id"], &done["response"]["status"], audio),
        (&json!("resp_a"), &json!("failed"), 4_800)
    );
    lives(&mut member);
}

#[test]
fn a_session_that_ends_of_old_age_in_an_answer_fails_it_and_its_heir_knows_what_was_said() {
    let expires = session(|session| {
        session.hear("response.create");
        session.say(&json!({ "type": "conversation.item.added", "item": {
            "id": "item_u", "type": "message", "role": "user", "status": "completed",
            "content": [{ "type": "input_text", "text": "my name is Ann" }] } }));
        session.say(
            &json!({ "type": "response.created", "response": { "id": "resp_a", "status": "in_progress" } }),
        );
        session.speak("resp_a", 100);
        session.expire();
    });
    let heir = session(|session| {
        let item = session.hear("conversation.item.create");
        session.report(item);
        session.respond("resp_ok", 100);
    });
    let model = Model::play(vec![expires, heir]);
    let server = serve(&model, &[]);
    let mut member = join(&server);
    member.send(r#"{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"my name is Ann"}]}}"#);
    member.send(RESPOND);
    let (done, _) = read_to(&mut member, "response.done");
    assert_eq!(done["response"]["status"], "failed");
    lives(&mut member);
    assert!(model.report().to_string().contains("my name is Ann"));
}

#[test]
fn what_is_no_json_is_told_of_and_the_answer_still_comes() {
    let babbles = session(|session| {
        session.begin("resp_ok");
        session.say_text("{\"type\":\"response.output_audio.delta\",");
        session.speak("resp_ok", 100);
        session.end("resp_ok");
    });
    let model = Model::play(vec![babbles]);
    let server = serve(&model, &[]);
    let mut member = join(&server);
    ask(&mut member);
    assert_eq!(read_to(&mut member, "error").0["error"]["code"], "upstream_event_invalid");
    let (done, audio) = read_to(&mut member, "response.done");
    assert_eq!((&done["response"]["status"], audio), (&json!("completed"), 4_800));
}

#[test]
fn a_piece_of_two_mebibytes_comes_whole_and_in_frames_of_a_usual_size() {
    const MS: usize = 32_768;
    let bulky = session(|session| session.respond("resp_ok", MS));
    let model = Model::play(vec![bulky]);
    let server = serve(&model, &["outbox.bytes_max=4194304", "outbox.messages_max=1024"]);
    let mut member = join(&server);
    ask(&mut member);
    let mut audio = 0;
    loop {
        match member.read() {
            Message::Binary(bytes) => {
                assert!(bytes.len() <= 4_096, "{}", bytes.len());
                audio += bytes.len();
            }
            Message::Text(text) if text.contains("\"response.done\"") => break,
            _ => {}
        }
    }
    assert_eq!(audio, MS * 48);
}

#[test]
fn a_cancelled_answer_is_silent_from_then_on_and_the_server_learns_how_much_was_heard() {
    let talks = session(|session| {
        session.begin("resp_a");
        session.speak("resp_a", 1_000);
        let cancel = session.hear("response.cancel");
        session.report(cancel);
        // It has not noticed yet.
        session.speak("resp_a", 1_000);
        let cut = session.hear("conversation.item.truncate");
        session.report(cut);
        session.say(&json!({ "type": "response.done", "response": { "id": "resp_a", "status": "cancelled", "output": [] } }));
        session.respond("resp_ok", 100);
    });
    let model = Model::play(vec![talks]);
    let server = serve(&model, &[]);
    let mut member = join(&server);
    ask(&mut member);
    while !member.read().is_binary() {}
    member.send(r#"{"type":"response.cancel"}"#);
    let (cleared, _) = read_to(&mut member, "output_audio_buffer.cleared");
    assert_eq!(cleared["response_id"], "resp_a");
    let (done, audio) = read_to(&mut member, "response.done");
    assert_eq!(
        (&done["response"]["status"], audio),
        (&json!("cancelled"), 0),
        "nothing of it comes any more"
    );
    assert_eq!(model.report()["type"], "response.cancel");
    let cut = model.report();
    let heard = cut["audio_end_ms"].as_u64().expect("so much was sent");
    assert!((1..=1_000).contains(&heard) && cut["item_id"] == "item_a", "{cut}");
    lives(&mut member);
}

#[test]
fn a_cancel_empties_lanes_that_are_full_in_the_same_turn() {
    // More than sockets hold for a client that does not read.
    const PIECES: usize = 40;
    let floods = session(|session| {
        session.begin("resp_a");
        (0..PIECES).for_each(|_| session.speak("resp_a", 10_000));
        session.report(json!("said"));
        let cancel = session.hear("response.cancel");
        session.report(cancel);
        session.say(&json!({ "type": "response.done", "response": { "id": "resp_a", "status": "cancelled", "output": [] } }));
        session.respond("resp_ok", 100);
    });
    let model = Model::play(vec![floods]);
    // Nothing ages: what is not flushed would be sent.
    let server = serve(&model, &["outbox.audio_age_ms_max=600000", "outbox.bytes_max=8388608"]);
    let mut member = server.join("room?rate=24000", None);
    member.send(MANUAL);
    ask(&mut member);
    assert_eq!(model.report(), "said");
    while server.metric_where("ws_outbox_dropped_messages_total", "full") == 0.0
        && server.metric("ws_outbox_queue_size") < 100.0
    {}
    member.send(r#"{"type":"response.cancel"}"#);
    assert_eq!(model.report()["type"], "response.cancel");
    let flushed = server.metric_where("ws_outbox_dropped_messages_total", "flushed");
    assert!(flushed >= 100.0, "the lane was full of it: {flushed}");
    read_to(&mut member, "output_audio_buffer.cleared");
    let (done, audio) = read_to(&mut member, "response.done");
    assert_eq!((&done["response"]["status"], audio), (&json!("cancelled"), 0), "nothing follows the news");
    lives(&mut member);
}
