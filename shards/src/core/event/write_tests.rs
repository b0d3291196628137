//! Server events as a client reads them.

use serde_json::{Value, json};

use super::*;
use crate::core::config::ShardConfig;
use crate::core::counters::Unrecovered;
use crate::core::engine::EngineKind;
use crate::core::ids::{ConnKey, ConnectionId, MemberNumber, SessionId, ShardId};

fn written(event: &ServerEvent) -> Value {
    let mut line = Vec::new();
    event.write(EventId(0x2a), Some(7), Dialect::Native, &mut line);
    assert!(!line.contains(&b'\n'), "one line");
    let value: Value = serde_json::from_slice(&line).expect("JSON");
    assert_eq!((&value["event_id"], &value["seq"]), (&json!("event_2a"), &json!(7)));
    value
}

#[test]
fn an_event_is_one_line_of_json_with_type_id_and_sequence() {
    let mut line = b"before".to_vec();
    ServerEvent::Cleared.write(EventId(255), None, Dialect::Ga, &mut line);
    let expected = r#"before{"type":"input_audio_buffer.cleared","event_id":"event_ff"}"#;
    assert_eq!(str::from_utf8(&line), Ok(expected));
    let of = Part { response: ResponseId(1), item: ItemId(2) };
    let mut line = Vec::new();
    ServerEvent::TranscriptDelta { of, delta: " ok".into() }.write(
        EventId(3),
        Some(4),
        Dialect::Ga,
        &mut line,
    );
    let expected = concat!(
        r#"{"type":"response.output_audio_transcript.delta","event_id":"event_3","seq":4,"response_id":"resp_1","#,
        r#""item_id":"item_2","output_index":0,"content_index":0,"delta":" ok"}"#
    );
    assert_eq!(str::from_utf8(&line), Ok(expected));
}

#[test]
fn text_is_escaped_and_raw_json_is_put_on_one_line() {
    let all: String = (0..0x250u32).filter_map(char::from_u32).chain("\u{2028}😀".chars()).collect();
    let of = Part { response: ResponseId(1), item: ItemId(2) };
    assert_eq!(written(&ServerEvent::TextDelta { of, delta: all.clone().into() })["delta"], all);
    let data = "{\r\n  \"a\": [1,\n 2],\n  \"b\": \"x\\ny\"\n}".into();
    let message = written(&ServerEvent::RoomMessage { from: MemberNumber(3), data });
    assert_eq!((&message["from"], &message["data"]), (&json!(3), &json!({"a": [1, 2], "b": "x\ny"})));
    assert_eq!(written(&ServerEvent::Pong { t: Some("1.50".into()) })["t"], json!(1.5));
    assert!(written(&ServerEvent::Pong { t: None }).get("t").is_none());
}

#[test]
fn an_error_says_what_where_and_whether_to_try_again() {
    let error = ClientError::invalid_value("item.id", "A \"bad\" id.").about(Some("mine".into()));
    let expected = json!({
        "type": "invalid_request_error", "code": "invalid_value", "message": "A \"bad\" id.",
        "param": "item.id", "event_id": "mine", "retryable": false,
    });
    assert_eq!(written(&error.into())["error"], expected);
}

#[test]
fn the_welcome_describes_the_session() {
    let mut settings = SessionSettings::default();
    if let Some(vad) = &mut settings.turn_detection {
        vad.threshold_permille = 45;
    }
    let mut view = SessionView {
        id: ConnectionId { shard: ShardId(1), key: ConnKey { index: 2, generation: 3 } },
        room: SessionId::parse("a:b").expect("valid"),
        engine: EngineKind::Parrot,
        member: MemberNumber(4),
        settings,
        model: None,
        extras: None,
        state: Some("{\n\"page\":1}".into()),
        resume: Some(ResumeView { token: "t".into(), epoch: 5, seq: 6 }),
        limits: SessionLimits::from(&ShardConfig::default()),
    };
    let session = &written(&ServerEvent::SessionCreated(Box::new(view.clone())))["session"];
    assert_eq!(session["id"], view.id.to_string());
    assert_eq!((&session["object"], &session["type"]), (&json!("realtime.session"), &json!("realtime")));
    assert_eq!(
        (&session["room"], &session["engine"], &session["member"]),
        (&json!("a:b"), &json!("parrot"), &json!(4))
    );
    let format = json!({"type": "audio/pcm", "rate": 16_000});
    let detection = json!({
        "type": "server_vad", "threshold": 0.045, "prefix_padding_ms": 300, "silence_duration_ms": 500,
        "create_response": true, "interrupt_response": true,
    });
    let audio =
        json!({"input": {"format": format, "turn_detection": detection}, "output": {"format": format}});
    assert_eq!(session["audio"], audio);
    assert_eq!((&session["format"], &session["rate"]), (&json!("pcm16"), &json!(16_000)));
    assert_eq!(session["resume"], json!({"token": "t", "epoch": 5, "seq": 6}));
    assert_eq!(session["state"], json!({"page": 1}));
    assert_eq!(session["limits"]["message_bytes_max"], 1_048_576);
    view.settings.turn_detection = None;
    let session = &written(&ServerEvent::SessionUpdated(Box::new(view)))["session"];
    assert_eq!(session["audio"]["input"]["turn_detection"], Value::Null);
}

