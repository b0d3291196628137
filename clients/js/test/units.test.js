// The parts of the client that need no server.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { Backoff, retryAfterMs } from '../src/backoff.js';
import { matches, Subscriptions } from '../src/channels.js';
import { httpAddress, tokenEndsAt } from '../src/dialer.js';
import { Emitter } from '../src/emitter.js';
import { Jitter } from '../src/jitter.js';
import { decode, decodeAll, encode } from '../src/msgpack.js';
import { Outgoing } from '../src/outgoing.js';
import { Position } from '../src/position.js';
import { afterClose, afterStatus } from '../src/reasons.js';
import { Resampler } from '../src/resampler.js';
import { EventStream } from '../src/sse.js';
import { Track } from '../src/track.js';
import { UNREADABLE, fromBase64, readBinary, readLines, toBase64, writeBinary, writeLines } from '../src/wire.js';

const hex = (bytes) => Buffer.from(bytes).toString('hex');

describe('back-off', () => {
  it('grows by half from a second to half a minute, and begins again', () => {
    const backoff = new Backoff({ random: () => 1 });
    const waits = Array.from({ length: 12 }, () => backoff.next());
    assert.deepEqual(waits.slice(0, 4), [1000, 1500, 2250, 3375]);
    assert.deepEqual(waits.slice(-2), [30_000, 30_000]);
    backoff.reset();
    assert.equal(backoff.next(), 1000);
  });

  it('has full jitter: anything from nothing to the whole', () => {
    const backoff = new Backoff({ random: () => 0 });
    assert.equal(backoff.next(), 0);
    const spread = Array.from({ length: 500 }, () => new Backoff().next());
    assert.ok(Math.min(...spread) < 100 && Math.max(...spread) > 900, 'waits are spread over the whole second');
  });

  it('reads Retry-After as seconds and as a date', () => {
    assert.equal(retryAfterMs('7'), 7000);
    assert.equal(retryAfterMs('Thu, 01 Jan 1970 00:00:10 GMT', 4000), 6000);
    assert.equal(retryAfterMs('Thu, 01 Jan 1970 00:00:10 GMT', 40_000), 0);
    for (const nothing of [null, undefined, '', 'soon']) assert.equal(retryAfterMs(nothing), null);
  });
});

describe('the outgoing queue', () => {
  it('numbers events, gives each out once, and keeps it until it was taken', () => {
    const queue = new Outgoing();
    assert.deepEqual(['a', 'b', 'c'].map((type) => queue.push({ type })), [1, 2, 3]);
    assert.deepEqual(queue.takeUnsent().map((event) => event.client_seq), [1, 2, 3]);
    assert.deepEqual(queue.takeUnsent(), []);
    assert.equal(queue.number({ type: 'fleeting' }).client_seq, 4);
    queue.push({ type: 'd' });
    queue.settle(1);
    assert.deepEqual(queue.takeUnsent().map(({ type, client_seq: seq }) => [type, seq]), [['b', 2], ['c', 3], ['d', 4]], 'without a gap');
    queue.taken(4);
    assert.equal(queue.size, 0);
    assert.equal(queue.push({ type: 'e' }), 5);
  });

  it('refuses what there is no room for, and keeps what it has', () => {
    const queue = new Outgoing({ eventsMax: 2 });
    queue.push({ type: 'a' });
    queue.push({ type: 'b' });
    assert.throws(() => queue.push({ type: 'c' }), { code: 'queue_full' });
    assert.equal(queue.last, 2, 'what was refused has no number');
    queue.taken(1);
    assert.equal(queue.push({ type: 'c' }), 3);
    queue.takeUnsent();
    for (let n = 0; n < 6; n += 1) {
      queue.push({ type: 'd' });
      queue.takeUnsent();
    }
    assert.throws(() => queue.push({ type: 'e' }), { code: 'queue_full' }, 'what was sent has a bound too');
    const small = new Outgoing({ bytesMax: 60 });
    assert.throws(() => small.push({ type: 'room.send', data: 'x'.repeat(60) }), { code: 'queue_full' });
    assert.equal(small.push({ type: 'room.send' }), 1);
  });

  it('refuses what can not be sent, and keeps nothing of it', () => {
    const queue = new Outgoing();
    let deep = 1;
    for (let depth = 0; depth < 700; depth += 1) deep = [deep];
    const round = {};
    round.round = round;
    for (const data of [deep, round, 1n]) {
      assert.throws(() => queue.push({ type: 'room.send', data }));
      assert.throws(() => queue.number({ type: 'input_audio_buffer.append', data }));
    }
    assert.deepEqual([queue.size, queue.last], [0, 0]);
    const data = { page: 1 };
    assert.equal(queue.push({ type: 'room.send', data }), 1);
    data.page = round;
    assert.deepEqual(queue.takeUnsent(), [{ type: 'room.send', data: { page: 1 }, client_seq: 1 }], 'as it was when it was said');
  });

  it('gives up what may have arrived, and only that', () => {
    const queue = new Outgoing();
    queue.push({ type: 'a' });
    queue.takeUnsent();
    queue.push({ type: 'b' });
    assert.deepEqual(queue.abandonSent().map((event) => event.type), ['a']);
    assert.deepEqual(queue.takeUnsent().map((event) => event.type), ['b']);
  });
});

