//! What members ask for, as the model server wants to hear it.

use serde_json::{Map, Value, json};

use super::waiting::{Message, What};
use super::{ASKERS_MAX, OUR_ASK, Realtime, names, session};
use crate::core::config::Dialect;
use crate::core::engine::{Audience, EngineContext};
use crate::core::event::{ClientCommand, NewItem, ResponseRequest, ServerEvent};
use crate::core::ids::MemberNumber;

/// The name that a client has for its event.
type Name = Option<Box<str>>;

impl Realtime {
    pub(super) fn command(
        &mut self,
        from: MemberNumber,
        name: Name,
        command: ClientCommand,
        cx: &mut EngineContext<'_>,
    ) {
        if let Some(name) = &name {
            self.askers.truncate(ASKERS_MAX - 1);
            self.askers.push_front((name.clone(), from));
        }
        match command {
            ClientCommand::Commit => {
                self.post(message("input_audio_buffer.commit", name, json!({}), What::Commit), cx);
            }
            ClientCommand::Clear => self.clear(from, name, cx),
            ClientCommand::ItemCreate(item) => self.create_item(name, &item, cx),
            ClientCommand::ItemDelete { item } => {
                let members = json!({ "item_id": item });
                self.post(message("conversation.item.delete", name, members, What::Other), cx);
            }
            ClientCommand::ItemRetrieve { item } => {
                let members = json!({ "item_id": item });
                self.post(message("conversation.item.retrieve", name, members, What::Other), cx);
            }
            ClientCommand::ItemTruncate { item, content_index, audio_end_ms } => {
                let members =
                    json!({ "item_id": item, "content_index": content_index, "audio_end_ms": audio_end_ms });
                self.post(message("conversation.item.truncate", name, members, What::Other), cx);
            }
            ClientCommand::OutputClear => {
                self.interrupt(None, cx);
            }
            ClientCommand::ResponseCreate(request) => self.create_response(name, request, cx),
            ClientCommand::ResponseCancel { response_id } => self.cancel(from, name, response_id, cx),
            ClientCommand::SessionUpdate(_) => {
                self.format_refused = false;
                let spoke = self.line.as_ref().is_some_and(|line| line.spoke);
                if let Some(line) = self.ready_line() {
                    self.settle(cx);
                    cx.send_json(line, &session::update(cx, !spoke));
                }
            }
            ClientCommand::Append
            | ClientCommand::RoomSend { .. }
            | ClientCommand::Channel(_)
            | ClientCommand::Ping { .. } => {}
        }
    }

    fn clear(&mut self, from: MemberNumber, name: Name, cx: &mut EngineContext<'_>) {
        match self.ready_line() {
            Some(_) => {
                self.send(message("input_audio_buffer.clear", name, json!({}), What::Other), cx);
                self.ear.cleared();
            }
            None => {
                self.waiting.clear_audio();
                cx.event(Audience::One(from), ServerEvent::Cleared);
            }
        }
    }

    fn create_item(&mut self, name: Name, new: &NewItem, cx: &mut EngineContext<'_>) {
        let Ok(mut item) = serde_json::from_str::<Value>(&new.raw) else { return };
        if new.id.is_none() && item.is_object() {
            // With a name of ours it can be told to another session under the same.
            item["id"] = format!("item_v{:x}", cx.next_id()).into();
        }
        let told = if cx.config.realtime.dialect == Dialect::Beta {
            names::item_to_beta(item.clone())
        } else {
            item.clone()
        };
        let mut members = json!({ "item": told });
        if let Some(previous) = &new.previous {
            members["previous_item_id"] = Value::from(&**previous);
        }
        self.post(message("conversation.item.create", name, members, What::Item(Box::new(item))), cx);
    }

    fn create_response(&mut self, name: Name, request: ResponseRequest, cx: &mut EngineContext<'_>) {
        let wish = request.raw.and_then(|raw| serde_json::from_str::<Map<String, Value>>(&raw).ok());
        let wish = match (wish, cx.config.realtime.dialect) {
            (Some(wish), Dialect::Beta) => Some(names::to_beta(wish)),
            (wish, _) => wish,
        };
        let members = wish.map_or(json!({}), |wish| json!({ "response": wish }));
        let name = name.or_else(|| Some(OUR_ASK.into()));
        self.post(message("response.create", name, members, What::Ask), cx);
    }

    fn cancel(
        &mut self,
        from: MemberNumber,
        name: Name,
        response: Option<Box<str>>,
        cx: &mut EngineContext<'_>,
    ) {
        let line = self.ready_line();
        let named = |id: &str| response.as_deref().is_none_or(|name| name == id);
        let running = line.is_some_and(|line| self.voice.running(line).any(|answer| named(&answer.id)));
        // One that is asked for and has not begun can only be cancelled where it is made.
        let asked = response.is_none() && (self.turn.ask.is_some() || self.turn.expecting);
        if line.is_none() || !(running || asked) {
            let message = "There is no such response in progress.";
            return cx.refuse(from, name, "response_cancel_not_active", message);
        }
        let members = response.as_ref().map_or(json!({}), |id| json!({ "response_id": id }));
        self.interrupt(response.as_deref(), cx);
        self.used(cx);
        self.send(message("response.cancel", name, members, What::Other), cx);
    }
}

fn message(kind: &str, name: Name, mut members: Value, what: What) -> Message {
    members["type"] = kind.into();
    if let Some(name) = name {
        members["event_id"] = Value::from(&*name);
    }
    Message { text: members.to_string().into_bytes(), what }
}
