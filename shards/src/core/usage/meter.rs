//! One room's meter.

use super::{Outcome, ResponseUsage, Totals};
use crate::core::engine::ResponseNumber;
use crate::core::event::{AudioFormat, PartRef};
use crate::core::time::Micros;

/// Responses metered at once in one room. Engines make one at a time; a model server may be asked for more. The oldest
/// gives way.
const RUNNING_MAX: usize = 4;

/// What an Opus packet holds.
const PACKET: Micros = Micros::from_ms(20);

/// Counts what passes in one room. One that nobody has spoken in has none.
#[derive(Debug, Default)]
pub(in crate::core) struct Meter {
    /// Audio heard since the last commit.
    heard: Micros,
    /// Audio committed that no response has answered.
    committed: Micros,
    /// When the user's turn ended that no response has answered.
    turn_over: Option<Micros>,
    running: Vec<Running>,
    totals: Totals,
}

/// A response that is being made.
#[derive(Debug)]
struct Running {
    id: Box<str>,
    /// Its engine's number for it, once a frame has said it.
    number: Option<ResponseNumber>,
    /// When the user began to wait for it.
    asked: Micros,
    made: Micros,
    audio_in: Micros,
    audio_out: Micros,
    first_audio: Option<Micros>,
    interruptions: u32,
}

impl Meter {
    /// Audio of members has come: so many frames with so many bytes together.
    pub(in crate::core) fn heard(&mut self, format: AudioFormat, frames: usize, bytes: usize) {
        let span = span(format, frames, bytes);
        self.heard = self.heard + span;
        self.totals.audio_in = self.totals.audio_in + span;
    }

    /// The user is done for now and waits.
    pub(in crate::core) fn turn_over(&mut self, now: Micros) {
        self.turn_over = Some(now);
    }

    /// What was heard has become an utterance.
    pub(in crate::core) fn committed(&mut self, now: Micros) {
        self.committed = self.committed + std::mem::take(&mut self.heard);
        self.totals.utterances += 1;
        self.turn_over = Some(now);
    }

    /// What was heard is forgotten.
    pub(in crate::core) fn cleared(&mut self) {
        self.heard = Micros(0);
    }

    /// A response has been made.
    pub(in crate::core) fn made(&mut self, now: Micros, id: &str) {
        if self.running.len() == RUNNING_MAX {
            self.running.remove(0);
        }
        self.running.push(Running {
            id: id.into(),
            number: None,
            asked: self.turn_over.take().unwrap_or(now),
            made: now,
            audio_in: std::mem::take(&mut self.committed),
            audio_out: Micros(0),
            first_audio: None,
            interruptions: 0,
        });
    }

    /// A frame of a response's audio has been put into lanes.
    pub(in crate::core) fn spoke(
        &mut self,
        now: Micros,
        format: AudioFormat,
        bytes: usize,
        number: ResponseNumber,
        part: Option<&PartRef>,
    ) {
        let span = span(format, 1, bytes);
        self.totals.audio_out = self.totals.audio_out + span;
        if let Some(running) = self.running_of(number, part) {
            running.number = Some(number);
            running.audio_out = running.audio_out + span;
            running.first_audio.get_or_insert(now.since(running.asked));
        }
    }

    /// What was queued of a response has been taken back, perhaps after it was done.
    pub(in crate::core) fn interrupted(&mut self, number: ResponseNumber) {
        self.totals.interruptions += 1;
        if let Some(running) = self.running.iter_mut().find(|running| running.number == Some(number)) {
            running.interruptions += 1;
        }
    }

    /// A response is over. Nothing if it was never made.
    pub(in crate::core) fn over(
        &mut self,
        now: Micros,
        since: Micros,
        id: &str,
        outcome: Outcome,
        reason: Option<&str>,
    ) -> Option<ResponseUsage> {
        let at = self.running.iter().position(|running| &*running.id == id)?;
        let running = self.running.remove(at);
        self.totals.responses[outcome as usize] += 1;
        Some(ResponseUsage {
            id: running.id,
            at: running.made.since(since),
            audio_in: running.audio_in,
            audio_out: running.audio_out,
            first_audio: running.first_audio,
            lasted: now.since(running.made),
            interruptions: running.interruptions,
            outcome,
            reason: reason.map(Into::into),
        })
    }

    /// The names of responses that are being made: with their room they end too.
    pub(in crate::core) fn unfinished(&self) -> Vec<Box<str>> {
        self.running.iter().map(|running| running.id.clone()).collect()
    }

    /// Everything so far.
    pub(in crate::core) fn totals(&self) -> Totals {
        self.totals
    }

    /// Which response a frame belongs to; perhaps one that is over. Only its first frame has to be asked for its name.
    fn running_of(&mut self, number: ResponseNumber, part: Option<&PartRef>) -> Option<&mut Running> {
        self.running.iter_mut().find(|running| match (running.number, part) {
            (Some(known), _) => known == number,
            (None, Some(PartRef::Numbered(part))) => part.response.to_string() == *running.id,
            (None, Some(PartRef::Named(part))) => part.response == running.id,
            (None, None) => true,
        })
    }
}

