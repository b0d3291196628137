//! What a worker says, taken apart: JSON, or audio behind a few bytes. Workers are the operator's own, and faulty ones
//! must not harm a room all the same: whatever is no answer is a value that says why.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use shards::core::event::Passed;
use shards::core::work::RequestId;

/// Longest message from a worker: half a minute of speech at 16 kHz.
pub(super) const ANSWER_BYTES_MAX: usize = 1_048_576;
/// Longest event of the application's own: it has to fit into the queues of clients.
const PASSED_BYTES_MAX: usize = 65_536;
/// Longest name of one.
const NAME_BYTES_MAX: usize = 128;
/// Longest name of a worker.
const WORKER_BYTES_MAX: usize = 64;
/// Longest text of a worker's error that clients are shown.
const MESSAGE_CHARS_MAX: usize = 512;
/// What a binary message begins with; JSON begins with a brace.
const BINARY: u8 = 1;
/// Before the worker's name in a binary message: the mark, the length of the name, the attempt, the request.
const BINARY_HEAD_BYTES: usize = 3 + 20;
/// Events that say what a response or a session is; only the server knows.
const RESERVED: [&str; 3] = ["response.", "session.", "rate_limits."];
/// Members of an answer that are between the worker and us.
const ENVELOPE: [&str; 6] = ["type", "request", "worker", "attempt", "event_id", "seq"];

/// One message of a worker about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) request: RequestId,
    pub(super) by: By,
    pub(super) said: Said,
}

/// Who says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct By {
    /// The worker's own name; empty if it has none.
    pub(super) worker: Box<str>,
    /// Which telling of the request it answers, if it says so.
    pub(super) attempt: Option<u32>,
}

/// What is said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Audio {
        bytes: Vec<u8>,
        last: bool,
    },
    Words(Box<str>),
    Passed(Box<Passed>),
    /// A sign of life, before the answer begins.
    Working,
    Done,
    Failed {
        message: String,
        retryable: bool,
    },
}

/// Why a message is no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("it is longer than {ANSWER_BYTES_MAX} bytes")]
    Huge,
    #[error("it is neither a JSON object nor begins with byte 1")]
    Unreadable,
    #[error("it names no request, or its type, worker or attempt can't be taken")]
    Unnamed,
    #[error("its audio is not base64")]
    BadAudio,
    #[error("its delta is no text")]
    NoDelta,
    #[error("only the server makes events of this type")]
    Reserved,
    #[error("it is an event of more than {PASSED_BYTES_MAX} bytes")]
    LongEvent,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: String,
    request: String,
    #[serde(default)]
    worker: String,
    attempt: Option<u32>,
    #[serde(default)]
    delta: Option<serde_json::Value>,
    #[serde(borrow, default)]
    audio: Option<&'a RawValue>,
    #[serde(default)]
    last: Option<serde_json::Value>,
    #[serde(default)]
    message: Option<serde_json::Value>,
    #[serde(default)]
    retryable: Option<serde_json::Value>,
}

impl Answer {
    /// Takes a message apart.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn parse(message: &[u8]) -> Result<Self, NoAnswer> {
        match message.first() {
            _ if message.len() > ANSWER_BYTES_MAX => Err(NoAnswer::Huge),
            Some(&BINARY) => binary(message),
            Some(_) => json(message),
            None => Err(NoAnswer::Unreadable),
        }
    }
}

fn binary(message: &[u8]) -> Result<Answer, NoAnswer> {
    let (head, rest) = message.split_at_checked(BINARY_HEAD_BYTES).ok_or(NoAnswer::Unreadable)?;
    let (worker, audio) = rest.split_at_checked(head[1].into()).ok_or(NoAnswer::Unreadable)?;
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| NoAnswer::Unnamed);
    let request = text(&head[3..])?.parse().map_err(|_| NoAnswer::Unnamed)?;
    let attempt = (head[2] > 0).then_some(head[2].into());
    let by = By { worker: name(text(worker)?)?, attempt };
    Ok(Answer { request, by, said: Said::Audio { bytes: audio.to_vec(), last: false } })
}

fn name(worker: &str) -> Result<Box<str>, NoAnswer> {
    if worker.len() > WORKER_BYTES_MAX { Err(NoAnswer::Unnamed) } else { Ok(worker.into()) }
}

fn json(message: &[u8]) -> Result<Answer, NoAnswer> {
    let text = std::str::from_utf8(message).map_err(|_| NoAnswer::Unreadable)?;
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => NoAnswer::Unnamed,
        _ => NoAnswer::Unreadable,
    })?;
    let request = envelope.request.parse().map_err(|_| NoAnswer::Unnamed)?;
    let by = By { worker: name(&envelope.worker)?, attempt: envelope.attempt };
    let flag = |value: &Option<serde_json::Value>| value.as_ref().and_then(serde_json::Value::as_bool);
    let said = match &*envelope.kind {
        "audio" => Said::Audio { bytes: audio(&envelope)?, last: flag(&envelope.last) == Some(true) },
        "text" | "transcript" => {
            let delta = envelope.delta.as_ref().and_then(serde_json::Value::as_str);
            Said::Words(delta.ok_or(NoAnswer::NoDelta)?.into())
        }
        "working" => Said::Working,
        "done" => Said::Done,
        "error" => {
            let message = envelope.message.as_ref().and_then(serde_json::Value::as_str);
            let message = message.unwrap_or("The worker could not answer.");
            Said::Failed {
                message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
                retryable: flag(&envelope.retryable).unwrap_or(true),
            }
        }
        other => Said::Passed(passed(other, text)?),
    };
    Ok(Answer { request, by, said })
}

