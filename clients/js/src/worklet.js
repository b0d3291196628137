// The audio thread's side: `voxhall-capture` turns the microphone into frames of pcm16 at the session's rate,
// `voxhall-playback` turns such frames back into sound. Nothing may wait there and little may be allocated; all they share
// with the page is their message ports. The same module is loaded on both threads, and finds out here on which it is.

import { Resampler } from './resampler.js';
import { Track } from './track.js';

const REPORT_EVERY_S = 0.05;
// An engine may answer faster than real time, so its track may run far ahead; a live speaker's must not.
const ENGINE_BACKLOG_S = 60;
const LIVE_BACKLOG_S = 0.8;
// Who has been silent for so long may have left; what was learnt of their network is forgotten.
const SILENT_TRACK_S = 30;

function registerProcessors() {
  class Capture extends AudioWorkletProcessor {
    constructor({ processorOptions }) {
      super();
      this.running = true;
      this.frameMs = processorOptions.frameMs;
      this.configure(processorOptions.rate);
      this.port.onmessage = ({ data }) => {
        if (data.rate) this.configure(data.rate);
        if (data.stop) this.running = false;
      };
    }

    configure(rate) {
      this.resampler = new Resampler(sampleRate, rate);
      this.size = Math.round((rate * this.frameMs) / 1000);
      this.startFrame();
    }

    startFrame() {
      this.frame = new Int16Array(this.size);
      this.filled = 0;
      this.squares = 0;
    }

    take(sample) {
      const clipped = Math.max(-1, Math.min(1, sample));
      // Int16Array has the machine's byte order, and every machine that runs a browser is little-endian.
      this.frame[this.filled] = clipped < 0 ? clipped * 32768 : clipped * 32767;
      this.filled += 1;
      this.squares += clipped * clipped;
      if (this.filled < this.size) return;
      const { buffer } = this.frame;
      this.port.postMessage({ frame: buffer, level: Math.sqrt(this.squares / this.size) }, [buffer]);
      this.startFrame();
    }

    process([input]) {
      if (input.length > 0) this.resampler.push(input[0], (sample) => this.take(sample));
      return this.running;
    }
  }

  class Playback extends AudioWorkletProcessor {
    constructor({ processorOptions }) {
      super();
      this.rate = processorOptions.rate;
      this.tracks = new Map();
      this.squares = 0;
      this.counted = 0;
      this.running = true;
      this.port.onmessage = ({ data }) => this.message(data);
    }

    message(data) {
      if (data.rate) this.rate = data.rate;
      if (data.rate || data.flush) this.tracks.clear();
      if (data.stop) this.running = false;
      if (data.pcm) this.track(data.track).push(new Int16Array(data.pcm), data, currentTime);
    }

    track(number) {
      if (!this.tracks.has(number)) {
        this.tracks.set(number, new Track(this.rate, sampleRate, number === 0 ? ENGINE_BACKLOG_S : LIVE_BACKLOG_S));
      }
      return this.tracks.get(number);
    }

    process(_inputs, [output]) {
      const mono = output[0];
      for (const track of this.tracks.values()) if (track.ready(currentTime)) track.mixInto(mono);
      for (const sample of mono) this.squares += sample * sample;
      for (const channel of output.slice(1)) channel.set(mono);
      this.counted += mono.length;
      if (this.counted >= REPORT_EVERY_S * sampleRate) this.report();
      return this.running;
    }

    report() {
      let queued = 0;
      let targetMs = 0;
      for (const [number, track] of this.tracks) {
        if (track.isSilent(currentTime, SILENT_TRACK_S)) this.tracks.delete(number);
        queued = Math.max(queued, track.queued);
        targetMs = Math.max(targetMs, track.targetMs);
      }
      const level = Math.sqrt(this.squares / this.counted);
      this.port.postMessage({ level, bufferedMs: (queued / sampleRate) * 1000, targetMs });
      this.squares = 0;
      this.counted = 0;
    }
  }

  registerProcessor('voxhall-capture', Capture);
  registerProcessor('voxhall-playback', Playback);
}

if (typeof registerProcessor === 'function') registerProcessors();