/// How long so much audio lasts.
fn span(format: AudioFormat, frames: usize, bytes: usize) -> Micros {
    match format.bytes_per_ms() {
        Some(per_ms) => Micros((bytes as u64 * 1_000).div_ceil(per_ms as u64)),
        None => Micros(PACKET.0 * frames as u64),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::event::{NamedPart, SessionSettings};

    const ONE: ResponseNumber = ResponseNumber(1);
    const TWO: ResponseNumber = ResponseNumber(2);

    fn ms(ms: u64) -> Micros {
        Micros::from_ms(ms)
    }

    fn format() -> AudioFormat {
        SessionSettings::default().format
    }

    #[test]
    fn a_response_answers_what_was_committed_since_the_last_one() {
        let mut meter = Meter::default();
        meter.heard(format(), 50, 32_000);
        meter.committed(ms(1_000));
        meter.heard(format(), 1, 640); // Silence that streams on belongs to the next utterance.
        meter.made(ms(1_050), "resp_1");
        meter.spoke(ms(1_200), format(), 640, ONE, None);
        meter.spoke(ms(1_220), format(), 640, ONE, None);
        let usage = meter.over(ms(1_300), ms(100), "resp_1", Outcome::Completed, None).expect("it was made");
        assert_eq!((usage.audio_in, usage.audio_out), (ms(1_000), ms(40)));
        assert_eq!((usage.first_audio, usage.lasted), (Some(ms(200)), ms(250)));
        assert_eq!((usage.at, usage.interruptions), (ms(950), 0));
        meter.made(ms(2_000), "resp_2");
        let usage = meter.over(ms(2_001), ms(0), "resp_2", Outcome::Failed, None).expect("it was made");
        assert_eq!((usage.audio_in, usage.first_audio), (ms(0), None));
        let totals = meter.totals();
        assert_eq!((totals.audio_in, totals.audio_out, totals.utterances), (ms(1_020), ms(40), 1));
        assert_eq!((totals.responses, totals.over()), ([1, 0, 1, 0], 2));
    }

    #[test]
    fn what_was_cleared_is_in_no_response() {
        let mut meter = Meter::default();
        meter.heard(format(), 50, 32_000);
        meter.cleared();
        meter.heard(format(), 1, 640);
        meter.committed(ms(1));
        meter.made(ms(1), "resp_1");
        let usage = meter.over(ms(2), ms(0), "resp_1", Outcome::Completed, None).expect("it was made");
        assert_eq!(usage.audio_in, ms(20));
        assert_eq!(meter.totals().audio_in, ms(1_020), "it was heard all the same");
    }

    #[test]
    fn frames_find_the_response_they_belong_to() {
        let mut meter = Meter::default();
        meter.made(ms(0), "resp_1");
        meter.spoke(ms(1), format(), 640, ONE, None);
        meter.made(ms(2), "resp_2");
        meter.spoke(ms(3), format(), 1_280, TWO, None);
        meter.spoke(ms(4), format(), 640, ONE, None);
        meter.interrupted(TWO);
        let first = meter.over(ms(5), ms(0), "resp_1", Outcome::Completed, None).expect("made");
        let second =
            meter.over(ms(5), ms(0), "resp_2", Outcome::Cancelled, Some("turn_detected")).expect("made");
        assert_eq!((first.audio_out, first.interruptions), (ms(40), 0));
        assert_eq!((second.audio_out, second.interruptions), (ms(40), 1));
        assert_eq!(second.reason.as_deref(), Some("turn_detected"));
        assert_eq!(meter.over(ms(6), ms(0), "resp_2", Outcome::Completed, None), None, "once is enough");
        // Audio that is still queued when a response is done may be taken back as well.
        meter.interrupted(ONE);
        assert_eq!(meter.totals().interruptions, 2);
    }

    #[test]
    fn a_late_frame_of_a_response_that_is_over_is_not_the_next_ones() {
        let part = |response: &str| {
            let named = NamedPart {
                response: response.into(),
                item: "item".into(),
                output_index: 0,
                content_index: 0,
            };
            PartRef::Named(Arc::new(named))
        };
        let mut meter = Meter::default();
        meter.made(ms(0), "resp_a");
        assert!(meter.over(ms(1), ms(0), "resp_a", Outcome::Completed, None).is_some());
        meter.made(ms(2), "resp_b");
        meter.spoke(ms(3), format(), 640, ONE, Some(&part("resp_a")));
        meter.spoke(ms(5), format(), 640, TWO, Some(&part("resp_b")));
        meter.spoke(ms(5), format(), 640, TWO, Some(&part("resp_b")));
        let usage = meter.over(ms(6), ms(0), "resp_b", Outcome::Completed, None).expect("made");
        assert_eq!((usage.audio_out, usage.first_audio), (ms(40), Some(ms(3))));
        assert_eq!(meter.totals().audio_out, ms(60));
    }

    #[test]
    fn a_server_that_never_ends_its_responses_takes_no_more_memory() {
        let mut meter = Meter::default();
        for number in 0..100 {
            meter.made(ms(number), &format!("resp_{number}"));
        }
        assert_eq!(meter.unfinished().len(), RUNNING_MAX);
        assert_eq!(meter.over(ms(200), ms(0), "resp_0", Outcome::Completed, None), None);
        assert!(meter.over(ms(200), ms(0), "resp_99", Outcome::Completed, None).is_some());
    }

    #[test]
    fn audio_lasts_as_long_as_its_format_says() {
        let opus = AudioFormat { codec: crate::core::event::Codec::Opus, rate: 48_000 };
        let ulaw = AudioFormat { codec: crate::core::event::Codec::G711Ulaw, rate: 8_000 };
        let fast = AudioFormat { rate: 24_000, ..format() };
        assert_eq!(span(opus, 3, 123), ms(60));
        assert_eq!(span(ulaw, 1, 160), ms(20));
        assert_eq!(span(fast, 1, 960), ms(20));
    }
}