describe('the position', () => {
  const event = (seq) => ({ type: 'room.message', seq });

  it('drops what was seen, takes what is late, and knows what is past', () => {
    const position = new Position();
    position.begin('e1', 10);
    assert.deepEqual([10, 11, 13, 11, 12, 13, 9].map((seq) => position.take(event(seq))), [false, true, true, false, true, false, false]);
    assert.equal(position.seq, 13);
    position.begin('e2', 2);
    assert.equal(position.take(event(3)), true, 'another epoch counts anew');
  });

  it('takes other numbers for what they are', () => {
    const position = new Position();
    position.begin('e1', 10);
    assert.ok(position.take({ type: 'channel.message', offset: 1 }));
    assert.ok(position.take({ type: 'pong' }));
    assert.equal(position.seq, 10);
  });

  it('remembers a bounded number of them', () => {
    const position = new Position();
    position.begin('e1', 0);
    for (let seq = 1; seq <= 10_000; seq += 1) assert.ok(position.take(event(seq)));
    assert.equal(position.take(event(1)), false);
    assert.equal(position.take(event(9_999)), false);
  });
});

describe('MessagePack', () => {
  const VALUES = {
    c0: null,
    c2: false,
    c3: true,
    '00': 0,
    '7f': 127,
    cc80: 128,
    ccff: 255,
    cd0100: 256,
    ce00010000: 65_536,
    ceffffffff: 4_294_967_295,
    cf0000000100000000: 4_294_967_296,
    cf001fffffffffffff: Number.MAX_SAFE_INTEGER,
    ff: -1,
    e0: -32,
    d0df: -33,
    d080: -128,
    d1ff7f: -129,
    d2ffff7fff: -32_769,
    d3ffffffff7fffffff: -2_147_483_649,
    d3ffe0000000000001: Number.MIN_SAFE_INTEGER,
    cb3ff8000000000000: 1.5,
    a0: '',
    a3e282ac: '€',
    '93010203': [1, 2, 3],
    '82a161c0a16290': { a: null, b: [] },
    c403010203: Uint8Array.of(1, 2, 3),
  };

  it('has the bytes of the specification, both ways', () => {
    for (const [bytes, value] of Object.entries(VALUES)) {
      assert.equal(hex(encode(value)), bytes);
      assert.deepEqual(decode(Buffer.from(bytes, 'hex')), value);
    }
  });

  it('carries long texts, lists and objects, and several values in a row', () => {
    for (const length of [31, 32, 255, 256, 65_535, 65_536]) {
      for (const value of ['x'.repeat(length), Array.from({ length }, (_, i) => i), Object.fromEntries(Array.from({ length }, (_, i) => [`k${i}`, i]))]) {
        assert.deepEqual(decode(encode(value)), value);
      }
    }
    assert.deepEqual(decodeAll(Uint8Array.of(1, 0xc3, 0xa1, 0x61)), [1, true, 'a']);
  });

  it('says what JSON would say, and no more', () => {
    const event = { type: 'room.send', data: { at: new Date(0), nothing: undefined, run() {} } };
    assert.deepEqual(decode(encode(event)), JSON.parse(JSON.stringify(event)));
    assert.equal(Object.getPrototypeOf(decode(encode(JSON.parse('{"__proto__": {"a": 1}}')))), Object.prototype);
  });

  it('says null for what JSON has no number and no word for', () => {
    const event = { type: 'room.send', data: [NaN, -Infinity, () => 1, Symbol('x'), undefined, { at: NaN, run() {} }] };
    assert.deepEqual(decode(encode(event)), JSON.parse(JSON.stringify(event)));
  });

  it('goes as deep as any server, and a little further', () => {
    let data = 1;
    for (let depth = 0; depth < 512; depth += 1) data = [data];
    const event = { type: 'channel.message', channel: 'user:1:x', data };
    assert.deepEqual(decode(encode(event)), event);
  });

  it('refuses what is not whole, at every length', () => {
    const whole = encode({ type: 'x', list: [1, 300, -70_000, 1.5, 'é'.repeat(40), null], bytes: new Uint8Array(300) });
    for (let length = 1; length < whole.length; length += 1) assert.throws(() => decode(whole.subarray(0, length)));
    for (const bad of ['c1', 'c7', 'd4', 'a1ff', 'ddffffffff', 'dfffffffff', 'dbffffffff']) assert.throws(() => decode(Buffer.from(bad, 'hex')));
    assert.throws(() => decode(Buffer.from('91'.repeat(10_000), 'hex')), RangeError);
  });
});

