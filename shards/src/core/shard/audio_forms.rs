//! The forms in which a frame of audio goes to members: bare or headed binary messages, or events with base64 in the words
//! of either dialect, or of a stream. Each form that has a listener is encoded once.

use super::super::conn::Subprotocol;
use super::super::event::{AUDIO_DELTA_END, Dialect, ItemId, Part, PartRef, ResponseId, audio_delta_head};
use super::super::frame::{BINARY, Draft, Frame, TEXT};
use super::super::ids::ConnKey;
use super::Shard;
use super::outbound::Spurt;

/// How a connection takes audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AudioForm {
    /// A binary message that is audio alone.
    Bare,
    /// A binary message behind its header.
    Headed,
    /// An event of the vendor's API of today.
    Ga,
    /// An event of its beta.
    Beta,
    /// An event of a stream, as a chunk.
    Chunk,
    /// The same without chunks.
    Plain,
}

/// One audio frame in the forms that its listeners want.
#[derive(Default)]
pub(super) struct AudioForms([Option<Frame>; 6]);

impl AudioForm {
    const ALL: [Self; 6] = [Self::Bare, Self::Headed, Self::Ga, Self::Beta, Self::Chunk, Self::Plain];

    const fn of(subprotocol: Subprotocol) -> Self {
        match subprotocol {
            Subprotocol::None | Subprotocol::Plain => Self::Bare,
            Subprotocol::V1 | Subprotocol::Msgpack => Self::Headed,
            Subprotocol::Realtime => Self::Ga,
            Subprotocol::RealtimeBeta => Self::Beta,
            Subprotocol::Sse { chunked: true } => Self::Chunk,
            Subprotocol::Sse { chunked: false } => Self::Plain,
        }
    }
}

impl Shard {
    fn audio_form(&self, key: ConnKey) -> AudioForm {
        AudioForm::of(self.subprotocol(key))
    }

    /// The words in which a connection is told of events.
    pub(super) fn dialect(&self, key: ConnKey) -> Dialect {
        self.subprotocol(key).dialect()
    }

    /// A frame that only one connection takes, in its form.
    pub(super) fn only_audio_form(&mut self, listener: ConnKey, audio: Draft, spurt: &Spurt) -> Frame {
        let form = self.audio_form(listener);
        self.last_audio_form(form, audio, spurt)
    }

    /// Encodes a frame once for each form that has a listener.
    pub(super) fn audio_forms(&mut self, audio: Draft, spurt: &Spurt, listeners: &[ConnKey]) -> AudioForms {
        let mut wanted = [false; 6];
        for &listener in listeners {
            wanted[self.audio_form(listener) as usize] = true;
        }
        let mut forms = AudioForms::default();
        // The last form takes the block as it is; the others copy from it.
        let Some(last) = AudioForm::ALL.into_iter().find(|&form| wanted[form as usize]) else {
            self.pool.discard(audio);
            return forms;
        };
        for form in AudioForm::ALL.into_iter().filter(|&form| wanted[form as usize] && form != last) {
            let copy = match form {
                AudioForm::Bare | AudioForm::Headed => {
                    let copy = self.pool.copy(audio.payload());
                    self.last_audio_form(form, copy, spurt)
                }
                AudioForm::Ga | AudioForm::Beta | AudioForm::Chunk | AudioForm::Plain => {
                    self.audio_event(form, audio.payload(), spurt)
                }
            };
            forms.0[form as usize] = Some(copy);
        }
        forms.0[last as usize] = Some(self.last_audio_form(last, audio, spurt));
        forms
    }

    /// The form that a listener takes, of those that were encoded for it and others.
    pub(super) fn shared_audio_form(&self, listener: ConnKey, forms: &AudioForms) -> Option<Frame> {
        forms.0[self.audio_form(listener) as usize].clone()
    }

    pub(super) fn recycle_audio(&mut self, forms: AudioForms) {
        for frame in forms.0.into_iter().flatten() {
            self.pool.recycle(frame);
        }
    }

    /// A form that nothing else is made of the block after.
    fn last_audio_form(&mut self, form: AudioForm, audio: Draft, spurt: &Spurt) -> Frame {
        if matches!(form, AudioForm::Bare | AudioForm::Headed) {
            self.counters.frames_encoded += 1;
            let headed = form == AudioForm::Headed;
            let audio = if headed { audio.with_binary_header(spurt.header()) } else { audio };
            return audio.seal(BINARY);
        }
        let frame = self.audio_event(form, audio.payload(), spurt);
        self.pool.discard(audio);
        frame
    }

    /// An event that carries a frame in base64.
    fn audio_event(&mut self, form: AudioForm, audio: &[u8], spurt: &Spurt) -> Frame {
        self.counters.frames_encoded += 1;
        let id = self.next_event_id();
        // Where nobody responds, each speaker's audio is an item of its own.
        let spoken = || {
            let part = Part { response: ResponseId(0), item: ItemId(spurt.track.0.into()) };
            PartRef::Numbered(part)
        };
        let dialect = match form {
            AudioForm::Beta => Dialect::Beta,
            AudioForm::Ga => Dialect::Ga,
            _ => Dialect::Native,
        };
        let mut head = std::mem::take(&mut self.json);
        head.clear();
        audio_delta_head(spurt.part.as_ref().unwrap_or(&spoken()), id, dialect, &mut head);
        let encoded = base64_simd::STANDARD.encoded_length(audio.len());
        let len = head.len() + encoded + AUDIO_DELTA_END.len();
        let streamed = matches!(form, AudioForm::Chunk | AudioForm::Plain);
        let mut draft = if streamed {
            self.stream_draft(len, None, form == AudioForm::Chunk)
        } else {
            self.pool.draft(len)
        };
        draft.extend(&mut self.pool, &head);
        draft.extend_with(&mut self.pool, encoded, |place| {
            let _ = base64_simd::STANDARD.encode(audio, base64_simd::Out::from_slice(place));
        });
        draft.extend(&mut self.pool, AUDIO_DELTA_END);
        self.json = head;
        if streamed { self.stream_seal(draft, form == AudioForm::Chunk) } else { draft.seal(TEXT) }
    }
}
