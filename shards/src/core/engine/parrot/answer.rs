//! A response on its way: created, played at the pace of speech, done or cut short.

use super::recording::WINDOW_MS;
use super::speech::{Script, Source};
use crate::core::engine::{Audience, EngineContext, EngineOutput, ResponseNumber};
use crate::core::event::{
    AudioFormat, CancelReason, Content, ConversationId, Item, ItemId, ItemName, ItemStatus, Modality, Part,
    PartRef, Response, ResponseId, ResponseRequest, ResponseStatus, Role, ServerEvent, Usage,
};
use crate::core::ids::MemberNumber;
use crate::core::time::Micros;

/// Chunks sent at most per input: a shard that was held up catches up without flooding the lanes at once.
const CATCH_UP_CHUNKS_MAX: u64 = 100;

/// A running response.
#[derive(Debug)]
pub(super) struct Answer {
    number: ResponseNumber,
    pub(super) id: ResponseId,
    item: ItemId,
    previous: Option<ItemName>,
    conversation: ConversationId,
    source: Source,
    script: Script,
    modality: Modality,
    metadata: Option<Box<str>>,
    format: AudioFormat,
    started: Micros,
    chunks: u64,
    /// Chunks sent so far.
    sent: u64,
    cursor: usize,
}

/// What an answer belongs to.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) number: ResponseNumber,
    pub(super) conversation: ConversationId,
    pub(super) previous: Option<ItemName>,
}

impl Answer {
    /// Announces a response; its first chunk is due now.
    pub(super) fn begin(
        source: Source,
        request: ResponseRequest,
        place: Place,
        cx: &mut EngineContext<'_>,
    ) -> Self {
        let format = cx.settings.format;
        let answer = Self {
            number: place.number,
            id: ResponseId(cx.next_id()),
            item: ItemId(cx.next_id()),
            previous: place.previous,
            conversation: place.conversation,
            script: Script::new(source.transcript(format)),
            modality: request.modality.unwrap_or(cx.settings.modality),
            metadata: request.metadata,
            format,
            started: cx.now,
            chunks: source.chunks(format),
            sent: 0,
            cursor: 0,
            source,
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

    /// When its next chunk is due.
    pub(super) fn deadline(&self) -> Micros {
        self.started + Micros::from_ms(self.sent * WINDOW_MS)
    }

    /// Sends what is due by now; says whether that was all.
    pub(super) fn advance(&mut self, cx: &mut EngineContext<'_>) -> bool {
        if self.modality == Modality::Text {
            self.tell(u64::MAX, cx);
            return true;
        }
        let due = (cx.now.since(self.started).as_ms() / WINDOW_MS + 1).min(self.chunks);
        for index in self.sent..due.min(self.sent + CATCH_UP_CHUNKS_MAX) {
            self.tell(index, cx);
            let audio = self.source.chunk(index, &mut self.cursor, self.format, cx.pool);
            cx.out.push(EngineOutput::Audio {
                to: Audience::All,
                audio,
                track: MemberNumber(0),
                first: index == 0,
                last: index + 1 == self.chunks,
                timestamp_ms: (index * WINDOW_MS) as u32,
                response: Some(self.number),
                part: Some(PartRef::Numbered(self.part())),
            });
            self.sent = index + 1;
        }
        self.sent == self.chunks
    }

    /// Tells the words that go with chunk `index`.
    fn tell(&mut self, index: u64, cx: &mut EngineContext<'_>) {
        let of = self.part();
        while let Some(piece) = self.script.due(index, self.chunks) {
            let delta = piece.to_owned().into();
            let event = match self.modality {
                Modality::Audio => ServerEvent::TranscriptDelta { of, delta },
                Modality::Text => ServerEvent::TextDelta { of, delta },
            };
            cx.out.push(EngineOutput::Event { to: Audience::All, event, response: Some(self.number) });
        }
    }

    /// Ends the response as it is and gives back what it said.
    pub(super) fn finish(self, cancelled: Option<CancelReason>, cx: &mut EngineContext<'_>) -> Source {
        if cancelled.is_some() {
            cx.out.push(EngineOutput::Flush(self.number));
            cx.event(Audience::All, ServerEvent::OutputCleared { response: self.id });
        }
        let (of, text) = (self.part(), || Box::<str>::from(self.script.told()));
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
        let status = if cancelled.is_some() { ItemStatus::Incomplete } else { ItemStatus::Completed };
        let item = Box::new(self.told_item(status, vec![content]));
        cx.event(Audience::All, ServerEvent::OutputItemDone { response: self.id, item: item.clone() });
        let previous = self.previous.clone();
        cx.event(Audience::All, ServerEvent::ItemDone { item: item.clone(), previous });
        let status = cancelled.map_or(ResponseStatus::Completed, ResponseStatus::Cancelled);
        let response = self.response(status, vec![*item], Some(self.usage()));
        cx.event(Audience::All, ServerEvent::ResponseDone(Box::new(response)));
        self.source
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
        let (input_text, input_audio) = self.source.input_tokens(self.format);
        let output_audio = (self.sent * WINDOW_MS).div_ceil(50);
        Usage { input_text, input_audio, output_text: self.script.told_words(), output_audio }
    }
}
