//! What clients may say, and how they are told when it can't be taken.

use proptest::prelude::*;

use super::*;
use crate::core::engine::EngineKind;
use crate::core::ids::MemberNumber;

fn parsed(text: &str) -> Result<ClientEvent, ClientError> {
    parse(&mut text.as_bytes().to_vec(), 8, &mut Scratch::default())
}

fn command(text: &str) -> ClientCommand {
    parsed(text).unwrap_or_else(|error| panic!("{text}: {error:?}")).command
}

#[test]
fn an_error_names_code_field_and_event() {
    let cases = [
        ("", "invalid_json", None, None),
        ("nonsense", "invalid_json", None, None),
        (r#"{"event_id":"e1","type":"ping""#, "invalid_json", None, Some("e1")),
        (r#"{"event_id":"e1""#, "invalid_json", None, Some("e1")),
        (r#"{"type":"ping","event_id": "e1" , "t":01}"#, "invalid_json", None, Some("e1")),
        ("{\"type\":\"room.send\",\"event_id\":\"e1\",\"data\":1\0}", "invalid_json", None, Some("e1")),
        (r#"{"type":"ping"} {"type":"ping"}"#, "invalid_json", None, None),
        (r#"{"event_id":"e1","x":[[[[[[[[1]]]]]]]]}"#, "nested_too_deeply", None, Some("e1")),
        ("[]", "invalid_type", None, None),
        ("7", "invalid_type", None, None),
        ("\"ping\"", "invalid_type", None, None),
        (r#"{"event_id":"e1"}"#, "missing_required_parameter", Some("type"), Some("e1")),
        (r#"{"event_id":"e1","type":7}"#, "invalid_type", Some("type"), Some("e1")),
        (r#"{"event_id":"e1","type":"fly"}"#, "unknown_event", Some("type"), Some("e1")),
        (r#"{"event_id":"e1","type":"channel.scribble"}"#, "unknown_event", Some("type"), Some("e1")),
        (r#"{"event_id":7,"type":"ping"}"#, "invalid_type", Some("event_id"), None),
        (r#"{"type":"ping","client_seq":-1}"#, "invalid_value", Some("client_seq"), None),
        (r#"{"type":"ping","t":{}}"#, "invalid_type", Some("t"), None),
        (r#"{"type":"input_audio_buffer.append"}"#, "missing_required_parameter", Some("audio"), None),
        (r#"{"type":"input_audio_buffer.append","audio":7}"#, "invalid_type", Some("audio"), None),
        (r#"{"type":"input_audio_buffer.append","audio":"a"}"#, "invalid_value", Some("audio"), None),
        (
            r#"{"type":"input_audio_buffer.append","samples":[1,40000]}"#,
            "invalid_value",
            Some("samples[1]"),
            None,
        ),
        (r#"{"type":"room.send"}"#, "missing_required_parameter", Some("data"), None),
        (r#"{"type":"room.send","data":1,"to":0}"#, "invalid_value", Some("to"), None),
        (r#"{"type":"room.send","data":1,"to":"a"}"#, "invalid_type", Some("to"), None),
        (r#"{"type":"response.cancel","response_id":1}"#, "invalid_type", Some("response_id"), None),
        (r#"{"type":"response.create","response":[]}"#, "invalid_type", Some("response"), None),
        (r#"{"type":"conversation.item.create"}"#, "missing_required_parameter", Some("item"), None),
        (
            r#"{"type":"conversation.item.create","item":{"type":"poem"}}"#,
            "invalid_value",
            Some("item.type"),
            None,
        ),
        (
            r#"{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text"}]}}"#,
            "missing_required_parameter",
            Some("item.content[0].text"),
            None,
        ),
        (r#"{"type":"session.update"}"#, "missing_required_parameter", Some("session"), None),
        (r#"{"type":"session.update","state":[]}"#, "invalid_type", Some("state"), None),
        (
            r#"{"type":"session.update","session":{"engine":"owl"}}"#,
            "invalid_value",
            Some("session.engine"),
            None,
        ),
        (
            r#"{"type":"session.update","session":{"audio":{"input":{"turn_detection":{"threshold":1.5}}}}}"#,
            "invalid_value",
            Some("session.audio.input.turn_detection.threshold"),
            None,
        ),
        (
            r#"{"type":"session.update","session":{"turn_detection":{"silence_duration_ms":"long"}}}"#,
            "invalid_type",
            Some("session.turn_detection.silence_duration_ms"),
            None,
        ),
    ];
    for (text, code, param, event_id) in cases {
        let error = parsed(text).expect_err(text);
        let found = (error.code, error.param.as_deref(), error.event_id.as_deref());
        assert_eq!(found, (code, param, event_id), "{text}: {}", error.message);
    }
}

/// What is kept as it came reaches other members: it has to be JSON by anybody's reading.
#[test]
fn numbers_are_those_of_json() {
    for number in ["0", "-0", "10", "-1.50", "1e5", "2E+07", "0.1e-9", "18446744073709551616", "1e308"] {
        let text = format!(r#"{{"type":"room.send","data":[{number} ,{number}]}}"#);
        assert!(parsed(&text).is_ok(), "{text}");
    }
    for number in [
        "1844674407370955611-6",
        "1\0\0.5",
        "01",
        "-",
        "1.",
        ".5",
        "+1",
        "1e",
        "1e+",
        "0x1",
        "1-1",
        "1.5.5",
        "2/",
    ] {
        for text in [
            format!(r#"{{"type":"room.send","data":{number}}}"#),
            format!(r#"{{"data":[{number}],"type":"x"}}"#),
        ] {
            assert_eq!(parsed(&text).expect_err(&text).code, "invalid_json", "{text}");
        }
    }
}

/// Of a key that comes twice the first counts, for the check and for what is kept, however it is written.
#[test]
fn what_is_kept_is_what_was_checked() {
    let t = |t: &str| ClientCommand::Ping { t: Some(t.into()) };
    assert_eq!(command(r#"{"type":"ping","\u0074":1,"t":{"a":1}}"#), t("1"));
    assert_eq!(command(r#"{"type":"ping","t":1,"\u0074":{"a":1}}"#), t("1"));
    let state = command(r#"{"type":"session.update","st\u0061te":{"a":1},"state":[1]}"#);
    let expected = SessionUpdate { state: Some(r#"{"a":1}"#.into()), ..SessionUpdate::default() };
    assert_eq!(state, ClientCommand::SessionUpdate(Box::new(expected)));
}

#[test]
fn the_simple_events_are_taken() {
    assert_eq!(command(r#"{"type":"input_audio_buffer.commit"}"#), ClientCommand::Commit);
    assert_eq!(command(r#"{"type":"input_audio_buffer.clear"}"#), ClientCommand::Clear);
    let response_id = Some("resp_1f".into());
    assert_eq!(
        command(r#"{"type":"response.cancel","response_id":"resp_1f"}"#),
        ClientCommand::ResponseCancel { response_id }
    );
    let event =
        parsed(r#"{"event_id":"a\"b","client_seq":18446744073709551615,"type":"ping"}"#).expect("valid");
    assert_eq!((event.event_id.as_deref(), event.client_seq), (Some("a\"b"), Some(u64::MAX)));
    assert_eq!(event.command, ClientCommand::Ping { t: None });
}

#[test]
fn audio_comes_as_base64_or_as_samples() {
    let mut scratch = Scratch::default();
    for text in [
        r#"{"type":"input_audio_buffer.append","audio":"AQD//wCA"}"#,
        r#"{"type":"input_audio_buffer.append","samples":[1,-1,-32768]}"#,
    ] {
        let event = parse(&mut text.as_bytes().to_vec(), 8, &mut scratch).expect("valid");
        assert_eq!(event.command, ClientCommand::Append);
        assert_eq!(scratch.audio, [1, 0, 0xff, 0xff, 0, 0x80]);
    }
}

#[test]
fn values_to_be_passed_on_stay_as_they_came() {
    for t in ["1.0", "1e3", "-0", "123456789012345678901234567890", r#""é\u00e9\n""#, "0.1000"] {
        let text = format!(r#"{{"type":"ping", "t" : {t} }}"#);
        assert_eq!(command(&text), ClientCommand::Ping { t: Some(t.into()) });
    }
    for data in ["null", r#"{"t":1.50,"data":[{"b":"}\\\""}]}"#, "[ 1,\n 2 ]", "\"plain\"", "false"] {
        for text in [
            format!(r#"{{"type":"room.send","data":{data},"to":3}}"#),
            format!(r#"{{"to":3,"data": {data} ,"type":"room.send"}}"#),
        ] {
            let to = Some(MemberNumber(3));
            assert_eq!(command(&text), ClientCommand::RoomSend { data: data.into(), to });
        }
    }
    let escaped = r#"{"type":"room.send","d\u0061ta":{"a":1}}"#;
    assert_eq!(command(escaped), ClientCommand::RoomSend { data: r#"{"a":1}"#.into(), to: None });
}

#[test]
fn items_come_in_the_shapes_of_the_realtime_api() {
    let ClientCommand::ItemCreate(item) = command(
        r#"{"type":"conversation.item.create","previous_item_id":null,"item":{"id":"mine","type":"message",
            "role":"user","content":[{"type":"input_text","text":"a"},{"type":"text","text":"b"},
            {"type":"input_audio","audio":"AQI=","transcript":"c"}]}}"#,
    ) else {
        panic!("an item")
    };
    assert_eq!((item.id.as_deref(), item.role), (Some("mine"), Role::User));
    let audio = NewContent::Audio { audio: vec![1, 2], transcript: Some("c".into()) };
    assert_eq!(item.content, [NewContent::Text("a".into()), NewContent::Text("b".into()), audio]);
    let ClientCommand::ResponseCreate(request) = command(
        r#"{"type":"response.create","response":{"output_modalities":["text"],"metadata":{"a":"b"},"instructions":"x"}}"#,
    ) else {
        panic!("a request")
    };
    assert_eq!((request.modality, request.metadata.as_deref()), (Some(Modality::Text), Some(r#"{"a":"b"}"#)));
    let raw = r#"{"output_modalities":["text"],"metadata":{"a":"b"},"instructions":"x"}"#;
    assert_eq!(request.raw.as_deref(), Some(raw));
}

fn updated(session: &str) -> (SessionSettings, Result<Changes, ClientError>) {
    let text = format!(r#"{{"type":"session.update","session":{session}}}"#);
    let ClientCommand::SessionUpdate(update) = command(&text) else { panic!("an update") };
    let mut settings = SessionSettings::default();
    let changes = settings.apply(&update.session.expect("settings"));
    (settings, changes)
}

#[test]
fn a_session_is_set_in_ga_beta_and_flat_shape() {
    let vad = ServerVad {
        threshold_permille: 700,
        prefix_padding_ms: 100,
        silence_duration_ms: 200,
        create_response: false,
        interrupt_response: true,
    };
    let detection = r#"{"type":"server_vad","threshold":0.7,"prefix_padding_ms":100,"silence_duration_ms":200,
        "create_response":false,"idle_timeout_ms":null}"#;
    let pcm24 = r#"{"type":"audio/pcm","rate":24000}"#;
    let ga = format!(
        r#"{{"type":"realtime","model":"m","output_modalities":["audio"],"instructions":"be kind","tools":[],
        "audio":{{"input":{{"format":{pcm24},"turn_detection":{detection}}},"output":{{"format":{pcm24},"voice":"v"}}}}}}"#
    );
    let beta = format!(
        r#"{{"modalities":["text","audio"],"input_audio_format":"pcm16","rate":24000,"turn_detection":{detection}}}"#
    );
    let flat = format!(r#"{{"format":"pcm16","rate":24000,"turn_detection":{detection}}}"#);
    let expected = SessionSettings {
        format: AudioFormat { codec: Codec::Pcm16, rate: 24_000 },
        turn_detection: Some(vad),
        modality: Modality::Audio,
    };
    for session in [ga, beta, flat] {
        let (settings, changes) = updated(&session);
        assert_eq!(settings, expected, "{session}");
        let all = Changes { engine: None, format: true, turn_detection: true, modality: false };
        assert_eq!(changes, Ok(all));
    }
}

#[test]
fn turn_detection_is_switched_off_by_null_and_kept_when_absent() {
    for off in [r#"{"turn_detection":null}"#, r#"{"audio":{"input":{"turn_detection":null}}}"#] {
        assert_eq!(updated(off).0.turn_detection, None);
    }
    let (settings, changes) = updated(r#"{"engine":"relay"}"#);
    assert_eq!(settings, SessionSettings::default());
    assert_eq!(changes, Ok(Changes { engine: Some(EngineKind::Relay), ..Changes::default() }));
}

#[test]
fn a_codec_brings_its_own_rate_and_refuses_another() {
    let rate = |session| updated(session).0.format.rate;
    assert_eq!(rate(r#"{"format":"g711_ulaw"}"#), 8_000);
    assert_eq!(rate(r#"{"audio":{"input":{"format":{"type":"audio/pcma"}}}}"#), 8_000);
    assert_eq!(rate(r#"{"format":"opus"}"#), 16_000);
    for bad in [
        r#"{"format":"g711_alaw","rate":16000}"#,
        r#"{"rate":44100}"#,
        r#"{"audio":{"input":{"format":{"type":"audio/pcmu"}},"output":{"format":{"type":"audio/pcm"}}}}"#,
    ] {
        let (settings, changes) = updated(bad);
        assert_eq!(changes.expect_err(bad).code, "invalid_value");
        assert_eq!(settings, SessionSettings::default(), "nothing is applied by halves");
    }
}

#[test]
fn token_and_state_come_beside_the_session() {
    let text = r#"{"type":"session.update","token":"fresh","state":{ "page": 3.0 }}"#;
    let expected = SessionUpdate {
        extras: None,
        session: None,
        token: Some("fresh".into()),
        state: Some(r#"{ "page": 3.0 }"#.into()),
        after: None,
    };
    assert_eq!(command(text), ClientCommand::SessionUpdate(Box::new(expected)));
    let text = r#"{"type":"session.update","after":7}"#;
    let expected = SessionUpdate { after: Some(7), ..SessionUpdate::default() };
    assert_eq!(command(text), ClientCommand::SessionUpdate(Box::new(expected)));
}

/// Pieces that make events when put together rightly, and nonsense otherwise.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just(",".to_owned()),
        Just(":".to_owned()),
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just("\"type\":\"room.send\"".to_owned()),
        Just("\"type\":\"ping\"".to_owned()),
        Just("\"data\":".to_owned()),
        Just("\"t\":".to_owned()),
        Just("\"event_id\":\"e\"".to_owned()),
        Just("\"state\":{}".to_owned()),
        Just("null".to_owned()),
        Just(" \n".to_owned()),
        "[ -~é]{0,4}",
        "-?[0-9]{1,25}(\\.[0-9]{1,3})?(e[0-9]{1,3})?",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&mut bytes.clone(), 4, &mut Scratch::default());
    }

    #[test]
    fn any_text_is_an_event_or_an_error(texts in prop::collection::vec(pieces(), 1..6)) {
        let mut scratch = Scratch::default();
        for text in texts {
            let _ = parse(&mut text.clone().into_bytes(), 4, &mut scratch);
        }
    }

    #[test]
    fn any_json_is_passed_on_as_it_came(data in json(), pretty in any::<bool>()) {
        let data = if pretty { serde_json::to_string_pretty(&data) } else { serde_json::to_string(&data) };
        let data = data.expect("JSON");
        let text = format!(r#"{{"type":"room.send","data":{data}}}"#);
        let event = parse(&mut text.into_bytes(), 64, &mut Scratch::default()).expect("valid");
        prop_assert_eq!(event.command, ClientCommand::RoomSend { data: data.into(), to: None });
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((".{0,4}", inner), 0..4)
                .prop_map(|fields| fields.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

#[test]
fn the_number_of_an_event_is_known_though_it_is_refused() {
    let number = |text| parsed(text).map_or_else(|error| error.client_seq, |event| event.client_seq);
    assert_eq!(number(r#"{"type":"ping","client_seq":7}"#), Some(7));
    assert_eq!(number(r#"{"type":"fly","client_seq":8}"#), Some(8));
    assert_eq!(number(r#"{"type":"room.send","client_seq":9}"#), Some(9));
    assert_eq!(number(r#"{"type":"ping","client_seq":-1}"#), None, "it is none");
    assert_eq!(number(r#"{"type":"ping","client_seq":7"#), None, "nobody can read it");
    assert_eq!(parsed(r#"{"type":"session.update","after":"1"}"#).expect_err("text").code, "invalid_type");
}