describe('the wire', () => {
  it('reads and writes the header', () => {
    const message = Uint8Array.from([1, 3, 0x34, 0x12, 0x78, 0x56, 0x34, 0x12, 9, 8]);
    assert.deepEqual({ ...readBinary(message.buffer), payload: null }, { kind: 1, first: true, last: true, track: 0x1234, timestampMs: 0x12345678, payload: null });
    assert.deepEqual([...new Uint8Array(readBinary(message.buffer).payload)], [9, 8]);
    assert.equal(readBinary(message.buffer.slice(0, 7)), null);
    assert.deepEqual([...writeBinary(2, Uint8Array.of(7), { timestampMs: 258 })], [2, 0, 0, 0, 2, 1, 0, 0, 7]);
  });

  it('splits batches and cuts them before they are too long', () => {
    assert.deepEqual(readLines('{"type":"a"}\n\n{"type":"b"}\n'), [{ type: 'a' }, { type: 'b' }]);
    assert.deepEqual(readLines('{"type":\n[1]\n{"type":"c"}'), [UNREADABLE, UNREADABLE, { type: 'c' }]);
    const events = Array.from({ length: 100 }, (_, at) => ({ type: 'room.send', data: 'x'.repeat(2000), at }));
    const batches = writeLines(events);
    assert.ok(batches.length > 1 && batches.every((batch) => batch.length <= 65_536));
    assert.deepEqual(batches.flatMap(readLines), events);
  });

  it('writes bytes as base64 and back', () => {
    const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => i);
    assert.equal(toBase64(bytes), Buffer.from(bytes).toString('base64'));
    assert.deepEqual(fromBase64(toBase64(bytes)), bytes);
  });
});

describe('the event stream', () => {
  const TEXT = ': comment\n\nid: 7\nevent: message\ndata: {"a":\ndata: 1}\n\nid\ndata:x\r\n\r\ndata\rdata: y\r\rretry: 5\nnonsense\n\ndata: cut';
  const EVENTS = [
    { type: 'message', data: '{"a":\n1}', id: '7' },
    { type: 'message', data: 'x', id: '' },
    { type: 'message', data: '\ny', id: '' },
  ];

  it('is read the same however it is cut', () => {
    assert.deepEqual(new EventStream().push(TEXT), EVENTS);
    for (let at = 0; at < TEXT.length; at += 1) {
      const stream = new EventStream();
      assert.deepEqual([...stream.push(TEXT.slice(0, at)), ...stream.push(TEXT.slice(at))], EVENTS, `cut at ${at}`);
    }
  });
});

