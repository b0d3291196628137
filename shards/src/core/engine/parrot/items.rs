//! The conversation so far, as far as it is kept: its newest items, and what clients do with them.

use std::collections::VecDeque;

use serde_json::Value;

use super::Parrot;
use crate::core::engine::listen::Said;
use crate::core::engine::told::{self, passed};
use crate::core::engine::{Audience, EngineContext, relay};
use crate::core::event::{
    ClientError, Content, Dialect, Item, ItemKind, ItemName, ItemStatus, NewItem, Role, ServerEvent,
};
use crate::core::ids::MemberNumber;

/// Most items that are kept of a conversation.
const ITEMS_MAX: usize = 128;
/// Most bytes of text in them.
const ITEMS_BYTES_MAX: usize = 262_144;

/// The newest items of a conversation, in its order.
#[derive(Debug, Default)]
pub(super) struct Items {
    entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    id: ItemName,
    told: Told,
    /// How much was said of it aloud; nothing for what nobody says, and while it is being said.
    said_ms: Option<u64>,
}

#[derive(Debug)]
enum Told {
    Message(Box<Item>),
    /// JSON of any other item.
    Other(Box<str>),
}

impl Items {
    /// Puts a message at the end.
    pub(super) fn push(&mut self, item: Item) {
        let entry = Entry { id: item.id.clone(), told: Told::Message(Box::new(item)), said_ms: None };
        self.insert(self.entries.len(), entry);
    }

    /// Puts an item that is no message at the end.
    pub(super) fn push_other(&mut self, id: ItemName, json: Box<str>) {
        self.insert(self.entries.len(), Entry { id, told: Told::Other(json), said_ms: None });
    }

    /// Puts what became of a message in its place, if it is still there.
    pub(super) fn settle(&mut self, item: Item, said_ms: u64) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == item.id) {
            self.bytes -= entry.size();
            entry.told = Told::Message(Box::new(item));
            entry.said_ms = Some(said_ms);
            self.bytes += entry.size();
            self.forget_oldest();
        }
    }

    /// Adds the words of an utterance to it.
    pub(super) fn transcribe(&mut self, name: &ItemName, words: &str) {
        let entry = self.entries.iter_mut().find(|entry| entry.id == *name);
        if let Some(Entry { told: Told::Message(item), .. }) = entry
            && let [Content::InputAudio(transcript @ None)] = &mut item.content[..]
        {
            *transcript = Some(words.into());
            self.bytes += words.len();
        }
    }

    /// The words of an item, if it has any.
    pub(super) fn words(&self, name: &str) -> Option<Box<str>> {
        let Told::Message(item) = &self.entries[self.find(name)?].told else { return None };
        item.content.iter().find_map(|content| match content {
            Content::InputText(text) | Content::OutputText(text) | Content::OutputAudio(text) => {
                Some(text.clone())
            }
            Content::InputAudio(transcript) => transcript.clone(),
            Content::InputImage => None,
        })
    }

    fn insert(&mut self, at: usize, entry: Entry) {
        self.bytes += entry.size();
        self.entries.insert(at, entry);
        self.forget_oldest();
    }

    fn remove(&mut self, at: usize) {
        if let Some(entry) = self.entries.remove(at) {
            self.bytes -= entry.size();
        }
    }

    fn forget_oldest(&mut self) {
        while self.entries.len() > ITEMS_MAX || self.bytes > ITEMS_BYTES_MAX {
            self.remove(0);
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.id.is(name))
    }
}

impl Entry {
    fn size(&self) -> usize {
        match &self.told {
            Told::Message(item) => item.content.iter().map(Content::text_bytes).sum(),
            Told::Other(json) => json.len(),
        }
    }

    fn json(&self) -> String {
        match &self.told {
            Told::Message(item) => item.json(Dialect::Ga),
            Told::Other(json) => json.to_string(),
        }
    }
}

impl Parrot {
    /// A client puts an item into the conversation.
    pub(super) fn take_item(
        &mut self,
        from: MemberNumber,
        event_id: Option<Box<str>>,
        new: NewItem,
        cx: &mut EngineContext<'_>,
    ) {
        if let Some(id) = new.id.as_ref().filter(|id| self.items.find(id).is_some()) {
            let message = format!("Error adding item: an item with id '{id}' already exists.");
            return refuse(from, event_id, "item_create_duplicate_item_id", message, "item.id", cx);
        }
        let end = self.items.entries.len();
        let at = match new.previous.as_deref() {
            None => end,
            Some("root") => 0,
            Some(previous) => match self.items.find(previous) {
                Some(at) => at + 1,
                None => {
                    let message = format!("Error adding item: the previous item '{previous}' was not found.");
                    let code = "item_create_invalid_previous_item_id";
                    return refuse(from, event_id, code, message, "previous_item_id", cx);
                }
            },
        };
        let before = at.checked_sub(1).map(|before| self.items.entries[before].id.clone());
        let previous = if at == end { self.last_item.clone() } else { before };
        let (id, told) = if new.kind == ItemKind::Message {
            let item = relay::told(&new, cx);
            let told = Told::Message(Box::new(item.clone()));
            let (id, item) = (item.id.clone(), Box::new(item));
            cx.event(
                Audience::All,
                ServerEvent::ItemAdded { item: item.clone(), previous: previous.clone() },
            );
            cx.event(Audience::All, ServerEvent::ItemDone { item, previous });
            (id, told)
        } else {
            let id = told::name_of(&new, cx);
            let json = told::other(&new, &id);
            told::tell_other(Audience::All, &json, previous.as_ref(), cx);
            (id, Told::Other(json))
        };
        if at == end {
            self.last_item = Some(id.clone());
        }
        self.items.insert(at, Entry { id, told, said_ms: None });
        // What others are said to have said is history, nothing to answer.
        if new.role == Role::User {
            self.fresh = Said::of(new.content, self.listener.format).map(Into::into);
            self.called = new.kind == ItemKind::Other;
        }
    }

