// What one speaker sent and has not been heard yet. Lives on the browser's audio thread, whose `sampleRate` and
// `currentTime` (in seconds) are given.

import { Jitter } from './jitter.js';
import { Resampler } from './resampler.js';

export class Track {
  #jitter = new Jitter();

  constructor(rate, sampleRate, backlogSeconds) {
    this.sampleRate = sampleRate;
    this.resampler = new Resampler(rate, sampleRate);
    this.chunks = [];
    this.offset = 0;
    this.queued = 0;
    this.most = backlogSeconds * sampleRate;
    this.playing = false;
    this.startAt = 0;
    this.ended = true;
    this.heardAt = 0;
  }

  get targetMs() {
    return this.#jitter.targetMs;
  }

  push(pcm, { first, last, timestampMs }, currentTime) {
    this.#jitter.arrived(currentTime * 1000, timestampMs, first);
    if (this.queued === 0) this.startAt = currentTime + this.targetMs / 1000;
    const input = new Float32Array(pcm.length);
    for (let i = 0; i < pcm.length; i += 1) input[i] = pcm[i] / 32768;
    const output = [];
    this.resampler.push(input, (sample) => output.push(sample));
    this.chunks.push(Float32Array.from(output));
    this.queued += output.length;
    this.ended = last;
    this.heardAt = currentTime;
    while (this.queued > this.most && this.chunks.length > 1) this.#dropOldest();
  }

  #dropOldest() {
    this.queued -= this.chunks.shift().length - this.offset;
    this.offset = 0;
  }

  /// Whether nothing waits, and nothing came for so long.
  isSilent(currentTime, seconds) {
    return this.queued === 0 && currentTime - this.heardAt > seconds;
  }

  /// Playback starts once enough is queued, or so long after the first frame came, whichever is sooner.
  ready(currentTime) {
    if (this.queued === 0) {
      if (this.playing && !this.ended) this.#jitter.ranDry();
      this.playing = false;
    } else if (!this.playing) {
      const enough = (this.targetMs / 1000) * this.sampleRate;
      this.playing = this.ended || this.queued >= enough || currentTime >= this.startAt;
    }
    return this.playing;
  }

  mixInto(output) {
    let at = 0;
    while (at < output.length && this.chunks.length > 0) {
      const chunk = this.chunks[0];
      const count = Math.min(output.length - at, chunk.length - this.offset);
      for (let i = 0; i < count; i += 1) output[at + i] += chunk[this.offset + i];
      at += count;
      this.offset += count;
      this.queued -= count;
      if (this.offset === chunk.length) {
        this.chunks.shift();
        this.offset = 0;
      }
    }
  }
}
