//! What a client says of the response that it asks for, as far as a parrot can heed it.

use serde_json::Value;

use super::items::Items;
use super::speech::Source;
use crate::core::event::ResponseRequest;

/// What a `response.create` asks for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The response stays out of the conversation.
    pub(super) apart: bool,
    /// What it answers instead of the newest input.
    pub(super) input: Option<Source>,
}

impl Asked {
    pub(super) fn of(request: &ResponseRequest, items: &Items) -> Self {
        let said: Option<Value> = request.raw.as_deref().and_then(|raw| serde_json::from_str(raw).ok());
        let Some(said) = said else { return Self::default() };
        let apart = said.get("conversation").is_some_and(|name| name == "none");
        let input = said.get("input").and_then(Value::as_array).map(|input| {
            let words: Vec<String> = input.iter().filter_map(|item| words(item, items)).collect();
            if words.is_empty() { Source::Greeting } else { Source::Text(words.join(" ").into()) }
        });
        Self { apart, input }
    }
}

/// The words of an item that a request brings along or refers to.
fn words(item: &Value, items: &Items) -> Option<String> {
    if item["type"] == "item_reference" {
        return items.words(item["id"].as_str()?).map(Into::into);
    }
    let texts = item["content"].as_array()?.iter().filter_map(|part| {
        let text = part.get("text").or_else(|| part.get("transcript"))?;
        text.as_str()
    });
    let words = texts.collect::<Vec<_>>().join(" ");
    (!words.is_empty()).then_some(words)
}
