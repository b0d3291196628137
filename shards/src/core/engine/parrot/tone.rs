//! Short tones in any codec, made of whole numbers: a chunk depends on nothing but its place.

use super::g711;
use super::recording::WINDOW_MS;
use crate::core::event::{AudioFormat, Codec};
use crate::core::frame::{Draft, FramePool};

/// Chunks of one note: 160 ms of sound and 40 ms of silence.
pub(super) const NOTE_CHUNKS: u64 = 10;
const SOUNDING_MS: u64 = 160;

/// A note swells and fades over so long, so that it does not click.
const EDGE_MS: u64 = 8;

const AMPLITUDE: i64 = 7_000;

/// The pitches, in Hz: a pentatonic scale, so that any order sounds well.
const PITCHES_HZ: [u64; 8] = [392, 440, 523, 587, 659, 784, 880, 1_047];

/// One Opus packet of 20 ms of silence: there is no encoder here.
const OPUS_SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];

/// Appends chunk `chunk` of a note.
pub(super) fn write(pitch: usize, chunk: u64, format: AudioFormat, pool: &mut FramePool, draft: &mut Draft) {
    if format.codec == Codec::Opus {
        draft.extend(pool, &OPUS_SILENCE);
        return;
    }
    let rate = u64::from(format.rate);
    let samples = rate * WINDOW_MS / 1_000;
    let pitch = PITCHES_HZ[pitch % PITCHES_HZ.len()];
    for n in chunk * samples..(chunk + 1) * samples {
        let sample = sample(n, pitch, rate);
        match format.codec {
            Codec::G711Ulaw => draft.extend(pool, &[g711::encode_ulaw(sample)]),
            Codec::G711Alaw => draft.extend(pool, &[g711::encode_alaw(sample)]),
            Codec::Pcm16 | Codec::Opus => draft.extend(pool, &sample.to_le_bytes()),
        }
    }
}

/// Sample `n` of a note.
fn sample(n: u64, pitch: u64, rate: u64) -> i16 {
    let sounding = SOUNDING_MS * rate / 1_000;
    let edge = EDGE_MS * rate / 1_000;
    let level = n.min(sounding.saturating_sub(n)).min(edge);
    // A period is 65,536; a parabola a half wave is as good as a sine to the ear.
    let phase = (n * pitch * 65_536 / rate) as u16 as i16;
    let x = i64::from(phase);
    let wave = x * (32_768 - x.abs()) / 8_192;
    (wave * AMPLITUDE / 32_768 * level as i64 / edge as i64) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_sounds_and_falls_silent_without_a_click() {
        let note: Vec<i32> = (0..3_200).map(|n| sample(n, 440, 16_000).into()).collect();
        assert!(note.iter().any(|&sample| sample > 6_000) && note.iter().any(|&sample| sample < -6_000));
        assert_eq!((note[0], &note[2_560..]), (0, &[0; 640][..]));
        let steepest = note.windows(2).map(|pair| (pair[1] - pair[0]).abs()).max();
        assert!(steepest < Some(2_500), "{steepest:?}");
    }
}
