// The Voxhall client: MIT or Apache-2.0. Made of src/ by build.js; change it there.

// src/resampler.js

// Rate conversion for speech.

const ZERO_CROSSINGS = 8;
const PHASES = 256;

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

// src/jitter.js

// How long sound has to wait before it is played, so that it does not break off when the network is uneven. The wait grows
// with what the network does and shrinks while it behaves.

const LEAST_MS = 40;
const MOST_MS = 400;
const FIRST_MS = 60;
// Of the mean deviation; what is beyond is rare enough.
const DEVIATIONS = 3;
const FLOOR_MS = 20;
const SMOOTHING = 16;
const AFTER_RUNNING_DRY_MS = 20;
const CALM = 0.95;
// An engine may answer faster than real time: that is no jitter.
const AHEAD_MS = 1000;

class Jitter {
  #deviation = 0;
  #last = null;
  #penalty = FIRST_MS - LEAST_MS;

  get targetMs() {
    const wanted = DEVIATIONS * this.#deviation + FLOOR_MS + this.#penalty;
    return Math.min(MOST_MS, Math.max(LEAST_MS, wanted));
  }

  /// A frame came. The first of a spurt says nothing of the way it took.
  arrived(nowMs, timestampMs, first) {
    const last = this.#last;
    this.#last = { nowMs, timestampMs };
    if (first || last === null || timestampMs <= last.timestampMs) {
      this.#penalty *= CALM;
      return;
    }
    const late = nowMs - last.nowMs - (timestampMs - last.timestampMs);
    if (Math.abs(late) < AHEAD_MS) this.#deviation += (Math.abs(late) - this.#deviation) / SMOOTHING;
  }

  /// Nothing was left to play in the middle of a spurt.
  ranDry() {
    this.#penalty = Math.min(MOST_MS, this.#penalty + AFTER_RUNNING_DRY_MS);
  }
}

// src/track.js

// What one speaker sent and has not been heard yet. Lives on the browser's audio thread, whose `sampleRate` and
// `currentTime` (in seconds) are given.


class Track {
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

// src/worklet.js

// The audio thread's side: `voxhall-capture` turns the microphone into frames of pcm16 at the session's rate,
// `voxhall-playback` turns such frames back into sound. Nothing may wait there and little may be allocated; all they share
// with the page is their message ports. The same module is loaded on both threads, and finds out here on which it is.


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

// src/backoff.js

// How long to wait before the next attempt: full jitter, so that those who were cut off together don't come back together.

const BACKOFF = { baseMs: 1000, factor: 1.5, capMs: 30_000 };

class Backoff {
  #attempts = 0;

  constructor({ baseMs = BACKOFF.baseMs, factor = BACKOFF.factor, capMs = BACKOFF.capMs, random = Math.random } = {}) {
    this.baseMs = baseMs;
    this.factor = factor;
    this.capMs = capMs;
    this.random = random;
  }

  get attempts() {
    return this.#attempts;
  }

  /// The most that the next wait may be.
  get ceilingMs() {
    return Math.min(this.capMs, this.baseMs * this.factor ** this.#attempts);
  }

  next() {
    const wait = this.random() * this.ceilingMs;
    this.#attempts += 1;
    return wait;
  }

  reset() {
    this.#attempts = 0;
  }
}

/// The milliseconds of a `Retry-After` header: seconds or a date. Nothing of what is neither.
function retryAfterMs(header, now = Date.now()) {
  if (header === null || header === undefined || header === '') return null;
  if (/^\s*\d+\s*$/.test(header)) return Number(header) * 1000;
  const at = Date.parse(header);
  return Number.isNaN(at) ? null : Math.max(0, at - now);
}

// src/reasons.js

// Why a connection ended, and whether it makes sense to come back.

// Codes of a client that leaves of its own accord: between 4000 and 4999.
const LEAVING_DRAINED = 4001;
const LEAVING_UNREADABLE = 4002;
const LEAVING_SILENT = 4003;
const LEAVING_TOO_FAST = 4004;

class VoxhallError extends Error {
  /// `code` is for programs, the message for people; `close` is the close code or HTTP status where there was one.
  constructor(code, message, close = null) {
    super(message);
    this.name = 'VoxhallError';
    this.code = code;
    this.close = close;
  }
}

// Whether to come back, what to call it, what it means.
const CLOSE_CODES = {
  1000: [false, 'closed', 'the server ended the session'],
  1001: [true, 'draining', 'the server is going away and asks to come back'],
  1002: [false, 'protocol_error', 'the server did not understand what was sent'],
  1003: [false, 'unsupported_data', 'the server does not take this kind of message'],
  1007: [false, 'bad_data', 'the server could not read what was sent'],
  1008: [false, 'policy', 'the server does not allow this connection'],
  1009: [false, 'too_big', 'a message was too big for the server'],
  1011: [true, 'server_fault', 'something went wrong on the server'],
  1012: [true, 'restarting', 'the server restarts'],
  1013: [true, 'overloaded', 'the server is overloaded, or this connection was too slow'],
};
const LOST = [true, 'connection_lost', 'the connection was lost'];

/// Which kind of policy it was, as the server's words tell.
const POLICIES = [
  [/replaced/i, 'replaced'],
  [/expired/i, 'token_expired'],
];

/// `{again, code, message, close, words}` of a close code and the server's words. Who can get a fresh token
/// (`canRefresh`) comes back after the old one has expired.
function afterClose(close, words = '', canRefresh = false) {
  const [again, code, meaning] = CLOSE_CODES[close] ?? LOST;
  const message = words ? `${meaning}: ${words}` : meaning;
  const policy = close === 1008 ? POLICIES.find(([pattern]) => pattern.test(words)) : undefined;
  if (!policy) return { again, code, message, close, words };
  return { again: policy[1] === 'token_expired' && canRefresh, code: policy[1], message, close, words };
}

const STATUSES = {
  400: 'bad_request',
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not_served',
  405: 'not_served',
  429: 'too_many',
  503: 'unavailable',
};

/// The same of an HTTP status.
function afterStatus(status, words, canRefresh = false) {
  const code = STATUSES[status] ?? (status >= 500 ? 'unavailable' : 'refused');
  const again = status === 408 || status === 429 || status >= 500 || (status === 401 && canRefresh);
  return { again, code, message: `the server refused the connection with ${status}${words ? `: ${words}` : ''}`, close: status, words };
}

// src/msgpack.js

// MessagePack, as much of it as JSON can say, and bytes. Whole numbers keep their value up to 2^53.

// A server may be told to take what is nested 512 deep (`limits.json_depth_max`), and tells it inside an event of its own.
const DEPTH_MAX = 640;
const TWO_32 = 2 ** 32;

/// The bytes of a value. What JSON leaves out (`undefined`, functions) is left out of maps, and what it has no number for is
/// null, as there.
function encode(value) {
  const writer = new Writer();
  writer.value(value, 0);
  return writer.bytes.slice(0, writer.at);
}

class Writer {
  bytes = new Uint8Array(256);
  view = new DataView(this.bytes.buffer);
  at = 0;

  room(count) {
    if (this.at + count <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(this.bytes.length * 2, this.at + count));
    larger.set(this.bytes);
    this.bytes = larger;
    this.view = new DataView(larger.buffer);
  }

  /// A marker and a number of `size` bytes.
  head(marker, size, number) {
    this.room(1 + size);
    this.bytes[this.at] = marker;
    if (size === 1) this.view.setUint8(this.at + 1, number);
    else if (size === 2) this.view.setUint16(this.at + 1, number);
    else if (size === 4) this.view.setUint32(this.at + 1, number);
    this.at += 1 + size;
  }

  value(value, depth) {
    if (depth > DEPTH_MAX) throw new RangeError('a value is nested too deeply for MessagePack');
    if (value === null || isNothing(value)) this.head(0xc0, 0);
    else if (typeof value === 'boolean') this.head(value ? 0xc3 : 0xc2, 0);
    else if (typeof value === 'number') this.number(value);
    else if (typeof value === 'string') this.text(value);
    else if (value instanceof Uint8Array) this.binary(value);
    else if (Array.isArray(value)) this.array(value, depth);
    else if (typeof value === 'object') this.map(value, depth);
    else throw new TypeError(`MessagePack has no form for a ${typeof value}`);
  }

  number(value) {
    if (!Number.isFinite(value)) this.head(0xc0, 0);
    else if (!Number.isSafeInteger(value) || Object.is(value, -0)) this.float(value);
    else if (value >= 0) this.positive(value);
    else this.negative(value);
  }

  float(value) {
    this.head(0xcb, 0);
    this.room(8);
    this.view.setFloat64(this.at, value);
    this.at += 8;
  }

  positive(value) {
    if (value < 0x80) this.head(value, 0);
    else if (value < 0x100) this.head(0xcc, 1, value);
    else if (value < 0x10000) this.head(0xcd, 2, value);
    else if (value < TWO_32) this.head(0xce, 4, value);
    else this.wide(0xcf, value);
  }

  negative(value) {
    if (value >= -0x20) this.head(value & 0xff, 0);
    else if (value >= -0x80) this.head(0xd0, 1, value);
    else if (value >= -0x8000) this.head(0xd1, 2, value);
    else if (value >= -0x80000000) this.head(0xd2, 4, value);
    else this.wide(0xd3, value);
  }

  wide(marker, value) {
    this.head(marker, 4, Math.floor(value / TWO_32));
    this.room(4);
    this.view.setUint32(this.at, value >>> 0);
    this.at += 4;
  }

  text(value) {
    const bytes = new TextEncoder().encode(value);
    const { length } = bytes;
    if (length < 0x20) this.head(0xa0 | length, 0);
    else if (length < 0x100) this.head(0xd9, 1, length);
    else if (length < 0x10000) this.head(0xda, 2, length);
    else this.head(0xdb, 4, length);
    this.raw(bytes);
  }

  binary(bytes) {
    const { length } = bytes;
    if (length < 0x100) this.head(0xc4, 1, length);
    else if (length < 0x10000) this.head(0xc5, 2, length);
    else this.head(0xc6, 4, length);
    this.raw(bytes);
  }

