//! Responses and their audio: base64 of the model server becomes frames for the room.

use std::collections::VecDeque;
use std::sync::Arc;

use super::resample::Resampler;
use super::session::upstream_format;
use crate::core::engine::{Audience, EngineContext, EngineOutput, ResponseNumber};
use crate::core::event::{AudioFormat, Codec, NamedPart, PartRef};
use crate::core::ids::MemberNumber;
use crate::core::time::Micros;
use crate::core::upstream::Line;

/// Responses that are known at a time: one runs, one may still be heard, others run beside the conversation.
const ANSWERS_MAX: usize = 4;

/// The responses of a room.
#[derive(Debug, Default)]
pub(super) struct Voice {
    answers: Vec<Answer>,
    last_number: u32,
    /// Resampled audio on its way into frames.
    resampled: Vec<u8>,
}

/// A response of the model server.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its name there.
    pub(super) id: Box<str>,
    /// Ours, for the lanes.
    pub(super) number: ResponseNumber,
    /// Whose it is.
    pub(super) line: Line,
    /// Whether it is being made.
    pub(super) running: bool,
    /// Whether it is no part of the conversation: a client asked beside it.
    pub(super) apart: bool,
    /// Whether it was interrupted: nothing more of it is heard.
    pub(super) cut: bool,
    /// The part that audio has come of.
    pub(super) part: Option<Arc<NamedPart>>,
    /// When its audio began.
    began: Micros,
    format: AudioFormat,
    /// Payload bytes of the present part.
    given: u64,
    /// Where in the part the last frames began, in milliseconds: as many as a lane holds.
    starts: VecDeque<u32>,
    resampler: Option<Resampler>,
    half: Option<u8>,
}

/// Whose audio a delta is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) response: &'a str,
    pub(super) item: &'a str,
    pub(super) output_index: u32,
    pub(super) content_index: u32,
}

impl Voice {
    /// Whether a response is being made.
    pub(super) fn busy(&self) -> bool {
        self.answers.iter().any(|answer| answer.running)
    }

    /// The responses that are being made on a line.
    pub(super) fn running(&mut self, line: Line) -> impl Iterator<Item = &mut Answer> {
        self.answers.iter_mut().filter(move |answer| answer.running && answer.line == line)
    }

    /// A response, if it is known. Two sessions may use a name twice.
    pub(super) fn known(&self, line: Line, id: &str) -> Option<&Answer> {
        self.answers.iter().find(|answer| answer.line == line && &*answer.id == id)
    }

    pub(super) fn by_number(&mut self, number: ResponseNumber) -> Option<&mut Answer> {
        self.answers.iter_mut().find(|answer| answer.number == number)
    }

    /// The response that may be interrupted: named, or the newest of which something is still to be made or to be heard.
    pub(super) fn interruptible(&mut self, id: Option<&str>, now: Micros) -> Option<&mut Answer> {
        let audible = |answer: &&mut Answer| !answer.cut && (answer.running || answer.heard_until() > now);
        let named = |answer: &&mut Answer| id.map_or(!answer.apart, |id| &*answer.id == id);
        self.answers.iter_mut().rev().filter(audible).find(named)
    }

    /// A response begins, or is met for the first time.
    pub(super) fn begin(&mut self, id: &str, line: Line, now: Micros) -> &mut Answer {
        if let Some(at) = self.answers.iter().position(|answer| answer.line == line && &*answer.id == id) {
            return &mut self.answers[at];
        }
        let mut starts = VecDeque::new();
        self.answers.retain_mut(|answer| {
            let known = answer.running || answer.heard_until() > now;
            if !known {
                starts = std::mem::take(&mut answer.starts);
            }
            known
        });
        if self.answers.len() >= ANSWERS_MAX {
            let over = self.answers.iter().position(|answer| !answer.running).unwrap_or(0);
            starts = self.answers.remove(over).starts;
        }
        starts.clear();
        self.last_number += 1;
        self.answers.push(Answer {
            id: id.into(),
            number: ResponseNumber(self.last_number),
            line,
            running: true,
            apart: false,
            cut: false,
            part: None,
            began: now,
            format: AudioFormat { codec: Codec::Pcm16, rate: 24_000 },
            given: 0,
            starts,
            resampler: None,
            half: None,
        });
        self.answers.last_mut().expect("just pushed")
    }

