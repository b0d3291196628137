//! `/v1/realtime` as a shard serves it: who gets which words, and audio in events.

mod desk;
#[path = "../support/mod.rs"]
mod support;

use desk::Desk;
use serde_json::json;
use shards::core::{ShardConfig, route};

const GA: &str = "/v1/realtime?model=gpt-realtime&session_id=a";

#[test]
fn a_session_without_a_name_gets_one_that_this_shard_owns() {
    let mut desk = Desk::with(ShardConfig { shards: 8, ..ShardConfig::default() });
    let mut names = Vec::new();
    for _ in 0..20 {
        let member = desk.join("/v1/realtime?model=gpt-realtime", &[]);
        let session = desk.event(member, "session.created")["session"].clone();
        let room = session["room"].as_str().expect("a name").to_owned();
        assert_eq!(route::owner(&room, 8).0, 0, "{room}");
        assert_eq!(session["model"], "gpt-realtime");
        assert_eq!(session["engine"], "parrot");
        assert_eq!(session["audio"]["output"]["format"], json!({"type": "audio/pcm", "rate": 24_000}));
        names.push(room);
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 20, "no two share a room");
}

#[test]
fn a_model_that_is_an_engine_answers_itself() {
    let mut desk = Desk::default();
    let echo = desk.join("/v1/realtime?model=echo", &[]);
    assert_eq!(desk.event(echo, "session.created")["session"]["engine"], "echo");
    let asked = desk.join("/v1/realtime?model=gpt-realtime&engine=relay", &[]);
    assert_eq!(desk.event(asked, "session.created")["session"]["engine"], "relay");
    let answer = desk.knock(&format!("/v1/realtime?model={}", "m".repeat(257)), &[]);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn the_subprotocol_is_echoed_if_offered_and_a_token_never() {
    let mut desk = Desk::default();
    let chosen = |answer: &str| {
        let line =
            answer.lines().find(|line| line.to_ascii_lowercase().starts_with("sec-websocket-protocol:"));
        line.map(str::to_owned)
    };
    let offer = "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.sk-1, openai-beta.realtime-v1";
    let answer = desk.knock("/v1/realtime", &[offer]);
    assert_eq!(chosen(&answer).as_deref(), Some("Sec-WebSocket-Protocol: realtime"), "{answer}");
    assert_eq!(chosen(&desk.knock("/v1/realtime", &[])), None);
    let tokens = desk.knock("/v1/realtime", &["Sec-WebSocket-Protocol: bearer.a, openai-insecure-api-key.a"]);
    assert!(tokens.starts_with("HTTP/1.1 101 "), "{tokens}");
    assert_eq!(chosen(&tokens), None);
    let native = desk.knock("/ws/a", &["Sec-WebSocket-Protocol: other, realtime"]);
    assert_eq!(chosen(&native).as_deref(), Some("Sec-WebSocket-Protocol: realtime"));
}

#[test]
fn the_beta_is_spoken_to_those_who_ask_for_it() {
    for lines in [
        &["OpenAI-Beta: realtime=v1"][..],
        &["OpenAI-Beta: assistants=v2, realtime=v1"],
        &["Sec-WebSocket-Protocol: realtime, openai-beta.realtime-v1"],
    ] {
        let mut desk = Desk::default();
        let member = desk.join("/v1/realtime", lines);
        let created = desk.event(member, "session.created");
        assert_eq!(created["session"]["input_audio_format"], "pcm16", "{lines:?}");
        let conversation = desk.event(member, "conversation.created");
        assert_eq!(conversation["conversation"]["object"], "realtime.conversation");
    }
    let mut desk = Desk::default();
    let member = desk.join(GA, &["OpenAI-Beta: assistants=v2"]);
    assert!(desk.event(member, "session.created")["session"].get("input_audio_format").is_none());
    desk.send(member, &json!({"type": "ping"}));
    desk.event(member, "pong");
    assert!(desk.all(member).iter().all(|event| event["type"] != "conversation.created"));
}

#[test]
fn a_frame_goes_to_each_in_its_own_form_and_is_encoded_once_for_each() {
    let mut desk = Desk::default();
    let speaker = desk.join("/ws/a?engine=relay", &["Sec-WebSocket-Protocol: voxhall.v1"]);
    let plain = desk.join("/ws/a", &[]);
    let ga = [desk.join(GA, &[]), desk.join("/ws/a", &["Sec-WebSocket-Protocol: realtime"])];
    let beta = [desk.join(GA, &["OpenAI-Beta: realtime=v1"]), desk.join(GA, &["OpenAI-Beta: realtime=v1"])];
    let audio: Vec<u8> = (0..640u32).map(|i| (i * 7) as u8).collect();
    let whole = std::slice::from_ref(&audio);
    desk.encoded();
    desk.send_audio(speaker, &audio);
    assert_eq!(desk.encoded(), 3, "bare, and an event in the words of each dialect");
    assert_eq!(desk.audio(plain), whole);
    for member in ga {
        assert_eq!(desk.deltas(member, "response.output_audio.delta"), whole);
        assert!(desk.audio(member).is_empty());
    }
    for member in beta {
        assert_eq!(desk.deltas(member, "response.audio.delta"), whole);
    }
    // A client that takes audio in events speaks in events too.
    let text = base64_simd::STANDARD.encode_to_string(&audio);
    desk.send(ga[0], &json!({"type": "input_audio_buffer.append", "audio": text}));
    assert_eq!(desk.audio(plain), whole);
    desk.send_audio(ga[0], &audio);
    assert_eq!(desk.event(ga[0], "error")["error"]["code"], "binary_not_supported");
    assert!(desk.audio(plain).is_empty());
}

#[test]
fn what_a_session_says_is_checked_kept_and_told_to_each_in_its_words() {
    let mut desk = Desk::default();
    let ga = desk.join(GA, &[]);
    let beta = desk.join(GA, &["OpenAI-Beta: realtime=v1"]);
    let session = json!({
        "type": "realtime",
        "instructions": "be kind",
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "audio": {"input": {"transcription": {"model": "w"}}, "output": {"voice": "verse"}},
    });
    desk.send(ga, &json!({"type": "session.update", "session": session}));
    let told = desk.event(ga, "session.updated")["session"].clone();
    assert_eq!((&told["instructions"], &told["tools"][0]["name"]), (&json!("be kind"), &json!("f")));
    assert_eq!(told["audio"]["output"]["voice"], "verse");
    let told = desk.event(beta, "session.updated")["session"].clone();
    assert_eq!((&told["voice"], &told["input_audio_transcription"]["model"]), (&json!("verse"), &json!("w")));
    desk.send(beta, &json!({"type": "session.update", "session": {"voice": "ash", "instructions": null}}));
    let told = desk.event(ga, "session.updated")["session"].clone();
    assert_eq!((&told["instructions"], &told["tools"][0]["name"]), (&json!(""), &json!("f")));
    assert_eq!(told["audio"]["output"]["voice"], "ash");
    desk.send(
        ga,
        &json!({"type": "session.update", "event_id": "mine", "session": {"audio": {"output": {"speed": 9}}}}),
    );
    let error = desk.event(ga, "error")["error"].clone();
    assert_eq!((&error["type"], &error["code"]), (&json!("invalid_request_error"), &json!("invalid_value")));
    assert_eq!((&error["param"], &error["event_id"]), (&json!("session.audio.output.speed"), &json!("mine")));
    // Whoever comes later finds it.
    let later = desk.join(GA, &[]);
    assert_eq!(desk.event(later, "session.created")["session"]["audio"]["output"]["voice"], "ash");
}

#[test]
fn audio_in_events_is_flushed_with_its_response() {
    for lines in [&[][..], &["OpenAI-Beta: realtime=v1"]] {
        let mut desk = Desk::default();
        let member = desk.join(GA, lines);
        desk.all(member);
        desk.block();
        desk.send(member, &json!({"type": "response.create"}));
        for _ in 0..3 {
            desk.wait(100);
        }
        desk.send(member, &json!({"type": "response.cancel"}));
        desk.unblock(member);
        let events = desk.all(member);
        let named = |name: &str| events.iter().filter(|event| event["type"] == name).count();
        assert_eq!(named("response.output_audio.delta") + named("response.audio.delta"), 0, "{events:?}");
        assert_eq!(named("output_audio_buffer.cleared"), 1);
        let done = events.iter().find(|event| event["type"] == "response.done").expect("it is over");
        assert_eq!(done["response"]["status"], "cancelled");
    }
}

#[test]
fn a_room_with_a_native_member_hears_shorter_chunks() {
    let mut desk = Desk::default();
    let ga = desk.join(GA, &[]);
    let answer = |desk: &mut Desk| {
        desk.send(ga, &json!({"type": "response.create"}));
        for _ in 0..200 {
            desk.wait(20);
        }
        desk.deltas(ga, "response.output_audio.delta")
    };
    let hundred_ms = 24_000 / 10 * 2;
    assert_eq!(answer(&mut desk)[0].len(), hundred_ms);
    let native = desk.join("/ws/a", &[]);
    let chunks = answer(&mut desk);
    assert_eq!(chunks[0].len(), hundred_ms / 5);
    assert_eq!(desk.audio(native), chunks);
    desk.leave(native);
    assert_eq!(answer(&mut desk)[0].len(), hundred_ms);
}

#[test]
fn limits_are_told_in_the_words_that_typed_clients_know() {
    let mut config = ShardConfig::default();
    (config.limits.messages_per_s, config.limits.messages_burst) = (1, 10);
    let mut desk = Desk::with(config);
    for (target, warnings) in [("/ws/a", 1), (GA, 0)] {
        let member = desk.join(target, &[]);
        for _ in 0..12 {
            desk.send(member, &json!({"type": "ping"}));
        }
        let events = desk.all(member);
        let named = |name: &str| events.iter().filter(|event| event["type"] == name).count();
        assert_eq!(named("rate_limits.updated"), warnings, "{target}");
        let refused = events.iter().filter(|event| event["error"]["code"] == "rate_limit_exceeded");
        assert_eq!(refused.count(), 1, "{target}");
    }
}