  raw(bytes) {
    this.room(bytes.length);
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  array(values, depth) {
    this.count(values.length, 0x90, 0xdc);
    for (const value of values) this.value(value, depth + 1);
  }

  map(object, depth) {
    const plain = typeof object.toJSON === 'function' ? object.toJSON() : object;
    if (plain === null || typeof plain !== 'object' || Array.isArray(plain)) {
      this.value(plain, depth + 1);
      return;
    }
    const entries = Object.entries(plain).filter(([, value]) => !isNothing(value));
    this.count(entries.length, 0x80, 0xde);
    for (const [key, value] of entries) {
      this.text(key);
      this.value(value, depth + 1);
    }
  }

  count(length, short, long) {
    if (length < 0x10) this.head(short | length, 0);
    else if (length < 0x10000) this.head(long, 2, length);
    else this.head(long + 1, 4, length);
  }
}

/// What JSON does not have at all.
function isNothing(value) {
  return value === undefined || typeof value === 'function' || typeof value === 'symbol';
}

/// Every value that lies in these bytes, one after the other. Throws when the last one is not whole.
function decodeAll(bytes) {
  const reader = new Reader(bytes);
  const values = [];
  while (reader.at < bytes.length) values.push(reader.value(0));
  return values;
}

/// The one value of these bytes.
function decode(bytes) {
  const values = decodeAll(bytes);
  if (values.length !== 1) throw new RangeError(`${values.length} values where one was to be`);
  return values[0];
}

class Reader {
  at = 0;

  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /// Where the next `count` bytes begin.
  skip(count) {
    const from = this.at;
    if (from + count > this.bytes.length) throw new RangeError('a MessagePack value ends too early');
    this.at += count;
    return from;
  }

  size(bytes) {
    const from = this.skip(bytes);
    if (bytes === 1) return this.view.getUint8(from);
    return bytes === 2 ? this.view.getUint16(from) : this.view.getUint32(from);
  }

  value(depth) {
    if (depth > DEPTH_MAX) throw new RangeError('a MessagePack value is nested too deeply');
    const marker = this.size(1);
    if (marker < 0x80) return marker;
    if (marker < 0x90) return this.map(marker & 0x0f, depth);
    if (marker < 0xa0) return this.array(marker & 0x0f, depth);
    if (marker < 0xc0) return this.text(marker & 0x1f);
    if (marker >= 0xe0) return marker - 0x100;
    return this.marked(marker, depth);
  }

  marked(marker, depth) {
    switch (marker) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.binary(this.size(1 << (marker - 0xc4)));
      case 0xca:
        return this.view.getFloat32(this.skip(4));
      case 0xcb:
        return this.view.getFloat64(this.skip(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.size(1 << (marker - 0xcc));
      case 0xcf:
        return this.size(4) * TWO_32 + this.size(4);
      case 0xd0:
        return this.view.getInt8(this.skip(1));
      case 0xd1:
        return this.view.getInt16(this.skip(2));
      case 0xd2:
        return this.view.getInt32(this.skip(4));
      case 0xd3:
        return this.view.getInt32(this.skip(4)) * TWO_32 + this.size(4);
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.text(this.size(1 << (marker - 0xd9)));
      case 0xdc:
      case 0xdd:
        return this.array(this.size(2 << (marker - 0xdc)), depth);
      case 0xde:
      case 0xdf:
        return this.map(this.size(2 << (marker - 0xde)), depth);
      default:
        throw new RangeError(`0x${marker.toString(16)} begins no value that JSON could have`);
    }
  }

  binary(length) {
    const from = this.skip(length);
    return Uint8Array.from(this.bytes.subarray(from, from + length));
  }

  text(length) {
    const from = this.skip(length);
    return new TextDecoder('utf-8', { fatal: true }).decode(this.bytes.subarray(from, from + length));
  }

  array(length, depth) {
    const values = [];
    for (let i = 0; i < length; i += 1) values.push(this.value(depth + 1));
    return values;
  }

  map(length, depth) {
    const object = {};
    for (let i = 0; i < length; i += 1) {
      const key = this.value(depth + 1);
      // A plain assignment to `__proto__` would change the object instead of filling it.
      Object.defineProperty(object, String(key), { value: this.value(depth + 1), enumerable: true, configurable: true, writable: true });
    }
    return object;
  }
}

// src/wire.js

// What goes over the wire and how: batches of JSON lines, MessagePack, and the header before binary payloads.


const HEADER_BYTES = 8;
const KIND_AUDIO = 1;
const KIND_EVENTS = 2;
const FLAG_FIRST = 1;
const FLAG_LAST = 2;
// Far below what a server takes in one message.
const BATCH_CHARS_MAX = 65_536;

const SUBPROTOCOL = 'voxhall.v1';
const SUBPROTOCOL_MSGPACK = 'voxhall.v1.msgpack';

/// `{kind, first, last, track, timestampMs, payload}` of a binary message; nothing of one that is too short.
function readBinary(buffer) {
  if (buffer.byteLength < HEADER_BYTES) return null;
  const head = new DataView(buffer, 0, HEADER_BYTES);
  const flags = head.getUint8(1);
  return {
    kind: head.getUint8(0),
    first: (flags & FLAG_FIRST) !== 0,
    last: (flags & FLAG_LAST) !== 0,
    track: head.getUint16(2, true),
    timestampMs: head.getUint32(4, true),
    payload: buffer.slice(HEADER_BYTES),
  };
}

/// A payload behind its header.
function writeBinary(kind, payload, { timestampMs = 0 } = {}) {
  const message = new Uint8Array(HEADER_BYTES + payload.byteLength);
  message[0] = kind;
  new DataView(message.buffer).setUint32(4, timestampMs >>> 0, true);
  message.set(payload, HEADER_BYTES);
  return message;
}

/// Stands for what came and is no event.
const UNREADABLE = Symbol('unreadable');
const isEvent = (event) => typeof event === 'object' && event !== null && typeof event.type === 'string';

/// The events of a text message. What is none becomes `UNREADABLE`.
function readLines(text) {
  return text
    .split('\n')
    .filter((line) => line.trim())
    .map((line) => {
      try {
        const event = JSON.parse(line);
        return isEvent(event) ? event : UNREADABLE;
      } catch {
        return UNREADABLE;
      }
    });
}

/// Events as text messages of lines, none of them much longer than it has to be.
function writeLines(events) {
  const batches = [];
  let lines = [];
  let chars = 0;
  for (const event of events) {
    const line = JSON.stringify(event);
    if (lines.length > 0 && chars + line.length > BATCH_CHARS_MAX) {
      batches.push(lines.join('\n'));
      lines = [];
      chars = 0;
    }
    lines.push(line);
    chars += line.length + 1;
  }
  if (lines.length > 0) batches.push(lines.join('\n'));
  return batches;
}

function readPacked(payload) {
  try {
    return decodeAll(new Uint8Array(payload)).map((event) => (isEvent(event) ? event : UNREADABLE));
  } catch {
    return [UNREADABLE];
  }
}

function writePacked(event) {
  return writeBinary(KIND_EVENTS, encode(event));
}

/// The event as it is now, in what every form of the wire can say; what its maker does to it later is no part of it. Throws
/// where it can't be said, so that nothing is kept that could not be sent.
function snapshot(event) {
  return decode(encode(event));
}

function toBase64(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

// src/sse.js

// A connection over server-sent events, for networks that let no WebSocket through: events come as one long answer, and go
// as requests of their own, one after the other, so that they arrive in their order.


// Events of one request, and their bytes: far below what a server takes. A single event may be longer.
const POST_EVENTS_MAX = 64;
const POST_BYTES_MAX = 262_144;
const TOO_LARGE = 413;
// How often a request that failed on the way is made again before the whole connection is given up.
const POST_ATTEMPTS = 3;

class SseLine {
  binary = false;
  #url;
  #token;
  #fetch;
  #on;
  #abort = new AbortController();
  #unsent = [];
  #posting = false;
  #connection = null;
  #most = POST_EVENTS_MAX;

  /// `on` is as a WebSocket's, and has besides: taken(seq), when everything up to this number has arrived, and
  /// refused(event), when the server will never take it.
  constructor({ url, token, fetch, on }) {
    this.#url = url;
    this.#token = token;
    this.#fetch = fetch;
    this.#on = on;
    this.#read();
  }

  get backlogBytes() {
    return this.#unsent.reduce((sum, event) => sum + (event.audio?.length ?? 0), 0);
  }

  send(events) {
    this.#unsent.push(...events);
    this.#post();
  }

  leave() {
    this.#on = null;
    this.#abort.abort();
  }

  #end(ending) {
    const on = this.#on;
    this.leave();
    on?.close(ending);
  }

  #headers(more) {
    return this.#token ? { ...more, authorization: `Bearer ${this.#token}` } : more;
  }

  async #read() {
    let opened = false;
    try {
      const answer = await this.#fetch(this.#url, {
        headers: this.#headers({ accept: 'text/event-stream' }),
        cache: 'no-store',
        signal: this.#abort.signal,
      });
      if (!answer.ok) {
        this.#end({ ...(await refusal(answer)), opened });
        return;
      }
      opened = true;
      await this.#listen(answer.body.getReader());
      this.#end({ close: 1006, words: 'the stream ended', opened });
    } catch (error) {
      this.#end({ close: 1006, words: String(error?.message ?? error), opened });
    }
  }

  async #listen(reader) {
    const parser = new EventStream();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || !this.#on) return;
      for (const message of parser.push(decoder.decode(value, { stream: true }))) this.#take(message);
    }
  }

  #take({ type, data }) {
    // The last one says what a close code would.
    if (type === 'close') {
      const { code = 1006, reason = '' } = JSON.parse(data);
      this.#end({ close: code, words: reason, opened: true });
      return;
    }
    const [event = UNREADABLE] = readLines(data.replaceAll('\n', ' '));
    if (event === UNREADABLE) {
      if (this.#on?.unreadable() === false) this.#end({ close: LEAVING_UNREADABLE, words: 'the server sent what is no event', opened: true });
      return;
    }
    if (event.type === 'session.created') this.#connection = event.session?.id ?? null;
    this.#on?.event(event);
  }

  async #post() {
    if (this.#posting) return;
    this.#posting = true;
    while (this.#unsent.length > 0 && this.#on) {
      const { events, body } = this.#portion();
      const ending = await this.#deliver(body);
      if (ending?.status === TOO_LARGE) {
        this.#tooLarge(events);
        continue;
      }
      if (ending) {
        this.#end(ending);
        return;
      }
      this.#unsent.splice(0, events.length);
      // A token that was brought in band is that of the requests to come; the one before may end sooner.
      this.#token = events.findLast(({ type, token }) => type === 'session.update' && token)?.token ?? this.#token;
      const numbers = events.map((event) => event.client_seq).filter((seq) => seq !== undefined);
      if (numbers.length > 0) this.#on?.taken(numbers.at(-1));
    }
    this.#posting = false;
  }

  /// As many of the events that wait as one request may have.
  #portion() {
    const encoder = new TextEncoder();
    const events = [];
    const texts = [];
    let bytes = 0;
    for (const event of this.#unsent.slice(0, this.#most)) {
      const text = JSON.stringify(event);
      bytes += encoder.encode(text).length + 1;
      if (events.length > 0 && bytes > POST_BYTES_MAX) break;
      events.push(event);
      texts.push(text);
    }
    return { events, body: texts.length === 1 ? texts[0] : `[${texts.join(',')}]` };
  }

  /// Half as much may be taken; a single event never will be. Its number is used up by something that does nothing, so that
  /// those behind it need not wait.
  #tooLarge(events) {
    if (events.length > 1) {
      this.#most = Math.ceil(events.length / 2);
      return;
    }
    const [event] = events;
    const { client_seq: seq } = event;
    this.#unsent.splice(0, 1, ...(seq === undefined ? [] : [{ type: 'ping', client_seq: seq }]));
    this.#on?.refused(event);
  }

  /// Nothing when the server has them, otherwise how the connection ends. What is sent twice has the same numbers, so
  /// the server takes it once.
  async #deliver(body) {
    const url = new URL(this.#url);
    url.search = '';
    if (this.#connection) url.searchParams.set('id', this.#connection);
    for (let attempt = 1; ; attempt += 1) {
      try {
        const answer = await this.#fetch(url.href, {
          method: 'POST',
          headers: this.#headers({ 'content-type': 'application/json' }),
          body,
          signal: this.#abort.signal,
        });
        if (answer.ok) return null;
        // The uplink alone was refused: what it was refused for is told where the connection is made anew.
        const { status, close, words, retryAfterMs: wait } = await refusal(answer);
        if (status === TOO_LARGE) return { status };
        return { close: 1006, words: `the uplink was refused with ${close}: ${words}`, retryAfterMs: wait, opened: true };
      } catch (error) {
        if (attempt === POST_ATTEMPTS || !this.#on) return { close: 1006, words: String(error?.message ?? error), opened: true };
      }
    }
  }
}