    /// A client takes an item out of the conversation.
    pub(super) fn delete_item(
        &mut self,
        from: MemberNumber,
        event_id: Option<Box<str>>,
        name: &str,
        cx: &mut EngineContext<'_>,
    ) {
        let Some(at) = self.items.find(name) else {
            return not_found(from, event_id, "item_delete_invalid_item_id", name, cx);
        };
        if at + 1 == self.items.entries.len() {
            // It was the newest: nobody wants an answer to it any more.
            self.fresh = None;
            self.last_item = at.checked_sub(1).map(|before| self.items.entries[before].id.clone());
        }
        self.items.remove(at);
        let members = format!(r#""item_id":{}"#, Value::from(name));
        cx.event(Audience::All, passed("conversation.item.deleted", members));
    }

    /// A client wants to see an item as it is. Audio is not repeated.
    pub(super) fn retrieve_item(
        &mut self,
        from: MemberNumber,
        event_id: Option<Box<str>>,
        name: &str,
        cx: &mut EngineContext<'_>,
    ) {
        let Some(at) = self.items.find(name) else {
            return not_found(from, event_id, "item_retrieve_invalid_item_id", name, cx);
        };
        let members = format!(r#""item":{}"#, self.items.entries[at].json());
        cx.event(Audience::One(from), passed("conversation.item.retrieved", members));
    }

    /// A client has heard only so much of an answer.
    pub(super) fn truncate_item(
        &mut self,
        from: MemberNumber,
        event_id: Option<Box<str>>,
        (name, content_index, audio_end_ms): (&str, u32, u64),
        cx: &mut EngineContext<'_>,
    ) {
        let running = self.answer.as_ref().map(|answer| (ItemName::from(answer.told.item), answer.said_ms()));
        let Some(at) = self.items.find(name) else {
            return not_found(from, event_id, "item_truncate_invalid_item_id", name, cx);
        };
        let entry = &mut self.items.entries[at];
        let running = running.filter(|(id, _)| *id == entry.id).map(|(_, said_ms)| said_ms);
        let Told::Message(item) = &mut entry.told else {
            let message = "Only model output audio messages can be truncated.".to_owned();
            return refuse(from, event_id, "invalid_value", message, "item_id", cx);
        };
        let spoken = matches!(item.content[..], [Content::OutputAudio(_)]) || running.is_some();
        let Some(said_ms) = running.or(entry.said_ms).filter(|_| spoken) else {
            let message = "Only model output audio messages can be truncated.".to_owned();
            return refuse(from, event_id, "invalid_value", message, "item_id", cx);
        };
        if content_index != 0 {
            let message = "There is no such content part: the item has only the one with index 0.".to_owned();
            return refuse(from, event_id, "invalid_value", message, "content_index", cx);
        }
        if audio_end_ms > said_ms {
            let message = format!("Audio content of {said_ms}ms is already shorter than {audio_end_ms}ms");
            return refuse(from, event_id, "invalid_value", message, "audio_end_ms", cx);
        }
        // What was not heard was not said, and nobody knows which words that were.
        item.content = vec![Content::OutputAudio("".into())];
        item.status = ItemStatus::Incomplete;
        entry.said_ms = entry.said_ms.map(|_| audio_end_ms);
        let name = Value::from(name);
        let members = format!(r#""item_id":{name},"content_index":0,"audio_end_ms":{audio_end_ms}"#);
        cx.event(Audience::All, passed("conversation.item.truncated", members));
    }
}

fn not_found(
    from: MemberNumber,
    event_id: Option<Box<str>>,
    code: &'static str,
    name: &str,
    cx: &mut EngineContext<'_>,
) {
    refuse(from, event_id, code, format!("Item with item_id not found: {name}"), "item_id", cx);
}

fn refuse(
    from: MemberNumber,
    event_id: Option<Box<str>>,
    code: &'static str,
    message: String,
    param: &str,
    cx: &mut EngineContext<'_>,
) {
    let error = ClientError { param: Some(param.into()), ..ClientError::new(code, message) };
    cx.event(Audience::One(from), error.about(event_id).into());
}
