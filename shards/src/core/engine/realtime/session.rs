//! The `session.update` that a model server gets: configuration, then the token's claim, then what clients have said of their
//! session, then the room's own settings, each over the former.

use serde_json::{Map, Value, json};

use super::names;
use crate::core::config::{Dialect, RealtimeDefaults};
use crate::core::engine::EngineContext;
use crate::core::event::{AudioFormat, Codec, ServerVad};
use crate::core::gate::RealtimeClaim;

/// What no client may change of a session: the server decides on the first, and the others are told, not asked.
const NOT_THEIRS: [&str; 6] = ["model", "id", "object", "type", "expires_at", "client_secret"];

/// The event, ready to be sent. Nothing of the voice if that can't be changed any more.
pub(super) fn update(cx: &EngineContext<'_>, with_voice: bool) -> Value {
    let defaults = &cx.config.realtime;
    let mut session = given(defaults, cx.claim);
    if let Some(Ok(Value::Object(mut extras))) = cx.extras.map(serde_json::from_str) {
        NOT_THEIRS.iter().for_each(|key| drop(extras.remove(*key)));
        merge(&mut session, extras);
    }
    let detection = detection(&session, cx.settings.turn_detection);
    let format = format(upstream_format(cx.settings.format, defaults));
    merge(
        &mut session,
        object(json!({
            "type": "realtime",
            "output_modalities": [cx.settings.modality.name()],
            "audio": { "input": { "format": format, "turn_detection": detection }, "output": { "format": format } },
        })),
    );
    if let Some(Value::Object(output)) = session.get_mut("audio").and_then(|audio| audio.get_mut("output"))
        && !with_voice
    {
        output.remove("voice");
    }
    if defaults.dialect == Dialect::Beta {
        session = names::to_beta(session);
    }
    json!({ "type": "session.update", "event_id": super::OUR_SESSION, "session": session })
}

/// The query of the request that opens a session.
pub(super) fn target(cx: &EngineContext<'_>) -> Box<str> {
    let model = cx.claim.and_then(|claim| claim.model.as_deref()).unwrap_or(&cx.config.realtime.model);
    let mut query = String::from("model=");
    for byte in model.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => query.push(byte.into()),
            _ => query.push_str(&format!("%{byte:02X}")),
        }
    }
    query.into()
}

/// What the model server's audio holds for a room whose audio holds this.
pub(super) fn upstream_format(room: AudioFormat, defaults: &RealtimeDefaults) -> AudioFormat {
    match (room.codec, defaults.pcm16_rate) {
        (Codec::Pcm16, rate) if rate > 0 => AudioFormat { rate, ..room },
        _ => room,
    }
}

fn given(defaults: &RealtimeDefaults, claim: Option<&RealtimeClaim>) -> Map<String, Value> {
    let mut session = Map::new();
    let chosen = |claimed: Option<&Box<str>>, default: &str| -> Option<Value> {
        let text = claimed.map_or(default, |claimed| claimed);
        (!text.is_empty()).then(|| text.into())
    };
    if let Some(text) = chosen(claim.and_then(|claim| claim.instructions.as_ref()), &defaults.instructions) {
        session.insert("instructions".into(), text);
    }
    let mut audio = Map::new();
    if let Some(voice) = chosen(claim.and_then(|claim| claim.voice.as_ref()), &defaults.voice) {
        audio.insert("output".into(), json!({ "voice": voice }));
    }
    if let Some(model) = chosen(None, &defaults.transcription) {
        audio.insert("input".into(), json!({ "transcription": { "model": model } }));
    }
    session.insert("audio".into(), audio.into());
    session
}

/// Turn detection: the room's, unless a client wants a kind that only the model server knows.
fn detection(session: &Map<String, Value>, vad: Option<ServerVad>) -> Value {
    let wanted = session.get("audio").map(|audio| &audio["input"]["turn_detection"]);
    if let Some(wanted) = wanted
        && wanted["type"].as_str().is_some_and(|kind| kind != "server_vad")
        && vad.is_some()
    {
        return wanted.clone();
    }
    let Some(vad) = vad else { return Value::Null };
    json!({
        "type": "server_vad",
        "threshold": f64::from(vad.threshold_permille) / 1_000.0,
        "prefix_padding_ms": vad.prefix_padding_ms,
        "silence_duration_ms": vad.silence_duration_ms,
        "create_response": vad.create_response,
        "interrupt_response": vad.interrupt_response,
    })
}

fn format(format: AudioFormat) -> Value {
    match format.codec {
        Codec::Pcm16 => json!({ "type": format.codec.media_type(), "rate": format.rate }),
        _ => json!({ "type": format.codec.media_type() }),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// Puts one object over another, object by object.
fn merge(into: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(inner)), Value::Object(value)) => merge(inner, value),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}
