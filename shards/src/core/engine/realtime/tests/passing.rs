//! Events and commands on their way through.

use serde_json::{Value, json};

use super::rig::{Rig, SPEAKER, noise};
use crate::core::config::Dialect;
use crate::core::engine::Audience;
use crate::core::event::{ClientCommand, ItemKind, NewContent, NewItem, ResponseRequest, Role};
use crate::core::gate::RealtimeClaim;
use crate::core::ids::MemberNumber;

#[test]
fn nothing_is_dialled_until_there_is_something_to_say() {
    let mut rig = Rig::new();
    rig.command(ClientCommand::SessionUpdate(Box::default()));
    rig.command(ClientCommand::Clear);
    rig.command(ClientCommand::OutputClear);
    assert_eq!(rig.names(), ["input_audio_buffer.cleared"]);
    assert!(rig.dialled.is_empty() && rig.engine.deadline().is_none());
    for begin in [
        |rig: &mut Rig| rig.hear(&[0; 960]),
        |rig: &mut Rig| rig.text("hello"),
        |rig: &mut Rig| rig.command(ClientCommand::Commit),
        Rig::create,
    ] {
        let mut rig = Rig::new();
        begin(&mut rig);
        begin(&mut rig);
        assert_eq!(rig.dialled.len(), 1);
        assert!(rig.sent.is_empty());
    }
}

#[test]
fn what_came_before_the_session_follows_the_settings_in_order() {
    let mut rig = Rig::manual();
    let audio = noise(1, 9_600);
    rig.hear(&audio[..4_800]);
    rig.hear(&audio[4_800..]);
    rig.command(ClientCommand::Commit);
    rig.text("and?");
    rig.create();
    let line = rig.greet();
    let mut got = rig.got(line);
    got.dedup();
    assert_eq!(
        got,
        [
            "session.update",
            "input_audio_buffer.append",
            "input_audio_buffer.commit",
            "conversation.item.create",
            "response.create"
        ]
    );
    assert_eq!(rig.heard(line), audio);
    assert_eq!(rig.message("response.create")["event_id"], "mine");
}

#[test]
fn settings_come_from_configuration_token_clients_and_room_each_over_the_former() {
    let mut rig = Rig::new();
    let realtime = &mut rig.config.realtime;
    (realtime.voice, realtime.instructions, realtime.transcription) =
        ("alloy".into(), "Be brief.".into(), "whisper-1".into());
    rig.claim = Some(RealtimeClaim {
        model: Some("my model/2".into()),
        voice: Some("cedar".into()),
        instructions: None,
    });
    rig.extras = Some(
        r#"{"model":"dear","type":"x","instructions":"Sing.","tools":[],"audio":{"output":{"speed":1.5},"input":{"format":{"type":"audio/pcmu"}}}}"#
            .to_owned(),
    );
    rig.text("hello");
    assert_eq!(rig.dialled[0].1, "model=my%20model%2F2");
    rig.greet();
    let update = rig.message("session.update");
    let format = json!({ "type": "audio/pcm", "rate": 24_000 });
    let detection = json!({
        "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500,
        "create_response": true, "interrupt_response": true,
    });
    assert_eq!(
        update["session"],
        json!({
            "type": "realtime", "output_modalities": ["audio"], "instructions": "Sing.", "tools": [],
            "audio": {
                "input": { "format": format, "turn_detection": detection, "transcription": { "model": "whisper-1" } },
                "output": { "format": format, "voice": "cedar", "speed": 1.5 },
            },
        })
    );
}

#[test]
fn a_kind_of_turn_detection_that_only_the_model_server_knows_is_left_to_it() {
    let mut rig = Rig::new();
    let semantic = json!({ "type": "semantic_vad", "eagerness": "low" });
    rig.extras = Some(json!({ "audio": { "input": { "turn_detection": semantic } } }).to_string());
    rig.text("hello");
    rig.greet();
    assert_eq!(rig.message("session.update")["session"]["audio"]["input"]["turn_detection"], semantic);
}

