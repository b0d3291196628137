//! Parses what clients say, in place.

use std::ops::Range;

use simd_json::prelude::*;
use simd_json::{Buffers, Tape};

use super::base64;
use super::channel;
use super::client::{ClientCommand, ClientError, ClientEvent, ResponseRequest, SessionUpdate};
use super::decode_item;
use super::decode_session;
use super::extras;
use super::fields::Fields;
use super::ids::CLIENT_NAME_BYTES_MAX;
use super::scan::Outline;
use crate::core::ids::MemberNumber;

/// The parser's reused buffers: one per shard. They grow to what usual messages need; what an unusually large
/// one needed is given back with the next.
#[derive(Default)]
pub struct Scratch {
    /// The payload of the last [`ClientCommand::Append`].
    pub audio: Vec<u8>,
    raw: Vec<u8>,
    buffers: Buffers,
    tape: Option<Tape<'static>>,
}

/// Bytes of audio, of text and nodes of a tape that are kept for the next message.
const KEPT_MAX: usize = 256 * 1_024;

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch").field("audio", &self.audio.len()).finish_non_exhaustive()
    }
}

/// Copies of the values that are kept as they came; parsing in place destroys them.
struct Kept<'s> {
    bytes: &'s [u8],
    data: Option<Range<usize>>,
    t: Option<Range<usize>>,
    state: Option<Range<usize>>,
}

/// Parses one JSON event in place.
///
/// # Errors
/// When the text is not JSON, is nested too deeply, or is not an event that a client may send. The error names
/// the event if its `event_id` can be read.
pub fn parse(text: &mut [u8], depth_max: usize, scratch: &mut Scratch) -> Result<ClientEvent, ClientError> {
    scratch.audio.clear();
    scratch.audio.shrink_to(KEPT_MAX);
    let outline = Outline::scan(text, depth_max);
    let Some(recovered) = outline.event_id.as_ref().map(|_| outline.event_id(text)) else {
        return parse_outlined(text, &outline, depth_max, scratch);
    };
    parse_outlined(text, &outline, depth_max, scratch).map_err(|error| match error.event_id {
        Some(_) => error,
        None => error.about(recovered),
    })
}

fn parse_outlined(
    text: &mut [u8],
    outline: &Outline,
    depth_max: usize,
    scratch: &mut Scratch,
) -> Result<ClientEvent, ClientError> {
    if outline.too_deep {
        let message = format!("The event nests deeper than {depth_max} levels.");
        return Err(ClientError::new("nested_too_deeply", message));
    }
    if text.trim_ascii().is_empty() {
        return Err(ClientError::new("invalid_json", "The event is empty."));
    }
    if outline.not_json {
        let message = "The event is not JSON: it has a malformed number, or a NUL outside of strings.";
        return Err(ClientError::new("invalid_json", message));
    }
    let Scratch { audio, raw, buffers, tape: kept_tape } = scratch;
    raw.clear();
    raw.shrink_to(KEPT_MAX);
    let mut keep = |range: &Option<Range<usize>>| {
        let from = raw.len();
        raw.extend_from_slice(&text[range.clone()?]);
        Some(from..raw.len())
    };
    let (data, t, state) = (keep(&outline.data), keep(&outline.t), keep(&outline.state));
    let kept = Kept { bytes: raw, data, t, state };
    let large = text.len() > KEPT_MAX;
    let mut tape = kept_tape.take().unwrap_or_else(|| Tape(Vec::new())).reset();
    let event = match simd_json::fill_tape(text, buffers, &mut tape) {
        Ok(()) => decode(&tape, &kept, audio),
        Err(error) => Err(ClientError::new("invalid_json", format!("The event is not JSON: {error}."))),
    };
    if large {
        *buffers = Buffers::default();
    }
    if tape.0.capacity() <= KEPT_MAX / 16 {
        *kept_tape = Some(tape.reset());
    }
    event
}