    /// Takes audio of a response, already decoded.
    pub(super) fn speak(&mut self, line: Line, place: Place<'_>, audio: &[u8], cx: &mut EngineContext<'_>) {
        let mut resampled = std::mem::take(&mut self.resampled);
        let answer = self.begin(place.response, line, cx.now);
        if !answer.cut {
            answer.enter(place, cx);
            let audio = match &mut answer.resampler {
                Some(resampler) => {
                    resampler.convert(audio, &mut resampled);
                    &resampled[..]
                }
                None => audio,
            };
            answer.give(audio, cx);
        }
        resampled.clear();
        resampled.shrink_to(32 * 1_024);
        self.resampled = resampled;
    }
}

impl Answer {
    /// When a client that plays what it gets has heard all of it.
    fn heard_until(&self) -> Micros {
        if self.given == 0 { Micros(0) } else { self.began + Micros::from_ms(self.given_ms()) }
    }

    /// Milliseconds of the present part.
    fn given_ms(&self) -> u64 {
        self.format.bytes_per_ms().map_or(0, |bytes| self.given / bytes as u64)
    }

    /// Milliseconds of the present part that clients get, now that so many of the last frames were taken back.
    pub(super) fn sent_ms(&self, taken_back: usize) -> u64 {
        match taken_back {
            0 => self.given_ms(),
            frames => {
                self.starts.get(self.starts.len().saturating_sub(frames)).map_or(0, |ms| u64::from(*ms))
            }
        }
    }

    /// Another part begins: its audio is counted from zero.
    fn enter(&mut self, place: Place<'_>, cx: &EngineContext<'_>) {
        let same = self.part.as_ref().is_some_and(|part| {
            &*part.item == place.item
                && (part.output_index, part.content_index) == (place.output_index, place.content_index)
        });
        if same {
            return;
        }
        self.part = Some(Arc::new(NamedPart {
            response: self.id.clone(),
            item: place.item.into(),
            output_index: place.output_index,
            content_index: place.content_index,
        }));
        let format = cx.settings.format;
        let rate = upstream_format(format, &cx.config.realtime).rate;
        (self.began, self.format, self.given) = (cx.now, format, 0);
        (self.resampler, self.half) = (Resampler::between(rate, format.rate), None);
        self.starts.clear();
    }

    /// Gives audio in the room's format as frames of whole samples.
    fn give(&mut self, mut audio: &[u8], cx: &mut EngineContext<'_>) {
        let sample = if self.format.codec == Codec::Pcm16 { 2 } else { 1 };
        let chunk = (cx.config.audio.chunk_bytes / sample * sample).max(sample);
        loop {
            let held = usize::from(self.half.is_some());
            let len = ((held + audio.len()) / sample * sample).min(chunk);
            if len == 0 {
                break;
            }
            let mut draft = cx.pool.draft(len);
            if let Some(half) = self.half.take() {
                draft.extend(cx.pool, &[half]);
            }
            let (now, later) = audio.split_at(len - held);
            draft.extend(cx.pool, now);
            audio = later;
            let start = self.given_ms() as u32;
            if self.starts.len() >= cx.config.outbox.messages_max {
                self.starts.pop_front();
            }
            self.starts.push_back(start);
            cx.out.push(EngineOutput::Audio {
                to: Audience::All,
                audio: draft,
                track: MemberNumber(0),
                first: self.given == 0,
                // Which frame is the last is known too late: `response.output_audio.done` tells the end.
                last: false,
                timestamp_ms: start,
                response: Some(self.number),
                part: self.part.clone().map(PartRef::Named),
            });
            self.given += len as u64;
        }
        if let [half] = audio {
            self.half = Some(*half);
        }
    }
}
