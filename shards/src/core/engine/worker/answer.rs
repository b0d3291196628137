//! A worker's answer: what it has brought so far, and what the members are told of it.

use crate::core::engine::EngineContext;
use crate::core::engine::listen::recording::WINDOW_MS;
use crate::core::engine::telling::{End, Piece, Place, Telling};
use crate::core::event::{Codec, Modality, ResponseRequest, Usage};

/// Bytes of words in one answer: hours of speech. They are told again when it is done.
const WORDS_BYTES_MAX: usize = 262_144;

/// An answer that has begun.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) told: Telling,
    tokens_in: (u64, u64),
    words: String,
    /// Bytes of audio sent so far, or packets where one is 20 ms.
    sent: u64,
}

impl Answer {
    /// Announces a response.
    pub(super) fn begin(
        asked: &ResponseRequest,
        tokens_in: (u64, u64),
        place: Place,
        cx: &mut EngineContext<'_>,
    ) -> Self {
        Self { told: Telling::begin(asked.clone(), place, cx), tokens_in, words: String::new(), sent: 0 }
    }

    /// Sends a piece of its audio, in frames that fit a lane. A response that is to be text has none.
    pub(super) fn audio(&mut self, bytes: &[u8], last: bool, cx: &mut EngineContext<'_>) {
        if self.told.modality == Modality::Text || bytes.is_empty() {
            return;
        }
        let codec = self.told.format.codec;
        // No sample is torn; a packet of Opus is a frame.
        let chunk = match codec {
            Codec::Opus => bytes.len(),
            Codec::Pcm16 | Codec::G711Ulaw | Codec::G711Alaw => (cx.config.audio.chunk_bytes & !1).max(2),
        };
        let mut pieces = bytes.chunks(chunk).peekable();
        while let Some(piece) = pieces.next() {
            let audio = cx.pool.copy(piece);
            let (first, last) = (self.sent == 0, last && pieces.peek().is_none());
            self.told.audio(Piece { audio, first, last, timestamp_ms: self.sent_ms() }, cx);
            self.sent += if codec == Codec::Opus { 1 } else { piece.len() as u64 };
        }
    }

    /// Tells more of its words; `false` when they are more than an answer may have.
    pub(super) fn words(&mut self, words: Box<str>, cx: &mut EngineContext<'_>) -> bool {
        if self.words.len() + words.len() > WORDS_BYTES_MAX {
            return false;
        }
        self.words.push_str(&words);
        self.told.words(String::from(words), cx);
        true
    }

    /// Ends the response as it is.
    pub(super) fn finish(self, end: End, cx: &mut EngineContext<'_>) {
        self.told.finish(end, &self.words, self.usage(), cx);
    }

    fn sent_ms(&self) -> u64 {
        match self.told.format.bytes_per_ms() {
            Some(bytes) => self.sent / bytes as u64,
            None => self.sent * WINDOW_MS,
        }
    }

    fn usage(&self) -> Usage {
        let (input_text, input_audio) = self.tokens_in;
        let output_text = self.words.split_whitespace().count() as u64;
        Usage { input_text, input_audio, output_text, output_audio: self.sent_ms().div_ceil(50) }
    }
}
