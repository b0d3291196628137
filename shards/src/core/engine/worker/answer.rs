//! A worker's answer as the members are told it: a response with one item of one part.

use crate::core::engine::listen::recording::WINDOW_MS;
use crate::core::engine::{Audience, EngineContext, EngineOutput, ResponseNumber};
use crate::core::event::{
    AudioFormat, CancelReason, Codec, Content, ConversationId, Item, ItemId, ItemName, ItemStatus, Modality,
    Part, PartRef, Response, ResponseId, ResponseRequest, ResponseStatus, Role, ServerEvent, Usage,
};
use crate::core::ids::MemberNumber;

/// Bytes of words in one answer: hours of speech. They are told again when it is done.
const WORDS_BYTES_MAX: usize = 262_144;

/// An answer that has begun.
#[derive(Debug)]
pub(super) struct Answer {
    number: ResponseNumber,
    pub(super) id: ResponseId,
    item: ItemId,
    previous: Option<ItemName>,
    conversation: ConversationId,
    modality: Modality,
    format: AudioFormat,
    metadata: Option<Box<str>>,
    tokens_in: (u64, u64),
    words: String,
    /// Bytes of audio sent so far, or packets where one is 20 ms.
    sent: u64,
}

/// What an answer belongs to.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) number: ResponseNumber,
    pub(super) conversation: ConversationId,
    pub(super) previous: Option<ItemName>,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Completed,
    Cancelled(CancelReason),
    /// With the code of the error.
    Failed(&'static str),
}

impl Answer {
    /// Announces a response.
    pub(super) fn begin(
        asked: &ResponseRequest,
        tokens_in: (u64, u64),
        place: Place,
        cx: &mut EngineContext<'_>,
    ) -> Self {
        let answer = Self {
            number: place.number,
            id: ResponseId(cx.next_id()),
            item: ItemId(cx.next_id()),
            previous: place.previous,
            conversation: place.conversation,
            modality: asked.modality.unwrap_or(cx.settings.modality),
            format: cx.settings.format,
            metadata: asked.metadata.clone(),
            tokens_in,
            words: String::new(),
            sent: 0,
        };
        let response = answer.response(ResponseStatus::InProgress, Vec::new(), None);
        cx.event(Audience::All, ServerEvent::ResponseCreated(Box::new(response)));
        let item = Box::new(answer.told_item(ItemStatus::InProgress, Vec::new()));
        cx.event(Audience::All, ServerEvent::OutputItemAdded { response: answer.id, item: item.clone() });
        cx.event(Audience::All, ServerEvent::ItemAdded { item, previous: answer.previous.clone() });
        let audio = answer.modality == Modality::Audio;
        cx.event(Audience::All, ServerEvent::ContentPartAdded { of: answer.part(), audio });
        answer
    }

    /// The item that it becomes.
    pub(super) fn item(&self) -> ItemId {
        self.item
    }

    /// Sends a piece of its audio, in frames that fit a lane. A response that is to be text has none.
    pub(super) fn audio(&mut self, bytes: &[u8], last: bool, cx: &mut EngineContext<'_>) {
        if self.modality == Modality::Text || bytes.is_empty() {
            return;
        }
        // No sample is torn; a packet of Opus is a frame.
        let chunk = match self.format.codec {
            Codec::Opus => bytes.len(),
            Codec::Pcm16 | Codec::G711Ulaw | Codec::G711Alaw => (cx.config.audio.chunk_bytes & !1).max(2),
        };
        let mut pieces = bytes.chunks(chunk).peekable();
        while let Some(piece) = pieces.next() {
            let audio = cx.pool.copy(piece);
            cx.out.push(EngineOutput::Audio {
                to: Audience::All,
                audio,
                track: MemberNumber(0),
                first: self.sent == 0,
                last: last && pieces.peek().is_none(),
                timestamp_ms: self.sent_ms() as u32,
                response: Some(self.number),
                part: Some(PartRef::Numbered(self.part())),
            });
            self.sent += if self.format.codec == Codec::Opus { 1 } else { piece.len() as u64 };
        }
    }

    /// Tells more of its words; `false` when they are more than an answer may have.
    pub(super) fn words(&mut self, words: Box<str>, cx: &mut EngineContext<'_>) -> bool {
        if self.words.len() + words.len() > WORDS_BYTES_MAX {
            return false;
        }
        self.words.push_str(&words);
        let (of, delta) = (self.part(), String::from(words).into());
        let event = match self.modality {
            Modality::Audio => ServerEvent::TranscriptDelta { of, delta },
            Modality::Text => ServerEvent::TextDelta { of, delta },
        };
        cx.out.push(EngineOutput::Event { to: Audience::All, event, response: Some(self.number) });
        true
    }

    /// Ends the response as it is.
    pub(super) fn finish(self, end: End, cx: &mut EngineContext<'_>) {
        if let End::Cancelled(_) = end {
            cx.out.push(EngineOutput::Flush(self.number));
            cx.event(Audience::All, ServerEvent::OutputCleared { response: self.id });
        }
        let (of, text) = (self.part(), || Box::<str>::from(&*self.words));
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
        let (item, status) = match end {
            End::Completed => (ItemStatus::Completed, ResponseStatus::Completed),
            End::Cancelled(reason) => (ItemStatus::Incomplete, ResponseStatus::Cancelled(reason)),
            End::Failed(code) => (ItemStatus::Incomplete, ResponseStatus::Failed(code)),
        };
        let item = Box::new(self.told_item(item, vec![content]));
        cx.event(Audience::All, ServerEvent::OutputItemDone { response: self.id, item: item.clone() });
        let previous = self.previous.clone();
        cx.event(Audience::All, ServerEvent::ItemDone { item: item.clone(), previous });
        let response = self.response(status, vec![*item], Some(self.usage()));
        cx.event(Audience::All, ServerEvent::ResponseDone(Box::new(response)));
    }

    fn sent_ms(&self) -> u64 {
        match self.format.bytes_per_ms() {
            Some(bytes) => self.sent / bytes as u64,
            None => self.sent * WINDOW_MS,
        }
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
            conversation: self.conversation,
            status,
            output,
            modality: self.modality,
            format: self.format,
            usage,
            metadata: self.metadata.clone(),
        }
    }

    fn usage(&self) -> Usage {
        let (input_text, input_audio) = self.tokens_in;
        let output_text = self.words.split_whitespace().count() as u64;
        Usage { input_text, input_audio, output_text, output_audio: self.sent_ms().div_ceil(50) }
    }
}
