//! Voice-activity detection: energy over an adaptive noise floor, in whole numbers, so that the same audio gives
//! the same verdict everywhere.

use super::g711;
use super::recording::WINDOW_MS;
use crate::core::event::Codec;

/// Two loud windows in a row are speech; one is a click.
const ONSET_WINDOWS: u32 = 2;

/// Mean squares: the floor that a room is taken to have before anything was heard, and the lowest it may get.
const FLOOR_AT_FIRST: u64 = 100 * 100;
const FLOOR_MIN: u64 = 20 * 20;

/// An Opus packet of at most so many bytes stands for silence (discontinuous transmission).
const OPUS_SILENCE_BYTES_MAX: usize = 3;

/// Listens to one member.
#[derive(Debug)]
pub(in super::super) struct Vad {
    /// Mean square of what is taken for silence.
    floor: u64,
    loud_windows: u32,
    quiet_windows: u32,
}

impl Default for Vad {
    fn default() -> Self {
        Self { floor: FLOOR_AT_FIRST, loud_windows: 0, quiet_windows: 0 }
    }
}

impl Vad {
    /// Hears one window of 20 ms. While the member speaks, a lower level still counts as speech, so that the
    /// ends of words stay whole.
    pub(in super::super) fn hear(
        &mut self,
        codec: Codec,
        window: &[u8],
        threshold_permille: u16,
        speaking: bool,
    ) {
        let loud = match energy(codec, window) {
            Some(energy) => self.judge(energy, threshold_permille, speaking),
            None => window.len() > OPUS_SILENCE_BYTES_MAX,
        };
        if loud {
            self.loud_windows += 1;
            self.quiet_windows = 0;
        } else {
            self.loud_windows = 0;
            self.quiet_windows += 1;
        }
    }

    /// Whether speech has begun: with the last [`Self::onset_windows`] windows.
    pub(in super::super) fn onset(&self) -> bool {
        self.loud_windows >= ONSET_WINDOWS
    }

    /// How many windows it takes to notice speech.
    pub(in super::super) const fn onset_windows() -> usize {
        ONSET_WINDOWS as usize
    }

    /// How long it has been quiet.
    pub(in super::super) fn quiet_ms(&self) -> u64 {
        u64::from(self.quiet_windows) * WINDOW_MS
    }

    /// Begins to wait for speech anew; what is known of the noise stays.
    pub(in super::super) fn rest(&mut self) {
        (self.loud_windows, self.quiet_windows) = (0, 0);
    }

    fn judge(&mut self, energy: u64, threshold_permille: u16, speaking: bool) -> bool {
        let over_floor = self.floor * ratio_q8(threshold_permille) / 256;
        let absolute = lowest_speech(threshold_permille);
        let needed = if speaking { (over_floor / 4).max(absolute / 4) } else { over_floor.max(absolute) };
        let loud = energy > needed;
        if energy < self.floor {
            self.floor -= (self.floor - energy).div_ceil(4);
        } else if !loud {
            self.floor += (energy - self.floor) / 16;
        } else {
            // A steady noise becomes the floor in the end; speech has pauses that lower it again.
            self.floor += self.floor / 256 + 1;
        }
        self.floor = self.floor.max(FLOOR_MIN);
        loud
    }
}

/// How many times the floor's energy speech has to have, in 256ths: from 1 at threshold 0 over 16 (12 dB) at the
/// default 0.5 to 256 at 1.
fn ratio_q8(threshold_permille: u16) -> u64 {
    let exponent = u64::from(threshold_permille.min(1_000)) * 8;
    let whole = 256u64 << (exponent / 1_000);
    whole + whole * (exponent % 1_000) / 1_000
}

/// The energy that speech has at least, however quiet the room: an RMS of 40 at threshold 0, 190 at the default,
/// 340 at 1.
fn lowest_speech(threshold_permille: u16) -> u64 {
    let rms = 40 + u64::from(threshold_permille) * 3 / 10;
    rms * rms
}

/// The mean square of the samples; nothing for Opus, which is not decoded.
fn energy(codec: Codec, window: &[u8]) -> Option<u64> {
    let squares = |sample: i16| u64::from(sample.unsigned_abs()).pow(2);
    let (sum, samples) = match codec {
        Codec::Pcm16 => {
            let (pairs, _) = window.as_chunks::<2>();
            (pairs.iter().map(|&pair| squares(i16::from_le_bytes(pair))).sum::<u64>(), pairs.len())
        }
        Codec::G711Ulaw => (window.iter().map(|&b| squares(g711::ULAW[b as usize])).sum(), window.len()),
        Codec::G711Alaw => (window.iter().map(|&b| squares(g711::ALAW[b as usize])).sum(), window.len()),
        Codec::Opus => return None,
    };
    Some(sum / (samples as u64).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(amplitude: i16) -> Vec<u8> {
        (0..320).flat_map(|n| if n % 8 < 4 { amplitude } else { -amplitude }.to_le_bytes()).collect()
    }

    fn heard(vad: &mut Vad, amplitude: i16, times: usize, threshold: u16) -> usize {
        let audio = window(amplitude);
        let mut onsets = 0;
        for _ in 0..times {
            vad.hear(Codec::Pcm16, &audio, threshold, false);
            onsets += usize::from(vad.onset());
        }
        onsets
    }

    #[test]
    fn a_click_is_not_speech_and_two_loud_windows_are() {
        let mut vad = Vad::default();
        assert_eq!(heard(&mut vad, 0, 50, 500), 0);
        assert_eq!(heard(&mut vad, 9_000, 1, 500), 0);
        assert_eq!(heard(&mut vad, 0, 50, 500), 0);
        assert_eq!(heard(&mut vad, 9_000, 2, 500), 1);
    }

    #[test]
    fn a_noisy_room_raises_what_counts_as_speech() {
        let mut quiet = Vad::default();
        heard(&mut quiet, 5, 100, 500);
        assert!(heard(&mut quiet, 600, 3, 500) > 0);
        let mut noisy = Vad::default();
        heard(&mut noisy, 300, 100, 500);
        assert_eq!(heard(&mut noisy, 600, 3, 500), 0);
        assert!(heard(&mut noisy, 3_000, 3, 500) > 0);
    }

    #[test]
    fn a_higher_threshold_needs_a_louder_voice() {
        for (threshold, amplitude, speech) in
            [(0, 120, true), (500, 120, false), (500, 500, true), (1_000, 500, true), (1_000, 330, false)]
        {
            let mut vad = Vad::default();
            heard(&mut vad, 0, 100, 500);
            assert_eq!(heard(&mut vad, amplitude, 3, threshold) > 0, speech, "{threshold} {amplitude}");
        }
    }

    #[test]
    fn a_steady_noise_becomes_the_floor() {
        let mut vad = Vad::default();
        heard(&mut vad, 600, 3_000, 500);
        assert!(!vad.onset());
    }

    #[test]
    fn codecs_of_the_same_sound_agree() {
        assert_eq!(energy(Codec::Pcm16, &[]), Some(0));
        assert_eq!(energy(Codec::G711Ulaw, &[0xff; 160]), Some(0));
        assert_eq!(energy(Codec::G711Alaw, &[0xd5; 160]), Some(64));
        assert_eq!(energy(Codec::Opus, &[1; 60]), None);
    }
}
