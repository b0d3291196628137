//! A response as the members are told of it, whoever makes it: announced, told piece by piece, and ended. It has one item of
//! one part.

use std::borrow::Cow;

use super::{Audience, EngineContext, EngineOutput, ResponseNumber};
use crate::core::event::{
    AudioFormat, CancelReason, Content, ConversationId, Item, ItemId, ItemName, ItemStatus, Modality, Part,
    PartRef, Response, ResponseId, ResponseRequest, ResponseStatus, Role, ServerEvent, Usage,
};
use crate::core::frame::Draft;
use crate::core::ids::MemberNumber;

/// A response that has been announced.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) number: ResponseNumber,
    pub(super) id: ResponseId,
    pub(super) item: ItemId,
    pub(super) modality: Modality,
    pub(super) format: AudioFormat,
    conversation: Option<ConversationId>,
    previous: Option<ItemName>,
    metadata: Option<Box<str>>,
}

/// What a response belongs to.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) number: ResponseNumber,
    /// Nothing when it stays out of it.
    pub(super) conversation: Option<ConversationId>,
    pub(super) previous: Option<ItemName>,
}

/// How a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Completed,
    Cancelled(CancelReason),
    /// With the code of the error.
    Failed(&'static str),
}

/// A piece of a response's audio.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) audio: Draft,
    pub(super) first: bool,
    pub(super) last: bool,
    pub(super) timestamp_ms: u64,
}

impl Telling {
    /// Announces a response.
    pub(super) fn begin(asked: ResponseRequest, place: Place, cx: &mut EngineContext<'_>) -> Self {
        let told = Self {
            number: place.number,
            id: ResponseId(cx.next_id()),
            item: ItemId(cx.next_id()),
            modality: asked.modality.unwrap_or(cx.settings.modality),
            format: cx.settings.format,
            conversation: place.conversation,
            previous: place.previous,
            metadata: asked.metadata,
        };
        let response = told.response(ResponseStatus::InProgress, Vec::new(), None);
        cx.event(Audience::All, ServerEvent::ResponseCreated(Box::new(response)));
        let item = Box::new(told.told_item(ItemStatus::InProgress, Vec::new()));
        cx.event(Audience::All, ServerEvent::OutputItemAdded { response: told.id, item: item.clone() });
        if told.conversation.is_some() {
            cx.event(Audience::All, ServerEvent::ItemAdded { item, previous: told.previous.clone() });
        }
        let audio = told.modality == Modality::Audio;
        cx.event(Audience::All, ServerEvent::ContentPartAdded { of: told.part(), audio });
        told
    }

    /// Its item as it is told while it is being made; nothing when it stays out of the conversation.
    pub(super) fn in_progress(&self) -> Option<Item> {
        self.conversation.map(|_| self.told_item(ItemStatus::InProgress, Vec::new()))
    }

    /// Sends a piece of its audio.
    pub(super) fn audio(&self, piece: Piece, cx: &mut EngineContext<'_>) {
        let Piece { audio, first, last, timestamp_ms } = piece;
        cx.out.push(EngineOutput::Audio {
            to: Audience::All,
            audio,
            track: MemberNumber(0),
            first,
            last,
            timestamp_ms: timestamp_ms as u32,
            response: Some(self.number),
            part: Some(PartRef::Numbered(self.part())),
        });
    }

    /// Tells more of its words.
    pub(super) fn words(&self, words: impl Into<Cow<'static, str>>, cx: &mut EngineContext<'_>) {
        let (of, delta) = (self.part(), words.into());
        let event = match self.modality {
            Modality::Audio => ServerEvent::TranscriptDelta { of, delta },
            Modality::Text => ServerEvent::TextDelta { of, delta },
        };
        cx.out.push(EngineOutput::Event { to: Audience::All, event, response: Some(self.number) });
    }

    /// What is queued of it goes.
    pub(super) fn flush(&self, cx: &mut EngineContext<'_>) {
        cx.out.push(EngineOutput::Flush(self.number));
        cx.event(Audience::All, ServerEvent::OutputCleared { response: self.id });
    }

    /// Ends it with these words in all; gives its item.
    pub(super) fn finish(&self, end: End, words: &str, usage: Usage, cx: &mut EngineContext<'_>) -> Item {
        if let End::Cancelled(_) = end {
            self.flush(cx);
        }
        let (of, text) = (self.part(), || Box::<str>::from(words));
        let content = match self.modality {
            Modality::Audio => {
                cx.event(Audience::All, ServerEvent::OutputAudioDone { of });
                cx.event(Audience::All, ServerEvent::TranscriptDone { of, text: text() });
                Content::OutputAudio(text())
            }
            Modality::Text => {
                cx.event(Audience::All, ServerEvent::TextDone { of, text: text() });
                Content::OutputText(text())
            }
        };
        let audio = self.modality == Modality::Audio;
        cx.event(Audience::All, ServerEvent::ContentPartDone { of, audio, text: text() });
        let (status, item_status) = match end {
            End::Completed => (ResponseStatus::Completed, ItemStatus::Completed),
            End::Cancelled(reason) => (ResponseStatus::Cancelled(reason), ItemStatus::Incomplete),
            End::Failed(code) => (ResponseStatus::Failed(code), ItemStatus::Incomplete),
        };
        let item = self.told_item(item_status, vec![content]);
        let boxed = Box::new(item.clone());
        cx.event(Audience::All, ServerEvent::OutputItemDone { response: self.id, item: boxed.clone() });
        if self.conversation.is_some() {
            let previous = self.previous.clone();
            cx.event(Audience::All, ServerEvent::ItemDone { item: boxed, previous });
        }
        let response = self.response(status, vec![item.clone()], Some(usage));
        cx.event(Audience::All, ServerEvent::ResponseDone(Box::new(response)));
        item
    }

    fn part(&self) -> Part {
        Part { response: self.id, item: self.item }
    }

    fn told_item(&self, status: ItemStatus, content: Vec<Content>) -> Item {
        Item { id: self.item.into(), role: Role::Assistant, status, content }
    }

    fn response(&self, status: ResponseStatus, output: Vec<Item>, usage: Option<Usage>) -> Response {
        Response {
            id: self.id,
            conversation: self.conversation.unwrap_or(ConversationId::NONE),
            status,
            output,
            modality: self.modality,
            format: self.format,
            usage,
            metadata: self.metadata.clone(),
        }
    }
}
