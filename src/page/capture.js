// The AudioWorklet side: `voxhall-capture` turns the microphone into 20 ms frames of pcm16 at the session's rate,
// `voxhall-playback` turns such frames back into sound. Both run on the browser's audio thread, where nothing may
// wait and little may be allocated; all they share with the page is their message ports.

const FRAMES_PER_SECOND = 50;
const ZERO_CROSSINGS = 8;
const PHASES = 256;
const REPORT_EVERY_S = 0.05;
// Playback starts once this much is queued, or this long after the first frame came, whichever is sooner.
const JITTER_S = 0.06;
// An engine may answer faster than real time, so its track may run far ahead; a live speaker's must not.
const ENGINE_BACKLOG_S = 60;
const LIVE_BACKLOG_S = 0.8;

/// Streaming windowed-sinc rate conversion. Low-passes at the lower of the two rates, so that nothing folds back
/// into the speech band on the way down and no images are left on the way up.
class Resampler {
  constructor(from, to) {
    this.step = from / to;
    const cutoff = Math.min(1, to / from);
    this.half = Math.ceil(ZERO_CROSSINGS / cutoff);
    this.kernel = Resampler.kernel(this.half, cutoff);
    this.history = new Float32Array(2 * this.half);
    this.position = 0;
  }

  /// One row of taps for each fractional position, every row scaled to pass a constant unchanged.
  static kernel(half, cutoff) {
    const taps = 2 * half;
    const kernel = new Float32Array((PHASES + 1) * taps);
    for (let phase = 0; phase <= PHASES; phase += 1) {
      let sum = 0;
      for (let tap = 0; tap < taps; tap += 1) {
        const x = tap - half + 1 - phase / PHASES;
        const sinc = x === 0 ? 1 : Math.sin(Math.PI * x * cutoff) / (Math.PI * x * cutoff);
        const window = Math.abs(x) >= half ? 0 : 0.5 + 0.5 * Math.cos((Math.PI * x) / half);
        kernel[phase * taps + tap] = sinc * window;
        sum += sinc * window;
      }
      for (let tap = 0; tap < taps; tap += 1) kernel[phase * taps + tap] /= sum;
    }
    return kernel;
  }

  /// Calls `emit` with each output sample that `input` completes.
  push(input, emit) {
    if (this.step === 1) {
      for (const sample of input) emit(sample);
      return;
    }
    const taps = 2 * this.half;
    const line = new Float32Array(this.history.length + input.length);
    line.set(this.history);
    line.set(input, this.history.length);
    const end = line.length - taps;
    while (this.position < end) {
      const base = Math.floor(this.position);
      const row = Math.round((this.position - base) * PHASES) * taps;
      let sum = 0;
      for (let tap = 0; tap < taps; tap += 1) sum += line[base + tap] * this.kernel[row + tap];
      emit(sum);
      this.position += this.step;
    }
    this.position -= end;
    this.history = line.slice(end);
  }
}

class Capture extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.running = true;
    this.configure(processorOptions.rate);
    this.port.onmessage = ({ data }) => {
      if (data.rate) this.configure(data.rate);
      if (data.stop) this.running = false;
    };
  }

  configure(rate) {
    this.resampler = new Resampler(sampleRate, rate);
    this.size = rate / FRAMES_PER_SECOND;
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

/// What one speaker sent and has not been heard yet.
class Track {
  constructor(rate, backlogSeconds) {
    this.resampler = new Resampler(rate, sampleRate);
    this.chunks = [];
    this.offset = 0;
    this.queued = 0;
    this.most = backlogSeconds * sampleRate;
    this.playing = false;
    this.startAt = 0;
    this.ended = false;
  }

  push(pcm, first, last) {
    if (this.queued === 0) this.startAt = currentTime + JITTER_S;
    const input = new Float32Array(pcm.length);
    for (let i = 0; i < pcm.length; i += 1) input[i] = pcm[i] / 32768;
    const output = [];
    this.resampler.push(input, (sample) => output.push(sample));
    this.chunks.push(Float32Array.from(output));
    this.queued += output.length;
    this.ended = last;
    while (this.queued > this.most && this.chunks.length > 1) this.dropOldest();
  }

  dropOldest() {
    this.queued -= this.chunks.shift().length - this.offset;
    this.offset = 0;
  }

  ready() {
    if (this.queued === 0) this.playing = false;
    else if (!this.playing) this.playing = this.ended || this.queued >= JITTER_S * sampleRate || currentTime >= this.startAt;
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
    if (data.pcm) this.track(data.track).push(new Int16Array(data.pcm), data.first, data.last);
  }

  track(number) {
    if (!this.tracks.has(number)) {
      this.tracks.set(number, new Track(this.rate, number === 0 ? ENGINE_BACKLOG_S : LIVE_BACKLOG_S));
    }
    return this.tracks.get(number);
  }

  process(_inputs, [output]) {
    const mono = output[0];
    for (const track of this.tracks.values()) if (track.ready()) track.mixInto(mono);
    for (const sample of mono) this.squares += sample * sample;
    for (const channel of output.slice(1)) channel.set(mono);
    this.counted += mono.length;
    if (this.counted >= REPORT_EVERY_S * sampleRate) this.report();
    return this.running;
  }

  report() {
    let queued = 0;
    for (const track of this.tracks.values()) queued = Math.max(queued, track.queued);
    this.port.postMessage({ level: Math.sqrt(this.squares / this.counted), bufferedMs: (queued / sampleRate) * 1000 });
    this.squares = 0;
    this.counted = 0;
  }
}

registerProcessor('voxhall-capture', Capture);
registerProcessor('voxhall-playback', Playback);
