// A conversation through `@openai/agents-realtime`, unchanged, and what was heard and said in it.

import { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession } from '@openai/agents-realtime';

const PATIENCE_MS = 30_000;

export const RATE = 24_000;
const CHUNK = (RATE / 10) * 2;

/// pcm16 of a voice-like tone.
export function tone(ms) {
  const samples = (ms * RATE) / 1000;
  const pcm = Buffer.alloc(samples * 2);
  for (let i = 0; i < samples; i += 1) {
    const turn = (2 * Math.PI * i) / RATE;
    const swell = 0.6 + 0.4 * Math.sin(4 * turn);
    const voice = Math.sin(180 * turn) + 0.5 * Math.sin(720 * turn) + 0.3 * Math.sin(1500 * turn);
    pcm.writeInt16LE(Math.round(swell * voice * 9000), i * 2);
  }
  return pcm;
}

export const silence = (ms) => Buffer.alloc(((ms * RATE) / 1000) * 2);

export class Talk {
  constructor({ agent = {}, config = {}, model = 'gpt-realtime' } = {}) {
    const url = `${process.env.VOXHALL_URL}/v1/realtime?model=${model}`;
    const transport = new OpenAIRealtimeWebSocket({ url, useInsecureApiKey: true });
    this.events = [];
    this.audio = [];
    this.errors = [];
    this.waiting = [];
    this.session = new RealtimeSession(new RealtimeAgent({ name: 'parrot', ...agent }), { transport, model, config });
    this.session.on('transport_event', (event) => this.#take(event));
    this.session.on('audio', (event) => this.audio.push(Buffer.from(event.data)));
    this.session.on('error', (error) => this.errors.push(error));
  }

  async connect() {
    // With tokens on, the key is one; otherwise any is taken.
    await this.session.connect({ apiKey: process.env.VOXHALL_TOKEN ?? 'sk-anything' });
    await this.until((events) => events.find((event) => event.type === 'session.updated'), 'session.updated');
    return this;
  }

  speak(pcm) {
    for (let at = 0; at < pcm.length; at += CHUNK) {
      const chunk = pcm.subarray(at, at + CHUNK);
      this.session.sendAudio(chunk.buffer.slice(chunk.byteOffset, chunk.byteOffset + chunk.length));
    }
  }

  /// The next event of this type after those already taken.
  async next(type) {
    const event = await this.until((events) => events.find((event) => event.type === type), type);
    this.events.splice(0, this.events.indexOf(event) + 1);
    return event;
  }

  /// What `check` finds among the events, asked again whenever something arrives.
  until(check, what) {
    return new Promise((resolve, reject) => {
      const found = check(this.events);
      if (found) return resolve(found);
      const story = () => `waited in vain for ${what} among ${this.events.map((event) => event.type)}`;
      const timer = setTimeout(() => reject(new Error(story())), PATIENCE_MS);
      this.waiting.push({ check, resolve, timer });
    });
  }

  heard() {
    return Buffer.concat(this.audio);
  }

  close() {
    this.session.close();
  }

  #take(event) {
    this.events.push(event);
    this.waiting = this.waiting.filter(({ check, resolve, timer }) => {
      const found = check(this.events);
      if (found) {
        clearTimeout(timer);
        resolve(found);
      }
      return !found;
    });
  }
}