/// The welcome in the words of a dialect, with a room's model and what clients said of their session.
fn welcome(dialect: Dialect, model: Option<&str>, extras: Option<&str>) -> Value {
    let view = SessionView {
        id: ConnectionId { shard: ShardId(1), key: ConnKey { index: 2, generation: 3 } },
        room: SessionId::parse("a").expect("valid"),
        engine: EngineKind::Parrot,
        member: MemberNumber(1),
        settings: SessionSettings::default(),
        model: model.map(Into::into),
        extras: extras.map(Into::into),
        state: None,
        resume: None,
        limits: SessionLimits::from(&ShardConfig::default()),
    };
    let mut line = Vec::new();
    ServerEvent::SessionCreated(Box::new(view)).write(EventId(1), None, dialect, &mut line);
    let mut event: Value = serde_json::from_slice(&line).expect("JSON");
    event["session"].take()
}

#[test]
fn a_session_has_every_member_that_a_typed_client_reads() {
    let plain = welcome(Dialect::Ga, Some("gpt-\"x\""), None);
    assert_eq!(plain["model"], "gpt-\"x\"");
    for (key, value) in [
        ("instructions", json!("")),
        ("tools", json!([])),
        ("tool_choice", json!("auto")),
        ("max_output_tokens", json!("inf")),
        ("truncation", json!("auto")),
        ("tracing", Value::Null),
        ("prompt", Value::Null),
        ("include", Value::Null),
        ("expires_at", Value::Null),
        ("output_modalities", json!(["audio"])),
    ] {
        assert_eq!(plain.get(key), Some(&value), "{key}");
    }
    let extras = r#"{"instructions":"be\nkind","tools":[{"type":"function","name":"f"}],"max_output_tokens":7,
        "audio":{"input":{"transcription":{"model":"w"},"turn_detection":{"type":"semantic_vad","eagerness":"low"}},
                 "output":{"voice":"verse","speed":1.25}}}"#;
    let told = welcome(Dialect::Ga, None, Some(extras));
    assert_eq!(told["model"], "parrot");
    assert_eq!(told["instructions"], "be\nkind");
    assert_eq!(told["tools"][0]["name"], "f");
    assert_eq!(told["max_output_tokens"], 7);
    assert_eq!(told["audio"]["input"]["transcription"]["model"], "w");
    assert_eq!(told["audio"]["input"]["turn_detection"]["type"], "semantic_vad");
    assert_eq!(told["audio"]["output"]["voice"], "verse");
    assert_eq!(told["audio"]["output"]["speed"], 1.25);
    let beta = welcome(Dialect::Beta, None, Some(extras));
    assert!(beta.get("audio").is_none() && beta.get("output_modalities").is_none(), "{beta}");
    assert_eq!(beta["modalities"], json!(["text", "audio"]));
    assert_eq!((&beta["voice"], &beta["speed"]), (&json!("verse"), &json!(1.25)));
    assert_eq!(
        (&beta["input_audio_format"], &beta["output_audio_format"]),
        (&json!("pcm16"), &json!("pcm16"))
    );
    assert_eq!(beta["input_audio_transcription"]["model"], "w");
    assert_eq!(beta["max_response_output_tokens"], 7);
    assert_eq!(beta["turn_detection"]["eagerness"], "low");
    assert_eq!(beta["instructions"], "be\nkind");
}

