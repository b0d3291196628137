//! The relay: forwards a member's audio and text to the other members. It allocates nothing per frame and keeps
//! no audio.

use super::spurt::Spurts;
use super::{Audience, EngineContext, EngineInput, EngineOutput, told};
use crate::core::event::{
    ClientCommand, Content, Item, ItemId, ItemKind, ItemStatus, NewContent, NewItem, ServerEvent,
};
use crate::core::ids::MemberNumber;

/// Takes one input.
pub(super) fn handle(spurts: &mut Spurts, input: EngineInput, cx: &mut EngineContext<'_>) {
    match input {
        EngineInput::Audio { from, audio } => {
            let mark = spurts.mark(from, cx.now);
            cx.out.push(EngineOutput::Audio {
                to: Audience::AllBut(from),
                audio,
                track: from,
                first: mark.first,
                last: false,
                timestamp_ms: mark.timestamp_ms,
                response: None,
                part: None,
            });
        }
        EngineInput::Command { from, event_id, command } => {
            answer(from, event_id, command, Audience::All, cx)
        }
        EngineInput::Left { member } => spurts.forget(member),
        EngineInput::Tick => {}
    }
}

/// Answers a command where audio passes through: nothing is buffered, so a commit ends a turn of which nothing
/// is left, and nobody is there to respond.
pub(super) fn answer(
    from: MemberNumber,
    event_id: Option<Box<str>>,
    command: ClientCommand,
    readers: Audience,
    cx: &mut EngineContext<'_>,
) {
    match command {
        ClientCommand::Commit => {
            let item = ItemId(cx.next_id());
            cx.event(Audience::One(from), ServerEvent::Committed { item, previous: None });
        }
        ClientCommand::Clear => cx.event(Audience::One(from), ServerEvent::Cleared),
        ClientCommand::ItemCreate(new) if new.kind == ItemKind::Other => {
            let id = told::name_of(&new, cx);
            told::tell_other(readers, &told::other(&new, &id), None, cx);
        }
        ClientCommand::ItemCreate(new) => {
            let item = Box::new(told(&new, cx));
            cx.event(readers, ServerEvent::ItemAdded { item: item.clone(), previous: None });
            cx.event(readers, ServerEvent::ItemDone { item, previous: None });
        }
        ClientCommand::ResponseCreate(_) | ClientCommand::OutputClear => {
            let message = "This room's engine passes audio on and makes no responses.";
            cx.refuse(from, event_id, "engine_has_no_responses", message);
        }
        ClientCommand::ResponseCancel { .. } => {
            cx.refuse(from, event_id, "response_cancel_not_active", "There is no response to cancel.");
        }
        ClientCommand::ItemDelete { .. }
        | ClientCommand::ItemRetrieve { .. }
        | ClientCommand::ItemTruncate { .. } => told::keeps_no_items(from, event_id, cx),
        ClientCommand::Append
        | ClientCommand::SessionUpdate(_)
        | ClientCommand::RoomSend { .. }
        | ClientCommand::Channel(_)
        | ClientCommand::Ping { .. } => {}
    }
}

/// A new item as it is told to clients.
pub(super) fn told(new: &NewItem, cx: &mut EngineContext<'_>) -> Item {
    let id = told::name_of(new, cx);
    let by_engine = new.role == crate::core::event::Role::Assistant;
    let content = new.content.iter().map(|content| match content {
        NewContent::Text(text) if by_engine => Content::OutputText(text.clone()),
        NewContent::Text(text) => Content::InputText(text.clone()),
        NewContent::Image => Content::InputImage,
        NewContent::Audio { transcript, .. } => Content::InputAudio(transcript.clone()),
    });
    Item { id, role: new.role, status: ItemStatus::Completed, content: content.collect() }
}
