//! A response on its way: created, played at the pace of speech, done or cut short.

use super::recording::WINDOW_MS;
use super::speech::{Script, Source};
use crate::core::engine::{Audience, EngineContext, EngineOutput, ResponseNumber};
use crate::core::event::{
    AudioFormat, CancelReason, Codec, Content, ConversationId, Item, ItemId, ItemName, ItemStatus, Modality,
    Part, PartRef, Response, ResponseId, ResponseRequest, ResponseStatus, Role, ServerEvent, Usage,
};
use crate::core::ids::MemberNumber;
use crate::core::time::Micros;

/// Windows sent at most per input: a shard that was held up catches up without flooding the lanes at once.
const CATCH_UP_WINDOWS_MAX: u64 = 100;

/// What an answer without a pace leaves between so many windows, so that clients can take them.
const PAUSE: Micros = Micros::from_ms(20);

/// How much of speech comes at once where it travels in events.
const EVENT_CHUNK_WINDOWS: u64 = 5;

/// A running response.
#[derive(Debug)]
pub(super) struct Answer {
    number: ResponseNumber,
    pub(super) id: ResponseId,
    item: ItemId,
    previous: Option<ItemName>,
    conversation: Option<ConversationId>,
    source: Source,
    script: Script,
    modality: Modality,
    metadata: Option<Box<str>>,
    format: AudioFormat,
    /// When its first chunk is due.
    begins: Micros,
    /// How many times as fast as speech it comes; zero: as fast as possible.
    pace: u64,
    /// Windows in a chunk.
    step: u64,
    /// Windows in all.
    windows: u64,
    /// Windows sent so far.
    sent: u64,
    cursor: usize,
    /// When it may go on, if it has no pace.
    pause: Micros,
    /// It will not come to its end.
    fails: bool,
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more to say.
    Going,
    /// It is over.
    Over(End),
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    CutShort(CancelReason),
    Failed,
}

/// What is left of an answer.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) source: Source,
    pub(super) item: Item,
    pub(super) ms: u64,
    pub(super) usage: Usage,
}

