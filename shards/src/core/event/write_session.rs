//! The session object, in the shape of the vendor's API of today (GA) or of its beta, with what is ours besides.

use serde_json::{Map, Value};

use super::json::Json;
use super::session::{RestoredView, SessionLimits, SessionView};
use super::settings::{AudioFormat, Modality, ServerVad};

const VOICE: &str = "\"alloy\"";

/// What clients have said of their session that no setting holds, by its place.
struct Extras(Map<String, Value>);

impl Extras {
    fn of(view: &SessionView) -> Self {
        let parsed = view.extras.as_deref().map(serde_json::from_str).transpose();
        Self(parsed.ok().flatten().unwrap_or_default())
    }

    /// The value at this path, if a client has set one.
    fn get(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(*first)?, |value, key| value.get(key))
    }

    /// Writes the value at this path under the last of its keys; or what stands for none, which clients of ours do without.
    fn write(&self, path: &[&str], none: &str, json: &mut Json<'_>) {
        self.write_as(path.last().copied().unwrap_or_default(), path, none, json);
    }

    fn write_as(&self, key: &str, path: &[&str], none: &str, json: &mut Json<'_>) {
        match self.get(path) {
            Some(value) => json.raw(key, &value.to_string()),
            None if json.is_native() => {}
            None => json.raw(key, none),
        }
    }
}

/// Writes the members of a session object.
pub(super) fn session(view: &SessionView, json: &mut Json<'_>) {
    let extras = Extras::of(view);
    json.plain("id", view.id);
    json.plain("object", "realtime.session");
    json.plain("type", "realtime");
    // A session id's alphabet needs no escapes.
    json.plain("room", &view.room);
    json.plain("engine", view.engine);
    json.text("model", view.model.as_deref().unwrap_or(view.engine.name()));
    json.number("member", view.member.0.into());
    if json.is_beta() {
        beta(view, &extras, json)
    } else {
        ga(view, &extras, json)
    }
    extras.write(&["instructions"], "\"\"", json);
    extras.write(&["tools"], "[]", json);
    extras.write(&["tool_choice"], "\"auto\"", json);
    extras.write(&["tracing"], "null", json);
    extras.write(&["prompt"], "null", json);
    if !json.is_native() {
        // A session lasts as long as its connection.
        json.null("expires_at");
    }
    json.plain("format", view.settings.format.codec);
    json.number("rate", view.settings.format.rate.into());
    if let Some(state) = &view.state {
        json.raw("state", state);
    }
    if let Some(resume) = &view.resume {
        json.object("resume", |json| {
            json.text("token", &resume.token);
            json.number("epoch", resume.epoch);
            json.number("seq", resume.seq);
        });
    }
    json.object("limits", |json| limits(&view.limits, json));
}

/// Writes the members of `session.restored`.
pub(super) fn restored(view: &RestoredView, json: &mut Json<'_>) {
    json.flag("recovered", view.missed.is_ok());
    if let Err(why) = view.missed {
        json.plain("reason", why.name());
    }
    json.raw("state", view.state.as_deref().unwrap_or("null"));
    json.number("missed", view.missed.unwrap_or(0) as u64);
    json.number("epoch", view.epoch);
    json.number("last_seq", view.seq);
    if let Some(client_seq) = view.client_seq {
        json.number("client_seq", client_seq);
    }
    if view.restarted {
        json.flag("restarted", true);
    }
}

fn ga(view: &SessionView, extras: &Extras, json: &mut Json<'_>) {
    let settings = &view.settings;
    json.array("output_modalities", |json| json.plain_element(settings.modality.name()));
    extras.write(&["max_output_tokens"], "\"inf\"", json);
    extras.write(&["truncation"], "\"auto\"", json);
    extras.write(&["include"], "null", json);
    json.object("audio", |json| {
        json.object("input", |json| {
            audio_format(settings.format, json);
            extras.write(&["audio", "input", "transcription"], "null", json);
            extras.write(&["audio", "input", "noise_reduction"], "null", json);
            match settings.turn_detection {
                Some(vad) => json.object("turn_detection", |json| turn_detection(vad, extras, json)),
                None => json.null("turn_detection"),
            }
        });
        json.object("output", |json| {
            audio_format(settings.format, json);
            extras.write(&["audio", "output", "voice"], VOICE, json);
            extras.write(&["audio", "output", "speed"], "1.0", json);
        });
    });
}

fn beta(view: &SessionView, extras: &Extras, json: &mut Json<'_>) {
    let settings = &view.settings;
    modalities(settings.modality, json);
    extras.write_as("max_response_output_tokens", &["max_output_tokens"], "\"inf\"", json);
    json.raw("temperature", "0.8");
    extras.write(&["audio", "output", "voice"], VOICE, json);
    extras.write(&["audio", "output", "speed"], "1.0", json);
    json.plain("input_audio_format", settings.format.codec);
    json.plain("output_audio_format", settings.format.codec);
    extras.write_as("input_audio_transcription", &["audio", "input", "transcription"], "null", json);
    extras.write_as("input_audio_noise_reduction", &["audio", "input", "noise_reduction"], "null", json);
    match settings.turn_detection {
        Some(vad) => json.object("turn_detection", |json| turn_detection(vad, extras, json)),
        None => json.null("turn_detection"),
    }
}

/// The beta counts the words of speech as text.
pub(super) fn modalities(modality: Modality, json: &mut Json<'_>) {
    json.array("modalities", |json| {
        json.plain_element("text");
        if modality == Modality::Audio {
            json.plain_element("audio");
        }
    });
}

pub(super) fn audio_format(format: AudioFormat, json: &mut Json<'_>) {
    json.object("format", |json| {
        json.plain("type", format.codec.media_type());
        json.number("rate", format.rate.into());
    });
}

fn turn_detection(vad: ServerVad, extras: &Extras, json: &mut Json<'_>) {
    let path = |key| ["audio", "input", "turn_detection", key];
    if extras.get(&path("type")).is_some_and(|kind| kind == "semantic_vad") {
        json.plain("type", "semantic_vad");
        extras.write(&path("eagerness"), "\"auto\"", json);
    } else {
        json.plain("type", "server_vad");
        json.permille("threshold", vad.threshold_permille.into());
        json.number("prefix_padding_ms", vad.prefix_padding_ms.into());
        json.number("silence_duration_ms", vad.silence_duration_ms.into());
        extras.write(&path("idle_timeout_ms"), "null", json);
    }
    json.flag("create_response", vad.create_response);
    json.flag("interrupt_response", vad.interrupt_response);
}

fn limits(limits: &SessionLimits, json: &mut Json<'_>) {
    json.number("message_bytes_max", limits.message_bytes_max as u64);
    json.number("json_depth_max", limits.json_depth_max as u64);
    json.number("messages_per_s", limits.messages_per_s);
    json.number("messages_burst", limits.messages_burst);
    json.number("bytes_per_s", limits.bytes_per_s);
    json.number("inbound_frames_max", limits.inbound_frames_max as u64);
    json.number("outgoing_messages_max", limits.outgoing_messages_max as u64);
    json.number("slow_client_ms", limits.slow_client_ms);
    json.number("idle_ms", limits.idle_ms);
    json.number("linger_ms", limits.linger_ms);
    json.number("members_max", limits.members_max as u64);
}
