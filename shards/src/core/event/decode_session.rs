//! Reads the `session` of `session.update`: the GA shape, the beta shape and the flat keys, as far as they are
//! honoured. What a session carries besides (instructions, voices, tools) `extras` reads.

use simd_json::prelude::*;
use simd_json::tape::{Object, Value};

use super::client::ClientError;
use super::fields::Fields;
use super::settings::{
    Codec, Modality, PREFIX_PADDING_MS_MAX, SILENCE_DURATION_MS_MAX, SessionPatch, VadPatch,
};

/// Reads a session object.
pub(super) fn session(object: Object<'_, '_>) -> Result<SessionPatch, ClientError> {
    let session = Fields::new(object, "session");
    if session.text("type")?.is_some_and(|kind| kind != "realtime") {
        return Err(session.invalid("type", "realtime"));
    }
    let mut patch = SessionPatch {
        engine: parsed(&session, "engine", "echo, relay, parrot, realtime or worker")?,
        codec: parsed(&session, "format", CODECS)?,
        rate: rate(&session)?,
        modality: modality(&session, "output_modalities")?.or(modality(&session, "modalities")?),
        ..SessionPatch::default()
    };
    beta(&session, &mut patch)?;
    if let Some(audio) = session.object("audio", "session.audio")? {
        ga_audio(&audio, &mut patch)?;
    }
    Ok(patch)
}

const CODECS: &str = "pcm16, g711_ulaw, g711_alaw or opus";

fn beta(session: &Fields<'_, '_, '_>, patch: &mut SessionPatch) -> Result<(), ClientError> {
    if let Some(codec) = parsed(session, "input_audio_format", CODECS)? {
        patch.codec = Some(codec);
    }
    if let Some(codec) = parsed(session, "output_audio_format", CODECS)? {
        patch.output_codec = Some(codec);
    }
    if let Some(turn_detection) = turn_detection(session, "session.turn_detection")? {
        patch.turn_detection = Some(turn_detection);
    }
    Ok(())
}

fn ga_audio(audio: &Fields<'_, '_, '_>, patch: &mut SessionPatch) -> Result<(), ClientError> {
    if let Some(input) = audio.object("input", "session.audio.input")? {
        let (codec, rate) = format(&input, "session.audio.input.format")?;
        (patch.codec, patch.rate) = (codec.or(patch.codec), rate.or(patch.rate));
        if let Some(turn_detection) = turn_detection(&input, "session.audio.input.turn_detection")? {
            patch.turn_detection = Some(turn_detection);
        }
    }
    if let Some(output) = audio.object("output", "session.audio.output")? {
        let (codec, rate) = format(&output, "session.audio.output.format")?;
        (patch.output_codec, patch.output_rate) = (codec.or(patch.output_codec), rate);
    }
    Ok(())
}

fn format(direction: &Fields<'_, '_, '_>, path: &str) -> Result<(Option<Codec>, Option<u16>), ClientError> {
    if direction.value("format").is_some_and(|value| value.is_str()) {
        return Ok((parsed(direction, "format", CODECS)?, None));
    }
    let Some(format) = direction.object("format", path)? else {
        return Ok((None, None));
    };
    let codec = match format.text("type")? {
        None => None,
        Some(name) => {
            let codec = Codec::from_media_type(name);
            let expected = "audio/pcm, audio/pcmu, audio/pcma or audio/opus";
            Some(codec.ok_or_else(|| format.invalid("type", expected))?)
        }
    };
    Ok((codec, rate(&format)?))
}

fn rate(fields: &Fields<'_, '_, '_>) -> Result<Option<u16>, ClientError> {
    Ok(fields.integer("rate", 8_000, 48_000)?.map(|rate| rate as u16))
}

/// `None` when nothing is said of it, `Some(None)` when it is switched off.
fn turn_detection(fields: &Fields<'_, '_, '_>, path: &str) -> Result<Option<Option<VadPatch>>, ClientError> {
    let Some(value) = fields.raw("turn_detection") else {
        return Ok(None);
    };
    if value.is_null() {
        return Ok(Some(None));
    }
    let Some(vad) = fields.object("turn_detection", path)? else {
        return Ok(None);
    };
    match vad.text("type")? {
        // What a sentence means, nobody here knows: a pause ends a turn under either name.
        None | Some("server_vad" | "semantic_vad") => {}
        Some("none") => return Ok(Some(None)),
        Some(_) => {
            let expected = "server_vad, semantic_vad, or null for no turn detection";
            return Err(vad.invalid("type", expected));
        }
    }
    let ms = |name: &str, max: u16| -> Result<Option<u16>, ClientError> {
        Ok(vad.integer(name, 0, max.into())?.map(|ms| ms as u16))
    };
    Ok(Some(Some(VadPatch {
        threshold_permille: vad.permille("threshold")?,
        prefix_padding_ms: ms("prefix_padding_ms", PREFIX_PADDING_MS_MAX)?,
        silence_duration_ms: ms("silence_duration_ms", SILENCE_DURATION_MS_MAX)?,
        create_response: vad.flag("create_response")?,
        interrupt_response: vad.flag("interrupt_response")?,
    })))
}

/// Audio always comes with its transcript, so naming both means audio.
pub(super) fn modality(fields: &Fields<'_, '_, '_>, name: &str) -> Result<Option<Modality>, ClientError> {
    let Some(list) = fields.array(name)? else {
        return Ok(None);
    };
    let known = |value: Value<'_, '_>| match value.as_str() {
        Some("audio") => Some(Modality::Audio),
        Some("text") => Some(Modality::Text),
        _ => None,
    };
    let named: Option<Vec<Modality>> = list.iter().take(3).map(known).collect();
    match named {
        Some(named) if named.contains(&Modality::Audio) => Ok(Some(Modality::Audio)),
        Some(named) if !named.is_empty() => Ok(Some(Modality::Text)),
        _ => Err(fields.invalid(name, "[\"audio\"] or [\"text\"]")),
    }
}

fn parsed<T: std::str::FromStr>(
    fields: &Fields<'_, '_, '_>,
    name: &str,
    expected: &str,
) -> Result<Option<T>, ClientError> {
    match fields.text(name)? {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| fields.invalid(name, expected)),
    }
}