fn decode(tape: &Tape<'_>, kept: &Kept<'_>, audio: &mut Vec<u8>) -> Result<ClientEvent, ClientError> {
    let Some(object) = tape.as_value().as_object() else {
        return Err(ClientError::new("invalid_type", "An event is a JSON object."));
    };
    let event = Fields::new(object, "");
    let event_id = event.text("event_id")?;
    if event_id.is_some_and(|id| id.len() > CLIENT_NAME_BYTES_MAX) {
        return Err(event.invalid("event_id", "at most 512 bytes"));
    }
    let event_id: Option<Box<str>> = event_id.map(Into::into);
    let client_seq = match event.integer("client_seq", 0, u64::MAX) {
        Ok(client_seq) => client_seq,
        Err(error) => return Err(error.about(event_id)),
    };
    match decode_command(&event, kept, audio) {
        Ok(command) => Ok(ClientEvent { event_id, client_seq, command }),
        Err(error) => Err(ClientError { client_seq, ..error.about(event_id) }),
    }
}

fn decode_command(
    event: &Fields<'_, '_, '_>,
    kept: &Kept<'_>,
    audio: &mut Vec<u8>,
) -> Result<ClientCommand, ClientError> {
    let kind = event.text("type")?.ok_or_else(|| event.missing("type"))?;
    match kind {
        "input_audio_buffer.append" => decode_append(event, audio),
        "input_audio_buffer.commit" => Ok(ClientCommand::Commit),
        "input_audio_buffer.clear" => Ok(ClientCommand::Clear),
        "conversation.item.create" => {
            let value = event.value("item").ok_or_else(|| event.missing("item"))?;
            let object = value.as_object().ok_or_else(|| event.mistyped("item", "an object"))?;
            let previous = name(event, "previous_item_id")?;
            let item = decode_item::item(object, value.encode().into(), previous)?;
            Ok(ClientCommand::ItemCreate(Box::new(item)))
        }
        "conversation.item.delete" => Ok(ClientCommand::ItemDelete { item: item_id(event)? }),
        "conversation.item.retrieve" => Ok(ClientCommand::ItemRetrieve { item: item_id(event)? }),
        "conversation.item.truncate" => Ok(ClientCommand::ItemTruncate {
            item: item_id(event)?,
            content_index: event.integer("content_index", 0, u32::MAX.into())?.unwrap_or(0) as u32,
            audio_end_ms: event
                .integer("audio_end_ms", 0, u64::MAX)?
                .ok_or_else(|| event.missing("audio_end_ms"))?,
        }),
        "output_audio_buffer.clear" => Ok(ClientCommand::OutputClear),
        "response.create" => decode_response_create(event),
        "response.cancel" => {
            let response_id = name(event, "response_id")?.map(Into::into);
            Ok(ClientCommand::ResponseCancel { response_id })
        }
        "session.update" => decode_session_update(event, kept),
        "room.send" => {
            let to = event.integer("to", 1, u16::MAX.into())?.map(|number| MemberNumber(number as u16));
            let data = kept.text(event, "data", kept.data.as_ref())?;
            Ok(ClientCommand::RoomSend { data: data.ok_or_else(|| event.missing("data"))?, to })
        }
        "ping" => {
            let scalar = |value: &simd_json::tape::Value<'_, '_>| value.is_str() || value.is_number();
            if event.value("t").is_some_and(|value| !scalar(&value)) {
                return Err(event.mistyped("t", "a number or a string"));
            }
            Ok(ClientCommand::Ping { t: kept.text(event, "t", kept.t.as_ref())? })
        }
        unknown => {
            let data = || kept.text(event, "data", kept.data.as_ref());
            if let Some(decoded) = channel::decode(unknown, event, data) {
                return decoded;
            }
            let shown: String = unknown.chars().take(64).collect();
            let message = format!("Unknown event type '{shown}'.");
            Err(ClientError { param: Some("type".into()), ..ClientError::new("unknown_event", message) })
        }
    }
}