#[test]
fn the_beta_has_its_own_names_and_content_types() {
    let of = Part { response: ResponseId(1), item: ItemId(2) };
    let beta = |event: &ServerEvent| {
        let mut line = Vec::new();
        event.write(EventId(1), None, Dialect::Beta, &mut line);
        serde_json::from_slice::<Value>(&line).expect("JSON")
    };
    let names = [
        (ServerEvent::OutputAudioDone { of }, "response.audio.done"),
        (ServerEvent::TranscriptDelta { of, delta: "a".into() }, "response.audio_transcript.delta"),
        (ServerEvent::TranscriptDone { of, text: "a".into() }, "response.audio_transcript.done"),
        (ServerEvent::TextDelta { of, delta: "a".into() }, "response.text.delta"),
        (ServerEvent::TextDone { of, text: "a".into() }, "response.text.done"),
    ];
    for (event, name) in names {
        assert_eq!(beta(&event)["type"], name);
    }
    let content = vec![Content::OutputAudio("a".into()), Content::OutputText("b".into())];
    let item = Item { id: ItemId(2).into(), role: Role::Assistant, status: ItemStatus::Completed, content };
    let added = ServerEvent::ItemAdded { item: Box::new(item.clone()), previous: None };
    let told = beta(&added);
    assert_eq!(told["type"], "conversation.item.created");
    assert_eq!(told["item"]["content"][0]["type"], "audio");
    assert_eq!(told["item"]["content"][1]["type"], "text");
    assert!(!Dialect::Beta.has(&ServerEvent::ItemDone { item: Box::new(item), previous: None }));
    let members = r#""item":{"content":[{"type":"output_audio","transcript":"\"type\":\"output_audio\""}]}"#;
    let passed = Passed { name: "conversation.item.added".into(), members: members.into() };
    let told = beta(&ServerEvent::Passed(Box::new(passed)));
    assert_eq!(told["type"], "conversation.item.created");
    let content = json!({"type": "audio", "transcript": "\"type\":\"output_audio\""});
    assert_eq!(told["item"]["content"][0], content);
}

#[test]
fn drops_are_told_with_their_range() {
    let event = |seqs| ServerEvent::OutboxDropped { class: Class::Droppable, count: 3, seqs };
    let dropped = written(&event(Some((5, 9))));
    assert_eq!((&dropped["class"], &dropped["count"]), (&json!("droppable"), &json!(3)));
    assert_eq!((&dropped["first_seq"], &dropped["last_seq"]), (&json!(5), &json!(9)));
    assert_eq!(written(&event(None))["first_seq"], Value::Null);
}

#[test]
fn only_deltas_may_be_dropped_and_nothing_urgent_waits() {
    let of = Part { response: ResponseId(1), item: ItemId(2) };
    let delta = ServerEvent::TranscriptDelta { of, delta: "".into() };
    assert_eq!((delta.class(), delta.waits()), (Class::Droppable, true));
    let message = ServerEvent::RoomMessage { from: MemberNumber(1), data: "1".into() };
    assert_eq!((message.class(), message.waits()), (Class::Control, true));
    let urgent = [
        ServerEvent::Cleared,
        ServerEvent::Pong { t: None },
        ServerEvent::SessionDraining { reconnect_in_ms: 1 },
        ServerEvent::OutputCleared { response: ResponseId(1) },
        ClientError::new("invalid_json", "").into(),
    ];
    assert!(urgent.iter().all(|event| event.class() == Class::Control && !event.waits()));
}

#[test]
fn who_comes_back_is_told_what_became_of_it() {
    let view = |missed| RestoredView {
        missed,
        state: None,
        epoch: 1 << 52,
        seq: 9,
        client_seq: Some(4),
        restarted: false,
    };
    let written = |view| {
        let mut line = Vec::new();
        ServerEvent::SessionRestored(Box::new(view)).write(EventId(1), None, Dialect::Native, &mut line);
        serde_json::from_slice::<Value>(&line).expect("JSON")
    };
    let expected = json!({
        "type": "session.restored", "event_id": "event_1", "recovered": true, "state": null, "missed": 3,
        "epoch": 1_u64 << 52, "last_seq": 9, "client_seq": 4,
    });
    assert_eq!(written(view(Ok(3))), expected);
    let other = RestoredView {
        state: Some("{}".into()),
        client_seq: None,
        restarted: true,
        ..view(Err(Unrecovered::Lost))
    };
    let expected = json!({
        "type": "session.restored", "event_id": "event_1", "recovered": false, "reason": "lost", "state": {},
        "missed": 0, "epoch": 1_u64 << 52, "last_seq": 9, "restarted": true,
    });
    assert_eq!(written(other), expected);
}
