//! Turns 16 kHz into 24 kHz and back: rooms may speak at either rate, the vendor only at the second.
//!
//! A polyphase filter over the common 48 kHz: a windowed sinc of 48 taps that lets pass what is below 7.2 kHz. It delays by
//! half a millisecond, which at the end of a session stays behind in it. It keeps its state from frame to frame, so where
//! frames are cut can't be heard, and allocates nothing once made.

/// Taps at 48 kHz. Divisible by both factors.
const TAPS: usize = 48;
/// Inputs that one output may depend on: with a factor of two.
const HISTORY: usize = TAPS / 2;
/// Where the filter cuts, as a share of 48 kHz.
const CUT: f32 = 7_200.0 / 48_000.0;

/// A converter in one direction.
#[derive(Debug)]
pub(super) struct Resampler {
    /// For each phase its taps, the newest input's last.
    taps: [[f32; HISTORY]; 3],
    up: usize,
    down: usize,
    phase: usize,
    /// The last inputs, written twice, so that those needed always stand in a row.
    history: [f32; HISTORY * 2],
    newest: usize,
    /// The first byte of a sample whose second has not come yet.
    half: Option<u8>,
}

impl Resampler {
    /// From 16 to 24 kHz.
    pub(super) fn up() -> Self {
        Self::new(3, 2)
    }

    /// From 24 to 16 kHz.
    pub(super) fn down() -> Self {
        Self::new(2, 3)
    }

    /// The converter that brings `from` to `to`, if they differ.
    pub(super) fn between(from: u16, to: u16) -> Option<Self> {
        match from.cmp(&to) {
            std::cmp::Ordering::Less => Some(Self::up()),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(Self::down()),
        }
    }

    fn new(up: usize, down: usize) -> Self {
        let mut taps = [[0.0; HISTORY]; 3];
        let per_phase = TAPS / up;
        for (phase, row) in taps.iter_mut().enumerate().take(up) {
            for back in 0..per_phase {
                row[HISTORY - 1 - back] = tap(phase + back * up) * up as f32;
            }
            // Each phase lets a constant pass unchanged: else the level would flutter at the input's rate.
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|tap| *tap /= sum);
        }
        Self { taps, up, down, phase: 0, history: [0.0; HISTORY * 2], newest: 0, half: None }
    }

    /// Converts little-endian samples; they may be cut anywhere.
    pub(super) fn convert(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        if let (Some(low), [high, rest @ ..]) = (self.half, input) {
            self.half = None;
            self.sample(i16::from_le_bytes([low, *high]), out);
            input = rest;
        }
        let (samples, rest) = input.as_chunks::<2>();
        for sample in samples {
            self.sample(i16::from_le_bytes(*sample), out);
        }
        if let [low] = rest {
            self.half = Some(*low);
        }
    }

    fn sample(&mut self, sample: i16, out: &mut Vec<u8>) {
        self.newest = (self.newest + 1) % HISTORY;
        self.history[self.newest] = sample.into();
        self.history[self.newest + HISTORY] = sample.into();
        let window = &self.history[self.newest + 1..][..HISTORY];
        while self.phase < self.up {
            let taps = &self.taps[self.phase];
            let sum: f32 = window.iter().zip(taps).map(|(input, tap)| input * tap).sum();
            // The cast saturates.
            out.extend_from_slice(&(sum.round() as i16).to_le_bytes());
            self.phase += self.down;
        }
        self.phase -= self.up;
    }
}

/// A tap of the filter: sinc under a Blackman window.
fn tap(at: usize) -> f32 {
    use std::f32::consts::PI;
    let centred = at as f32 - (TAPS - 1) as f32 / 2.0;
    let sinc = (2.0 * PI * CUT * centred).sin() / (PI * centred);
    let turn = 2.0 * PI * (at as f32 + 0.5) / TAPS as f32;
    sinc * (0.42 - 0.5 * turn.cos() + 0.08 * (2.0 * turn).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(rate: f64, hertz: f64, samples: usize) -> Vec<u8> {
        let wave = |n: usize| (n as f64 / rate * hertz * std::f64::consts::TAU).sin() * 10_000.0;
        (0..samples).flat_map(|n| (wave(n) as i16).to_le_bytes()).collect()
    }

    fn samples(bytes: &[u8]) -> Vec<f64> {
        bytes.as_chunks::<2>().0.iter().map(|sample| f64::from(i16::from_le_bytes(*sample))).collect()
    }

    fn power(samples: &[f64]) -> f64 {
        samples.iter().map(|sample| sample * sample).sum::<f64>() / samples.len() as f64
    }

    #[test]
    fn a_voice_goes_up_and_comes_down_again_with_its_level_and_length() {
        for hertz in [100.0, 1_000.0, 4_000.0] {
            let wave = sine(16_000.0, hertz, 3_200);
            let (mut high, mut low) = (Vec::new(), Vec::new());
            Resampler::up().convert(&wave, &mut high);
            Resampler::down().convert(&high, &mut low);
            assert_eq!((high.len(), low.len()), (9_600, 6_400));
            let level = (power(&samples(&low)[200..3_000]) / power(&samples(&wave)[200..3_000])).sqrt();
            assert!((0.98..1.02).contains(&level), "{hertz} Hz: {level}");
        }
    }

    #[test]
    fn what_the_lower_rate_can_not_hold_is_filtered_out() {
        let mut low = Vec::new();
        Resampler::down().convert(&sine(24_000.0, 11_000.0, 4_800), &mut low);
        assert!(power(&samples(&low)[200..]) < 10_000.0 * 10_000.0 / 2.0 / 1_000.0);
    }

    #[test]
    fn where_frames_are_cut_makes_no_difference() {
        let wave = sine(16_000.0, 440.0, 1_600);
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        Resampler::up().convert(&wave, &mut whole);
        let mut resampler = Resampler::up();
        for piece in wave.chunks(37) {
            resampler.convert(piece, &mut pieces);
        }
        assert_eq!(pieces, whole);
    }
}