fn audio(envelope: &Envelope<'_>) -> Result<Vec<u8>, NoAnswer> {
    let quoted = envelope.audio.map(RawValue::get).ok_or(NoAnswer::BadAudio)?;
    let base64 =
        quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or(NoAnswer::BadAudio)?;
    // Some libraries escape slashes.
    let decoded = if base64.contains('\\') {
        STANDARD.decode(base64.replace("\\/", "/"))
    } else {
        STANDARD.decode(base64)
    };
    decoded.map_err(|_| NoAnswer::BadAudio)
}

/// Any other event, as it is but for what is between the worker and us.
fn passed(name: &str, text: &str) -> Result<Box<Passed>, NoAnswer> {
    if RESERVED.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(NoAnswer::Reserved);
    }
    if text.len() > PASSED_BYTES_MAX || name.len() > NAME_BYTES_MAX {
        return Err(NoAnswer::LongEvent);
    }
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(text).map_err(|_| NoAnswer::Unreadable)?;
    let mut json = String::with_capacity(text.len());
    for (key, value) in members.iter().filter(|(key, _)| !ENVELOPE.contains(&key.as_str())) {
        if !json.is_empty() {
            json.push(',');
        }
        json.push_str(&serde_json::to_string(key).expect("a string has JSON"));
        json.push(':');
        // An event is one line: outside of strings a line's end is mere space, and inside there is none.
        json.extend(value.get().chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
    }
    Ok(Box::new(Passed { name: name.into(), members: json.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "req_000000000000002a";

    fn said(members: &str) -> Result<Said, NoAnswer> {
        Answer::parse(format!(r#"{{"request":"{REQUEST}","worker":"w","attempt":2,{members}}}"#).as_bytes())
            .map(|answer| {
                assert_eq!(answer.request, RequestId(0x2a));
                assert_eq!(answer.by, By { worker: "w".into(), attempt: Some(2) });
                answer.said
            })
    }

    #[test]
    fn every_kind_of_answer_is_understood() {
        let audio = Said::Audio { bytes: vec![0, 255], last: true };
        assert_eq!(said(r#""type":"audio","audio":"AP8=","last":true"#), Ok(audio));
        for kind in ["text", "transcript"] {
            let words = Said::Words("a\nb".into());
            assert_eq!(said(&format!(r#""type":"{kind}","delta":"a\nb""#)), Ok(words));
        }
        assert_eq!(said(r#""type":"working""#), Ok(Said::Working));
        assert_eq!(said(r#""type":"done""#), Ok(Said::Done));
        let failed = Said::Failed { message: "no".into(), retryable: false };
        assert_eq!(said(r#""type":"error","message":"no","retryable":false"#), Ok(failed));
        let passed = Passed { name: "weather".into(), members: "\"a\":[1,  2],\"b\\\"\":{\"x\":1e3}".into() };
        let told = said("\"type\":\"weather\",\"a\":[1,\n 2],\"b\\\"\":{\"x\":1e3},\"event_id\":\"mine\"");
        assert_eq!(told, Ok(Said::Passed(Box::new(passed))));
    }

    #[test]
    fn audio_may_come_behind_a_few_bytes() {
        let message = [&[1, 3, 7], REQUEST.as_bytes(), b"w-1", b"\x00\xff{"].concat();
        let answer = Answer::parse(&message).expect("an answer");
        assert_eq!(answer.by, By { worker: "w-1".into(), attempt: Some(7) });
        assert_eq!(answer.said, Said::Audio { bytes: vec![0, 255, b'{'], last: false });
        for bad in [&message[..22], &message[..24], &[1], &[&[1, 0, 0][..], &[b'x'; 20]].concat()] {
            assert!(Answer::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused_with_a_reason() {
        for (members, why) in [
            (r#""type":"audio""#, NoAnswer::BadAudio),
            (r#""type":"audio","audio":7"#, NoAnswer::BadAudio),
            (r#""type":"audio","audio":"A""#, NoAnswer::BadAudio),
            (r#""type":"text","delta":7"#, NoAnswer::NoDelta),
            (r#""type":"response.done""#, NoAnswer::Reserved),
            (r#""type":"session.created""#, NoAnswer::Reserved),
            (r#""type":7"#, NoAnswer::Unnamed),
            (r#""no":"type""#, NoAnswer::Unnamed),
        ] {
            assert_eq!(said(members), Err(why), "{members}");
        }
        let long = format!(r#""type":"x","long":"{}""#, "y".repeat(PASSED_BYTES_MAX));
        assert_eq!(said(&long), Err(NoAnswer::LongEvent));
        let huge = vec![b' '; ANSWER_BYTES_MAX + 1];
        assert_eq!(Answer::parse(&huge), Err(NoAnswer::Huge));
        for text in ["", "[]", "{", "\u{1}", "null", &"[".repeat(500)] {
            assert!(Answer::parse(text.as_bytes()).is_err(), "{text}");
        }
        let named = |request: &str, worker: &str| {
            Answer::parse(
                format!(r#"{{"request":"{request}","worker":"{worker}","type":"done"}}"#).as_bytes(),
            )
        };
        assert_eq!(named("req_1", ""), Err(NoAnswer::Unnamed));
        assert_eq!(named(REQUEST, &"w".repeat(65)), Err(NoAnswer::Unnamed));
        assert!(named(REQUEST, "").is_ok_and(|answer| answer.by.attempt.is_none()));
    }
}
