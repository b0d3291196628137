//! Who listens, as far as the words depend on it.

use super::server::ServerEvent;

/// In which words a client is told of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Ours: the vendor's of today, and audio in binary messages.
    Native,
    /// The vendor's of today (GA).
    Ga,
    /// Those of its beta.
    Beta,
}

impl Dialect {
    /// Whether a client of this dialect is told of an event at all.
    pub fn has(self, event: &ServerEvent) -> bool {
        match event {
            ServerEvent::ItemDone { .. } => self != Self::Beta,
            ServerEvent::Metrics(_)
            | ServerEvent::ChannelSubscribed(_)
            | ServerEvent::ChannelUnsubscribed { .. }
            | ServerEvent::ChannelMessage(_) => self == Self::Native,
            // The vendor's event of this name knows limits by two names, and typed clients take no other.
            ServerEvent::RateLimits { .. } => self == Self::Native,
            ServerEvent::Passed(passed) => match &*passed.name {
                "conversation.item.done" => self != Self::Beta,
                "conversation.created" => self == Self::Beta,
                // To a client of ours this name tells of its own messages.
                "rate_limits.updated" => self != Self::Native,
                _ => true,
            },
            _ => true,
        }
    }

    /// Whether it has the words of the beta.
    pub(super) const fn is_beta(self) -> bool {
        matches!(self, Self::Beta)
    }
}

/// The beta's name of an event.
pub(super) fn beta_name(name: &str) -> &str {
    match name {
        "conversation.item.added" => "conversation.item.created",
        "response.output_audio.delta" => "response.audio.delta",
        "response.output_audio.done" => "response.audio.done",
        "response.output_audio_transcript.delta" => "response.audio_transcript.delta",
        "response.output_audio_transcript.done" => "response.audio_transcript.done",
        "response.output_text.delta" => "response.text.delta",
        "response.output_text.done" => "response.text.done",
        name => name,
    }
}

/// The members of an event of a model server in the beta's words. What stands in a string has its quotes escaped, so that
/// only keys and whole values are met.
pub(super) fn beta_members(members: &str) -> String {
    const WORDS: [(&str, &str); 7] = [
        ("\"type\":\"output_audio\"", "\"type\":\"audio\""),
        ("\"type\": \"output_audio\"", "\"type\":\"audio\""),
        ("\"type\":\"output_text\"", "\"type\":\"text\""),
        ("\"type\": \"output_text\"", "\"type\":\"text\""),
        ("\"output_modalities\":[\"audio\"]", "\"modalities\":[\"text\",\"audio\"]"),
        ("\"output_modalities\": [\"audio\"]", "\"modalities\":[\"text\",\"audio\"]"),
        ("\"output_modalities\":", "\"modalities\":"),
    ];
    WORDS.iter().fold(members.to_owned(), |text, (ga, beta)| text.replace(ga, beta))
}
