// The table of reconnect and recovery cases that all clients share (clients/cases), played against its server.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Voxhall, VoxhallError } from '../voxhall.js';
import { Clock } from './clock.js';

const CASES = new URL('../../cases/', import.meta.url);
const TABLE = JSON.parse(readFileSync(new URL('table.json', CASES), 'utf8'));
// Far longer than a case takes.
const PATIENCE_MS = 30_000;
const NOT_TOLD = new Set(['session.created', 'pong', 'client.away']);

/// Where something is not as a case says; `server.py` asks the same way.
function differs(wanted, found, path = '') {
  if (wanted === null) return found === undefined || found === null ? null : `${path} is ${JSON.stringify(found)}, and should not be`;
  if (Array.isArray(wanted)) {
    if (wanted.length !== found?.length) return `${path || 'the list'} has ${found?.length} instead of ${wanted.length} entries: ${JSON.stringify(found).slice(0, 800)}`;
    return wanted.map((one, at) => differs(one, found[at], `${path}[${at}]`)).find(Boolean) ?? null;
  }
  if (typeof wanted === 'object' && typeof found === 'object' && found !== null) {
    return Object.entries(wanted).map(([key, value]) => differs(value, found[key], `${path}.${key}`)).find(Boolean) ?? null;
  }
  return wanted === found ? null : `${path || 'it'} is ${JSON.stringify(found)} instead of ${JSON.stringify(wanted)}`;
}

function numbers(text) {
  return text.split(',').flatMap((piece) => {
    const [first, last = first] = piece.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, at) => first + at);
  });
}

const expand = (events) =>
  events.flatMap((event) => (typeof event === 'string' ? numbers(event).map((seq) => ({ type: 'room.message', event_id: `event_${seq}`, seq, from: 2, data: seq })) : [event]));

const hex = (bytes) => Buffer.from(bytes).toString('hex');

/// The server of one case, and what it and the runner say to each other.
class Server {
  #process;
  #told = new Map();
  #lines = [];
  #wake = () => {};

  constructor(name) {
    this.#process = spawn('python3', [fileURLToPath(new URL('server.py', CASES)), '--case', name], { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.#process.stdout }).on('line', (line) => {
      this.#lines.push(JSON.parse(line));
      this.#wake();
    });
  }

  /// The next line that has this key.
  async line(key, is = () => true) {
    for (;;) {
      const at = this.#lines.findIndex((line) => key in line && is(line[key]));
      if (at >= 0) return this.#lines.splice(at, 1)[0][key];
      await new Promise((wake) => {
        this.#wake = wake;
      });
    }
  }

  say(order) {
    this.#process.stdin.write(`${JSON.stringify(order)}\n`);
  }

  kill() {
    this.#process.kill();
  }
}

/// The client's side of a case.
class Player {
  events = [];
  heard = [];
  gaps = [];
  ended = null;
  #cursor = 0;
  #wake = () => {};

  constructor(given, port, server) {
    const { transport = 'auto', subprotocol, queue_max: queueEvents = 256, tokens } = given.options ?? {};
    this.server = server;
    this.clock = new Clock((name) => name === 'backoff' && !given.hold?.includes('backoff'));
    let asked = 0;
    this.client = new Voxhall({
      url: `ws://127.0.0.1:${port}`,
      session: 'room',
      transport,
      subprotocol,
      queueEvents,
      timers: this.clock,
      random: () => 1,
      now: () => this.clock.now,
      ...(tokens ? { getToken: () => tokens[Math.min(asked++, tokens.length - 1)] } : {}),
    });
    this.client.on('*', (event) => this.#tell(event));
    this.client.on('gap', (gap) => this.gaps.push(gap));
    this.client.on('audio', ({ payload, first, last, track, timestampMs }) => {
      this.heard.push({ hex: hex(payload), flags: (first ? 1 : 0) | (last ? 2 : 0), track, timestamp_ms: timestampMs });
      this.#wake();
    });
    this.client.on('state', ({ state, inMs, close, code }) => {
      if (state === 'reconnecting' && inMs !== null) this.#tell({ type: 'client.away', reconnect_in_ms: inMs });
      if (state === 'closed' && code !== 'left') this.ended = close;
      this.#wake();
    });
  }

  #tell(event) {
    this.events.push(structuredClone(event));
    this.#wake();
  }

  async until(check) {
    while (!check()) {
      await new Promise((wake) => {
        this.#wake = wake;
      });
    }
  }

  async take(wanted) {
    await this.until(() => {
      while (this.#cursor < this.events.length) if (differs(wanted, this.events[this.#cursor++]) === null) return true;
      return false;
    });
  }

  async step(step) {
    const [[verb, value]] = Object.entries(step);
    const { client } = this;
    const does = {
      until: () => this.take(value),
      room_send: () => client.sendToRoom(value),
      send: () => client.send(value),
      audio: () => client.sendAudio(Buffer.from(value, 'hex')),
      subscribe: () => client.subscribe(value),
      unsubscribe: () => client.unsubscribe(value),
      state: () => client.updateState(value),
      refresh: () => client.refreshToken(),
      fire: () => this.clock.fire(value),
      tell: () => this.server.say({ tell: value }),
      await: () => this.server.line('told', (word) => word === value),
      away: () => this.take({ type: 'client.away' }),
      ended: () => this.until(() => this.ended !== null),
      close: () => client.close(),
      refused: async () => {
        await assert.rejects(this.step(value), (error) => error instanceof VoxhallError && error.code === 'queue_full');
      },
    };
    assert.ok(does[verb], `the runner knows no step ${verb}`);
    await does[verb]();
  }
}

async function play(name) {
  const given = TABLE[name];
  const server = new Server(name);
  let player;
  let doing = 'it began';
  const late = AbortSignal.timeout(PATIENCE_MS);
  const patience = new Promise((_, reject) => {
    late.addEventListener('abort', () => reject(new Error(`still at ${doing}; came: ${JSON.stringify(player?.events).slice(0, 1500)}`)));
  });
  const steps = async () => {
    player = new Player(given, await server.line('port'), server);
    player.client.connect();
    for (const step of given.client) {
      doing = JSON.stringify(step);
      await player.step(step);
    }
    const { roomState } = player.client;
    player.client.close();
    doing = 'the verdict';
    server.say({ end: true });
    const verdict = await server.line('verdict');
    return { verdict, roomState };
  };
  try {
    const { verdict, roomState } = await Promise.race([steps(), patience]);
    assert.deepEqual(verdict.faults, []);
    const fault =
      differs(expand(given.sees ?? []), player.events.filter(({ type }) => !NOT_TOLD.has(type)), 'sees') ??
      (given.hears ? differs(given.hears, player.heard, 'hears') : null) ??
      (given.gaps ? differs(given.gaps, player.gaps, 'gaps') : null) ??
      (given.delays_ms ? differs(given.delays_ms, player.clock.waits('backoff'), 'delays_ms') : null) ??
      (given.state ? differs(given.state, roomState ?? {}, 'state') : null) ??
      differs(given.ends?.code ?? given.ends?.status ?? null, player.ended, 'ends');
    assert.equal(fault, null);
  } finally {
    player?.client.close();
    server.kill();
  }
}

describe('the shared cases', () => {
  for (const [name, { why, clients = ['javascript'] }] of Object.entries(TABLE)) {
    const mine = clients.some((one) => ['javascript', 'js'].includes(one));
    if (mine) it(`${name}: ${why}`, () => play(name));
  }
});
