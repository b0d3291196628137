//! The events that the soak understands.

use std::borrow::Cow;

use serde::Deserialize;

/// Words are so long, or the kernel would hold thousands of them for a reader that stands still.
const WORD_BYTES: usize = 16;
/// What they are filled up with.
const FILLING: char = '~';

/// A line of the server's.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    pub(super) seq: Option<u64>,
    /// The speaker's index in its room, and the number of its message.
    data: Option<(u8, u32)>,
    pub(super) session: Option<Session>,
    pub(super) recovered: Option<bool>,
    pub(super) client_seq: Option<u64>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    /// A word of an answer, as the one who asked for it made it up.
    #[serde(borrow)]
    delta: Option<Cow<'a, str>>,
    pub(super) count: Option<u64>,
    pub(super) first_seq: Option<u64>,
    pub(super) last_seq: Option<u64>,
    pub(super) t: Option<u64>,
    pub(super) error: Option<Fault>,
}

#[derive(Deserialize)]
pub(super) struct Session {
    pub(super) resume: Option<Resume>,
}

/// What a member comes back with.
#[derive(Deserialize)]
pub(super) struct Resume {
    pub(super) token: String,
    pub(super) seq: u64,
}

#[derive(Deserialize)]
pub(super) struct Fault {
    pub(super) code: Option<String>,
}

/// What members say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Topic {
    /// `room.send`, to the other members: it never gives way.
    Message,
    /// An answer of the engine's, to everybody, a word at a time: each may give way.
    Word,
}

impl Topic {
    pub(super) const ALL: [Self; 2] = [Self::Message, Self::Word];
}

/// One event of a member's: what it says with it, by number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Saying {
    pub(super) topic: Topic,
    pub(super) first: u32,
    pub(super) last: u32,
}

/// One of the numbered things that somebody has said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Said {
    pub(super) topic: Topic,
    pub(super) speaker: u8,
    pub(super) number: u32,
}

impl Line<'_> {
    /// Whether a restoration's bearer is the member that it was, though it may not be told everything.
    pub(super) fn knows_member(&self) -> bool {
        self.recovered == Some(true) || matches!(self.reason.as_deref(), Some("too_old" | "ahead"))
    }

    /// What was said, if anything was.
    pub(super) fn said(&self) -> Option<Said> {
        if let Some((speaker, number)) = self.data {
            return Some(Said { topic: Topic::Message, speaker, number });
        }
        let word = self.delta.as_deref().filter(|_| self.kind == "response.output_text.delta")?;
        let (speaker, number) = word.trim().trim_end_matches(FILLING).split_once('.')?;
        Some(Said { topic: Topic::Word, speaker: speaker.parse().ok()?, number: number.parse().ok()? })
    }
}

impl Saying {
    /// As the speaker sends it.
    pub(super) fn event(&self, speaker: u8, client_seq: u64) -> String {
        let Self { topic, first, last } = *self;
        match topic {
            Topic::Message => {
                format!(r#"{{"type":"room.send","data":[{speaker},{first}],"client_seq":{client_seq}}}"#)
            }
            Topic::Word => {
                let word = |number| format!("{:~<WORD_BYTES$}", format!("{speaker}.{number}"));
                let words: Vec<String> = (first..=last).map(word).collect();
                let content = format!(r#"[{{"type":"input_text","text":"{}"}}]"#, words.join(" "));
                let input = format!(r#"[{{"type":"message","role":"user","content":{content}}}]"#);
                format!(
                    r#"{{"type":"response.create","client_seq":{client_seq},"response":{{"conversation":"none","output_modalities":["text"],"input":{input}}}}}"#
                )
            }
        }
    }
}

/// A question whose answer says that everything up to `client_seq` was taken.
pub(super) fn ping(client_seq: u64) -> String {
    format!(r#"{{"type":"ping","t":{client_seq}}}"#)
}

/// Asks for what was dropped.
pub(super) fn again_after(seq: u64) -> String {
    format!(r#"{{"type":"session.update","after":{seq}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_known_by_its_speaker_and_number() {
        let said = |line: &str| serde_json::from_str::<Line<'_>>(line).expect("a line").said();
        let word = Some(Said { topic: Topic::Word, speaker: 3, number: 17 });
        assert_eq!(said(r#"{"type":"response.output_text.delta","delta":" 3.17~~~"}"#), word);
        assert_eq!(said(r#"{"type":"response.output_audio_transcript.delta","delta":" 3.17"}"#), None);
        let message = Some(Said { topic: Topic::Message, speaker: 1, number: 9 });
        assert_eq!(said(r#"{"type":"room.message","seq":4,"from":1,"data":[1,9]}"#), message);
    }

    #[test]
    fn a_saying_of_words_asks_for_an_answer_of_them() {
        let saying = Saying { topic: Topic::Word, first: 8, last: 10 };
        let event: serde_json::Value = serde_json::from_str(&saying.event(2, 5)).expect("JSON");
        let text = event["response"]["input"][0]["content"][0]["text"].as_str().expect("a text");
        let words: Vec<&str> = text.split(' ').map(|word| word.trim_end_matches(FILLING)).collect();
        assert_eq!(words, ["2.8", "2.9", "2.10"]);
        assert_eq!(event["client_seq"], 5);
    }
}
