//! Server events as JSON, in the shapes of the OpenAI Realtime API (GA) wherever it has one.

use super::Class;
use super::ids::{EventId, ItemName};
use super::item::{CancelReason, Content, Item, ItemStatus, Response, ResponseStatus, Role, Usage};
use super::json::Json;
use super::server::{ErrorEvent, Part, ServerEvent};
use super::session::SessionView;
use super::settings::{AudioFormat, ServerVad};

impl ServerEvent {
    /// Its `type`.
    pub fn name(&self) -> &str {
        match self {
            Self::SessionCreated(_) => "session.created",
            Self::SessionUpdated(_) => "session.updated",
            Self::SessionDraining { .. } => "session.draining",
            Self::Error(_) => "error",
            Self::Pong { .. } => "pong",
            Self::MemberJoined { .. } => "room.member_joined",
            Self::MemberLeft { .. } => "room.member_left",
            Self::RoomMessage { .. } => "room.message",
            Self::OutboxDropped { .. } => "outbox.dropped",
            Self::RateLimits { .. } => "rate_limits.updated",
            Self::SpeechStarted { .. } => "input_audio_buffer.speech_started",
            Self::SpeechStopped { .. } => "input_audio_buffer.speech_stopped",
            Self::Committed { .. } => "input_audio_buffer.committed",
            Self::Cleared => "input_audio_buffer.cleared",
            Self::ItemAdded { .. } => "conversation.item.added",
            Self::ItemDone { .. } => "conversation.item.done",
            Self::ResponseCreated(_) => "response.created",
            Self::OutputItemAdded { .. } => "response.output_item.added",
            Self::OutputItemDone { .. } => "response.output_item.done",
            Self::ContentPartAdded { .. } => "response.content_part.added",
            Self::ContentPartDone { .. } => "response.content_part.done",
            Self::OutputAudioDone { .. } => "response.output_audio.done",
            Self::TranscriptDelta { .. } => "response.output_audio_transcript.delta",
            Self::TranscriptDone { .. } => "response.output_audio_transcript.done",
            Self::TextDelta { .. } => "response.output_text.delta",
            Self::TextDone { .. } => "response.output_text.done",
            Self::ResponseDone(_) => "response.done",
            Self::OutputCleared { .. } => "output_audio_buffer.cleared",
            Self::Metrics(_) => "metrics",
            Self::Passed(passed) => &passed.name,
        }
    }

    /// Appends the event as one line of JSON, without the line's end.
    pub fn write(&self, event_id: EventId, seq: Option<u64>, out: &mut Vec<u8>) {
        Json::write(out, |json| {
            json.text("type", self.name());
            json.plain("event_id", event_id);
            if let Some(seq) = seq {
                json.number("seq", seq);
            }
            self.write_fields(json);
        });
    }

    fn write_fields(&self, json: &mut Json<'_>) {
        match self {
            Self::SessionCreated(view) | Self::SessionUpdated(view) => {
                json.object("session", |json| session(view, json));
            }
            Self::SessionDraining { reconnect_in_ms } => json.number("reconnect_in_ms", *reconnect_in_ms),
            Self::Error(error) => json.object("error", |json| error_fields(error, json)),
            Self::Pong { t: Some(t) } => json.raw("t", t),
            Self::Pong { t: None } | Self::Cleared => {}
            Self::MemberJoined { member, members } | Self::MemberLeft { member, members } => {
                json.number("member", member.0.into());
                json.number("members", *members as u64);
            }
            Self::RoomMessage { from, data } => {
                json.number("from", from.0.into());
                json.raw("data", data);
            }
            Self::OutboxDropped { class, count, seqs } => dropped(*class, *count, *seqs, json),
            Self::RateLimits { name, limit, remaining, reset, refused } => {
                json.array("rate_limits", |json| {
                    json.element(|json| {
                        json.plain("name", name);
                        json.number("limit", *limit);
                        json.number("remaining", *remaining);
                        json.permille("reset_seconds", reset.as_ms());
                    });
                });
                json.number("refused", (*refused).into());
            }
            Self::SpeechStarted { item, audio_start_ms } => {
                json.number("audio_start_ms", *audio_start_ms);
                json.plain("item_id", item);
            }
            Self::SpeechStopped { item, audio_end_ms } => {
                json.number("audio_end_ms", *audio_end_ms);
                json.plain("item_id", item);
            }
            Self::Committed { item, previous } => {
                json.plain("item_id", item);
                item_name("previous_item_id", previous.as_ref(), json);
            }
            Self::ItemAdded { item, previous } | Self::ItemDone { item, previous } => {
                item_name("previous_item_id", previous.as_ref(), json);
                json.object("item", |json| item_fields(item, json));
            }
            Self::ResponseCreated(response) | Self::ResponseDone(response) => {
                json.object("response", |json| response_fields(response, json));
            }
            Self::OutputItemAdded { response, item } | Self::OutputItemDone { response, item } => {
                json.plain("response_id", response);
                json.number("output_index", 0);
                json.object("item", |json| item_fields(item, json));
            }
            Self::ContentPartAdded { of, audio } => content_part(*of, *audio, "", json),
            Self::ContentPartDone { of, audio, text } => content_part(*of, *audio, text, json),
            Self::OutputAudioDone { of } => part(*of, json),
            Self::TranscriptDelta { of, delta } | Self::TextDelta { of, delta } => {
                part(*of, json);
                json.text("delta", delta);
            }
            Self::TranscriptDone { of, text } => {
                part(*of, json);
                json.text("transcript", text);
            }
            Self::TextDone { of, text } => {
                part(*of, json);
                json.text("text", text);
            }
            Self::OutputCleared { response } => json.plain("response_id", response),
            Self::Metrics(metrics) => super::write_metrics::fields(metrics, json),
            Self::Passed(passed) => json.members(&passed.members),
        }
    }
}

