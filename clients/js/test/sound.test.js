// Microphone and loudspeaker, on a page whose browser is the test.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Sound } from '../voxhall.js';
import { fakeClient } from './fake.js';

class FakeContext {
  static all = [];
  static refuses = false;
  closed = false;
  destination = {};
  audioWorklet = {
    addModule: async () => {
      if (FakeContext.refuses) throw new DOMException('no such module', 'AbortError');
    },
  };

  constructor() {
    FakeContext.all.push(this);
  }

  async resume() {}

  async close() {
    this.closed = true;
  }

  createMediaStreamSource() {
    return { connect() {} };
  }
}

class FakeNode {
  static refuses = '';
  port = { postMessage() {} };

  constructor(context, name) {
    if (name === FakeNode.refuses) throw new DOMException(`no ${name} here`, 'InvalidStateError');
    assert.ok(context instanceof FakeContext);
  }

  connect() {}
  disconnect() {}
}

class FakeStream {
  static all = [];
  stopped = false;
  tracks = [{ stop: () => (this.stopped = true) }];

  constructor() {
    FakeStream.all.push(this);
  }

  getTracks() {
    return this.tracks;
  }

  getAudioTracks() {
    return this.tracks;
  }
}

const FAKES = {
  AudioContext: FakeContext,
  AudioWorkletNode: FakeNode,
  navigator: { mediaDevices: { getUserMedia: async () => new FakeStream() } },
};

describe('sound', () => {
  const before = {};
  let sound;

  beforeEach(() => {
    for (const [name, value] of Object.entries(FAKES)) {
      before[name] = Object.getOwnPropertyDescriptor(globalThis, name);
      Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    }
    FakeContext.all = [];
    FakeStream.all = [];
    FakeContext.refuses = false;
    FakeNode.refuses = '';
    sound = new Sound(fakeClient().client, { worklet: 'voxhall.js' });
  });

  afterEach(async () => {
    await sound.stop();
    for (const [name, descriptor] of Object.entries(before)) {
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
      else delete globalThis[name];
    }
  });

  it('starts once, however often it is asked to', async () => {
    await Promise.all([sound.start(), sound.start()]);
    await sound.start();
    assert.equal(FakeContext.all.length, 1);
  });

  it('that failed to start can be started again', async () => {
    FakeContext.refuses = true;
    await assert.rejects(sound.start(), { name: 'AbortError' });
    assert.ok(FakeContext.all[0].closed);
    FakeContext.refuses = false;
    FakeNode.refuses = 'voxhall-playback';
    await assert.rejects(sound.start(), { name: 'InvalidStateError' });
    FakeNode.refuses = '';
    await sound.start();
    assert.deepEqual(FakeContext.all.map(({ closed }) => closed), [true, true, false]);
  });

  it('that is stopped while it starts does not play', async () => {
    const starting = sound.start();
    await sound.stop();
    await assert.rejects(starting, { name: 'AbortError' });
    assert.ok(FakeContext.all[0].closed);
  });

  it('opens one microphone, and none before it has started', async () => {
    await assert.rejects(sound.openMicrophone(), { name: 'InvalidStateError' });
    assert.equal(FakeStream.all.length, 0);
    await sound.start();
    await Promise.all([sound.openMicrophone(), sound.openMicrophone()]);
    assert.equal(FakeStream.all.length, 1);
    assert.ok(sound.hasMicrophone);
    sound.closeMicrophone();
    assert.ok(FakeStream.all[0].stopped);
  });

  it('keeps no microphone that it can not use, or that nobody wants any more', async () => {
    await sound.start();
    FakeNode.refuses = 'voxhall-capture';
    await assert.rejects(sound.openMicrophone(), { name: 'InvalidStateError' });
    FakeNode.refuses = '';
    const opening = sound.openMicrophone();
    sound.closeMicrophone();
    await assert.rejects(opening, { name: 'AbortError' });
    assert.deepEqual(FakeStream.all.map(({ stopped }) => stopped), [true, true]);
    assert.ok(!sound.hasMicrophone);
    await sound.openMicrophone();
    assert.ok(sound.hasMicrophone);
  });
});

describe('the audio thread', () => {
  it('forgets who has been silent for long', async () => {
    const made = {};
    Object.assign(globalThis, {
      AudioWorkletProcessor: class {
        port = { postMessage() {} };
      },
      registerProcessor: (name, processor) => (made[name] = processor),
      sampleRate: 16_000,
      currentTime: 0,
    });
    await import('../src/worklet.js?thread');
    const playback = new made['voxhall-playback']({ processorOptions: { rate: 16_000 } });
    const speaks = (track) => playback.port.onmessage({ data: { pcm: new Int16Array(320).buffer, track, first: true, last: true, timestampMs: 0 } });
    const pass = (seconds) => {
      for (const until = globalThis.currentTime + seconds; globalThis.currentTime < until; globalThis.currentTime += 0.008) playback.process([], [[new Float32Array(128)]]);
    };
    for (let track = 1; track <= 100; track += 1) speaks(track);
    assert.equal(playback.tracks.size, 100);
    pass(20);
    speaks(7);
    pass(20);
    assert.deepEqual([...playback.tracks.keys()], [7]);
    pass(20);
    assert.equal(playback.tracks.size, 0);
    for (const name of ['AudioWorkletProcessor', 'registerProcessor', 'sampleRate', 'currentTime']) delete globalThis[name];
  });
});
