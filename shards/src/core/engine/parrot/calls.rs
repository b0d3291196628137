//! Calls of a client's functions. A parrot has no mind of its own: it calls one where it has to (`tool_choice` is
//! `required` or names one), and speaks what came of it.

use serde_json::{Map, Value, json};

use super::Parrot;
use super::speech::Source;
use crate::core::engine::told::passed;
use crate::core::engine::{Audience, EngineContext};
use crate::core::event::{ConversationId, ItemId, ResponseId, ResponseRequest, Usage};

/// A call that has to be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    name: String,
    /// JSON, as a text.
    arguments: String,
}

impl Call {
    /// The call that a request asks for, or else the session; `input` is what would be answered otherwise.
    pub(super) fn wanted(request: &ResponseRequest, extras: Option<&str>, input: &str) -> Option<Self> {
        let read = |text: Option<&str>| text.and_then(|text| serde_json::from_str::<Value>(text).ok());
        let asked = |extras: &str| extras.contains("\"tool_choice\"");
        let request = read(request.raw.as_deref().filter(|raw| asked(raw)));
        let session = read(extras.filter(|extras| request.is_some() || asked(extras)));
        let said = |key: &str| {
            let of = |said: &Option<Value>| said.as_ref().and_then(|said| said.get(key)).cloned();
            of(&request).or_else(|| of(&session))
        };
        let (choice, tools) = (said("tool_choice")?, said("tools")?);
        let mut functions = tools.as_array()?.iter().filter(|tool| tool["type"] == "function");
        let tool = match &choice {
            Value::String(word) if word == "required" => functions.next(),
            Value::Object(choice) => functions.find(|tool| Some(&tool["name"]) == choice.get("name")),
            _ => None,
        }?;
        Some(Self {
            name: tool["name"].as_str()?.to_owned(),
            arguments: arguments(&tool["parameters"], input),
        })
    }

    fn item(&self, id: ItemId, done: bool) -> Value {
        json!({
            "id": id.to_string(), "object": "realtime.item", "type": "function_call",
            "status": if done { "completed" } else { "in_progress" }, "name": self.name,
            "call_id": format!("call_{:x}", id.0), "arguments": if done { &self.arguments } else { "" },
        })
    }
}

/// What a function is called with: the input, if it is a JSON object; otherwise something for each parameter that has to be
/// there, and for a text the input's words.
fn arguments(schema: &Value, input: &str) -> String {
    if serde_json::from_str::<Map<String, Value>>(input).is_ok() {
        return input.to_owned();
    }
    let mut arguments = Map::new();
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let property = &schema["properties"][name];
        let first = property["enum"].get(0).cloned();
        let value = first.unwrap_or_else(|| match property["type"].as_str() {
            Some("number" | "integer") => 0.into(),
            Some("boolean") => false.into(),
            Some("array") => json!([]),
            Some("object") => json!({}),
            _ => input.into(),
        });
        arguments.insert(name.to_owned(), value);
    }
    Value::Object(arguments).to_string()
}

/// A call costs nothing.
fn usage() -> Value {
    json!({
        "total_tokens": 0, "input_tokens": 0, "output_tokens": 0,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 0},
        "output_token_details": {"text_tokens": 0, "audio_tokens": 0},
    })
}

impl Parrot {
    /// The call that has to be made instead of an answer, if one has to.
    pub(super) fn call_instead(&self, request: &ResponseRequest, cx: &EngineContext<'_>) -> Option<Call> {
        let input = self.fresh.as_ref().filter(|_| !self.called)?;
        let input = match input {
            Source::Text(text) => text.clone(),
            input => input.transcript(self.listener.format),
        };
        Call::wanted(request, cx.extras, &input)
    }

    /// A response that is a call.
    pub(super) fn call(&mut self, call: &Call, request: ResponseRequest, cx: &mut EngineContext<'_>) {
        self.fresh = None;
        self.responses += 1;
        let (id, item) = (ResponseId(cx.next_id()), ItemId(cx.next_id()));
        let previous = self.last_item.replace(item.into());
        let previous = previous.map(|name| Value::from(name.to_string())).unwrap_or_default();
        let (begun, done) = (call.item(item, false), call.item(item, true));
        let of = format!(r#""response_id":"{id}","output_index":0"#);
        let part = format!(r#"{of},"item_id":"{item}","call_id":{}"#, done["call_id"]);
        let arguments = Value::from(&*call.arguments);
        let metadata: Option<Value> = request.metadata.and_then(|text| serde_json::from_str(&text).ok());
        let response = |status: &str, output: &[&Value], usage: Value| {
            json!({
                "id": id.to_string(), "object": "realtime.response", "status": status, "status_details": null,
                "output": output, "conversation_id": ConversationId::OF_ROOM.to_string(),
                "output_modalities": [cx.settings.modality.name()], "max_output_tokens": "inf",
                "usage": usage, "metadata": metadata,
            })
        };
        let created = response("in_progress", &[], Value::Null);
        let finished = response("completed", &[&done], usage());
        let mut tell = |name: &str, members: String| cx.event(Audience::All, passed(name, members));
        let added = format!(r#""previous_item_id":{previous},"item":"#);
        tell("response.created", format!(r#""response":{created}"#));
        tell("response.output_item.added", format!(r#"{of},"item":{begun}"#));
        tell("conversation.item.added", format!("{added}{begun}"));
        tell("response.function_call_arguments.delta", format!(r#"{part},"delta":{arguments}"#));
        tell(
            "response.function_call_arguments.done",
            format!(r#"{part},"name":{},"arguments":{arguments}"#, done["name"]),
        );
        tell("response.output_item.done", format!(r#"{of},"item":{done}"#));
        tell("conversation.item.done", format!("{added}{done}"));
        tell("response.done", format!(r#""response":{finished}"#));
        cx.event(Audience::All, super::rate_limits(self.responses, Usage::default()));
        self.items.push_other(item.into(), done.to_string().into());
    }
}
