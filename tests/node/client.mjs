// One member of a room, through the independent WebSocket client `ws`. Keeps every event and frame in the order of
// arrival, so that a test can wait for what has already come as well as for what is still to come.

import assert from 'node:assert/strict';
import WebSocket from 'ws';

export const PUBLIC = required('VOXHALL_URL');
export const ADMIN = required('VOXHALL_ADMIN');
export const PUBLIC_HTTP = PUBLIC.replace(/^ws/, 'http');
export const RATE = 16000;
const PATIENCE_MS = 15_000;

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`set ${name} to the address of a running server, such as ${name === 'VOXHALL_URL' ? 'ws://127.0.0.1:8080' : 'http://127.0.0.1:9090'}`);
  return value.replace(/\/$/, '');
}

export class Member {
  events = [];
  cursor = 0;
  frames = [];
  closed = null;
  #waiters = new Set();

  static async join({ room, engine, subprotocol }) {
    const member = new Member();
    await member.#connect(room, engine, subprotocol);
    const [first] = await member.until(() => member.events.length > 0 && member.events, 'the first event');
    assert.equal(first.type, 'session.created', 'session.created comes first');
    assert.ok(first.session.id, 'a session has an id');
    assert.equal(first.session.room, room);
    assert.equal(first.session.engine, engine);
    assert.equal(member.frames.length, 0, 'no sound before the welcome');
    member.cursor = 1;
    member.number = memberKey(first.session.member);
    return member;
  }

  async #connect(room, engine, subprotocol) {
    const query = new URLSearchParams({ engine, format: 'pcm16', rate: RATE });
    this.subprotocol = subprotocol;
    this.socket = new WebSocket(`${PUBLIC}/ws/${room}?${query}`, subprotocol ? [subprotocol] : []);
    this.socket.binaryType = 'nodebuffer';
    this.socket.on('message', (data, isBinary) => {
      if (isBinary) this.#frame(data);
      else this.#text(data.toString());
      this.#wake();
    });
    this.socket.on('close', (code, reason) => {
      this.closed = { code, reason: reason.toString() };
      this.#wake();
    });
    await new Promise((resolve, reject) => {
      this.socket.once('open', resolve);
      this.socket.once('error', reject);
    });
    assert.equal(this.socket.protocol, subprotocol, 'the subprotocol that was offered is the one that is spoken');
  }

  #text(text) {
    const lines = this.subprotocol === 'voxhall.v1' ? text.split('\n').filter((line) => line.trim()) : [text];
    for (const line of lines) {
      const event = JSON.parse(line);
      assert.equal(typeof event.type, 'string', `an event has a type: ${line}`);
      assert.equal(typeof event.event_id, 'string', `an event has an id: ${line}`);
      this.events.push(event);
      if (event.type === 'response.output_audio.delta') this.#keep({ payload: Buffer.from(event.delta, 'base64') });
    }
  }

  #frame(data) {
    if (this.subprotocol !== 'voxhall.v1') {
      this.#keep({ payload: data });
      return;
    }
    assert.ok(data.length >= 8, 'a frame has its header');
    this.#keep({
      header: { kind: data[0], flags: data[1], track: data.readUInt16LE(2), timestampMs: data.readUInt32LE(4) },
      payload: data.subarray(8),
    });
  }

  #keep(frame) {
    this.frames.push(frame);
  }

  #wake() {
    for (const waiter of [...this.#waiters]) waiter();
  }

  /// Resolves with the first truthy value of `check`, which is asked again whenever something arrives.
  until(check, what) {
    return new Promise((resolve, reject) => {
      const finish = (settle, value) => {
        clearTimeout(timer);
        this.#waiters.delete(look);
        settle(value);
      };
      const timer = setTimeout(() => finish(reject, new Error(`waited in vain for ${what}; ${this.#story()}`)), PATIENCE_MS);
      const look = () => {
        try {
          const found = check();
          if (found) finish(resolve, found);
          else if (this.closed) finish(reject, new Error(`closed with ${this.closed.code} while waiting for ${what}; ${this.#story()}`));
        } catch (error) {
          finish(reject, error);
        }
      };
      this.#waiters.add(look);
      look();
    });
  }

  #story() {
    return `came so far: ${this.events.map((event) => event.type).join(', ')}; ${this.frames.length} frames`;
  }

  /// The next event of this type after those already taken.
  async next(type) {
    const at = await this.until(() => {
      const found = this.events.findIndex((event, index) => index >= this.cursor && event.type === type);
      return found >= 0 && { found };
    }, type);
    this.cursor = at.found + 1;
    return this.events[at.found];
  }

  /// All of these, in any order.
  async all(types) {
    const from = this.cursor;
    let furthest = from;
    for (const type of types) {
      this.cursor = from;
      await this.next(type);
      furthest = Math.max(furthest, this.cursor);
    }
    this.cursor = furthest;
  }

  send(event) {
    this.sendText(JSON.stringify(event));
  }

  sendText(text) {
    this.socket.send(text);
  }

  sendFrame(payload) {
    this.socket.send(payload);
  }

  async leave() {
    this.socket.close(1000, 'goodbye');
    await new Promise((resolve) => {
      if (this.closed) resolve();
      else this.socket.once('close', resolve);
    });
  }
}

/// A member is named by its number, or by an object that has one.
export function memberKey(member) {
  if (member !== null && typeof member === 'object') return memberKey(member.number ?? member.id);
  return member === undefined || member === null ? null : String(member);
}
