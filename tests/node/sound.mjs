// Sound made up by the test: a tone that swells like syllables, and silence.

export const FRAME_MS = 20;
const SYLLABLES_PER_S = 4;
const LOUDNESS = 9000;

/// pcm16 of a voice-like tone.
export function tone(ms, rate) {
  const samples = Math.round((ms / 1000) * rate);
  const pcm = Buffer.alloc(samples * 2);
  for (let i = 0; i < samples; i += 1) {
    const t = i / rate;
    const swell = 0.6 + 0.4 * Math.sin(2 * Math.PI * SYLLABLES_PER_S * t);
    const voice = Math.sin(2 * Math.PI * 180 * t) + 0.5 * Math.sin(2 * Math.PI * 720 * t) + 0.3 * Math.sin(2 * Math.PI * 1500 * t);
    pcm.writeInt16LE(Math.round(swell * voice * LOUDNESS), i * 2);
  }
  return pcm;
}

export function silence(ms, rate) {
  return Buffer.alloc(Math.round((ms / 1000) * rate) * 2);
}

/// Cut into 20 ms frames.
export function frames(pcm, rate) {
  const size = (rate / 1000) * FRAME_MS * 2;
  return Array.from({ length: Math.ceil(pcm.length / size) }, (_, i) => pcm.subarray(i * size, (i + 1) * size));
}

/// Bytes that are no sound at all, the same for the same seed.
export function noise(length, seed) {
  return Buffer.from(Array.from({ length }, (_, i) => (i * 31 + seed * 17 + ((i * seed) >> 3)) & 0xff));
}
