//! The conversation so far, for the session that has to take it up: what was said, in words. Audio is not kept.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::core::upstream::Line;

/// Items kept at most; the oldest is forgotten first.
const ITEMS_MAX: usize = 64;
/// Bytes of their text at most.
const BYTES_MAX: usize = 32 * 1_024;

/// What a room remembers of its conversation.
#[derive(Debug, Default)]
pub(super) struct Memory {
    items: VecDeque<Remembered>,
    bytes: usize,
}

#[derive(Debug)]
struct Remembered {
    id: Box<str>,
    /// The session that it is from.
    line: Line,
    said: Said,
}

#[derive(Debug)]
enum Said {
    /// Words of somebody; none as long as they are not known.
    Words { role: &'static str, text: Box<str> },
    /// A call of a function or its result: what `conversation.item.create` takes, raw.
    Raw(Box<str>),
}

impl Said {
    fn len(&self) -> usize {
        match self {
            Self::Words { text, .. } => text.len(),
            Self::Raw(raw) => raw.len(),
        }
    }
}

impl Memory {
    /// Learns of an item, or more of one. What has no words yet keeps its place for them.
    pub(super) fn note(&mut self, line: Line, item: &Value) {
        let Some(id) = item["id"].as_str() else { return };
        let said = match item["type"].as_str() {
            Some("message") => {
                let role = match item["role"].as_str() {
                    Some("assistant") => "assistant",
                    Some("system") => "system",
                    _ => "user",
                };
                Said::Words { role, text: words(item).into() }
            }
            Some("function_call") => raw(item, &["type", "call_id", "name", "arguments"]),
            Some("function_call_output") => raw(item, &["type", "call_id", "output"]),
            _ => return,
        };
        self.put(line, id, said);
    }

    /// Learns which words an utterance of a member had.
    pub(super) fn heard(&mut self, line: Line, id: &str, text: &str) {
        self.put(line, id, Said::Words { role: "user", text: text.into() });
    }

    /// An item is no longer part of the conversation.
    pub(super) fn forget(&mut self, id: &str) {
        if let Some(at) = self.items.iter().position(|item| &*item.id == id)
            && let Some(item) = self.items.remove(at)
        {
            self.bytes -= item.said.len();
        }
    }

    /// The items that tell it all to another session, as `conversation.item.create` takes them.
    pub(super) fn items(&self) -> impl Iterator<Item = Value> {
        self.items.iter().filter_map(|item| match &item.said {
            Said::Words { text, .. } if text.is_empty() => None,
            Said::Words { role, text } => {
                let kind = if *role == "assistant" { "output_text" } else { "input_text" };
                let content = [json!({ "type": kind, "text": text })];
                Some(json!({ "id": item.id, "type": "message", "role": role, "content": content }))
            }
            Said::Raw(raw) => {
                let mut value: Value = serde_json::from_str(raw).ok()?;
                value["id"] = Value::from(&*item.id);
                Some(value)
            }
        })
    }

    fn put(&mut self, line: Line, id: &str, said: Said) {
        self.bytes += said.len();
        if let Some(namesake) = self.items.iter_mut().find(|item| &*item.id == id && item.line != line) {
            // Servers that count their items from one use a name again in another session.
            namesake.id = format!("{id}_{}", namesake.line.0).into();
        }
        match self.items.iter_mut().find(|item| &*item.id == id) {
            // An item may be told again without the words that are known already.
            Some(_) if said.len() == 0 => {}
            Some(item) => {
                self.bytes -= item.said.len();
                item.said = said;
            }
            None => self.items.push_back(Remembered { id: id.into(), line, said }),
        }
        while self.items.len() > ITEMS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.items.pop_front() else { break };
            self.bytes -= oldest.said.len();
        }
    }
}

/// All words of an item, written or spoken.
fn words(item: &Value) -> String {
    let mut words = String::new();
    for part in item["content"].as_array().into_iter().flatten() {
        if let Some(text) = part["text"].as_str().or_else(|| part["transcript"].as_str()) {
            words.push_str(if words.is_empty() { "" } else { " " });
            words.push_str(text);
        }
    }
    words
}

fn raw(item: &Value, keys: &[&str]) -> Said {
    let kept = keys.iter().filter_map(|key| Some(((*key).to_owned(), item.get(*key)?.clone())));
    Said::Raw(Value::Object(kept.collect()).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: Line = Line(1);

    fn message(id: &str, role: &str, text: &str) -> Value {
        json!({ "id": id, "type": "message", "role": role, "content": [{ "type": "x", "text": text }] })
    }

    #[test]
    fn an_utterance_keeps_its_place_until_its_words_are_known() {
        let mut memory = Memory::default();
        memory.note(
            LINE,
            &json!({ "id": "u", "type": "message", "role": "user", "content": [{ "type": "input_audio" }] }),
        );
        memory.note(LINE, &message("a", "assistant", "four"));
        assert_eq!(memory.items().count(), 1);
        memory.heard(LINE, "u", "two and two?");
        memory.note(LINE, &json!({ "id": "u", "type": "message", "role": "user", "content": [] }));
        let items: Vec<Value> = memory.items().collect();
        assert_eq!(items[0]["content"][0], json!({ "type": "input_text", "text": "two and two?" }));
        assert_eq!(items[1]["content"][0], json!({ "type": "output_text", "text": "four" }));
        memory.forget("u");
        assert_eq!((memory.items().count(), memory.bytes), (1, 4));
    }

    #[test]
    fn two_sessions_may_use_a_name_twice() {
        let mut memory = Memory::default();
        memory.note(LINE, &message("i", "user", "one"));
        memory.note(Line(2), &message("i", "user", "two"));
        memory.note(Line(2), &message("i", "user", "two!"));
        let items: Vec<Value> = memory.items().collect();
        assert_eq!((&items[0]["id"], &items[0]["content"][0]["text"]), (&json!("i_1"), &json!("one")));
        assert_eq!((&items[1]["id"], &items[1]["content"][0]["text"]), (&json!("i"), &json!("two!")));
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut memory = Memory::default();
        for number in 0..200 {
            memory.note(LINE, &message(&format!("i{number}"), "user", "word"));
        }
        assert_eq!((memory.items().count(), memory.bytes), (ITEMS_MAX, 4 * ITEMS_MAX));
        assert_eq!(memory.items().next().expect("an item")["id"], "i136");
        memory.note(LINE, &message("long", "assistant", &"x".repeat(BYTES_MAX)));
        assert_eq!((memory.items().count(), memory.bytes), (1, BYTES_MAX));
    }

    #[test]
    fn calls_of_functions_are_told_as_they_were() {
        let mut memory = Memory::default();
        memory.note(
            LINE,
            &json!({
                "id": "f", "object": "realtime.item", "type": "function_call", "status": "completed",
                "call_id": "c", "name": "weather", "arguments": "{}",
            }),
        );
        let item = memory.items().next().expect("an item");
        let expected = json!({ "id": "f", "type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}" });
        assert_eq!(item, expected);
    }
}
