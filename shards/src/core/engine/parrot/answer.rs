//! A response on its way: created, played at the pace of speech, done or cut short.

use super::recording::WINDOW_MS;
use super::speech::{Script, Source};
use crate::core::engine::EngineContext;
use crate::core::engine::telling::{End, Piece, Place, Telling};
use crate::core::event::{AudioFormat, Codec, Item, Modality, ResponseRequest, Usage};
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
    pub(super) told: Telling,
    source: Source,
    script: Script,
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

/// What is left of an answer.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) source: Source,
    pub(super) item: Item,
    pub(super) ms: u64,
    pub(super) usage: Usage,
}

impl Answer {
    /// Announces a response; its first chunk is due now.
    pub(super) fn begin(
        source: Source,
        request: ResponseRequest,
        place: Place,
        fails: bool,
        cx: &mut EngineContext<'_>,
    ) -> Self {
        let format = cx.settings.format;
        Self {
            told: Telling::begin(request, place, cx),
            script: Script::new(source.transcript(format)),
            begins: cx.now + cx.config.parrot.delay,
            pace: cx.config.parrot.pace,
            step: step(format, cx),
            windows: source.chunks(format),
            sent: 0,
            cursor: 0,
            pause: cx.now,
            fails,
            source,
        }
    }

    /// How much of it was said.
    pub(super) fn said_ms(&self) -> u64 {
        self.sent * WINDOW_MS
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
        let end = if self.fails { End::Failed("server_error") } else { End::Completed };
        if self.told.modality == Modality::Text {
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
        let mut audio = self.source.chunk(from, &mut self.cursor, self.told.format, cx.pool);
        for window in from + 1..to {
            let more = self.source.chunk(window, &mut self.cursor, self.told.format, cx.pool);
            audio.extend(cx.pool, more.payload());
            cx.pool.discard(more);
        }
        let (first, last) = (from == 0, to == self.windows);
        self.told.audio(Piece { audio, first, last, timestamp_ms: from * WINDOW_MS }, cx);
        self.sent = to;
    }

    /// Tells the words that go with window `index`.
    fn tell(&mut self, index: u64, cx: &mut EngineContext<'_>) {
        while let Some(piece) = self.script.due(index, self.windows) {
            self.told.words(piece.to_owned(), cx);
        }
    }

    /// Ends the response as it is and gives back what it said.
    pub(super) fn finish(self, end: End, cx: &mut EngineContext<'_>) -> Said {
        let usage = self.usage();
        let item = self.told.finish(end, self.script.told(), usage, cx);
        Said { item, ms: self.said_ms(), usage, source: self.source }
    }

    fn usage(&self) -> Usage {
        let (input_text, input_audio) = self.source.input_tokens(self.told.format);
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