describe('channels', () => {
  it('match by segments', () => {
    const yes = [['a:b', 'a:b'], ['a:*', 'a:b'], ['a:*', 'a:b:c'], ['a:*:c', 'a:b:c'], ['*', 'a:b'], ['a:*:*', 'a:b:c:d']];
    const no = [['a:b', 'a:c'], ['a:b', 'a:b:c'], ['a:b:c', 'a:b'], ['a:*', 'a'], ['a:*:c', 'a:b:d'], ['a:*:c', 'a:b:c:d']];
    for (const [pattern, channel] of yes) assert.ok(matches(pattern, channel), `${pattern} is for ${channel}`);
    for (const [pattern, channel] of no) assert.ok(!matches(pattern, channel), `${pattern} is not for ${channel}`);
  });

  it('remember where they are, and drop what comes twice', () => {
    const all = new Subscriptions();
    const heard = [];
    const says = (id, channel = 'a:b') => {
      const { fresh, handlers } = all.take({ channel, id });
      for (const handler of handlers) handler({ id });
      return fresh;
    };
    assert.deepEqual(all.add('a:*', undefined, (message) => heard.push(message.id)).request, { type: 'channel.subscribe', channel: 'a:*' });
    for (const id of ['m1', 'm2', 'm1']) says(id);
    assert.deepEqual(heard, ['m1', 'm2']);
    assert.deepEqual(all.requests, [{ type: 'channel.subscribe', channel: 'a:*', after: 'm2' }]);
    assert.equal(says('m2'), false);
    assert.equal(says('m2', 'a:c'), true, 'another stream may have the same');
    assert.deepEqual(all.take({ channel: 'other', id: 'm2' }), { fresh: true, handlers: [] }, 'what the server subscribed to is the user’s');
    all.begun({ channel: 'a:*', id: 'm5', recovered: true, missed: 0 });
    assert.equal(all.requests[0].after, 'm5', 'nothing before it is missed');
    all.begun({ channel: 'a:*', id: 'm9', recovered: true, missed: 2 });
    assert.equal(all.requests[0].after, 'm5', 'two messages before it are still to come');
    all.begun({ channel: 'a:*' });
    assert.deepEqual(all.requests, [{ type: 'channel.subscribe', channel: 'a:*' }], 'several streams have no position');
    assert.deepEqual(all.withoutPosition, ['a:*']);
    assert.ok(all.remove('a:*'));
    assert.deepEqual(all.requests, []);
  });

  it('say what is lost of them, and ask the history for what was lost on its way', () => {
    const all = new Subscriptions();
    all.add('a:*', 'm1');
    assert.deepEqual(all.begun({ channel: 'a:*', id: 'n4', recovered: false, reason: 'epoch' }).gap, { channel: 'a:*', after: 'm1', reason: 'epoch' });
    all.take({ channel: 'a:b', id: 'n5' });
    const { request } = all.begun({ channel: 'a:*', id: 'n6', recovered: false, reason: 'overloaded' });
    assert.equal(request.after, 'n5');
    all.take({ channel: 'a:b', id: 'n7' });
    assert.equal(all.requests[0].after, 'n5', 'until there is an answer');
    all.begun({ channel: 'a:*', id: 'n7', recovered: true, missed: 2 });
    assert.equal(all.take({ channel: 'a:b', id: 'n6' }).fresh, true);
    assert.equal(all.take({ channel: 'a:b', id: 'n7' }).fresh, false);
    assert.equal(all.requests[0].after, 'n7');
    all.begun({ channel: 'a:*', id: 'n9', recovered: true, missed: 0 });
    const again = all.begun({ channel: 'a:*', id: 'n9', recovered: false, reason: 'overloaded' });
    assert.deepEqual(all.refused({ code: 'too_many_subscriptions', event_id: again.request.event_id }), { channel: 'a:*', after: 'n9', reason: 'too_many_subscriptions' });
    assert.equal(all.refused({ code: 'invalid_value', event_id: 'of the user' }), null);
    all.add('b:*');
    all.begun({ channel: 'b:*' });
    assert.deepEqual(all.begun({ channel: 'b:*', recovered: false, reason: 'overloaded' }).gap, { channel: 'b:*', after: null, reason: 'overloaded' });
  });

  it('begin by a token, and go on from where they were all the same', () => {
    const all = new Subscriptions();
    assert.deepEqual(all.begun({ channel: 'a:*', id: 'm1' }), { gap: undefined });
    all.take({ channel: 'a:b', id: 'm2' });
    assert.deepEqual(all.requests, [], 'the server begins them by itself');
    assert.deepEqual(all.begun({ channel: 'a:*', id: 'm2' }), { gap: undefined }, 'nothing was missed');
    all.take({ channel: 'a:b', id: 'm3' });
    assert.deepEqual(all.requests, []);
    const { request } = all.begun({ channel: 'a:*', id: 'm5' });
    assert.equal(request.after, 'm3');
    all.take({ channel: 'a:b', id: 'm6' });
    all.begun({ channel: 'a:*', id: 'm6', recovered: true, missed: 3 });
    assert.deepEqual(['m4', 'm5', 'm6'].map((id) => all.take({ channel: 'a:b', id }).fresh), [true, true, false]);
    assert.ok(all.remove('a:*'), 'the user may end them');
    all.begun({ channel: 'c:*', id: 'm1' });
    all.ended({ channel: 'c:*', reason: 'forbidden' });
    assert.deepEqual(all.begun({ channel: 'c:*', id: 'm9' }), { gap: undefined });
    all.add('d:*');
    all.remove('d:*');
    all.begun({ channel: 'd:*', id: 'm1' });
    assert.equal(all.remove('d:*'), false, 'the late answer to what was taken back is none');
  });

  it('have listeners of their own', () => {
    const all = new Subscriptions();
    const heard = { first: [], second: [] };
    const says = (id) => {
      const { fresh, handlers } = all.take({ channel: 'a:b', id });
      for (const handler of handlers) handler({ id });
      return fresh;
    };
    const first = all.add('a:*', undefined, ({ id }) => heard.first.push(id));
    const silent = all.add('a:*', undefined, undefined);
    all.begun({ channel: 'a:*', id: 'm0' });
    for (const id of ['m1', 'm2']) says(id);
    const second = all.add('a:*', 'm0', ({ id }) => heard.second.push(id));
    assert.deepEqual(second.request, { type: 'channel.subscribe', channel: 'a:*', after: 'm0' });
    all.begun({ channel: 'a:*', id: 'm2', recovered: true, missed: 2 });
    assert.deepEqual(['m1', 'm2', 'm3', 'm3'].map(says), [false, false, true, false]);
    assert.deepEqual(heard, { first: ['m1', 'm2', 'm3'], second: ['m1', 'm2', 'm3'] });
    assert.equal(all.remove('a:*', { listener: silent.listener }), false);
    assert.equal(all.remove('a:*', { listener: silent.listener }), false, 'once');
    assert.equal(all.remove('a:*', { listener: first.listener }), false);
    says('m4');
    assert.deepEqual([heard.first.at(-1), heard.second.at(-1)], ['m3', 'm4']);
    assert.equal(all.remove('a:*', { handler: () => {} }), false);
    assert.equal(all.remove('a:*', { listener: second.listener }), true);
    all.add('b:*');
    all.begun({ channel: 'b:*' });
    assert.deepEqual(all.add('b:*', 'm1').gap, { channel: 'b:*', after: null, reason: 'several_streams' });
  });
});

