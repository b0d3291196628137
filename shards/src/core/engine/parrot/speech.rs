//! What the parrot has to say: audio by the chunk, and words to go with it.

use super::recording::{RECORDING_MS_MAX, Recording, WINDOW_MS};
use super::tone::{self, NOTE_CHUNKS};
use crate::core::event::AudioFormat;
use crate::core::frame::{Draft, FramePool};

/// Words that get a tone: a minute of them. The transcript has them all.
const TONES_MAX: u64 = RECORDING_MS_MAX / (NOTE_CHUNKS * WINDOW_MS);

const GREETING: &str = "Hello! I am the parrot: say something, and I say it back.";
const GREETING_NOTES: u64 = 3;

/// What an answer is made of.
#[derive(Debug)]
pub(super) enum Source {
    /// An utterance, played back as it came.
    Utterance(Recording),
    /// A text, with a tone for each word.
    Text(Box<str>),
    /// What is said when there is nothing to repeat.
    Greeting,
}

impl Source {
    /// All words of the answer.
    pub(super) fn transcript(&self, format: AudioFormat) -> Box<str> {
        match self {
            Self::Utterance(recording) => Self::heard(recording.duration_ms(format)),
            Self::Text(text) => text.clone(),
            Self::Greeting => GREETING.into(),
        }
    }

    /// What a parrot makes of an utterance that long.
    pub(super) fn heard(ms: u64) -> Box<str> {
        format!("heard {}.{:02} s", ms / 1_000, ms % 1_000 / 10).into()
    }

    /// How many chunks of 20 ms its audio takes; at least one.
    pub(super) fn chunks(&self, format: AudioFormat) -> u64 {
        let chunks = match self {
            Self::Utterance(recording) => recording.chunks(format),
            Self::Text(text) => words(text).min(TONES_MAX) * NOTE_CHUNKS,
            Self::Greeting => GREETING_NOTES * NOTE_CHUNKS,
        };
        chunks.max(1)
    }

    /// Chunk `index`; `cursor` is where the one before it ended.
    pub(super) fn chunk(
        &self,
        index: u64,
        cursor: &mut usize,
        format: AudioFormat,
        pool: &mut FramePool,
    ) -> Draft {
        let (note, within) = (index / NOTE_CHUNKS, index % NOTE_CHUNKS);
        let pitch = match self {
            Self::Utterance(recording) => return pool.copy(recording.chunk(format, cursor)),
            // Steps of three wander through the scale without repeating a note.
            Self::Text(_) => note * 3,
            Self::Greeting => note * 2,
        };
        let mut draft = pool.draft(format.bytes_per_ms().unwrap_or_default() * WINDOW_MS as usize);
        tone::write(pitch as usize, within, format, pool, &mut draft);
        draft
    }

    /// What a model would count as its input: text tokens and audio tokens.
    pub(super) fn input_tokens(&self, format: AudioFormat) -> (u64, u64) {
        match self {
            Self::Utterance(recording) => (0, recording.duration_ms(format).div_ceil(100)),
            Self::Text(text) => (words(text), 0),
            Self::Greeting => (0, 0),
        }
    }
}

/// A transcript on its way out, word by word; the pieces in order are the whole.
#[derive(Debug)]
pub(super) struct Script {
    text: Box<str>,
    pieces: u64,
    told_pieces: u64,
    told_bytes: usize,
}

impl Script {
    pub(super) fn new(text: Box<str>) -> Self {
        let pieces = words(&text).clamp(1, TONES_MAX);
        Self { text, pieces, told_pieces: 0, told_bytes: 0 }
    }

    /// The next piece, if it is due by chunk `index` of `chunks`.
    pub(super) fn due(&mut self, index: u64, chunks: u64) -> Option<&str> {
        if self.told_pieces == self.pieces || self.told_pieces * chunks / self.pieces > index {
            return None;
        }
        self.told_pieces += 1;
        let rest = &self.text[self.told_bytes..];
        let len = if self.told_pieces == self.pieces { rest.len() } else { first_word_end(rest) };
        self.told_bytes += len;
        Some(&rest[..len])
    }

    /// What was told so far.
    pub(super) fn told(&self) -> &str {
        &self.text[..self.told_bytes]
    }

    /// How many words that was.
    pub(super) fn told_words(&self) -> u64 {
        words(self.told())
    }
}

fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

/// Where the first word ends, the space before it included.
fn first_word_end(text: &str) -> usize {
    let space = text.len() - text.trim_start().len();
    text[space..].find(char::is_whitespace).map_or(text.len(), |end| space + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_script_are_its_text() {
        for text in ["", " ", "one", "  two words ", "heard 1.24 s", "naïve\u{2003}façade\n done"] {
            let mut script = Script::new(text.into());
            let mut told = String::new();
            for index in 0..100 {
                while let Some(piece) = script.due(index, 100) {
                    told.push_str(piece);
                }
            }
            assert_eq!(told, text);
            assert_eq!(script.told(), text);
        }
    }

    #[test]
    fn a_long_text_is_told_whole_in_a_minute() {
        let text = "word ".repeat(5_000);
        let source = Source::Text(text.as_str().into());
        let format = AudioFormat { codec: crate::core::event::Codec::Pcm16, rate: 16_000 };
        assert!(source.chunks(format) * WINDOW_MS <= RECORDING_MS_MAX);
        let mut script = Script::new(text.as_str().into());
        while script.due(u64::MAX, 1).is_some() {}
        assert_eq!(script.told(), text);
    }
}