fn session(view: &SessionView, json: &mut Json<'_>) {
    let settings = &view.settings;
    json.plain("id", view.id);
    json.plain("object", "realtime.session");
    json.plain("type", "realtime");
    // A session id's alphabet needs no escapes.
    json.plain("room", &view.room);
    json.plain("engine", view.engine);
    json.plain("model", view.engine);
    json.number("member", view.member.0.into());
    json.array("output_modalities", |json| json.plain_element(settings.modality.name()));
    json.object("audio", |json| {
        json.object("input", |json| {
            audio_format(settings.format, json);
            match settings.turn_detection {
                Some(vad) => json.object("turn_detection", |json| turn_detection(vad, json)),
                None => json.null("turn_detection"),
            }
        });
        json.object("output", |json| audio_format(settings.format, json));
    });
    json.plain("format", settings.format.codec);
    json.number("rate", settings.format.rate.into());
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
    json.object("limits", |json| {
        let limits = &view.limits;
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
    });
}

fn audio_format(format: AudioFormat, json: &mut Json<'_>) {
    json.object("format", |json| {
        json.plain("type", format.codec.media_type());
        json.number("rate", format.rate.into());
    });
}

fn turn_detection(vad: ServerVad, json: &mut Json<'_>) {
    json.plain("type", "server_vad");
    json.permille("threshold", vad.threshold_permille.into());
    json.number("prefix_padding_ms", vad.prefix_padding_ms.into());
    json.number("silence_duration_ms", vad.silence_duration_ms.into());
    json.flag("create_response", vad.create_response);
    json.flag("interrupt_response", vad.interrupt_response);
}

fn error_fields(error: &ErrorEvent, json: &mut Json<'_>) {
    json.plain("type", error.kind);
    json.plain("code", error.code);
    json.text("message", &error.message);
    json.text_or_null("param", error.param.as_deref());
    json.text_or_null("event_id", error.event_id.as_deref());
    json.flag("retryable", error.retryable);
}

fn dropped(class: Class, count: u64, seqs: Option<(u64, u64)>, json: &mut Json<'_>) {
    json.plain("class", class.name());
    json.number("count", count);
    match seqs {
        Some((first, last)) => {
            json.number("first_seq", first);
            json.number("last_seq", last);
        }
        None => {
            json.null("first_seq");
            json.null("last_seq");
        }
    }
}

fn item_name(key: &str, name: Option<&ItemName>, json: &mut Json<'_>) {
    match name {
        Some(ItemName::Numbered(id)) => json.plain(key, id),
        Some(ItemName::Client(name)) => json.text(key, name),
        None => json.null(key),
    }
}

fn item_fields(item: &Item, json: &mut Json<'_>) {
    item_name("id", Some(&item.id), json);
    json.plain("object", "realtime.item");
    json.plain("type", "message");
    json.plain(
        "status",
        match item.status {
            ItemStatus::InProgress => "in_progress",
            ItemStatus::Completed => "completed",
            ItemStatus::Incomplete => "incomplete",
        },
    );
    json.plain(
        "role",
        match item.role {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
        },
    );
    json.array("content", |json| {
        for content in &item.content {
            json.element(|json| content_fields(content, json));
        }
    });
}

fn content_fields(content: &Content, json: &mut Json<'_>) {
    match content {
        Content::InputText(text) => {
            json.plain("type", "input_text");
            json.text("text", text);
        }
        Content::InputAudio(transcript) => {
            json.plain("type", "input_audio");
            json.text_or_null("transcript", transcript.as_deref());
        }
        Content::OutputText(text) => {
            json.plain("type", "output_text");
            json.text("text", text);
        }
        Content::OutputAudio(transcript) => {
            json.plain("type", "output_audio");
            json.text("transcript", transcript);
        }
    }
}

fn part(of: Part, json: &mut Json<'_>) {
    json.plain("response_id", of.response);
    json.plain("item_id", of.item);
    json.number("output_index", 0);
    json.number("content_index", 0);
}

fn content_part(of: Part, audio: bool, text: &str, json: &mut Json<'_>) {
    part(of, json);
    json.object("part", |json| {
        json.plain("type", if audio { "audio" } else { "text" });
        json.text(if audio { "transcript" } else { "text" }, text);
    });
}

fn response_fields(response: &Response, json: &mut Json<'_>) {
    json.plain("id", response.id);
    json.plain("object", "realtime.response");
    let (status, reason) = match response.status {
        ResponseStatus::InProgress => ("in_progress", None),
        ResponseStatus::Completed => ("completed", None),
        ResponseStatus::Cancelled(CancelReason::TurnDetected) => ("cancelled", Some("turn_detected")),
        ResponseStatus::Cancelled(CancelReason::ClientCancelled) => ("cancelled", Some("client_cancelled")),
    };
    json.plain("status", status);
    match reason {
        Some(reason) => json.object("status_details", |json| {
            json.plain("type", status);
            json.plain("reason", reason);
        }),
        None => json.null("status_details"),
    }
    json.array("output", |json| {
        for item in &response.output {
            json.element(|json| item_fields(item, json));
        }
    });
    json.plain("conversation_id", response.conversation);
    json.array("output_modalities", |json| json.plain_element(response.modality.name()));
    json.plain("max_output_tokens", "inf");
    json.object("audio", |json| {
        json.object("output", |json| audio_format(response.format, json));
    });
    match response.usage {
        Some(usage) => json.object("usage", |json| usage_fields(usage, json)),
        None => json.null("usage"),
    }
    match &response.metadata {
        Some(metadata) => json.raw("metadata", metadata),
        None => json.null("metadata"),
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
