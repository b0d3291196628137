// A WebSocket whose other end is the test.

import { Voxhall, decode, encode } from '../voxhall.js';
import { Clock } from './clock.js';

export class FakeSocket {
  static all = [];
  protocol = 'voxhall.v1';
  bufferedAmount = 0;
  sent = [];
  closed = null;

  constructor(url, protocols) {
    this.url = new URL(url);
    this.protocols = protocols;
    FakeSocket.all.push(this);
  }

  send(data) {
    this.sent.push(...(typeof data === 'string' ? data.split('\n').map((line) => JSON.parse(line)) : [data]));
  }

  close(code, reason) {
    this.closed = { code, reason };
  }

  /// The same as MessagePack, behind its header.
  saysPacked(event) {
    const packed = Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, ...encode(event));
    this.onmessage({ data: packed.buffer });
  }

  get sentPacked() {
    return this.sent.map((message) => decode(message.subarray(8)));
  }

  says(...events) {
    this.onmessage({ data: events.map((event) => JSON.stringify(event)).join('\n') });
  }

  welcomes(session = {}) {
    this.onopen();
    this.says({ type: 'session.created', session: { id: 'conn', room: 'room', member: 1, resume: { token: `token-${FakeSocket.all.length}`, epoch: 1, seq: 0 }, ...session } });
  }

  ends(code = 1006, reason = '') {
    this.onclose({ code, reason });
  }
}

/// A client whose time stands still, and what it tells.
export function fakeClient(options = {}) {
  FakeSocket.all = [];
  const clock = new Clock();
  const client = new Voxhall({
    url: 'ws://server.example',
    session: 'room',
    WebSocket: FakeSocket,
    timers: clock,
    random: () => 1,
    fetch: () => Promise.reject(new Error('no network')),
    ...options,
  });
  const told = [];
  client.on('*', (event) => told.push(event));
  return { client, clock, told };
}

/// Lets what has been promised happen, and gives the latest socket.
export async function settled() {
  for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
  return FakeSocket.all.at(-1);
}
