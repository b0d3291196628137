//! What the events of a room mean for its meter and its record, whoever made them: an engine of ours, in types, or a
//! model server, as JSON that is passed on.

use std::borrow::Cow;

use serde::Deserialize;

use super::Outcome;
use crate::core::event::{CancelReason, Content, Item, ItemName, Passed, ResponseStatus, Role, ServerEvent};

/// What an event says of the conversation.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::core) enum News<'a> {
    /// Nothing that counts.
    Nothing,
    /// The user's turn is over.
    TurnOver,
    /// An utterance is complete.
    Committed,
    /// What was heard is forgotten.
    Cleared,
    /// A response has been made.
    Made {
        /// Its name.
        id: Cow<'a, str>,
    },
    /// A response is over.
    Over {
        /// Its name.
        id: Cow<'a, str>,
        /// How it ended.
        outcome: Outcome,
        /// Who cut it short, or what failed.
        reason: Option<Cow<'a, str>>,
        /// What was said in it.
        said: Vec<Said<'a>>,
    },
    /// Something was said.
    Said(Said<'a>),
}

/// An item of the conversation, as far as it is known.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::core) struct Said<'a> {
    /// Its name: what is said of it later belongs to it.
    pub(in crate::core) item: Cow<'a, str>,
    /// Who said it; nothing where only the words are told.
    pub(in crate::core) role: Option<Role>,
    /// The words; none if nobody knows them.
    pub(in crate::core) words: Option<Cow<'a, str>>,
}

/// What an event says.
pub(in crate::core) fn news(event: &ServerEvent) -> News<'_> {
    match event {
        ServerEvent::SpeechStopped { .. } => News::TurnOver,
        ServerEvent::Committed { .. } => News::Committed,
        ServerEvent::Cleared => News::Cleared,
        ServerEvent::ResponseCreated(response) => News::Made { id: response.id.to_string().into() },
        ServerEvent::ResponseDone(response) => {
            let (outcome, reason) = ended(response.status);
            let said = response.output.iter().map(said).collect();
            News::Over { id: response.id.to_string().into(), outcome, reason: reason.map(Into::into), said }
        }
        ServerEvent::ItemDone { item, .. } => News::Said(said(item)),
        ServerEvent::Passed(passed) => passed_on(passed),
        _ => News::Nothing,
    }
}

fn ended(status: ResponseStatus) -> (Outcome, Option<&'static str>) {
    match status {
        ResponseStatus::Completed => (Outcome::Completed, None),
        ResponseStatus::Cancelled(CancelReason::TurnDetected) => (Outcome::Cancelled, Some("turn_detected")),
        ResponseStatus::Cancelled(CancelReason::ClientCancelled) => {
            (Outcome::Cancelled, Some("client_cancelled"))
        }
        ResponseStatus::Failed(code) => (Outcome::Failed, Some(code)),
        ResponseStatus::InProgress => (Outcome::Incomplete, None),
    }
}

fn said(item: &Item) -> Said<'_> {
    let name = match &item.id {
        ItemName::Numbered(id) => Cow::Owned(id.to_string()),
        ItemName::Client(name) => Cow::Borrowed(&**name),
    };
    let words = item.content.iter().filter_map(|content| match content {
        Content::InputText(text) | Content::OutputText(text) | Content::OutputAudio(text) => Some(&**text),
        Content::InputAudio(words) => words.as_deref(),
        Content::InputImage => None,
    });
    Said { item: name, role: Some(item.role), words: together(words.map(Cow::Borrowed)) }
}

/// The words of an item's parts, a space between; nothing where no part has any.
fn together<'a>(mut words: impl Iterator<Item = Cow<'a, str>>) -> Option<Cow<'a, str>> {
    let first = words.next()?;
    Some(words.fold(first, |all, more| Cow::Owned(format!("{all} {more}"))))
}

/// The members of a passed event that count.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Members<'a> {
    #[serde(borrow)]
    response: Option<ResponseMembers<'a>>,
    #[serde(borrow)]
    item: Option<ItemMembers<'a>>,
    #[serde(borrow)]
    item_id: Cow<'a, str>,
    #[serde(borrow)]
    transcript: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseMembers<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    status_details: Option<StatusDetails<'a>>,
    #[serde(borrow)]
    output: Option<Vec<ItemMembers<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StatusDetails<'a> {
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error: Option<StatusError<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StatusError<'a> {
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ItemMembers<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Option<Vec<ContentMembers<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContentMembers<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    transcript: Option<Cow<'a, str>>,
}

