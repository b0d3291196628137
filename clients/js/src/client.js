// The client: what an application does, in the application's words.

import { httpAddress } from './dialer.js';
import { Link } from './link.js';
import { VoxhallError } from './reasons.js';
import { Timers } from './timers.js';
import { fromBase64, snapshot, toBase64 } from './wire.js';

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

export class Voxhall extends Link {
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