async function refusal(answer) {
  let words = '';
  try {
    words = (await answer.json()).detail ?? '';
  } catch {
    // Whoever refused says no more than the status.
  }
  return { status: answer.status, close: answer.status, words, retryAfterMs: retryAfterMs(answer.headers.get('retry-after')) };
}

/// The parser of an event stream (WHATWG HTML, 9.2.6). Bytes may be cut anywhere.
class EventStream {
  #rest = '';
  #event = { type: 'message', data: [], id: null };

  /// The events that this piece completes: `{type, data, id}`.
  push(text) {
    const events = [];
    this.#rest += text;
    for (;;) {
      const at = this.#rest.search(/[\r\n]/);
      // A carriage return at the end may be half of a line end.
      if (at < 0 || (this.#rest[at] === '\r' && at + 1 === this.#rest.length)) return events;
      const line = this.#rest.slice(0, at);
      this.#rest = this.#rest.slice(at + (this.#rest.startsWith('\r\n', at) ? 2 : 1));
      this.#line(line, events);
    }
  }

  #line(line, events) {
    if (line === '') {
      if (this.#event.data.length > 0) events.push({ ...this.#event, data: this.#event.data.join('\n') });
      this.#event = { type: 'message', data: [], id: this.#event.id };
      return;
    }
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    if (field === 'data') this.#event.data.push(value);
    else if (field === 'event') this.#event.type = value;
    else if (field === 'id' && !value.includes('\0')) this.#event.id = value;
  }
}

// src/websocket.js

// A connection over WebSocket. A line carries events and audio both ways and says once that it has ended; it knows
// nothing of what the events mean, and does not come back.


// What a subprotocol may be made of (RFC 9110, 5.6.2): a token of other letters travels in the query.
const SUBPROTOCOL_LETTERS = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;

class SocketLine {
  /// Audio goes as it is.
  binary = true;
  #socket;
  #on;
  #opened = false;
  #began = Date.now();

  /// `on` has event(event), audio(frame), close({close, words, opened}), and unreadable(): whether to go on all the same.
  constructor({ url, subprotocols, token, WebSocket, on }) {
    this.#on = on;
    const offered = [...subprotocols];
    const address = new URL(url);
    address.protocol = address.protocol.replace('http', 'ws');
    if (token && SUBPROTOCOL_LETTERS.test(token)) offered.push(`bearer.${token}`);
    else if (token) address.searchParams.set('token', token);
    this.#socket = new WebSocket(address.href, offered);
    this.#socket.binaryType = 'arraybuffer';
    this.#socket.onopen = () => {
      this.#opened = true;
    };
    this.#socket.onmessage = ({ data }) => this.#message(data);
    this.#socket.onclose = ({ code, reason }) => this.#end(code, reason);
    // A close follows and says all that can be known; in Node not always.
    this.#socket.onerror = () => {
      if (!this.#opened) this.#end(1006, 'no connection could be made');
    };
  }

  get backlogBytes() {
    return this.#socket.bufferedAmount;
  }

  get #packed() {
    return this.#socket.protocol === SUBPROTOCOL_MSGPACK;
  }

  send(events) {
    if (this.#packed) for (const event of events) this.#socket.send(writePacked(event));
    else if (this.#socket.protocol === SUBPROTOCOL) for (const batch of writeLines(events)) this.#socket.send(batch);
    else for (const event of events) this.#socket.send(JSON.stringify(event));
  }

  sendAudio(bytes) {
    const timestampMs = Date.now() - this.#began;
    this.#socket.send(this.#packed ? writeBinary(KIND_AUDIO, bytes, { timestampMs }) : bytes);
  }

  /// Says goodbye, and nothing more to whoever made this line.
  leave(code, words) {
    this.#on = null;
    this.#socket.close(code, words);
  }

  #message(data) {
    if (!this.#on) return;
    const events = typeof data === 'string' ? this.#text(data) : this.#binary(data);
    for (const event of events) {
      if (event !== UNREADABLE) this.#on?.event(event);
      else if (this.#on?.unreadable() === false) {
        this.#socket.close(LEAVING_UNREADABLE, 'unreadable');
        this.#end(LEAVING_UNREADABLE, 'the server sent what is no event');
        return;
      }
    }
  }

  #text(text) {
    return this.#socket.protocol === SUBPROTOCOL ? readLines(text) : readLines(text.replaceAll('\n', ' '));
  }

  #binary(buffer) {
    if (!this.#packed && this.#socket.protocol !== SUBPROTOCOL) {
      this.#on.audio({ first: false, last: false, track: 0, timestampMs: 0, payload: buffer });
      return [];
    }
    const message = readBinary(buffer);
    if (message === null) return [UNREADABLE];
    if (message.kind === KIND_EVENTS) return readPacked(message.payload);
    if (message.kind === KIND_AUDIO) this.#on.audio(message);
    return [];
  }

  #end(code, words) {
    const on = this.#on;
    this.#on = null;
    on?.close({ close: code, words, opened: this.#opened });
  }
}

// src/dialer.js

// How to reach the server: addresses, subprotocols, and which transport is tried next.


// A WebSocket that has failed so often, while the server may well be there, is likely to be stopped on the way.
const FAILURES_BEFORE_FALLBACK = 2;
const PROBE_MS = 3000;

class Dialer {
  #options;
  #failures = 0;
  #worked = false;
  #reachable = false;
  #next;

  constructor(options) {
    this.#options = options;
    this.#next = options.transport === 'sse' ? 'sse' : 'websocket';
    if (!options.session) throw new VoxhallError('bad_options', 'a session is needed: its name is the name of the room');
    if (!['auto', 'websocket', 'sse'].includes(options.transport)) {
      throw new VoxhallError('bad_options', `transport is auto, websocket or sse, not ${options.transport}`);
    }
  }

  /// What the next attempt, or the present connection, uses.
  get transport() {
    return this.#next;
  }

  dial({ token, resume, after, on }) {
    const { WebSocket = globalThis.WebSocket, fetch, messagepack, subprotocol } = this.#options;
    const url = this.#address(this.#next === 'sse' ? 'sse' : 'ws', resume, after);
    if (this.#next === 'sse') return new SseLine({ url, token, fetch, on });
    if (!WebSocket) throw new VoxhallError('no_websocket', 'this JavaScript has no WebSocket: use Node 22 or newer, or give one as an option');
    const asked = messagepack ? [SUBPROTOCOL_MSGPACK, SUBPROTOCOL] : [SUBPROTOCOL];
    return new SocketLine({ url, subprotocols: subprotocol ? [subprotocol] : asked, token, WebSocket, on });
  }

  #address(kind, resume, after) {
    const { url, session, engine, format, rate } = this.#options;
    // A colon and an `@` may stand in a path as they are, and are frequent in names of rooms.
    const room = encodeURIComponent(session).replaceAll('%3A', ':').replaceAll('%40', '@');
    const address = new URL(`${kind}/${room}`, url);
    const query = { engine, format, rate, resume, after: resume ? after : null };
    for (const [key, value] of Object.entries(query)) {
      if (value !== undefined && value !== null) address.searchParams.set(key, value);
    }
    return address.href;
  }

  /// The transport has carried a welcome.
  succeeded() {
    this.#worked = true;
    this.#failures = 0;
    this.#reachable = false;
  }