/// What an event of a model server says. Only those are parsed that may say something; none of them comes with frames.
fn passed_on(passed: &Passed) -> News<'static> {
    match &*passed.name {
        "input_audio_buffer.speech_stopped" => News::TurnOver,
        "input_audio_buffer.committed" => News::Committed,
        "input_audio_buffer.cleared" => News::Cleared,
        "response.created"
        | "response.done"
        | "conversation.item.added"
        | "conversation.item.done"
        | "conversation.item.input_audio_transcription.completed" => {
            let text = format!("{{{}}}", passed.members);
            // What is not in the shape that it should have counts for nothing; the client gets it as it is.
            serde_json::from_str(&text).map_or(News::Nothing, |members| told(&passed.name, members))
        }
        _ => News::Nothing,
    }
}

fn told(name: &str, members: Members<'_>) -> News<'static> {
    match (name, members) {
        ("response.created", Members { response: Some(response), .. }) => {
            News::Made { id: owned(response.id) }
        }
        ("response.done", Members { response: Some(response), .. }) => News::Over {
            id: owned(response.id),
            outcome: Outcome::named(&response.status),
            reason: response
                .status_details
                .and_then(|details| details.reason.or_else(|| details.error?.code))
                .map(owned),
            said: response.output.into_iter().flatten().filter_map(said_there).collect(),
        },
        (_, Members { item: Some(item), .. }) => said_there(item).map_or(News::Nothing, News::Said),
        (_, Members { transcript: Some(words), item_id, .. }) if !item_id.is_empty() => {
            News::Said(Said { item: owned(item_id), role: None, words: Some(owned(words)) })
        }
        _ => News::Nothing,
    }
}

/// An item that somebody said; a call of a function is none.
fn said_there(item: ItemMembers<'_>) -> Option<Said<'static>> {
    let role = match item.role.as_deref()? {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return None,
    };
    let parts = item.content.unwrap_or_default();
    let words = together(parts.into_iter().filter_map(|part| part.text.or(part.transcript)));
    Some(Said { item: owned(item.id), role: Some(role), words: words.map(owned) })
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(name: &str, members: &str) -> ServerEvent {
        ServerEvent::Passed(Box::new(Passed { name: name.into(), members: members.into() }))
    }

    #[test]
    fn events_of_a_model_server_say_the_same_as_ours() {
        let made =
            passed("response.created", r#""response":{"id":"resp_X","status":"in_progress","output":[]}"#);
        assert_eq!(news(&made), News::Made { id: "resp_X".into() });
        let done = passed(
            "response.done",
            r#""response":{"id":"resp_X","status":"cancelled","status_details":{"type":"cancelled","reason":"turn_detected"},
            "output":[{"id":"item_Y","type":"message","role":"assistant","content":[{"type":"output_audio","transcript":"so \"be\" it"}]},
            {"id":"item_Z","type":"function_call","name":"f"}]}"#,
        );
        let words = Some("so \"be\" it".into());
        let said = vec![Said { item: "item_Y".into(), role: Some(Role::Assistant), words }];
        let (outcome, reason) = (Outcome::Cancelled, Some("turn_detected".into()));
        assert_eq!(news(&done), News::Over { id: "resp_X".into(), outcome, reason, said });
        assert_eq!(news(&passed("input_audio_buffer.committed", "")), News::Committed);
        assert_eq!(news(&passed("input_audio_buffer.speech_stopped", r#""audio_end_ms":5"#)), News::TurnOver);
    }

    #[test]
    fn words_that_come_later_name_their_item() {
        let item = r#""item":{"id":"item_1","type":"message","role":"user","content":[{"type":"input_audio","transcript":null}]}"#;
        let said = Said { item: "item_1".into(), role: Some(Role::User), words: None };
        assert_eq!(news(&passed("conversation.item.done", item)), News::Said(said));
        let words = r#""item_id":"item_1","content_index":0,"transcript":"good morning""#;
        let later = passed("conversation.item.input_audio_transcription.completed", words);
        let said = Said { item: "item_1".into(), role: None, words: Some("good morning".into()) };
        assert_eq!(news(&later), News::Said(said));
    }

    #[test]
    fn what_failed_says_why_and_nonsense_says_nothing() {
        let failed =
            r#""response":{"id":"r","status":"failed","status_details":{"error":{"code":"overloaded"}}}"#;
        let (outcome, reason) = (Outcome::Failed, Some("overloaded".into()));
        let over = News::Over { id: "r".into(), outcome, reason, said: Vec::new() };
        assert_eq!(news(&passed("response.done", failed)), over);
        for members in ["", "\"response\":7", "\"response\":{\"id\":", "\"item\":{\"role\":\"user\"}}"] {
            assert_eq!(news(&passed("response.done", members)), News::Nothing, "{members}");
        }
        assert_eq!(news(&passed("response.output_text.delta", "\"delta\":\"x\"")), News::Nothing);
    }
}
