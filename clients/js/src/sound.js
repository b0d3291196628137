// The microphone and the loudspeaker of a page. Owns the AudioContext and its two worklets; must be started by a click,
// because browsers allow sound only then.

import { Emitter } from './emitter.js';

const FRAME_MS = 20;

/// The sample rate that a session speaks, wherever it is written.
export function sessionRate(session, fallback = 16000) {
  const audio = session?.audio ?? {};
  return audio.rate ?? audio.input?.format?.rate ?? audio.input?.rate ?? audio.output?.format?.rate ?? session?.rate ?? fallback;
}

/// Events: `microphone` `{level}`, `speaker` `{level, bufferedMs, targetMs}`, `lost` when the microphone went away.
export class Sound extends Emitter {
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