describe('reasons', () => {
  it('come back where it makes sense', () => {
    for (const code of [1001, 1005, 1006, 1011, 1012, 1013, 1015, 4002]) assert.ok(afterClose(code).again, `${code}`);
    for (const code of [1000, 1002, 1003, 1007, 1008, 1009]) assert.ok(!afterClose(code).again, `${code}`);
    for (const status of [408, 429, 500, 502, 503]) assert.ok(afterStatus(status).again, `${status}`);
    for (const status of [400, 401, 403, 404]) assert.ok(!afterStatus(status).again, `${status}`);
    assert.ok(afterStatus(401, '', true).again);
    assert.equal(afterClose(1008, 'replaced by a newer connection', true).code, 'replaced');
    assert.equal(afterClose(1008, 'the token has expired').again, false);
    assert.equal(afterClose(1008, 'the token has expired', true).again, true);
  });

  it('take addresses and tokens as they are given', () => {
    assert.equal(httpAddress('wss://voice.example'), 'https://voice.example/');
    assert.equal(httpAddress('http://voice.example/below?x=1#y'), 'http://voice.example/below/');
    assert.throws(() => httpAddress(undefined), { code: 'bad_options' });
    const token = ['{}', '{"exp":1700000000}', ''].map((part) => Buffer.from(part).toString('base64url')).join('.');
    assert.equal(tokenEndsAt(token), 1_700_000_000_000);
    for (const none of ['', 'opaque', 'a.b.c']) assert.equal(tokenEndsAt(none), null);
  });
});

