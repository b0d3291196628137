//! The few JSON events the generator has to understand; all others are only counted.

use std::borrow::Cow;

use serde::Deserialize;

/// What an event means here.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Event {
    /// The welcome, with the token to come back with and the number of the last event before.
    Created { resume: Option<(String, u64)> },
    /// The welcome back.
    Restored { recovered: bool },
    /// The server dropped this many messages and says so.
    Dropped { count: u64 },
    /// The server found fault with something.
    Error { code: String },
    /// A response is over.
    Answered { status: String },
    /// Anything else.
    Other,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    session: Option<Session>,
    recovered: Option<bool>,
    count: Option<u64>,
    error: Option<Fault>,
    response: Option<Response>,
    seq: Option<u64>,
}

#[derive(Deserialize)]
struct Session {
    resume: Option<Token>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    seq: Option<u64>,
}

#[derive(Deserialize)]
struct Response {
    status: Option<String>,
}

#[derive(Deserialize)]
struct Fault {
    code: Option<String>,
}

/// Reads one line; gives the event and its number in the room's history.
pub(super) fn read(line: &[u8]) -> (Event, Option<u64>) {
    let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else { return (Event::Other, None) };
    let event = match &*line.kind {
        "session.created" => Event::Created {
            resume: line
                .session
                .and_then(|session| session.resume)
                .and_then(|resume| Some((resume.token?, resume.seq.unwrap_or(0)))),
        },
        "session.restored" => Event::Restored { recovered: line.recovered.unwrap_or(false) },
        "outbox.dropped" => Event::Dropped { count: line.count.unwrap_or(1) },
        "error" => Event::Error { code: line.error.and_then(|error| error.code).unwrap_or_default() },
        "response.done" => {
            Event::Answered { status: line.response.and_then(|response| response.status).unwrap_or_default() }
        }
        _ => Event::Other,
    };
    (event, line.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn welcomes_drops_and_errors_are_understood_and_the_rest_is_not_in_the_way() {
        let created = br#"{"type":"session.created","seq":1,"session":{"id":"a","resume":{"token":"t","epoch":1,"seq":7}}}"#;
        assert_eq!(read(created), (Event::Created { resume: Some(("t".into(), 7)) }, Some(1)));
        let bare = br#"{"type":"session.created","session":{"id":"a"}}"#;
        assert_eq!(read(bare), (Event::Created { resume: None }, None));
        let restored = br#"{"type":"session.restored","recovered":true,"missed":[]}"#;
        assert_eq!(read(restored).0, Event::Restored { recovered: true });
        assert_eq!(
            read(br#"{"type":"outbox.dropped","class":"audio","count":12}"#).0,
            Event::Dropped { count: 12 }
        );
        let error = br#"{"type":"error","error":{"type":"x","code":"rate_limited","message":"m"}}"#;
        assert_eq!(read(error).0, Event::Error { code: "rate_limited".into() });
        assert_eq!(read(b"not json").0, Event::Other);
    }
}
