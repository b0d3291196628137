//! Audio on its way to the model server: who has the floor, what one turn brings, and what may have to be said again.

use std::collections::VecDeque;

use super::resample::Resampler;
use super::session::upstream_format;
use crate::core::engine::EngineContext;
use crate::core::event::{AudioFormat, Codec, SessionSettings};
use crate::core::frame::Draft;
use crate::core::ids::MemberNumber;
use crate::core::time::Micros;

/// A member who sent nothing for so long has left the floor to the others.
const FLOOR: Micros = Micros::from_ms(1_000);
/// Uncommitted audio kept while somebody speaks, or where clients say themselves when a turn ends.
const TAIL_MS: usize = 15_000;
/// The same while nobody speaks: enough for a turn's beginning that has not been noticed yet.
const QUIET_TAIL_MS: usize = 2_000;
/// Kept of what a model server has committed by itself: it may have been sent after the turn's end. No more than half of
/// the silence that ended the turn, so that nothing of the turn itself is in it.
const OVERLAP_MS: u16 = 200;
/// Tail memory that is kept over a turn's end.
const TAIL_KEPT_BYTES: usize = 128 * 1_024;

const HEAD: &[u8] = br#"{"type":"input_audio_buffer.append","audio":""#;
const FOOT: &[u8] = br#""}"#;

/// What a room has heard.
#[derive(Debug, Default)]
pub(super) struct Ear {
    floor: Option<(MemberNumber, Micros)>,
    /// In the model server's format, not sent yet: within a turn only.
    joined: Vec<u8>,
    resampler: Option<Resampler>,
    format: Option<AudioFormat>,
    /// In the room's format: what was heard since the last commit, its oldest part perhaps forgotten.
    tail: VecDeque<u8>,
    /// How much of the tail a commit of a client takes.
    marked: Option<usize>,
}

impl Ear {
    /// Whether this member is heard. The model server has one input buffer, so one member speaks at a time.
    pub(super) fn listens_to(&mut self, member: MemberNumber, now: Micros) -> bool {
        let free = self.floor.is_none_or(|(holder, last)| holder == member || now.since(last) >= FLOOR);
        if free {
            self.floor = Some((member, now));
        }
        free
    }

    /// A member is gone.
    pub(super) fn forget(&mut self, member: MemberNumber) {
        self.floor = self.floor.filter(|(holder, _)| *holder != member);
    }

    /// Takes audio in the room's format; an append that is full is handed on at once.
    pub(super) fn hear(
        &mut self,
        audio: &[u8],
        speaking: bool,
        cx: &mut EngineContext<'_>,
        mut send: impl FnMut(Draft, &mut EngineContext<'_>),
    ) {
        let format = cx.settings.format;
        if self.format != Some(format) {
            // What was heard in another format is of no use to this one.
            if self.format.replace(format).is_some() {
                self.cleared();
            }
            let rate = upstream_format(format, &cx.config.realtime).rate;
            self.resampler = Resampler::between(format.rate, rate);
        }
        self.remember(audio, speaking, format);
        match &mut self.resampler {
            Some(resampler) => resampler.convert(audio, &mut self.joined),
            None => self.joined.extend_from_slice(audio),
        }
        let chunk = chunk_bytes(cx);
        let whole = self.joined.len() - self.joined.len() % chunk;
        if whole > 0 {
            for piece in self.joined[..whole].chunks(chunk) {
                let draft = append(piece, cx);
                send(draft, cx);
            }
            self.joined.drain(..whole);
        }
    }

    /// What the turn has brought and no append has carried yet, as one.
    pub(super) fn take_joined(&mut self, cx: &mut EngineContext<'_>) -> Option<Draft> {
        if self.joined.is_empty() {
            return None;
        }
        let draft = append(&self.joined, cx);
        self.joined.clear();
        Some(draft)
    }

    /// Whether something was heard that nobody has committed.
    pub(super) fn has_tail(&self) -> bool {
        !self.tail.is_empty()
    }

    /// A client's commit is on its way.
    pub(super) fn mark(&mut self) {
        self.marked = Some(self.tail.len());
    }

    /// The commit was refused.
    pub(super) fn unmark(&mut self) {
        self.marked = None;
    }

    /// The model server has made an item of what it had.
    pub(super) fn committed(&mut self, settings: &SessionSettings) {
        let silence = settings.turn_detection.map_or(0, |vad| vad.silence_duration_ms);
        let overlap_ms = usize::from(OVERLAP_MS.min(silence / 2));
        let overlap = settings.format.bytes_per_ms().map_or(0, |bytes| bytes * overlap_ms);
        let taken = self.marked.take().unwrap_or(self.tail.len().saturating_sub(overlap));
        self.tail.drain(..taken.min(self.tail.len()));
        self.tail.shrink_to(TAIL_KEPT_BYTES);
    }

    /// The model server's buffer is empty.
    pub(super) fn cleared(&mut self) {
        self.marked = None;
        self.joined.clear();
        self.tail.clear();
        self.tail.shrink_to(TAIL_KEPT_BYTES);
    }

    /// What another session has to hear again. Whether a client had committed it, and how much of it.
    pub(super) fn take_tail(&mut self) -> (Vec<u8>, Option<usize>) {
        self.joined.clear();
        (self.format, self.resampler) = (None, None);
        (std::mem::take(&mut self.tail).into(), self.marked.take())
    }

    fn remember(&mut self, audio: &[u8], speaking: bool, format: AudioFormat) {
        let Some(per_ms) = format.bytes_per_ms() else { return };
        let most = per_ms * if speaking { TAIL_MS } else { QUIET_TAIL_MS };
        self.tail.extend(audio);
        if self.tail.len() > most {
            let sample = if format.codec == Codec::Pcm16 { 2 } else { 1 };
            let excess = (self.tail.len() - most).next_multiple_of(sample).min(self.tail.len());
            self.tail.drain(..excess);
            self.marked = self.marked.map(|marked| marked.saturating_sub(excess));
        }
    }
}

/// Bytes of audio in one append: whole samples, and of base64 whole quads, so that only a turn's last one is padded.
fn chunk_bytes(cx: &EngineContext<'_>) -> usize {
    (cx.config.audio.chunk_bytes / 6 * 6).max(6)
}

fn append(audio: &[u8], cx: &mut EngineContext<'_>) -> Draft {
    let base64 = base64_simd::STANDARD;
    let len = base64.encoded_length(audio.len());
    let mut draft = cx.pool.draft(HEAD.len() + len + FOOT.len());
    draft.extend(cx.pool, HEAD);
    draft.extend_with(cx.pool, len, |text| {
        let _ = base64.encode(audio, base64_simd::Out::from_slice(text));
    });
    draft.extend(cx.pool, FOOT);
    draft
}
