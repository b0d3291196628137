//! What the two dialects call the same things. Inside, and towards clients, the GA names hold.

use serde_json::{Map, Value};

/// The GA name of an event that a model server sends.
pub(super) fn to_ga(name: &str) -> &str {
    match name {
        "response.audio.delta" => "response.output_audio.delta",
        "response.audio.done" => "response.output_audio.done",
        "response.audio_transcript.delta" => "response.output_audio_transcript.delta",
        "response.audio_transcript.done" => "response.output_audio_transcript.done",
        "response.text.delta" => "response.output_text.delta",
        "response.text.done" => "response.output_text.done",
        "conversation.item.created" => "conversation.item.added",
        name => name,
    }
}

/// A session or response in the beta shape.
pub(super) fn to_beta(ga: Map<String, Value>) -> Map<String, Value> {
    let mut beta = Map::new();
    for (key, value) in ga {
        match (&*key, value) {
            ("type", _) => {}
            ("output_modalities", value) => {
                beta.insert("modalities".into(), modalities(value));
            }
            ("max_output_tokens", value) => {
                beta.insert("max_response_output_tokens".into(), value);
            }
            ("audio", Value::Object(audio)) => flatten(audio, &mut beta),
            ("input", Value::Array(items)) => {
                let items = items.into_iter().map(item_to_beta).collect();
                beta.insert(key, Value::Array(items));
            }
            (_, value) => {
                beta.insert(key, value);
            }
        }
    }
    beta
}

/// An item in the beta shape.
pub(super) fn item_to_beta(mut item: Value) -> Value {
    let parts = item.get_mut("content").and_then(Value::as_array_mut);
    for part in parts.into_iter().flatten() {
        let name = match part["type"].as_str() {
            Some("output_text") => "text",
            Some("output_audio") => "audio",
            _ => continue,
        };
        part["type"] = name.into();
    }
    item
}

/// Beta speaks only where it also writes.
fn modalities(value: Value) -> Value {
    let audio = value.as_array().is_some_and(|names| names.iter().any(|name| name == "audio"));
    if audio { serde_json::json!(["audio", "text"]) } else { value }
}

fn flatten(audio: Map<String, Value>, beta: &mut Map<String, Value>) {
    for (direction, settings) in audio {
        let Value::Object(settings) = settings else { continue };
        for (key, value) in settings {
            let (name, value) = match &*key {
                "format" => (format!("{direction}_audio_format"), format_name(value)),
                "transcription" => ("input_audio_transcription".to_owned(), value),
                "noise_reduction" => ("input_audio_noise_reduction".to_owned(), value),
                _ => (key, value),
            };
            beta.insert(name, value);
        }
    }
}

fn format_name(value: Value) -> Value {
    match value["type"].as_str() {
        Some("audio/pcm") => "pcm16".into(),
        Some("audio/pcmu") => "g711_ulaw".into(),
        Some("audio/pcma") => "g711_alaw".into(),
        _ => value,
    }
}
