//! Responses, what they cost, and their audio as events.

use super::dialect::Dialect;
use super::ids::EventId;
use super::item::{CancelReason, Response, ResponseStatus, Usage};
use super::json::Json;
use super::server::PartRef;
use super::write::item_fields;
use super::write_session::{audio_format, modalities};

/// Writes the members of a response object.
pub(super) fn response_fields(response: &Response, json: &mut Json<'_>) {
    json.plain("id", response.id);
    json.plain("object", "realtime.response");
    status(response.status, json);
    json.array("output", |json| {
        for item in &response.output {
            json.element(|json| item_fields(item, json));
        }
    });
    match response.conversation.0 {
        0 => json.null("conversation_id"),
        _ => json.plain("conversation_id", response.conversation),
    }
    json.plain("max_output_tokens", "inf");
    if json.is_beta() {
        modalities(response.modality, json);
        json.plain("output_audio_format", response.format.codec);
        json.plain("voice", "alloy");
        json.raw("temperature", "0.8");
    } else {
        json.array("output_modalities", |json| json.plain_element(response.modality.name()));
        json.object("audio", |json| {
            json.object("output", |json| {
                audio_format(response.format, json);
                json.plain("voice", "alloy");
            });
        });
    }
    match response.usage {
        Some(usage) => json.object("usage", |json| usage_fields(usage, json)),
        None => json.null("usage"),
    }
    match &response.metadata {
        Some(metadata) => json.raw("metadata", metadata),
        None => json.null("metadata"),
    }
}

fn status(status: ResponseStatus, json: &mut Json<'_>) {
    let name = match status {
        ResponseStatus::InProgress => "in_progress",
        ResponseStatus::Completed => "completed",
        ResponseStatus::Cancelled(_) => "cancelled",
        ResponseStatus::Failed(_) => "failed",
    };
    json.plain("status", name);
    match status {
        ResponseStatus::InProgress | ResponseStatus::Completed => json.null("status_details"),
        ResponseStatus::Cancelled(reason) => json.object("status_details", |json| {
            json.plain("type", name);
            json.plain(
                "reason",
                match reason {
                    CancelReason::TurnDetected => "turn_detected",
                    CancelReason::ClientCancelled => "client_cancelled",
                },
            );
        }),
        ResponseStatus::Failed(code) => json.object("status_details", |json| {
            json.plain("type", name);
            json.object("error", |json| {
                json.plain("type", "server_error");
                json.plain("code", code);
            });
        }),
    }
}

fn usage_fields(usage: Usage, json: &mut Json<'_>) {
    let input = usage.input_text + usage.input_audio;
    let output = usage.output_text + usage.output_audio;
    json.number("total_tokens", input + output);
    json.number("input_tokens", input);
    json.number("output_tokens", output);
    json.object("input_token_details", |json| {
        json.number("text_tokens", usage.input_text);
        json.number("audio_tokens", usage.input_audio);
        json.number("image_tokens", 0);
        json.number("cached_tokens", 0);
        json.object("cached_tokens_details", |json| {
            json.number("text_tokens", 0);
            json.number("audio_tokens", 0);
            json.number("image_tokens", 0);
        });
    });
    json.object("output_token_details", |json| {
        json.number("text_tokens", usage.output_text);
        json.number("audio_tokens", usage.output_audio);
    });
}

/// Appends the event that carries a frame of audio up to the place where its base64 belongs; behind it come a quotation mark
/// and a brace.
pub(in crate::core) fn audio_delta_head(
    part: &PartRef,
    event_id: EventId,
    dialect: Dialect,
    out: &mut Vec<u8>,
) {
    Json::write(out, dialect, |json| {
        json.plain("type", json.word("response.output_audio.delta", "response.audio.delta"));
        json.plain("event_id", event_id);
        match part {
            PartRef::Numbered(part) => {
                json.plain("response_id", part.response);
                json.plain("item_id", part.item);
                json.number("output_index", 0);
                json.number("content_index", 0);
            }
            PartRef::Named(part) => {
                json.text("response_id", &part.response);
                json.text("item_id", &part.item);
                json.number("output_index", part.output_index.into());
                json.number("content_index", part.content_index.into());
            }
        }
        json.plain("delta", "");
    });
    out.truncate(out.len() - AUDIO_DELTA_END.len());
}

/// What follows the base64 of an event that carries audio.
pub(in crate::core) const AUDIO_DELTA_END: &[u8] = b"\"}";