fn decode_append(event: &Fields<'_, '_, '_>, audio: &mut Vec<u8>) -> Result<ClientCommand, ClientError> {
    if let Some(encoded) = event.text("audio")? {
        return match base64::decode(encoded.as_bytes(), audio) {
            Ok(()) => Ok(ClientCommand::Append),
            Err(base64::BadBase64) => Err(event.invalid("audio", "base64")),
        };
    }
    let samples = event.array("samples")?.ok_or_else(|| event.missing("audio"))?;
    audio.reserve(samples.len() * 2);
    for (index, sample) in samples.iter().enumerate() {
        match sample.as_i64().and_then(|sample| i16::try_from(sample).ok()) {
            Some(sample) => audio.extend_from_slice(&sample.to_le_bytes()),
            None => {
                return Err(event.invalid(&format!("samples[{index}]"), "an integer from -32768 to 32767"));
            }
        }
    }
    Ok(ClientCommand::Append)
}

/// A name that a client or a server gave: it is kept and sent back, so it is bounded.
fn name<'i>(event: &Fields<'_, 'i, '_>, field: &str) -> Result<Option<&'i str>, ClientError> {
    match event.text(field)? {
        Some(name) if name.len() > CLIENT_NAME_BYTES_MAX => Err(event.invalid(field, "at most 512 bytes")),
        name => Ok(name),
    }
}

fn item_id(event: &Fields<'_, '_, '_>) -> Result<Box<str>, ClientError> {
    name(event, "item_id")?.map(Into::into).ok_or_else(|| event.missing("item_id"))
}

fn decode_response_create(event: &Fields<'_, '_, '_>) -> Result<ClientCommand, ClientError> {
    let Some(response) = event.object("response", "response")? else {
        return Ok(ClientCommand::ResponseCreate(ResponseRequest::default()));
    };
    let modality = decode_session::modality(&response, "output_modalities")?
        .or(decode_session::modality(&response, "modalities")?);
    let metadata = match response.value("metadata") {
        None => None,
        Some(value) if value.is_object() => Some(value.encode().into()),
        Some(_) => return Err(response.mistyped("metadata", "an object")),
    };
    let raw = event.value("response").map(|value| value.encode().into());
    Ok(ClientCommand::ResponseCreate(ResponseRequest { modality, metadata, raw }))
}

fn decode_session_update(event: &Fields<'_, '_, '_>, kept: &Kept<'_>) -> Result<ClientCommand, ClientError> {
    let (session, extras) = match event.value("session") {
        None => (None, None),
        Some(value) => {
            let object = value.as_object().ok_or_else(|| event.mistyped("session", "an object"))?;
            (Some(decode_session::session(object)?), extras::patch(&value.encode())?)
        }
    };
    let token = event.text("token")?.map(Into::into);
    if event.value("state").is_some_and(|value| !value.is_object()) {
        return Err(event.mistyped("state", "an object"));
    }
    let state = event.value("state").and(kept.text(event, "state", kept.state.as_ref())?);
    let after = event.integer("after", 0, u64::MAX)?;
    if session.is_none() && token.is_none() && state.is_none() && after.is_none() {
        return Err(event.missing("session"));
    }
    Ok(ClientCommand::SessionUpdate(Box::new(SessionUpdate { session, extras, token, state, after })))
}

impl Kept<'_> {
    /// The value as it came. A key written with escapes is not found before parsing: its value is written anew.
    fn text(
        &self,
        event: &Fields<'_, '_, '_>,
        name: &str,
        range: Option<&Range<usize>>,
    ) -> Result<Option<Box<str>>, ClientError> {
        let Some(value) = event.raw(name) else {
            return Ok(None);
        };
        let text = range.map(|range| std::str::from_utf8(&self.bytes[range.clone()]));
        match text {
            Some(Ok(text)) => Ok(Some(text.into())),
            Some(Err(_)) => Err(event.invalid(name, "UTF-8")),
            None => Ok(Some(value.encode().into())),
        }
    }
}