  /// It has failed before it carried one. Where a WebSocket does not get through, the fallback and the WebSocket take turns.
  failed() {
    if (this.#options.transport !== 'auto') return;
    if (this.#next === 'sse') {
      this.#next = 'websocket';
      return;
    }
    this.#failures += 1;
    if (this.#failures >= FAILURES_BEFORE_FALLBACK && (!this.#worked || this.#reachable)) this.#next = 'sse';
  }

  /// Why a WebSocket was refused is hidden from pages. Whether the server is there at all, and whether it asks to wait, is
  /// told by its readiness: the milliseconds that it asks for, or nothing.
  async probe() {
    if (this.#next === 'sse') return null;
    this.#reachable = false;
    try {
      const signal = AbortSignal.timeout(PROBE_MS);
      const answer = await this.#options.fetch(new URL('readyz', this.#options.url).href, { cache: 'no-store', signal });
      this.#reachable = answer.ok;
      return answer.ok ? null : retryAfterMs(answer.headers.get('retry-after'));
    } catch {
      return null;
    }
  }
}

/// The server's address as `http(s)://host/`, whatever it was given as; a page's own server when it was not.
function httpAddress(url) {
  const own = typeof location === 'undefined' ? undefined : location.href;
  if (url === undefined && own === undefined) throw new VoxhallError('bad_options', 'a url is needed, such as https://voice.example');
  const address = new URL(url ?? '/', own);
  address.protocol = address.protocol.replace('ws', 'http');
  address.search = '';
  address.hash = '';
  if (!address.pathname.endsWith('/')) address.pathname += '/';
  return address.href;
}

/// When a JSON Web Token ends, in milliseconds since 1970; nothing of what is none, or has no end.
function tokenEndsAt(token) {
  try {
    const claims = JSON.parse(atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/')));
    return typeof claims.exp === 'number' ? claims.exp * 1000 : null;
  } catch {
    return null;
  }
}

// src/channels.js

// What the client has subscribed to, and how far it has heard each: enough to subscribe again on a new connection.

// Messages of a subscription whose names are remembered, so that none is shown twice.
const MESSAGES_SEEN_MAX = 1024;

/// Whether a channel is one that a subscription is for: `*` stands for one segment, and at the end for the rest.
function matches(pattern, channel) {
  const wanted = pattern.split(':');
  const given = channel.split(':');
  for (const [at, segment] of wanted.entries()) {
    if (segment === '*' && at === wanted.length - 1) return given.length > at;
    if (at >= given.length || (segment !== '*' && segment !== given[at])) return false;
  }
  return given.length === wanted.length;
}

/// The last messages, by their names.
class Seen {
  #names = new Set();

  /// Whether it has not been seen before.
  take(name) {
    if (this.#names.has(name)) return false;
    this.#names.add(name);
    if (this.#names.size > MESSAGES_SEEN_MAX) this.#names.delete(this.#names.values().next().value);
    return true;
  }
}

class Subscription {
  #seen = new Seen();
  /// A question for what came after `after` is out: until it is answered, what comes live is no position.
  #asking;
  /// So many messages are still told again, in their order.
  #toldAgain = 0;
  /// Where the channel is, if the question is refused.
  #now = null;
  listeners = new Set();
  /// A pattern may name several streams, which have no common position: the server says which. Nothing before it has.
  oneStream = null;

  /// `asked`: by the user, and not by the server because of its token.
  constructor(channel, after, asked) {
    this.channel = channel;
    this.after = after ?? null;
    this.asked = asked;
    this.#asking = this.after !== null;
  }

  get request() {
    const after = this.oneStream === false ? null : this.after;
    return { type: 'channel.subscribe', channel: this.channel, ...(after === null ? {} : { after }) };
  }

  /// The request of a new connection, which knows nothing of the questions of the one before.
  get again() {
    this.#asking = this.after !== null;
    this.#toldAgain = 0;
    return this.request;
  }

  /// The request for what came after a place further back.
  askAfter(after) {
    this.after = after;
    this.#asking = true;
    return this.request;
  }

  /// The subscription has begun, or something of it is lost: the request, or the gap, that comes of it.
  begun({ id, offset, recovered, missed = 0, reason }) {
    const at = id ?? offset ?? null;
    this.oneStream = at !== null;
    this.#now = at;
    const lost = recovered === false;
    const mayBeHad = this.oneStream && this.after !== null;
    // What was lost between shards the history may have.
    if (mayBeHad && lost && reason === 'overloaded') return { request: this.askAfter(this.after) };
    const isAnswer = recovered !== undefined;
    // A subscription by the token begins with what is new, whatever there was while nobody was connected.
    if (mayBeHad && !this.asked && !isAnswer && at !== this.after) return { request: this.askAfter(this.after) };
    // Somebody has asked meanwhile; this is the answer to what was said before.
    if (this.asked && this.#asking && !isAnswer) return {};
    const gap = lost ? this.#gap(reason ?? 'unknown') : undefined;
    this.#asking = false;
    this.#toldAgain = recovered ? missed : 0;
    // The position is behind what was missed, which is still to come.
    if (this.oneStream && this.#toldAgain === 0) this.after = at;
    return { gap };
  }

  /// The question was refused: what came before is not to be had.
  refused(reason) {
    const gap = this.#gap(reason);
    this.#asking = false;
    this.after = this.#now;
    return gap;
  }

  #gap(reason) {
    return { channel: this.channel, after: this.oneStream === false ? null : this.after, reason };
  }

  /// Whether the message is new here, and whose handlers it is for: those who have asked for what was before them may be
  /// told what the others have had.
  take(message) {
    const at = message.id ?? message.offset;
    // Two streams may both have a message of this name.
    const name = at === undefined ? null : `${message.channel} ${at}`;
    const fresh = name === null || this.#seen.take(name);
    if (name !== null) this.#move(at, fresh);
    const mine = [...this.listeners].filter(({ seen }) => (seen && name !== null ? seen.take(name) : fresh));
    return { fresh, handlers: mine.flatMap(({ handler }) => handler ?? []) };
  }

  #move(at, fresh) {
    const told = this.#toldAgain > 0;
    if (told) this.#toldAgain -= 1;
    if (!this.#asking && (fresh || told)) this.after = at;
  }
}

class Subscriptions {
  #all = new Map();
  /// What the user has asked for on this connection, so that a late answer is not taken for a subscription by the token.
  #asked = new Set();
  #questions = 0;
  #open = new Map();

  /// Somebody listens: the listener, and the request that has to be made for it, or the gap that comes of it.
  add(channel, after, handler) {
    this.#asked.add(channel);
    let subscription = this.#all.get(channel);
    let request;
    let gap;
    // Whoever asks for what was before is told it, though others have had it.
    const listener = { handler, seen: subscription && after !== undefined ? new Seen() : null };
    if (!subscription) {
      subscription = new Subscription(channel, after, true);
      this.#all.set(channel, subscription);
      request = subscription.request;
    } else if (after !== undefined && subscription.oneStream === false) {
      gap = { channel, after: null, reason: 'several_streams' };
    } else if (after !== undefined) {
      request = subscription.askAfter(after);
    }
    subscription.asked = true;
    subscription.listeners.add(listener);
    return { listener, request, gap };
  }

  /// Takes one listener back, or all with this handler, or all; whether nobody is left who listens.
  remove(channel, { listener, handler } = {}) {
    const subscription = this.#all.get(channel);
    if (!subscription) return false;
    const { listeners } = subscription;
    const before = listeners.size;
    for (const one of listeners) if (listener ? one === listener : handler === undefined || one.handler === handler) listeners.delete(one);
    const wasOne = listeners.size < before || (listener === undefined && handler === undefined);
    return wasOne && listeners.size === 0 && this.#all.delete(channel);
  }

  /// What to ask on a new connection. To what a token subscribes the server begins by itself.
  get requests() {
    this.#open.clear();
    const again = [...this.#all.values()].map(({ asked, again: request }) => ({ asked, request })).filter(({ asked }) => asked);
    this.#asked = new Set(again.map(({ request }) => request.channel));
    return again.map(({ request }) => request);
  }

  /// `channel.subscribed` has come: the request, or the gap, that comes of it.
  begun(event) {
    const { channel } = event;
    if (!this.#all.has(channel) && !this.#asked.has(channel)) this.#all.set(channel, new Subscription(channel, null, false));
    const { request, gap } = this.#all.get(channel)?.begun(event) ?? {};
    if (!request) return { gap };
    this.#questions += 1;
    const name = `channel_${this.#questions}`;
    this.#open.set(name, channel);
    return { request: { ...request, event_id: name } };
  }

  /// `channel.unsubscribed` has come: what the token does not name any more is not asked for.
  ended({ channel }) {
    if (this.#all.get(channel)?.asked === false) this.#all.delete(channel);
  }

  /// The gap that comes of an error, if it answers a question that the user has not asked.
  refused({ code, event_id: name } = {}) {
    const subscription = this.#all.get(this.#open.get(name));
    this.#open.delete(name);
    return subscription?.refused(code ?? 'unknown') ?? null;
  }

  /// Those of which nobody can say what was missed while there was no connection.
  get withoutPosition() {
    return [...this.#all.values()].filter(({ oneStream }) => oneStream === false).map(({ channel }) => channel);
  }

  /// Whether a message is new to anybody, and the handlers that it is for.
  take(message) {
    const all = [...this.#all.values()].filter(({ channel }) => matches(channel, message.channel ?? ''));
    const taken = all.map((subscription) => subscription.take(message));
    return {
      // Where nobody here knows of the subscription, nothing is known of what came before.
      fresh: taken.length === 0 || taken.some(({ fresh }) => fresh),
      handlers: taken.flatMap(({ handlers }) => handlers),
    };
  }
}

// src/emitter.js

// Who wants to hear of what. Handlers are called in the order in which they came, each with every event once.

// What an iteration keeps that nobody has asked for yet; past this it ends with an error, because it has missed something.
const WAITING_MAX = 4096;

class Emitter {
  #handlers = new Map();

  /// Calls `handler(event, type)` for every event of a type; `*` stands for all events of the server. Returns what takes
  /// it back.
  on(type, handler) {
    if (typeof handler !== 'function') throw new TypeError(`the handler of ${type} is no function`);
    this.#handlers.set(type, [...(this.#handlers.get(type) ?? []), handler]);
    return () => this.off(type, handler);
  }

  once(type, handler) {
    const off = this.on(type, (event, name) => {
      off();
      handler(event, name);
    });
    return off;
  }

  off(type, handler) {
    const left = (this.#handlers.get(type) ?? []).filter((other) => other !== handler);
    this.#handlers.set(type, left);
  }

  /// Tells those who listen to `type`. What a handler throws is reported, and keeps nobody else from hearing it.
  emit(type, event) {
    this.#call(this.#handlers.get(type), event, type);
  }

  /// The same of an event of the server, which those hear too who listen to `*`, and before them these.
  emitToAll(event, first = []) {
    this.#call(first, event, event.type);
    this.#call(this.#handlers.get(event.type), event, event.type);
    this.#call(this.#handlers.get('*'), event, event.type);
  }

  /// The same only to these.
  emitTo(event, handlers) {
    this.#call(handlers, event, event.type);
  }

  #call(handlers = [], event, type) {
    for (const handler of handlers) {
      try {
        handler(event, type);
      } catch (error) {
        report(error);
      }
    }
  }

  /// `for await (const event of client.events('response.done'))`: those that come from now on, until the client closes.
  events(type = '*') {
    const waiting = [];
    const offs = [];
    let ended = null;
    let wake = () => {};
    const end = (why) => {
      ended ??= why;
      for (const off of offs) off();
      wake();
    };
    const take = (event) => {
      if (waiting.length >= WAITING_MAX) end(new Error(`more than ${WAITING_MAX} events waited for their reader`));
      else waiting.push(event);
      wake();
    };
    if (this.state === 'closed') end('closed');
    else offs.push(this.on(type, take), this.on('state', ({ state }) => state === 'closed' && end('closed')));
    async function* iterate() {
      try {
        for (;;) {
          while (waiting.length > 0) yield waiting.shift();
          if (ended instanceof Error) throw ended;
          if (ended) return;
          await new Promise((resolve) => {
            wake = resolve;
          });
        }
      } finally {
        end('left');
      }
    }
    return iterate();
  }
}

function report(error) {
  if (typeof reportError === 'function') reportError(error);
  else queueMicrotask(() => console.error(error));
}

// src/position.js

// How far the client has heard the room: which numbers it has seen, so that what is told again is not shown again.

// More than a room keeps, so that no event that is told again is older than what is remembered here.
const SEEN_MAX = 4096;
/// The number of an event of the room; nothing of what has none.
function roomSeq({ seq }) {
  return typeof seq === 'number' ? seq : null;
}

class Position {
  #seen = new Set();
  #floor = 0;

  /// The epoch and the number of the last event; nothing before the first welcome.
  epoch = null;
  seq = 0;

  /// From now on numbers are of this epoch, and everything up to `seq` is past.
  begin(epoch, seq) {
    this.epoch = epoch ?? null;
    this.seq = seq ?? 0;
    this.#floor = this.seq;
    this.#seen.clear();
  }

  /// Whether an event is new. Those without a number always are.
  take(event) {
    const seq = roomSeq(event);
    if (seq === null) return true;
    if (seq <= this.#floor || this.#seen.has(seq)) return false;
    this.#seen.add(seq);
    this.seq = Math.max(this.seq, seq);
    // A set gives its members in the order in which they came.
    if (this.#seen.size > SEEN_MAX) {
      const oldest = this.#seen.values().next().value;
      this.#seen.delete(oldest);
      this.#floor = Math.max(this.#floor, oldest);
    }
    return true;
  }
}

// src/outgoing.js

// The client's events in the order of their numbers (`client_seq`), each until the server is known to have taken it.


const OUTGOING = { eventsMax: 256, bytesMax: 1_048_576 };
// What was sent, and is not yet known to have been taken, may be so many times as much.
const SENT_TIMES = 4;

class Outgoing {
  #entries = [];
  #bytes = 0;
  #last = 0;
  #lastSent = 0;
  #unsent = 0;

  constructor({ eventsMax = OUTGOING.eventsMax, bytesMax = OUTGOING.bytesMax } = {}) {
    this.eventsMax = eventsMax;
    this.bytesMax = bytesMax;
  }

  /// How many wait to be sent, or to be known to have been taken.
  get size() {
    return this.#entries.length;
  }

  /// How many wait to be sent.
  get unsent() {
    return this.#unsent;
  }

  /// How many were sent, and are not known to have been taken.
  get onTheWay() {
    return this.size - this.#unsent;
  }

  /// The last number that was sent on this connection.
  get lastSent() {
    return this.#lastSent;
  }

  /// The last number given out.
  get last() {
    return this.#last;
  }

  /// Numbers an event and keeps it. Throws `queue_full` when there is no room: nothing that was accepted is ever pushed
  /// out by what comes later. What can't be sent is refused here, and has no number.
  push(event) {
    const whole = snapshot({ ...event, client_seq: this.#last + 1 });
    const bytes = JSON.stringify(whole).length;
    const full = this.#unsent >= this.eventsMax || this.size >= this.eventsMax * SENT_TIMES;
    if (full || this.#bytes + bytes > this.bytesMax) {
      throw new VoxhallError('queue_full', `${this.#entries.length} events of ${this.#bytes} characters wait to be taken by the server: there is no room for another`);
    }
    this.#last += 1;
    this.#unsent += 1;
    this.#bytes += bytes;
    this.#entries.push({ seq: this.#last, event: whole, bytes, sent: false });
    return this.#last;
  }

  /// Numbers an event that is of no use later. It may not overtake those that wait: the server takes no number below the last.
  number(event) {
    const whole = snapshot({ ...event, client_seq: this.#last + 1 });
    this.#last += 1;
    this.#lastSent = this.#last;
    return whole;
  }

  /// What has not been sent on this connection, in order and so many of it; from now on it has.
  takeUnsent(most = Infinity) {
    const unsent = this.#entries.slice(this.onTheWay).slice(0, most);
    for (const entry of unsent) {
      entry.sent = true;
      this.#lastSent = entry.seq;
    }
    this.#unsent -= unsent.length;
    return unsent.map((entry) => entry.event);
  }

  /// The server has taken everything up to this number.
  taken(seq) {
    this.#drop((entry) => entry.seq <= seq);
  }

  /// The server has taken everything up to this number and nothing else: the rest has to be sent again, in numbers that
  /// follow, because those of what was not kept are missing between them.
  settle(seq) {
    this.taken(seq);
    this.#last = seq;
    this.#lastSent = seq;
    for (const entry of this.#entries) {
      this.#last += 1;
      entry.seq = this.#last;
      entry.event.client_seq = this.#last;
      entry.sent = false;
    }
    this.#unsent = this.size;
  }

  /// Gives up what the server will never take; those with this number.
  refused(seq) {
    return this.#drop((entry) => entry.seq === seq);
  }

  /// Gives up what was sent and may or may not have been taken.
  abandonSent() {
    return this.#drop((entry) => entry.sent);
  }

  /// Gives up everything.
  abandon() {
    return this.#drop(() => true);
  }

  #drop(isIt) {
    const gone = this.#entries.filter(isIt);
    this.#entries = this.#entries.filter((entry) => !isIt(entry));
    for (const entry of gone) {
      this.#bytes -= entry.bytes;
      if (!entry.sent) this.#unsent -= 1;
    }
    return gone.map((entry) => entry.event);
  }
}

// src/pace.js

// How fast a connection may be written to. A server takes so many messages at once and so many a second, whatever they are
// (`session.limits`), refuses what comes above it, and ends a connection that goes on. What piled up goes in portions, then.

class Pace {
  #now;
  #burst = Infinity;
  #perMs = Infinity;
  #debt = 0;
  #at = 0;

  /// `now` gives milliseconds.
  constructor(now) {
    this.#now = now;
  }

  /// A connection begins, which owes nothing. A server that names no limits, or 0, has none.
  begin({ messages_burst: burst, messages_per_s: rate } = {}) {
    const limited = burst > 0 && rate > 0;
    this.#burst = limited ? burst : Infinity;
    this.#perMs = limited ? rate / 1000 : Infinity;
    this.#debt = 0;
    this.#at = this.#now();
  }

  spend(messages) {
    this.#debt = this.#owed() + messages;
    this.#at = this.#now();
  }

  #owed() {
    return this.#perMs === Infinity ? 0 : Math.max(0, this.#debt - (this.#now() - this.#at) * this.#perMs);
  }

  /// How many may go at once. With the window it is three quarters of what the server takes: a network that stood still
  /// may bring all that was on its way together with all that is sent then.
  get #atOnce() {
    return Math.max(1, Math.floor(this.#burst / 4));
  }

  /// How many events may be on their way before the server has said that it has them.
  get window() {
    return Math.max(1, Math.floor(this.#burst / 2));
  }

  /// How many messages may go now.
  get room() {
    return Math.max(0, Math.floor(this.#atOnce - this.#owed()));
  }

  /// What may be left out had better be.
  get isSpent() {
    return this.#owed() > this.window;
  }

  /// The milliseconds until there is room again, for a few at a time.
  get waitMs() {
    const few = Math.max(1, Math.floor(this.#atOnce / 10));
    return Math.max(0, Math.ceil((this.#owed() - this.#atOnce + few) / this.#perMs));
  }
}

// src/uplink.js

// What goes to the server: in its order, as fast as the server takes it, and kept until it is known to have been taken.


class Uplink {
  #link;
  #options;
  #timers;
  #pace;
  #pings = [];
  #line = null;

  /// `link` has isOpen, emit(type, event) and leave(code, words).
  constructor(link, options) {
    this.#link = link;
    this.#options = options;
    this.#timers = options.timers;
    this.#pace = new Pace(options.now);
    this.outgoing = new Outgoing({ eventsMax: options.queueEvents, bytesMax: options.queueBytes });
  }

  /// A connection is open; `limits` are those of its session.
  begin(line, limits) {
    this.#line = line;
    this.#pace.begin(limits);
  }

  end() {
    this.#line = null;
    this.#pings = [];
  }

  /// Whether something can be sent at once without overtaking what waits.
  get isFree() {
    return this.outgoing.unsent === 0 && !this.#pace.isSpent;
  }

  /// Whether so much was sent of late that what may be left out should be.
  get isSpent() {
    return this.#pace.isSpent;
  }

  /// Sends what was accepted, as far as there is a connection for it.
  flush() {
    if (!this.#link.isOpen) return;
    this.#sendPortion();
    const { size, onTheWay } = this.outgoing;
    if (size > 0 && !this.#timers.has('confirm')) this.#timers.set('confirm', this.#options.confirmMs, () => this.ping());
    // Who sends much learns in time what has arrived.
    const much = size * 4 > this.#options.queueEvents || onTheWay * 2 > this.#pace.window;
    if (much && onTheWay > 0 && this.#pings.length === 0) this.ping();
    else this.#goOnLater();
  }

  #sendPortion() {
    const { outgoing } = this;
    const most = Math.min(this.#pace.room, this.#pace.window - outgoing.onTheWay);
    if (most > 0) this.transmit(outgoing.takeUnsent(most));
  }

  /// With what waits, once there is room. Where the window is full, the answer to a ping goes on.
  #goOnLater() {
    const { unsent, onTheWay } = this.outgoing;
    if (unsent > 0 && onTheWay < this.#pace.window) this.#timers.set('pace', this.#pace.waitMs, () => this.flush());
  }

  /// Sends events as they are. They are told to those who keep a log, without secrets.
  transmit(events) {
    if (events.length === 0) return;
    this.#pace.spend(events.length);
    this.#line.send(events);
    for (const event of events) this.#link.emit('sent', event.token ? { ...event, token: '…' } : event);
  }

  transmitAudio(bytes) {
    this.#pace.spend(1);
    this.#line.sendAudio(bytes);
  }

  /// Asks for a sign of life, which also says what has arrived: its `t` is the last number that was sent before.
  ping(patienceMs = undefined) {
    if (!this.#link.isOpen) return;
    this.#sendPortion();
    const t = this.outgoing.lastSent;
    this.#pings.push({ t, at: performance.now() });
    if (patienceMs !== undefined || !this.#timers.has('silence')) {
      const wait = patienceMs ?? this.#options.silenceMs;
      this.#timers.set('silence', wait, () => this.#link.leave(LEAVING_SILENT, 'nothing came for too long'));
    }
    this.transmit([{ type: 'ping', t }]);
    this.#goOnLater();
  }

  pong({ t }) {
    const at = this.#pings.findIndex((ping) => ping.t === t);
    if (at < 0) return;
    const [ping] = this.#pings.splice(0, at + 1).slice(-1);
    this.outgoing.taken(ping.t);
    this.#timers.clear('confirm');
    if (this.outgoing.size > 0) this.flush();
    this.#link.emit('rtt', performance.now() - ping.at);
  }

  /// The server has taken everything up to this number.
  taken(seq) {
    this.outgoing.taken(seq);
    this.flush();
  }

  /// Some of what was sent is refused and some may be taken later, and no `pong` can say which. Only a new connection is told
  /// what the last one taken was, before a later number hides that those before it are missing.
  tooFast() {
    if (this.#link.isOpen && this.outgoing.onTheWay > 0) this.#link.leave(LEAVING_TOO_FAST, 'more was sent than the server takes at once');
  }
}

// src/link.js

// One session over as many connections as it takes: welcome, resumption, what was missed, what has to go again, and when
// to come back. `Voxhall` is its public face.


// Events held back while what was dropped is asked for again; more are given to the user, with the gap.
const HELD_MAX = 1024;
// How many connections in a row may end because of what can't be read; after them it is passed over.
const UNREADABLE_ENDS_MAX = 3;
const REFILL_MS = 250;
const REFRESH_BEFORE_MS = 30_000;
// What the client tells its user where the server has no answer.
const UNANSWERED = { type: 'session.restored', recovered: false, reason: 'unanswered' };
const LATER = ['connect', 'stable', 'ping', 'silence', 'confirm', 'draining', 'hold', 'backoff', 'token', 'pace'];

class Link extends Emitter {
  #options;
  #timers;
  #dialer;
  #backoff;
  #position = new Position();
  uplink;
  #line = null;
  #attempt = 0;
  /// `idle`, `dialling`, `welcomed` (the answer to a resume token is still to come), `open`, `waiting`, `closed`.
  #phase = 'idle';
  #asked = false;
  #resume = null;
  #triedFreshToken = false;
  /// What is asked for again: `{after, held, again}`.
  #filling = null;
  /// What is being told again: everything up to `at` has come, and live events are those after `until`.
  #replay = null;
  #askedAfter = 0;
  #fills = 0;
  #notBefore = 0;
  #unreadableEnds = 0;
  /// Whether this client has been in the room before, and would miss something that is not told again.
  #known = false;

  subscriptions = new Subscriptions();
  state = 'idle';
  session = null;
  roomState = null;

  constructor(options) {
    super();
    this.#options = options;
    this.#timers = options.timers;
    this.#dialer = new Dialer(options);
    this.uplink = new Uplink(this, options);
    this.#backoff = new Backoff({ ...options.backoff, random: options.random });
  }

  get isOpen() {
    return this.#phase === 'open';
  }

  get transport() {
    return this.#dialer.transport;
  }

  get seq() {
    return this.#position.seq;
  }

  get backlogBytes() {
    return this.#line?.backlogBytes ?? 0;
  }

  get outgoing() {
    return this.uplink.outgoing;
  }

  /// Whether there is a connection that something can be sent on at once, without overtaking what waits.
  get isFree() {
    return this.isOpen && this.uplink.isFree;
  }

  get takesBinary() {
    return this.#line?.binary ?? true;
  }

  // What the user does.

  change(options) {
    Object.assign(this.#options, options);
  }

  begin() {
    this.#tellState('connecting');
    this.#dial();
  }

  /// Leaves for good, and forgets the session.
  end() {
    if (this.#phase === 'closed' || this.#phase === 'idle') return;
    this.#hangUp(1000, 'goodbye');
    this.#finish({ code: 'left', message: 'the client has left', close: 1000 });
  }

  flush() {
    this.uplink.flush();
  }

  /// Sends events as they are.
  transmit(events) {
    this.uplink.transmit(events);
  }

  /// Asks for a sign of life, which has to come within the time that is given.
  ping(patienceMs = undefined) {
    this.uplink.ping(patienceMs);
  }

  /// A hint that the network may have come back, or gone.
  nudge(patienceMs) {
    if (this.isOpen) this.ping(patienceMs);
    else if (this.#phase === 'waiting' && Date.now() >= this.#notBefore) this.#dial();
  }

  async refreshToken() {
    const token = await this.#token();
    if (this.isOpen && token) {
      this.transmit([{ type: 'session.update', token }]);
      this.#refreshBefore(token);
    }
    return token;
  }

  // A connection begins.

  async #dial() {
    this.#timers.clear('backoff');
    this.#attempt += 1;
    const attempt = this.#attempt;
    this.#phase = 'dialling';
    this.#timers.set('connect', this.#options.connectMs, () => this.leave(LEAVING_SILENT, 'no welcome came in time'));
    try {
      const token = await this.#token();
      if (attempt !== this.#attempt) return;
      this.#asked = this.#resume !== null;
      this.#askedAfter = Math.min(this.#position.seq, this.#replay?.at ?? Infinity);
      const on = this.#listener(attempt);
      this.#line = this.#dialer.dial({ token, resume: this.#resume, after: this.#askedAfter, on });
      this.#refreshBefore(token);
    } catch (error) {
      if (attempt !== this.#attempt) return;
      if (error instanceof VoxhallError) this.#finish(error);
      else this.#lost({ close: 1006, words: String(error?.message ?? error) });
    }
  }

  async #token() {
    const { token, getToken } = this.#options;
    return getToken ? getToken() : (token ?? null);
  }

  #refreshBefore(token) {
    const endsAt = this.#options.getToken && token ? tokenEndsAt(token) : null;
    if (endsAt === null) return;
    const left = endsAt - Date.now();
    const wait = Math.max(left / 2, left - REFRESH_BEFORE_MS);
    const again = () => this.refreshToken().catch(() => this.#timers.set('token', REFRESH_BEFORE_MS / 6, again));
    if (wait > 0) this.#timers.set('token', wait, again);
  }

  #listener(attempt) {
    const mine = (run) => (value) => (attempt === this.#attempt ? run(value) : undefined);
    return {
      event: mine((event) => this.#take(event)),
      audio: mine((frame) => {
        this.#heard();
        this.emit('audio', frame);
      }),
      unreadable: mine(() => this.#passesOver()),
      taken: mine((seq) => this.uplink.taken(seq)),
      refused: mine((event) => this.#tellUnconfirmed(this.outgoing.refused(event.client_seq), 'too_big')),
      close: mine((ending) => this.#lost(ending)),
    };
  }

  #heard() {
    this.#timers.clear('silence');
    if (this.isOpen) this.#timers.set('ping', this.#options.pingMs, () => this.ping());
  }

  // What the server says.

  #take(event) {
    this.#heard();
    if (event.type === 'session.created') this.#welcomed(event);
    else if (event.type === 'session.restored') this.#restored(event);
    else {
      // Whoever asked to resume and gets no answer was taken for somebody new.
      if (this.#phase === 'welcomed') this.#restored(UNANSWERED);
      this.#hold(event);
    }
  }

  /// Whether what can't be read is passed over. It is a cut at first, after which it may come whole; where it comes again as
  /// it was, everything behind it would never come.
  #passesOver() {
    if (this.#unreadableEnds < UNREADABLE_ENDS_MAX) {
      this.#unreadableEnds += 1;
      return false;
    }
    this.#heard();
    this.emit('gap', { channel: null, after: this.#position.seq, reason: 'unreadable' });
    return true;
  }

  #welcomed(event) {
    const known = this.#known;
    this.#adopt(event.session ?? {});
    this.#known = true;
    this.#triedFreshToken = false;
    this.#dialer.succeeded();
    this.#timers.clear('connect');
    this.#phase = 'welcomed';
    this.emitToAll(event);
    if (this.#phase !== 'welcomed') return;
    if (this.#asked && this.session.resume) {
      this.#timers.set('hold', this.#options.silenceMs, () => this.#restored(UNANSWERED));
    } else if (known) {
      // A server without recovery says nothing more.
      this.#restored(UNANSWERED);
    } else {
      this.#resume = this.session.resume?.token ?? null;
      this.#startOver(this.session.resume);
      this.#abandonSent();
      this.outgoing.settle(0);
      this.#opened();
    }
  }

  #startOver(resume) {
    this.#replay = null;
    this.#position.begin(resume?.epoch, resume?.seq);
  }

  #restored(event) {
    const atWelcome = this.#phase === 'welcomed';
    const { after, held } = this.#filling ?? { after: this.#askedAfter, held: [] };
    const again = this.#filling?.again;
    this.#filling = null;
    this.#timers.clear('hold');
    if (event.state !== undefined) this.roomState = event.state;
    // Only now is the token of the welcome worth as much as the one before.
    if (atWelcome) this.#resume = this.session.resume?.token ?? null;
    if (event.recovered) {
      this.#replay = { at: after, until: event.last_seq ?? Infinity };
      this.#position.epoch = event.epoch ?? this.#position.epoch;
    } else if (atWelcome) {
      const { epoch, seq } = this.session.resume ?? {};
      this.#startOver({ epoch: event.epoch ?? epoch, seq: event.last_seq ?? seq });
    } else {
      this.#replay = null;
    }
    this.emitToAll(event);
    if (!event.recovered) this.emit('gap', { channel: null, after, reason: event.reason ?? 'unknown' });
    if (atWelcome) this.#settleOutgoing(event);
    // What was held back comes again where it is recovered; otherwise it is all there is.
    if (!event.recovered) for (const kept of held) this.#deliver(kept);
    if (again !== undefined) this.#fill(again);
  }

  #settleOutgoing({ recovered, client_seq: taken }) {
    if (this.#phase !== 'welcomed') return;
    if (recovered || typeof taken === 'number') {
      this.outgoing.settle(taken ?? 0);
    } else {
      this.#abandonSent();
      // Whoever has had nothing of this member waits for its first event where the order of requests is in question.
      if (!this.takesBinary) this.outgoing.settle(0);
    }
    this.#opened();
  }

  /// What was on its way when nobody knows any more what arrived is not sent twice: its sender decides.
  #abandonSent() {
    this.#tellUnconfirmed(this.outgoing.abandonSent(), 'unknown');
  }

  #tellUnconfirmed(events, reason) {
    if (events.length > 0) this.emitToAll({ type: 'client.unconfirmed', events, reason });
  }

  #opened() {
    this.#phase = 'open';
    this.uplink.begin(this.#line, this.session.limits);
    this.#timers.set('stable', this.#options.stableMs, () => this.#stands());
    this.transmit(this.subscriptions.requests);
    for (const channel of this.subscriptions.withoutPosition) this.emit('gap', { channel, after: null, reason: 'several_streams' });
    this.#heard();
    this.#tellState('open');
    this.flush();
  }

  #stands() {
    this.#backoff.reset();
    this.#unreadableEnds = 0;
  }

  /// While what was dropped is asked for again, numbered events wait, so that everything is given in its order.
  #hold(event) {
    const filling = this.#filling;
    if (!filling || roomSeq(event) === null) {
      this.#deliver(event);
      return;
    }
    filling.held.push(event);
    if (filling.held.length > HELD_MAX) this.#restored({ type: 'session.restored', recovered: false, reason: 'overflow' });
  }

  #deliver(event) {
    const { type } = event;
    this.#follow(roomSeq(event));
    const { fresh, handlers } = type === 'channel.message' ? this.subscriptions.take(event) : { fresh: this.#position.take(event), handlers: [] };
    if (!fresh) {
      this.emitTo(event, handlers);
      return;
    }
    if (type === 'pong') this.uplink.pong(event);
    else if (type === 'session.updated') this.#updated(event);
    else if (type === 'session.draining') this.#draining(event);
    else if (type === 'error' && this.#isMine(event.error ?? {})) return;
    this.emitToAll(event, handlers);
    if (type === 'outbox.dropped') this.#dropped(event);
    else if (type === 'channel.subscribed') this.#ask(this.subscriptions.begun(event));
    else if (type === 'channel.unsubscribed') this.subscriptions.ended(event);
    else if (type === 'error' && roomSeq(event) === null && event.error?.code === 'rate_limit_exceeded') this.uplink.tooFast();
  }

  /// What a channel needs is asked for, and what is lost of it is told.
  #ask({ request, gap }) {
    if (request && this.isOpen) this.transmit([request]);
    if (gap) this.emit('gap', gap);
  }

  /// Whether an error answers what only the client has asked.
  #isMine(error) {
    if (this.#filling && error.event_id === this.#filling.name) return this.#notFilled(error);
    const gap = this.subscriptions.refused(error);
    if (gap) this.emit('gap', gap);
    return gap !== null;
  }

  /// What is told again comes in order: a connection that ends in the middle goes on from there, whatever came before.
  #follow(seq) {
    if (this.#replay === null || seq === null) return;
    if (seq > this.#replay.until) this.#replay = null;
    else this.#replay.at = seq;
  }

  #updated({ session }) {
    this.#adopt({ ...this.session, ...session });
  }

  /// The room is right about what it is, and if it has to be made again, it should be that.
  #adopt(session) {
    this.session = session;
    this.roomState = session.state ?? null;
    for (const key of ['engine', 'format', 'rate']) if (session[key] !== undefined) this.change({ [key]: session[key] });
  }

  /// The server says when it will close: whoever leaves by then comes back where there is more time.
  #draining({ reconnect_in_ms: ms }) {
    this.#timers.set('draining', ms ?? 0, () => {
      this.#hangUp(LEAVING_DRAINED, 'draining');
      this.#tellState('reconnecting', { code: 'draining', message: 'the server is going away', attempt: 1, inMs: 0 });
      if (this.#phase === 'waiting') this.#timers.set('backoff', 0, () => this.#dial());
    });
  }

  /// What a full lane let go of can be had again, but for audio and what had no number.
  #dropped({ class: kind, first_seq: first }) {
    if (kind === 'audio' || typeof first !== 'number' || !this.isOpen) return;
    if (!this.#filling) this.#fill(first - 1);
    else if (first - 1 < this.#filling.after) this.#filling.again = first - 1;
  }

  /// Calls the handler of a subscription, which has to be asked for if it is the first one, or wants what came before.
  listen(channel, after, handler) {
    const { listener, request, gap } = this.subscriptions.add(channel, after, handler);
    this.#ask({ request, gap });
    return listener;
  }

  #fill(after) {
    if (!this.isOpen) return;
    this.#fills += 1;
    this.#filling = { after, held: this.#filling?.held ?? [], name: `fill_${this.#fills}` };
    this.#replay = { at: Math.min(after, this.#replay?.at ?? after), until: Infinity };
    this.#timers.set('hold', this.#options.silenceMs, () => this.#restored(UNANSWERED));
    this.transmit([{ type: 'session.update', event_id: this.#filling.name, after }]);
  }

  /// One replay at a time: while another is on its way, the question has to be asked again. Otherwise there is no answer.
  #notFilled({ retryable }) {
    const { after, again = after } = this.#filling;
    if (retryable) this.#timers.set('hold', REFILL_MS, () => this.#fill(Math.min(after, again)));
    else this.#restored(UNANSWERED);
    return retryable;
  }

  // A connection ends.

  /// Takes the line down and everything that belongs to it.
  #hangUp(code, words) {
    this.#attempt += 1;
    this.#timers.clear(...LATER);
    this.#filling = null;
    this.uplink.end();
    const line = this.#line;
    this.#line = null;
    this.#phase = 'waiting';
    if (code !== undefined) line?.leave(code, words);
  }

  get #wasWelcomed() {
    return this.#phase === 'open' || this.#phase === 'welcomed';
  }

  /// Gives the connection up, and comes back.
  leave(code, words) {
    const welcomed = this.#wasWelcomed;
    this.#hangUp(code, words);
    this.#comeBack({ again: true, code: 'connection_lost', message: words, close: 1006 }, welcomed, null);
  }

  #lost({ status, close, words, retryAfterMs = null }) {
    const welcomed = this.#wasWelcomed;
    const canRefresh = Boolean(this.#options.getToken) && !this.#triedFreshToken;
    const why = status ? afterStatus(status, words, canRefresh) : afterClose(close, words, canRefresh);
    if (why.code === 'unauthorized' || why.code === 'token_expired') this.#triedFreshToken = true;
    this.#hangUp();
    if (why.again) this.#comeBack(why, welcomed, retryAfterMs);
    else this.#finish(why);
  }

  async #comeBack(why, welcomed, retryAfterMs) {
    const attempt = this.#attempt;
    let floor = retryAfterMs;
    // The user hears at once that it is away; how long is known a moment later.
    this.#tellState('reconnecting', { ...why, attempt: this.#backoff.attempts + 1, inMs: null });
    if (!welcomed && attempt === this.#attempt) {
      floor ??= await this.#dialer.probe();
      if (attempt !== this.#attempt) return;
      this.#dialer.failed();
    }
    if (attempt !== this.#attempt || this.#phase !== 'waiting') return;
    const wait = Math.max(this.#backoff.next(), floor ?? 0);
    this.#notBefore = Date.now() + (floor ?? 0);
    this.#tellState('reconnecting', { ...why, attempt: this.#backoff.attempts, inMs: wait });
    if (attempt === this.#attempt) this.#timers.set('backoff', wait, () => this.#dial());
  }

  #finish(why) {
    this.#hangUp();
    this.#phase = 'closed';
    this.#resume = null;
    this.#known = false;
    this.#backoff.reset();
    this.#tellState('closed', why);
  }

  #tellState(state, { code = null, message = '', close = null, words = '', attempt = 0, inMs = null } = {}) {
    const previous = this.state;
    this.state = state;
    this.emit('state', { state, previous, code, message, close, words, attempt, inMs });
  }
}

// src/timers.js

// Everything that the client does later, by name, so that a test can let time pass as it likes.

// What `setTimeout` takes.
const LONGEST_MS = 2 ** 31 - 1;

class Timers {
  #handles = new Map();

  /// Runs it after `ms`, instead of what had this name.
  set(name, ms, run) {
    this.clear(name);
    const handle = setTimeout(
      () => {
        this.#handles.delete(name);
        run();
      },
      Math.min(ms, LONGEST_MS),
    );
    this.#handles.set(name, handle);
  }

  has(name) {
    return this.#handles.has(name);
  }

  clear(...names) {
    for (const name of names) {
      clearTimeout(this.#handles.get(name));
      this.#handles.delete(name);
    }
  }
}

// src/client.js

// The client: what an application does, in the application's words.


// Of no use when it comes late: sent now or not at all.
const FLEETING = new Set(['input_audio_buffer.append', 'ping']);
// Two seconds of pcm16 at 16 kHz. A connection further behind gets no more sound until it has caught up.
const AUDIO_BACKLOG_BYTES_MAX = 64_000;
// Over server-sent events sound goes in requests of this size: about 100 ms.
const AUDIO_REQUEST_BYTES = 3200;
const PROBE_PATIENCE_MS = 2500;

const DEFAULTS = {
  transport: 'auto',
  messagepack: false,
  queueEvents: 256,
  queueBytes: 1_048_576,
  connectMs: 10_000,
  stableMs: 10_000,
  pingMs: 20_000,
  silenceMs: 10_000,
  confirmMs: 2_000,
};

class Voxhall extends Link {
  #waiting = null;
  #sound = [];
  #soundBytes = 0;
  #offHints = () => {};

  /// What went over the wire. Frames are dropped when there is no connection, or it is too far behind.
  counts = { framesSent: 0, framesDropped: 0, framesReceived: 0, bytesReceived: 0 };

  constructor(options = {}) {
    super({
      timers: new Timers(),
      random: Math.random,
      now: () => performance.now(),
      fetch: (...request) => fetch(...request),
      ...DEFAULTS,
      ...options,
      url: httpAddress(options.url),
    });
    this.on('response.output_audio.delta', (event) => this.#wordedAudio(event));
    this.on('audio', ({ payload }) => {
      this.counts.framesReceived += 1;
      this.counts.bytesReceived += payload.byteLength;
    });
    this.on('state', (change) => this.#changed(change));
  }

  /// Begins. Resolves with the session once the server has welcomed the client, however often it had to be asked; rejects
  /// when it won't. What is given changes the options (`engine`, `token`, …) of this connection and those to come.
  connect(changes = {}) {
    this.change(changes);
    if (this.#waiting) return this.#waiting.promise;
    if (this.isOpen) return Promise.resolve(this.session);
    const waiting = {};
    waiting.promise = new Promise((resolve, reject) => Object.assign(waiting, { resolve, reject }));
    // Whoever listens to `state` instead is not bothered by a rejection that nobody handles.
    waiting.promise.catch(() => {});
    this.#waiting = waiting;
    if (this.state === 'idle' || this.state === 'closed') {
      this.#offHints = listenForHints(this);
      this.begin();
    }
    return waiting.promise;
  }

  /// Leaves the room. Returns the events that the server is not known to have taken.
  close() {
    this.end();
    return this.outgoing.abandon();
  }

  /// Sends an event, now or as soon as there is a connection, once. Returns its number. Throws `queue_full` when too many
  /// wait, and a RangeError or TypeError for what can't be sent at all. What is of no use later (`ping`, audio) is dropped
  /// when there is no connection, or something waits before it: then the number is 0.
  send(event) {
    if (typeof event?.type !== 'string') throw new TypeError('an event has a type');
    if (this.state === 'closed') throw new VoxhallError('closed', 'the client is closed');
    this.#sendSound();
    if (!FLEETING.has(event.type)) {
      const seq = this.outgoing.push(event);
      this.flush();
      return seq;
    }
    if (!this.isFree) return 0;
    this.transmit([event.type === 'ping' ? snapshot(event) : this.outgoing.number(event)]);
    return this.outgoing.last;
  }

  /// Bytes of audio have no number, and overtake what waits; as words they have one, and must not.
  get canSendAudio() {
    return this.isOpen && this.backlogBytes <= AUDIO_BACKLOG_BYTES_MAX && (this.takesBinary ? !this.uplink.isSpent : this.isFree);
  }

  /// Appends audio to the member's input: bytes of the session's format. Whether it was sent; audio never waits.
  sendAudio(audio) {
    const bytes = audio instanceof ArrayBuffer ? new Uint8Array(audio) : new Uint8Array(audio.buffer, audio.byteOffset, audio.byteLength);
    if (!this.canSendAudio) {
      this.counts.framesDropped += 1;
      return false;
    }
    this.counts.framesSent += 1;
    if (this.takesBinary) {
      this.uplink.transmitAudio(bytes);
      return true;
    }
    this.#sound.push(bytes.slice());
    this.#soundBytes += bytes.length;
    if (this.#soundBytes >= AUDIO_REQUEST_BYTES) this.#sendSound();
    return true;
  }

  /// Says something in writing, and asks for an answer unless told otherwise.
  sendText(text, { respond = true } = {}) {
    const item = { type: 'message', role: 'user', content: [{ type: 'input_text', text }] };
    this.send({ type: 'conversation.item.create', item });
    if (respond) this.send({ type: 'response.create' });
  }

  /// Interrupts the answer.
  interrupt() {
    this.send({ type: 'response.cancel' });
  }

  /// To the other members of the room, or to one.
  sendToRoom(data, { to } = {}) {
    return this.send({ type: 'room.send', data, ...(to === undefined ? {} : { to }) });
  }

  /// Changes settings of the session.
  updateSession(session) {
    return this.send({ type: 'session.update', session });
  }

  /// Merges into what the room keeps for its members; `null` takes a key out.
  updateState(state) {
    return this.send({ type: 'session.update', state });
  }

  /// Calls `handler(message)` for each message of a channel. Whoever says `after` (the `id` of a message) gets first what came
  /// since, while that is kept. After every cut the client subscribes again from where it was. Returns what ends it, for this
  /// handler alone.
  subscribe(channel, { after } = {}, handler = undefined) {
    const listener = this.listen(channel, after ?? undefined, handler);
    return () => this.#unsubscribe(channel, { listener });
  }

  /// No longer calls this handler, or any.
  unsubscribe(channel, handler = undefined) {
    this.#unsubscribe(channel, { handler });
  }

  #unsubscribe(channel, who) {
    if (this.subscriptions.remove(channel, who) && this.isOpen) this.transmit([{ type: 'channel.unsubscribe', channel }]);
  }

  publish(channel, data, options = {}) {
    return this.send({ type: 'channel.publish', channel, data, ...options });
  }

  /// Where audio can't be binary it comes as words.
  #wordedAudio({ delta, track = 0 }) {
    if (this.takesBinary || typeof delta !== 'string') return;
    this.emit('audio', { first: false, last: false, track, timestampMs: 0, payload: fromBase64(delta).buffer });
  }

  /// Sound that waits goes before whatever is said next.
  #sendSound() {
    if (this.#sound.length === 0) return;
    const whole = new Uint8Array(this.#soundBytes);
    let at = 0;
    for (const piece of this.#sound) {
      whole.set(piece, at);
      at += piece.length;
    }
    this.#sound = [];
    this.#soundBytes = 0;
    if (this.isFree) this.transmit([this.outgoing.number({ type: 'input_audio_buffer.append', audio: toBase64(whole) })]);
  }

  #changed({ state, code, message, close }) {
    if (state !== 'open') {
      this.#sound = [];
      this.#soundBytes = 0;
    }
    if (state === 'open') this.#waiting?.resolve(this.session);
    if (state === 'closed') {
      this.#offHints();
      this.#waiting?.reject(new VoxhallError(code, message, close));
    }
    if (state === 'open' || state === 'closed') this.#waiting = null;
  }
}

/// A page hears when its network comes and goes, and when somebody looks at it again. None of it is certain, so a standing
/// connection is only asked whether it still stands.
function listenForHints(client) {
  if (typeof window === 'undefined') return () => {};
  const nudge = () => client.nudge(PROBE_PATIENCE_MS);
  const seen = () => document.visibilityState === 'visible' && nudge();
  window.addEventListener('online', nudge);
  window.addEventListener('offline', nudge);
  window.addEventListener('pageshow', nudge);
  document.addEventListener('visibilitychange', seen);
  return () => {
    window.removeEventListener('online', nudge);
    window.removeEventListener('offline', nudge);
    window.removeEventListener('pageshow', nudge);
    document.removeEventListener('visibilitychange', seen);
  };
}

// src/sound.js

// The microphone and the loudspeaker of a page. Owns the AudioContext and its two worklets; must be started by a click,
// because browsers allow sound only then.


const FRAME_MS = 20;

/// The sample rate that a session speaks, wherever it is written.
function sessionRate(session, fallback = 16000) {
  const audio = session?.audio ?? {};
  return audio.rate ?? audio.input?.format?.rate ?? audio.input?.rate ?? audio.output?.format?.rate ?? session?.rate ?? fallback;
}

/// Events: `microphone` `{level}`, `speaker` `{level, bufferedMs, targetMs}`, `lost` when the microphone went away.
class Sound extends Emitter {
  #client;
  #context = null;
  #playback = null;
  #capture = null;
  #stream = null;
  #starting = null;
  #opening = null;
  #closes = 0;
  #offs = [];
  #worklet;
  #frameMs;

  /// Joined to a client, it sends what is said, plays what comes, and falls silent when somebody interrupts. `worklet` is
  /// the address of this module, where a bundler has moved it.
  constructor(client, { worklet = import.meta.url, frameMs = FRAME_MS, rate = 16000 } = {}) {
    super();
    if (frameMs < 10 || frameMs > 60) throw new RangeError('a frame has 10 to 60 ms');
    this.#client = client;
    this.#worklet = worklet;
    this.#frameMs = frameMs;
    this.rate = rate;
    const adopt = ({ session }) => this.setRate(sessionRate(session, this.rate));
    this.#offs = [
      client.on('audio', (frame) => this.play(frame)),
      client.on('session.created', adopt),
      client.on('session.updated', adopt),
      client.on('output_audio_buffer.cleared', () => this.flush()),
      client.on('state', ({ state }) => state !== 'open' && this.flush()),
    ];
  }

  get hasMicrophone() {
    return this.#capture !== null;
  }

  /// The loudspeaker; once started, further calls just wake it. One that failed may be made again.
  async start() {
    if (this.#playback) {
      await this.#context.resume();
      return;
    }
    this.#starting ??= this.#startPlayback().finally(() => {
      this.#starting = null;
    });
    await this.#starting;
  }

  async #startPlayback() {
    const context = new AudioContext({ latencyHint: 'interactive' });
    this.#context = context;
    try {
      await Promise.all([context.resume(), context.audioWorklet.addModule(this.#worklet)]);
      if (this.#context !== context) throw new DOMException('stopped before it had begun', 'AbortError');
      const node = new AudioWorkletNode(context, 'voxhall-playback', {
        numberOfInputs: 0,
        outputChannelCount: [2],
        processorOptions: { rate: this.rate },
      });
      node.port.onmessage = ({ data }) => this.emit('speaker', data);
      node.connect(context.destination);
      this.#playback = node;
    } catch (error) {
      if (this.#context === context) {
        this.#context = null;
        await context.close();
      }
      throw error;
    }
  }

  /// Rejects with the browser's error when there is no microphone, or it is refused. `raw` is for those who wear
  /// headphones: no echo cancelling, no noise suppression, no gain control.
  async openMicrophone(options = {}) {
    if (this.#capture) return;
    this.#opening ??= this.#openCapture(options).finally(() => {
      this.#opening = null;
    });
    await this.#opening;
  }

  async #openCapture({ raw = false }) {
    if (!navigator.mediaDevices?.getUserMedia) throw new DOMException('no microphone here', 'SecurityError');
    if (!this.#context) throw new DOMException('start() comes first', 'InvalidStateError');
    const closes = this.#closes;
    const clean = !raw;
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: clean, noiseSuppression: clean, autoGainControl: clean },
    });
    try {
      if (closes !== this.#closes) throw new DOMException('closed before it was open', 'AbortError');
      this.#capture = this.#capturing(stream);
      this.#stream = stream;
    } catch (error) {
      // Nobody is to be recorded for nothing.
      release(stream);
      throw error;
    }
  }

  #capturing(stream) {
    const node = new AudioWorkletNode(this.#context, 'voxhall-capture', {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: 'explicit',
      processorOptions: { rate: this.rate, frameMs: this.#frameMs },
    });
    node.port.onmessage = ({ data }) => {
      this.emit('microphone', { level: data.level });
      this.#client.sendAudio(data.frame);
    };
    this.#context.createMediaStreamSource(stream).connect(node);
    for (const track of stream.getAudioTracks()) track.onended = () => this.emit('lost', null);
    return node;
  }

  closeMicrophone() {
    this.#closes += 1;
    this.#capture?.port.postMessage({ stop: true });
    this.#capture?.disconnect();
    this.#capture = null;
    if (this.#stream) release(this.#stream);
    this.#stream = null;
  }

  /// A muted microphone goes on sending silence, so that the far side notices the end of the utterance.
  mute(muted) {
    for (const track of this.#stream?.getAudioTracks() ?? []) track.enabled = !muted;
  }

  setRate(rate) {
    if (rate === this.rate) return;
    this.rate = rate;
    this.#capture?.port.postMessage({ rate });
    this.#playback?.port.postMessage({ rate });
  }

  play({ track, first, last, timestampMs, payload }) {
    // An odd byte can't be half a sample of anything; the rest is still sound. A copy, because the audio thread takes it away.
    const pcm = payload.slice(0, payload.byteLength - (payload.byteLength % 2));
    this.#playback?.port.postMessage({ pcm, track, first, last, timestampMs }, [pcm]);
  }

  /// What waits to be heard is not.
  flush() {
    this.#playback?.port.postMessage({ flush: true });
  }

  /// Gives microphone and loudspeaker back.
  async stop() {
    for (const off of this.#offs) off();
    this.closeMicrophone();
    this.#playback?.port.postMessage({ stop: true });
    const context = this.#context;
    this.#context = null;
    this.#playback = null;
    await context?.close();
  }
}

function release(stream) {
  for (const track of stream.getTracks()) track.stop();
}

export { BACKOFF, Backoff, Sound, Timers, Voxhall, VoxhallError, decode, encode, roomSeq, sessionRate };