#[test]
fn a_model_server_of_the_beta_hears_and_is_heard_in_its_names() {
    let mut rig = Rig::new();
    rig.config.realtime.dialect = Dialect::Beta;
    rig.config.realtime.voice = "alloy".into();
    rig.settings.turn_detection = None;
    rig.extras = Some(r#"{"max_output_tokens":7,"audio":{"input":{"noise_reduction":null}}}"#.to_owned());
    let wish = r#"{"output_modalities":["text"],"audio":{"output":{"voice":"echo"}}}"#;
    let request = ResponseRequest { raw: Some(wish.into()), ..ResponseRequest::default() };
    rig.command(ClientCommand::ResponseCreate(request));
    let line = rig.greet();
    assert_eq!(
        rig.message("session.update")["session"],
        json!({
            "modalities": ["audio", "text"], "voice": "alloy", "turn_detection": null,
            "input_audio_format": "pcm16", "output_audio_format": "pcm16",
            "max_response_output_tokens": 7, "input_audio_noise_reduction": null,
        })
    );
    assert_eq!(
        rig.message("response.create")["response"],
        json!({ "modalities": ["text"], "voice": "echo" })
    );
    rig.forget();
    for name in ["response.audio_transcript.delta", "response.text.done", "conversation.item.created"] {
        rig.say(line, json!({ "type": name }));
    }
    assert_eq!(
        rig.names(),
        ["response.output_audio_transcript.delta", "response.output_text.done", "conversation.item.added"]
    );
}

#[test]
fn events_pass_verbatim_but_for_type_and_id_and_known_ones_of_the_session_stay() {
    let (mut rig, line) = Rig::ready();
    rig.say(line, json!({ "type": "session.updated", "session": {} }));
    rig.say_raw(
        line,
        b"{\"type\":\"new.thing\",\"event_id\":\"e\",\n \"a\" : [1, \"x\\n\"\n],\"b\":1e3,\"n\":null}",
    );
    rig.say(line, json!({ "type": "rate_limits.updated", "rate_limits": [] }));
    rig.say_raw(line, b"{\"\\u0074ype\":\"escaped\"}");
    assert_eq!(rig.names(), ["new.thing", "rate_limits.updated", "escaped"]);
    let event = rig.event("new.thing");
    assert_eq!(
        (&event["a"], &event["b"], &event["event_id"]),
        (&json!([1, "x\n"]), &json!(1e3), &json!("event_1"))
    );
}

#[test]
fn commands_reach_the_model_server_with_the_clients_name_for_them() {
    let (mut rig, line) = Rig::ready();
    rig.command(ClientCommand::ItemDelete { item: "i".into() });
    rig.command(ClientCommand::ItemRetrieve { item: "i".into() });
    rig.command(ClientCommand::ItemTruncate { item: "i".into(), content_index: 1, audio_end_ms: 70 });
    rig.command(ClientCommand::Clear);
    rig.command(ClientCommand::ItemCreate(Box::new(NewItem {
        id: Some("mine_1".into()),
        kind: ItemKind::Message,
        role: Role::User,
        content: vec![NewContent::Text("x".into())],
        previous: Some("root".into()),
        raw: r#"{"id":"mine_1","type":"message","role":"user","content":[],"more":1}"#.into(),
    })));
    assert_eq!(
        rig.got(line),
        [
            "conversation.item.delete",
            "conversation.item.retrieve",
            "conversation.item.truncate",
            "input_audio_buffer.clear",
            "conversation.item.create"
        ]
    );
    assert!(rig.sent.iter().all(|(_, message)| message["event_id"] == "mine"));
    let truncate = rig.message("conversation.item.truncate");
    assert_eq!((&truncate["content_index"], &truncate["audio_end_ms"]), (&json!(1), &json!(70)));
    let create = rig.message("conversation.item.create");
    assert_eq!((&create["previous_item_id"], &create["item"]["more"]), (&json!("root"), &json!(1)));
}

#[test]
fn new_settings_reach_the_model_server_without_the_voice_once_it_has_spoken() {
    let (mut rig, line) = Rig::ready();
    rig.config.realtime.voice = "alloy".into();
    let update = || ClientCommand::SessionUpdate(Box::default());
    rig.command(update());
    assert_eq!(rig.message("session.update")["session"]["audio"]["output"]["voice"], "alloy");
    rig.begin_response(line, "r");
    rig.delta(line, "r", &[0; 960]);
    rig.command(update());
    assert_eq!(rig.message("session.update")["session"]["audio"]["output"]["voice"], Value::Null);
}

#[test]
fn errors_reach_the_member_whose_event_they_name() {
    let (mut rig, line) = Rig::ready();
    rig.command_from(MemberNumber(4), Some("four"), ClientCommand::Commit);
    let error = |id: Value, kind: &str| json!({ "type": "error", "error": { "type": kind, "code": "c", "message": "m", "event_id": id, "param": "p" } });
    rig.say(line, error("four".into(), "invalid_request_error"));
    rig.say(line, error(Value::Null, "server_error"));
    rig.say(line, error("vox.prime".into(), "invalid_request_error"));
    rig.say(line, error("vox.session".into(), "invalid_request_error"));
    let told: Vec<_> = rig
        .events("error")
        .iter()
        .map(|(to, event)| (*to, event["error"]["event_id"].clone(), event["error"]["retryable"].clone()))
        .collect();
    assert_eq!(
        told,
        [
            (Audience::One(MemberNumber(4)), json!("four"), json!(false)),
            (Audience::All, Value::Null, json!(true)),
            (Audience::All, Value::Null, json!(false)),
        ]
    );
    assert_eq!(rig.event("error")["error"]["param"], "p");
}

#[test]
fn a_cancel_without_a_response_is_refused_here() {
    let (mut rig, line) = Rig::ready();
    rig.command(ClientCommand::ResponseCancel { response_id: None });
    assert_eq!(rig.errors(), ["response_cancel_not_active"]);
    assert_eq!(rig.events("error")[0].0, Audience::One(SPEAKER));
    rig.create();
    rig.command(ClientCommand::ResponseCancel { response_id: None });
    assert_eq!(rig.got(line), ["response.create", "response.cancel"]);
}
