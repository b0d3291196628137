//! Events that are no JSON, too deep, too large or of the wrong types. Each gets an `error`, and the client stays.

use crate::attack::{Case, room};
use crate::wire::text;

/// Events and the code of the error that answers them.
const EVENTS: &[(&str, &str, &str)] = &[
    ("no JSON", "hello", "invalid_json"),
    ("an unfinished object", r#"{"type":"ping""#, "invalid_json"),
    ("two objects in a line", r#"{"type":"ping"} {"type":"ping"}"#, "invalid_json"),
    ("a comma too many", r#"{"type":"ping",}"#, "invalid_json"),
    ("half a surrogate pair", r#"{"type":"\ud800"}"#, "unknown_event"),
    ("the other half", r#"{"type":"\udc00"}"#, "invalid_json"),
    ("a raw control character", "{\"type\":\"pi\u{1}ng\"}", "invalid_json"),
    ("a number above every float", r#"{"type":"ping","t":1e999999}"#, "invalid_json"),
    ("a number with a leading zero", r#"{"type":"ping","t":0123}"#, "invalid_json"),
    ("null", "null", "invalid_type"),
    ("a number", "1e3", "invalid_type"),
    ("a string", r#""ping""#, "invalid_type"),
    ("a list of events", r#"[{"type":"ping"}]"#, "invalid_type"),
    ("no type", "{}", "missing_required_parameter"),
    ("a type that is a number", r#"{"type":1}"#, "invalid_type"),
    ("a type that is an object", r#"{"type":{"type":"ping"}}"#, "invalid_type"),
    ("an unknown type", r#"{"type":"room.destroy"}"#, "unknown_event"),
    ("an event of the server", r#"{"type":"session.created"}"#, "unknown_event"),
    ("an event_id that is a list", r#"{"type":"ping","event_id":[]}"#, "invalid_type"),
    ("a t that is an object", r#"{"type":"ping","t":{}}"#, "invalid_type"),
    ("audio that is a number", r#"{"type":"input_audio_buffer.append","audio":7}"#, "invalid_type"),
    ("audio that is no base64", r#"{"type":"input_audio_buffer.append","audio":"%%%%"}"#, "invalid_value"),
    ("audio without padding", r#"{"type":"input_audio_buffer.append","audio":"AAA"}"#, "invalid_value"),
    ("audio with a line feed", r#"{"type":"input_audio_buffer.append","audio":"AA\n="}"#, "invalid_value"),
    ("audio for URLs", r#"{"type":"input_audio_buffer.append","audio":"-_-_"}"#, "invalid_value"),
    ("neither audio nor samples", r#"{"type":"input_audio_buffer.append"}"#, "missing_required_parameter"),
    (
        "a sample that is too loud",
        r#"{"type":"input_audio_buffer.append","samples":[32768]}"#,
        "invalid_value",
    ),
    (
        "a sample that is a fraction",
        r#"{"type":"input_audio_buffer.append","samples":[0.5]}"#,
        "invalid_value",
    ),
    ("an item that is a string", r#"{"type":"conversation.item.create","item":"x"}"#, "invalid_type"),
    ("no item", r#"{"type":"conversation.item.create"}"#, "missing_required_parameter"),
    ("nothing to send", r#"{"type":"room.send"}"#, "missing_required_parameter"),
    ("a member below the first", r#"{"type":"room.send","data":1,"to":-1}"#, "invalid_value"),
    ("a state that is a list", r#"{"type":"session.update","state":[1]}"#, "invalid_type"),
    ("a session that is true", r#"{"type":"session.update","session":true}"#, "invalid_type"),
    ("a commit of nothing", r#"{"type":"input_audio_buffer.commit"}"#, "input_audio_buffer_commit_empty"),
    ("a cancel of nothing", r#"{"type":"response.cancel"}"#, "response_cancel_not_active"),
];

pub(crate) fn cases() -> Vec<Case> {
    let events =
        EVENTS.iter().map(|(name, event, code)| room(format!("event: {name}"), text(event)).corrected(code));
    events.chain(large()).collect()
}

fn large() -> Vec<Case> {
    let nested = |levels| format!(r#"{{"type":"ping","x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let ping = |t: String| text(format!(r#"{{"type":"ping","t":{t}}}"#));
    let append = |field: &str| text(format!(r#"{{"type":"input_audio_buffer.append",{field}}}"#));
    vec![
        room("65 levels of JSON", text(nested(65))).corrected("nested_too_deeply"),
        room("100,000 levels of JSON", text(nested(100_000))).corrected("nested_too_deeply"),
        room("a million brackets that never close", text("[".repeat(1_000_000)))
            .corrected("nested_too_deeply"),
        room("an integer of 100,000 digits", ping("9".repeat(100_000))).corrected("invalid_json"),
        room("a fraction of 100,000 digits", ping(format!("0.{}", "1".repeat(100_000)))).served(),
        room("a megabyte of blanks", text(" ".repeat(1_000_000))).served(),
        room("a megabyte of line feeds", text("\n".repeat(1_000_000))).served(),
        room(
            "an event_id of 513 bytes",
            text(format!(r#"{{"type":"ping","event_id":"{}"}}"#, "e".repeat(513))),
        )
        .corrected("invalid_value"),
        room("a type of a megabyte", text(format!(r#"{{"type":"{}"}}"#, "t".repeat(1_000_000))))
            .corrected("unknown_event"),
        room("100,000 keys", text(format!("{{{}\"type\":\"x\"}}", "\"k\":0,".repeat(100_000))))
            .corrected("unknown_event"),
        room("a megabyte of base64 garbage", append(&format!(r#""audio":"{}""#, "!".repeat(1_000_000))))
            .corrected("invalid_value"),
        room("base64 that is bad at its end", append(&format!(r#""audio":"{}=A=""#, "A".repeat(900_000))))
            .corrected("invalid_value"),
        room("300,000 samples", append(&format!(r#""samples":[{}0]"#, "0,".repeat(300_000)))).served(),
        room("half a million events in a message, none of them JSON", text("x\n".repeat(500_000)))
            .dismissed(1013),
    ]
}