/// What an answer belongs to.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) number: ResponseNumber,
    /// Nothing when it stays out of it.
    pub(super) conversation: Option<ConversationId>,
    pub(super) previous: Option<ItemName>,
    /// Whether it has to fail.
    pub(super) fails: bool,
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
            begins: cx.now + cx.config.parrot.delay,
            pace: cx.config.parrot.pace,
            step: step(format, cx),
            windows: source.chunks(format),
            sent: 0,
            cursor: 0,
            pause: cx.now,
            fails: place.fails,
            source,
        };
        let response = answer.response(ResponseStatus::InProgress, Vec::new(), None);
        cx.event(Audience::All, ServerEvent::ResponseCreated(Box::new(response)));
        let item = Box::new(answer.told_item(ItemStatus::InProgress, Vec::new()));
        cx.event(Audience::All, ServerEvent::OutputItemAdded { response: answer.id, item: item.clone() });
        if answer.conversation.is_some() {
            cx.event(Audience::All, ServerEvent::ItemAdded { item, previous: answer.previous.clone() });
        }
        let audio = answer.modality == Modality::Audio;
        cx.event(Audience::All, ServerEvent::ContentPartAdded { of: answer.part(), audio });
        answer
    }

    /// The item that it becomes.
    pub(super) fn item(&self) -> ItemId {
        self.item
    }

    /// Its item as it is told while it is being made; nothing when it stays out of the conversation.
    pub(super) fn in_progress(&self) -> Option<Item> {
        self.conversation.map(|_| self.told_item(ItemStatus::InProgress, Vec::new()))
    }

    /// How much of it was said.
    pub(super) fn said_ms(&self) -> u64 {
        self.sent * WINDOW_MS
    }

    pub(super) fn number(&self) -> ResponseNumber {
        self.number
    }

    /// When its next chunk is due.
    pub(super) fn deadline(&self) -> Micros {
        match self.pace {
            0 => self.begins.max(self.pause),
            pace => self.begins + Micros(self.sent * WINDOW_MS * 1_000 / pace),
        }
    }

    /// Sends what is due by now.
    pub(super) fn advance(&mut self, cx: &mut EngineContext<'_>) -> Progress {
        if cx.now < self.deadline() {
            return Progress::Going;
        }
        let end = if self.fails { End::Failed } else { End::Whole };
        if self.modality == Modality::Text {
            if !self.fails {
                self.tell(u64::MAX, cx);
            }
            return Progress::Over(end);
        }
        // One that fails does so half-way.
        let last = if self.fails { (self.windows / 2).max(1) } else { self.windows };
        let due = self.due(cx.now).min(last).min(self.sent + CATCH_UP_WINDOWS_MAX.max(self.step));
        while self.sent < due {
            self.say(cx);
        }
        self.pause = cx.now + PAUSE;
        if self.sent < last { Progress::Going } else { Progress::Over(end) }
    }

    /// How many windows are due, whole chunks at a time.
    fn due(&self, now: Micros) -> u64 {
        if self.pace == 0 {
            return self.windows;
        }
        let gone = now.since(self.begins).0.saturating_mul(self.pace) / (WINDOW_MS * 1_000);
        gone.saturating_add(1).next_multiple_of(self.step)
    }

    /// Sends the next chunk, and the words that go with it.
    fn say(&mut self, cx: &mut EngineContext<'_>) {
        let from = self.sent;
        let to = (from + self.step).min(self.windows);
        self.tell(to - 1, cx);
        let mut audio = self.source.chunk(from, &mut self.cursor, self.format, cx.pool);
        for window in from + 1..to {
            let more = self.source.chunk(window, &mut self.cursor, self.format, cx.pool);
            audio.extend(cx.pool, more.payload());
            cx.pool.discard(more);
        }
        cx.out.push(EngineOutput::Audio {
            to: Audience::All,
            audio,
            track: MemberNumber(0),
            first: from == 0,
            last: to == self.windows,
            timestamp_ms: (from * WINDOW_MS) as u32,
            response: Some(self.number),
            part: Some(PartRef::Numbered(self.part())),
        });
        self.sent = to;
    }

    /// Tells the words that go with window `index`.
    fn tell(&mut self, index: u64, cx: &mut EngineContext<'_>) {
        let of = self.part();
        while let Some(piece) = self.script.due(index, self.windows) {
            let delta = piece.to_owned().into();
            let event = match self.modality {
                Modality::Audio => ServerEvent::TranscriptDelta { of, delta },
                Modality::Text => ServerEvent::TextDelta { of, delta },
            };
            cx.out.push(EngineOutput::Event { to: Audience::All, event, response: Some(self.number) });
        }
    }

    /// Ends the response as it is and gives back what it said.
    pub(super) fn finish(self, end: End, cx: &mut EngineContext<'_>) -> Said {
        if matches!(end, End::CutShort(_)) {
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
        let (status, item_status) = match end {
            End::Whole => (ResponseStatus::Completed, ItemStatus::Completed),
            End::CutShort(reason) => (ResponseStatus::Cancelled(reason), ItemStatus::Incomplete),
            End::Failed => (ResponseStatus::Failed("server_error"), ItemStatus::Incomplete),
        };
        let item = self.told_item(item_status, vec![content]);
        let boxed = Box::new(item.clone());
        cx.event(Audience::All, ServerEvent::OutputItemDone { response: self.id, item: boxed.clone() });
        if self.conversation.is_some() {
            let previous = self.previous.clone();
            cx.event(Audience::All, ServerEvent::ItemDone { item: boxed, previous });
        }
        let usage = self.usage();
        let response = self.response(status, vec![item.clone()], Some(usage));
        cx.event(Audience::All, ServerEvent::ResponseDone(Box::new(response)));
        Said { item, ms: self.said_ms(), usage, source: self.source }
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

    fn usage(&self) -> Usage {
        let (input_text, input_audio) = self.source.input_tokens(self.format);
        let output_audio = (self.sent * WINDOW_MS).div_ceil(50);
        Usage { input_text, input_audio, output_text: self.script.told_words(), output_audio }
    }
}

/// How many windows come at once.
fn step(format: AudioFormat, cx: &EngineContext<'_>) -> u64 {
    match cx.config.parrot.chunk.as_ms() / WINDOW_MS {
        // A packet is a frame.
        _ if format.codec == Codec::Opus => 1,
        0 if cx.only_events => EVENT_CHUNK_WINDOWS,
        0 => 1,
        windows => windows,
    }
}