describe('the emitter', () => {
  it('calls everybody once and in order, whatever one of them throws', async () => {
    const emitter = new Emitter();
    const heard = [];
    const thrown = [];
    const { error } = console;
    console.error = (what) => thrown.push(what.message);
    emitter.on('a', () => {
      throw new Error('mine');
    });
    const off = emitter.on('a', () => heard.push('a'));
    emitter.once('*', ({ type }) => heard.push(`* ${type}`));
    emitter.emitToAll({ type: 'a' });
    off();
    emitter.emitToAll({ type: 'a' });
    await new Promise(setImmediate);
    console.error = error;
    assert.deepEqual(heard, ['a', '* a']);
    assert.deepEqual(thrown, ['mine', 'mine']);
  });

  it('is iterated over until the client closes', async () => {
    const emitter = new Emitter();
    const events = emitter.events('a');
    emitter.emitToAll({ type: 'a', n: 1 });
    emitter.emitToAll({ type: 'b', n: 2 });
    setImmediate(() => {
      emitter.emitToAll({ type: 'a', n: 3 });
      emitter.emit('state', { state: 'closed' });
    });
    const numbers = [];
    for await (const { n } of events) numbers.push(n);
    assert.deepEqual(numbers, [1, 3]);
  });
});

describe('a client that is closed', () => {
  it('has no events to come', async () => {
    const emitter = new Emitter();
    emitter.state = 'closed';
    for await (const event of emitter.events()) assert.fail(event.type);
  });
});

describe('sound', () => {
  it('waits longer where the network is uneven, and less when it behaves', () => {
    const jitter = new Jitter();
    const first = jitter.targetMs;
    for (let at = 0; at < 50; at += 1) jitter.arrived(at * 20 + (at % 2) * 60, at * 20, at === 0);
    const uneven = jitter.targetMs;
    assert.ok(uneven > first + 50, `${uneven} ms after ${first} ms`);
    for (let at = 50; at < 500; at += 1) jitter.arrived(at * 20, at * 20, at % 50 === 0);
    assert.ok(jitter.targetMs <= 60, `${jitter.targetMs} ms in the end`);
    for (let n = 0; n < 100; n += 1) jitter.ranDry();
    assert.equal(jitter.targetMs, 400);
  });

  it('does not take an answer that comes faster than real time for jitter', () => {
    const jitter = new Jitter();
    for (let at = 0; at < 100; at += 1) jitter.arrived(at, at * 20, at === 0);
    assert.ok(jitter.targetMs <= 120, `${jitter.targetMs} ms`);
  });

  it('plays what was queued, whole and in order, once there is enough of it', () => {
    const track = new Track(16_000, 16_000, 60);
    const frame = (from) => Int16Array.from({ length: 320 }, (_, i) => from + i);
    const heard = [];
    for (let at = 0; at < 10; at += 1) {
      track.push(frame(at * 320), { first: at === 0, last: at === 9, timestampMs: at * 20 }, at * 0.02);
      const output = new Float32Array(320);
      if (track.ready(at * 0.02)) {
        track.mixInto(output);
        heard.push(...output);
      }
    }
    assert.ok(heard.length < 3200, 'it did not begin at once');
    while (track.ready(1)) {
      const output = new Float32Array(128);
      track.mixInto(output);
      heard.push(...output);
    }
    assert.deepEqual(heard.slice(0, 3200).map((sample) => Math.round(sample * 32768)), Array.from({ length: 3200 }, (_, i) => i));
  });

  it('keeps a tone as it is at another rate', () => {
    const resampler = new Resampler(16_000, 48_000);
    const input = Float32Array.from({ length: 1600 }, (_, i) => Math.sin((2 * Math.PI * 440 * i) / 16_000));
    const output = [];
    resampler.push(input, (sample) => output.push(sample));
    const power = Math.sqrt(output.slice(500).reduce((sum, sample) => sum + sample * sample, 0) / (output.length - 500));
    assert.ok(Math.abs(power - Math.SQRT1_2) < 0.01, `${power}`);
    assert.ok(Math.abs(output.length - 4800) < 60, `${output.length} samples`);
  });
});

describe('the module', () => {
  it('is one file', () => {
    const text = readFileSync(new URL('../voxhall.js', import.meta.url), 'utf8');
    assert.ok(!/^import /m.test(text), 'it imports nothing');
  });
});
