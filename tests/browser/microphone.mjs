// The microphone that the browser is given: a WAV of a voice-like tone and then silence. Chromium plays it over and
// over, so one turn follows another.

import { writeFileSync } from 'node:fs';

export const RATE = 16000;
export const TONE_S = 1.2;
// Long enough for the whole answer before the next turn begins, so that none is interrupted.
const SILENCE_S = 4;
const SYLLABLES_PER_S = 4;
const LOUDNESS = 9000;
const WAV_HEADER_BYTES = 44;

export function writeMicrophone(path) {
  const samples = Math.round((TONE_S + SILENCE_S) * RATE);
  const wav = Buffer.alloc(WAV_HEADER_BYTES + samples * 2);
  wav.write('RIFF', 0);
  wav.writeUInt32LE(wav.length - 8, 4);
  wav.write('WAVEfmt ', 8);
  wav.writeUInt32LE(16, 16);
  wav.writeUInt16LE(1, 20); // PCM
  wav.writeUInt16LE(1, 22); // one channel
  wav.writeUInt32LE(RATE, 24);
  wav.writeUInt32LE(RATE * 2, 28);
  wav.writeUInt16LE(2, 32);
  wav.writeUInt16LE(16, 34);
  wav.write('data', 36);
  wav.writeUInt32LE(samples * 2, 40);
  for (let i = 0; i < TONE_S * RATE; i += 1) {
    const turn = (2 * Math.PI * i) / RATE;
    const swell = 0.6 + 0.4 * Math.sin(SYLLABLES_PER_S * turn);
    const voice = Math.sin(180 * turn) + 0.5 * Math.sin(720 * turn) + 0.3 * Math.sin(1500 * turn);
    wav.writeInt16LE(Math.round(swell * voice * LOUDNESS), WAV_HEADER_BYTES + i * 2);
  }
  writeFileSync(path, wav);
}
