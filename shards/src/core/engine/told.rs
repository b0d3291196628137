//! Items that are not messages (calls of functions and what came of them), as clients are told of them.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Audience, EngineContext};
use crate::core::event::{ItemId, ItemName, NewItem, Passed, ServerEvent};
use crate::core::ids::MemberNumber;

/// The name of a new item: the client's own, or a number.
pub(super) fn name_of(new: &NewItem, cx: &mut EngineContext<'_>) -> ItemName {
    match &new.id {
        Some(name) => ItemName::Client(Arc::from(&**name)),
        None => ItemId(cx.next_id()).into(),
    }
}

/// An item that is no message, as the client said it, with what it left out.
pub(super) fn other(new: &NewItem, id: &ItemName) -> Box<str> {
    let mut item: Map<String, Value> = serde_json::from_str(&new.raw).unwrap_or_default();
    item.insert("id".into(), id.to_string().into());
    item.insert("object".into(), "realtime.item".into());
    item.entry("status").or_insert_with(|| "completed".into());
    Value::Object(item).to_string().into()
}

/// Tells of an item that is no message: it is there, and whole.
pub(super) fn tell_other(to: Audience, item: &str, previous: Option<&ItemName>, cx: &mut EngineContext<'_>) {
    let previous = previous.map(|name| Value::from(name.to_string())).unwrap_or_default();
    let members = format!(r#""previous_item_id":{previous},"item":{item}"#);
    for name in ["conversation.item.added", "conversation.item.done"] {
        cx.event(to, passed(name, members.clone()));
    }
}

/// The answer to whoever asks an engine for an item of the conversation that only tells of items and keeps none.
pub(super) fn keeps_no_items(from: MemberNumber, event_id: Option<Box<str>>, cx: &mut EngineContext<'_>) {
    let message = "This room's engine keeps no items: there is none to delete, retrieve or truncate.";
    cx.refuse(from, event_id, "engine_keeps_no_items", message);
}

/// An event in the words of a model server.
pub(super) fn passed(name: &str, members: String) -> ServerEvent {
    ServerEvent::Passed(Box::new(Passed { name: name.into(), members: members.into() }))
}
