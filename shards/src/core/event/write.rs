//! Server events as JSON, in the shapes of the OpenAI Realtime API (GA) wherever it has one.

use super::Class;
use super::channel;
use super::dialect::{Dialect, beta_members, beta_name};
use super::ids::{EventId, ItemName};
use super::item::{Content, Item, ItemStatus, Role};
use super::json::Json;
use super::server::{ErrorEvent, Part, ServerEvent};
use super::write_response::response_fields;
use super::write_session::{restored, session};

impl ServerEvent {
    /// Its `type`.
    pub fn name(&self) -> &str {
        match self {
            Self::SessionCreated(_) => "session.created",
            Self::SessionUpdated(_) => "session.updated",
            Self::SessionRestored(_) => "session.restored",
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
            Self::ChannelSubscribed(_) => "channel.subscribed",
            Self::ChannelUnsubscribed { .. } => "channel.unsubscribed",
            Self::ChannelMessage(_) => "channel.message",
            Self::Passed(passed) => &passed.name,
        }
    }

    /// Appends the event as one line of JSON, without the line's end.
    pub fn write(&self, event_id: EventId, seq: Option<u64>, dialect: Dialect, out: &mut Vec<u8>) {
        Json::write(out, dialect, |json| {
            json.text("type", if json.is_beta() { beta_name(self.name()) } else { self.name() });
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
            Self::SessionRestored(view) => restored(view, json),
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
            Self::Passed(passed) if json.is_beta() => json.members(&beta_members(&passed.members)),
            Self::Metrics(metrics) => super::write_metrics::fields(metrics, json),
            Self::ChannelSubscribed(subscribed) => channel::subscribed_fields(subscribed, json),
            Self::ChannelUnsubscribed { channel, reason } => {
                json.text("channel", channel);
                if let Some(reason) = reason {
                    json.plain("reason", reason);
                }
            }
            Self::ChannelMessage(delivery) => channel::message_fields(delivery, json),
            Self::Passed(passed) => json.members(&passed.members),
        }
    }
}

impl Item {
    /// The item as one JSON object.
    pub fn json(&self, dialect: Dialect) -> String {
        let mut out = Vec::new();
        Json::write(&mut out, dialect, |json| item_fields(self, json));
        String::from_utf8(out).unwrap_or_default()
    }
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

pub(super) fn item_fields(item: &Item, json: &mut Json<'_>) {
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
        Content::InputImage => json.plain("type", "input_image"),
        Content::InputAudio(transcript) => {
            json.plain("type", "input_audio");
            json.text_or_null("transcript", transcript.as_deref());
        }
        Content::OutputText(text) => {
            json.plain("type", json.word("output_text", "text"));
            json.text("text", text);
        }
        Content::OutputAudio(transcript) => {
            json.plain("type", json.word("output_audio", "audio"));
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
