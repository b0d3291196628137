//! What a worker gets: a request as one JSON object, the same in both modes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use shards::core::SessionId;
use shards::core::event::{Codec, ItemName, Modality};
use shards::core::work::{Matter, WorkRequest};

/// What stands before a session's name in the channel of its answers.
pub(super) const ANSWERS: &str = "responses:";

/// A request but for its attempt, which comes with each telling: JSON without the opening brace.
#[derive(Clone, Debug)]
pub(super) struct Payload(String);

#[derive(Serialize)]
struct Body<'a> {
    request: String,
    session: &'a str,
    reply_to: String,
    item: Option<String>,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio: Option<String>,
    format: &'static str,
    rate: u16,
    modality: &'static str,
    /// Milliseconds since 1970 by this host's clock.
    deadline_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<&'a RawValue>,
}

impl Payload {
    /// Of a request whose room waits until then, in milliseconds since 1970.
    pub(super) fn new(session: &SessionId, request: &WorkRequest, deadline_ms: u64) -> Self {
        let (kind, text, audio) = match &request.matter {
            Matter::Audio(bytes) => ("audio", None, Some(STANDARD.encode(bytes))),
            Matter::Text(text) => ("text", Some(&**text), None),
            Matter::Nothing => ("none", None, None),
        };
        let body = Body {
            request: request.id.to_string(),
            session: session.as_str(),
            reply_to: channel(session),
            item: request.item.as_ref().map(|item| match item {
                ItemName::Numbered(number) => number.to_string(),
                ItemName::Client(name) => name.to_string(),
            }),
            kind,
            text,
            audio,
            format: codec(request.format.codec),
            rate: request.format.rate,
            modality: if request.modality == Modality::Audio { "audio" } else { "text" },
            deadline_ms,
            metadata: raw(&request.metadata),
            settings: raw(&request.extras),
        };
        let mut json = serde_json::to_string(&body).expect("text and numbers have JSON");
        json.remove(0);
        Self(json)
    }

    /// The object, for this attempt.
    pub(super) fn attempt(&self, attempt: u32) -> String {
        format!("{{\"attempt\":{attempt},{}", self.0)
    }

    /// About how much memory it takes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn raw(json: &Option<Box<str>>) -> Option<&RawValue> {
    json.as_deref().and_then(|json| serde_json::from_str(json).ok())
}

/// Where the answers for a session are published.
pub(super) fn channel(session: &SessionId) -> String {
    format!("{ANSWERS}{session}")
}

fn codec(codec: Codec) -> &'static str {
    match codec {
        Codec::Pcm16 => "pcm16",
        Codec::G711Ulaw => "g711_ulaw",
        Codec::G711Alaw => "g711_alaw",
        Codec::Opus => "opus",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shards::core::Micros;
    use shards::core::event::{AudioFormat, ItemId};
    use shards::core::work::RequestId;

    use super::*;

    #[test]
    fn a_request_says_all_that_a_worker_needs() {
        let session = SessionId::parse("room-1").expect("valid");
        let mut request = WorkRequest {
            id: RequestId(0x2a),
            item: Some(ItemId(7).into()),
            matter: Matter::Audio(vec![0, 1, 254, 255]),
            format: AudioFormat { codec: Codec::Pcm16, rate: 16_000 },
            modality: Modality::Audio,
            metadata: Some(r#"{"turn":"3"}"#.into()),
            extras: None,
            within: Micros::from_s(30),
        };
        let told: Value =
            serde_json::from_str(&Payload::new(&session, &request, 1_234).attempt(2)).expect("JSON");
        let expected = json!({
            "attempt": 2, "request": "req_000000000000002a", "session": "room-1", "reply_to": "responses:room-1",
            "item": "item_7", "kind": "audio", "audio": "AAH+/w==", "format": "pcm16", "rate": 16_000,
            "modality": "audio", "deadline_ms": 1_234, "metadata": {"turn": "3"},
        });
        assert_eq!(told, expected);
        (request.matter, request.extras) = (Matter::Text("\"hi\"".into()), Some(r#"{"voice":"ash"}"#.into()));
        let told: Value =
            serde_json::from_str(&Payload::new(&session, &request, 1_234).attempt(1)).expect("JSON");
        assert_eq!((&told["text"], &told["settings"]["voice"]), (&json!("\"hi\""), &json!("ash")));
        assert!(told.get("audio").is_none());
    }
}
