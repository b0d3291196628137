// What the client does beyond the shared cases, without a network and without waiting.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FakeSocket, fakeClient, settled } from './fake.js';

const jwt = (claims) => ['{}', JSON.stringify(claims), 'x'].map((part) => Buffer.from(part).toString('base64url')).join('.');
const types = (events) => events.map(({ type }) => type);

describe('tokens', () => {
  it('travel as a subprotocol, and in the query only where they have to', async () => {
    for (const [token, inQuery] of [['a.b.c', false], ['a=/b', true]]) {
      const { client } = fakeClient({ token });
      client.connect();
      const socket = await settled();
      assert.equal(socket.protocols.includes(`bearer.${token}`), !inQuery);
      assert.equal(socket.url.searchParams.get('token'), inQuery ? token : null);
      client.close();
    }
  });

  it('are asked for before every connection, and refreshed before they end', async () => {
    const tokens = [jwt({ exp: Date.now() / 1000 + 600 }), jwt({ exp: Date.now() / 1000 + 1200 }), jwt({ n: 3 })];
    const given = [...tokens];
    const { client, clock } = fakeClient({ getToken: async () => given.shift() });
    const sent = [];
    client.on('sent', (event) => sent.push(event));
    client.connect();
    const first = await settled();
    first.welcomes();
    assert.ok(clock.waits('token')[0] > 500_000, 'half a minute before the end');
    await clock.fire('token');
    await settled();
    assert.deepEqual(first.sent, [{ type: 'session.update', token: tokens[1] }]);
    assert.equal(sent[0].token, '…', 'a log has no secrets');
    first.ends(1006);
    await settled();
    await clock.fire('backoff');
    const second = await settled();
    assert.ok(second.protocols.includes(`bearer.${tokens[2]}`));
    client.close();
  });

  it('that expired while the laptop was closed are no reason to stay away, once', async () => {
    const { client, clock } = fakeClient({ getToken: () => 'fresh' });
    const states = [];
    client.on('state', ({ state, code }) => states.push([state, code]));
    client.connect();
    (await settled()).welcomes();
    FakeSocket.all.at(-1).ends(1008, 'the token has expired');
    await settled();
    await clock.fire('backoff');
    (await settled()).ends(1008, 'the token has expired');
    await settled();
    assert.deepEqual(states.at(-1), ['closed', 'token_expired']);
  });
});

describe('a gap', () => {
  it('is asked for again while another replay is on its way', async () => {
    const { client, clock, told } = fakeClient();
    client.connect();
    const socket = await settled();
    socket.welcomes();
    socket.says({ type: 'room.message', seq: 1 }, { type: 'outbox.dropped', class: 'droppable', first_seq: 2, last_seq: 3 }, { type: 'room.message', seq: 4 });
    const [question] = socket.sent;
    assert.equal(question.after, 1);
    socket.says({ type: 'error', error: { code: 'recovery_under_way', retryable: true, event_id: question.event_id } }, { type: 'room.message', seq: 5 });
    await clock.fire('hold');
    assert.equal(socket.sent.at(-1).after, 1);
    socket.says({ type: 'session.restored', recovered: true, missed: 4 }, ...[2, 3, 4, 5].map((seq) => ({ type: 'room.message', seq })));
    assert.deepEqual(told.filter(({ type }) => type === 'room.message').map(({ seq }) => seq), [1, 2, 3, 4, 5]);
    assert.ok(!types(told).includes('error'), 'nobody has to know');
    client.close();
  });

  it('that is cut in the middle of its filling goes on where that ended', async () => {
    const { client, clock, told } = fakeClient();
    client.connect();
    const first = await settled();
    first.welcomes();
    first.says(...[1, 4, 5].map((seq) => ({ type: 'room.message', seq })), { type: 'outbox.dropped', class: 'droppable', first_seq: 2, last_seq: 3 });
    first.says({ type: 'session.restored', recovered: true, last_seq: 5 }, { type: 'room.message', seq: 2 });
    first.ends();
    await settled();
    await clock.fire('backoff');
    const second = await settled();
    assert.equal(second.url.searchParams.get('after'), '2', 'the third is still missing');
    second.welcomes();
    second.says({ type: 'session.restored', recovered: true, last_seq: 5 }, ...[3, 4, 5, 6].map((seq) => ({ type: 'room.message', seq })));
    assert.deepEqual(told.filter(({ type }) => type === 'room.message').map(({ seq }) => seq), [1, 4, 5, 2, 3, 6]);
    second.ends();
    await settled();
    await clock.fire('backoff');
    assert.equal((await settled()).url.searchParams.get('after'), '6');
    client.close();
  });

  it('is told when nobody answers, and what was held back is given', async () => {
    const { client, clock, told } = fakeClient();
    const gaps = [];
    client.on('gap', (gap) => gaps.push(gap));
    client.connect();
    const socket = await settled();
    socket.welcomes();
    socket.says({ type: 'outbox.dropped', class: 'droppable', first_seq: 1, last_seq: 3 }, { type: 'room.message', seq: 4 });
    await clock.fire('hold');
    assert.deepEqual(types(told).slice(-2), ['session.restored', 'room.message']);
    assert.deepEqual(gaps, [{ channel: null, after: 0, reason: 'unanswered' }]);
    client.close();
  });

  it('of channels that have no common position is told after a cut', async () => {
    const { client, clock } = fakeClient();
    const gaps = [];
    client.on('gap', (gap) => gaps.push(gap));
    client.connect();
    const first = await settled();
    first.welcomes();
    client.subscribe('user:*:operation:*');
    client.subscribe('system:*');
    first.says({ type: 'channel.subscribed', channel: 'user:*:operation:*' }, { type: 'channel.subscribed', channel: 'system:*', id: 's-1' });
    first.says({ type: 'channel.message', channel: 'user:7:operation:1', id: 'u-1', data: 1 });
    first.ends();
    await settled();
    await clock.fire('backoff');
    const second = await settled();
    second.welcomes();
    second.says({ type: 'session.restored', recovered: true });
    assert.deepEqual(second.sent.slice(0, 2), [
      { type: 'channel.subscribe', channel: 'user:*:operation:*' },
      { type: 'channel.subscribe', channel: 'system:*', after: 's-1' },
    ]);
    assert.deepEqual(gaps, [{ channel: 'user:*:operation:*', after: null, reason: 'several_streams' }]);
    client.close();
  });
});

describe('what can not be read', () => {
  const gone = async (clock, socket) => {
    assert.equal(socket.closed.code, 4002);
    await settled();
    await clock.fire('backoff');
    return settled();
  };

  it('is passed over after a few times, and told', async () => {
    const { client, clock, told } = fakeClient();
    const gaps = [];
    client.on('gap', (gap) => gaps.push(gap));
    client.connect();
    let socket = await settled();
    socket.welcomes();
    socket.says({ type: 'room.message', seq: 1 });
    for (let times = 0; times < 3; times += 1) {
      socket.onmessage({ data: '{"type":' });
      socket = await gone(clock, socket);
      socket.welcomes();
      socket.says({ type: 'session.restored', recovered: true, last_seq: 3 });
    }
    assert.deepEqual(gaps, []);
    socket.onmessage({ data: '{"type":' });
    socket.says({ type: 'room.message', seq: 3 });
    assert.equal(socket.closed, null);
    assert.deepEqual(gaps, [{ channel: null, after: 1, reason: 'unreadable' }]);
    assert.equal(told.at(-1).seq, 3);
    await clock.fire('stable');
    socket.onmessage({ data: '[]' });
    assert.equal(socket.closed.code, 4002, 'a connection that stood is as good as the first');
    client.close();
  });

  it('is not what is merely deep, and what is too deep is not sent', async () => {
    const { client, told } = fakeClient({ messagepack: true });
    const nested = (depth) => (depth === 0 ? 1 : [nested(depth - 1)]);
    client.sendToRoom('one');
    assert.throws(() => client.sendToRoom(nested(700)), RangeError);
    client.sendToRoom('two');
    client.connect();
    const socket = await settled();
    socket.protocol = 'voxhall.v1.msgpack';
    socket.onopen();
    socket.saysPacked({ type: 'session.created', session: { id: 'conn' } });
    assert.deepEqual(socket.sentPacked.map(({ data, client_seq: seq }) => [data, seq]), [['one', 1], ['two', 2]]);
    assert.throws(() => client.sendToRoom(nested(700)), RangeError);
    assert.throws(() => client.send({ type: 'ping', t: nested(700) }), RangeError);
    socket.saysPacked({ type: 'channel.message', channel: 'user:1:x', id: 'u-1', data: nested(512) });
    assert.equal(told.at(-1).id, 'u-1');
    assert.equal(client.outgoing.size, 2);
    client.close();
  });
});

describe('a room', () => {
  it('may be called whatever the server takes', async () => {
    for (const [session, path] of [['user:1@home', '/ws/user:1@home'], ['a b?c/d', '/ws/a%20b%3Fc%2Fd'], ['%3A', '/ws/%253A']]) {
      const { client } = fakeClient({ session });
      client.connect();
      assert.equal((await settled()).url.pathname, path);
      client.close();
    }
  });
});

describe('coming back', () => {
  it('waits as long as the server asks, by its readiness where a refusal is hidden', async () => {
    const { client, clock } = fakeClient({ fetch: async () => new Response('', { status: 503, headers: { 'retry-after': '9' } }) });
    client.connect();
    (await settled()).ends();
    await settled();
    assert.deepEqual(clock.waits('backoff'), [9000]);
    client.nudge();
    assert.equal((await settled()), FakeSocket.all[0], 'not even when somebody looks');
    client.close();
  });

  it('falls back where a WebSocket worked before and the server is there all the same', async () => {
    const asked = [];
    const { client, clock } = fakeClient({
      fetch: async (url) => {
        asked.push(new URL(url).pathname);
        if (String(url).endsWith('/readyz')) return new Response('');
        return new Response(': hello\n\n', { headers: { 'content-type': 'text/event-stream' } });
      },
    });
    client.connect();
    (await settled()).welcomes();
    FakeSocket.all[0].ends();
    await settled();
    for (let attempt = 0; attempt < 2; attempt += 1) {
      await clock.fire('backoff');
      (await settled()).ends();
      await settled();
    }
    assert.equal(client.transport, 'sse');
    await clock.fire('backoff');
    await settled();
    assert.deepEqual(asked, ['/readyz', '/readyz', '/sse/room']);
    client.close();
  });

  it('does so at once when the network is back, and asks a standing connection whether it still stands', async () => {
    const { client } = fakeClient();
    client.connect();
    const first = await settled();
    first.welcomes();
    client.nudge(2500);
    assert.deepEqual(types(first.sent), ['ping']);
    first.ends();
    await settled();
    assert.equal(client.state, 'reconnecting');
    client.nudge(2500);
    assert.notEqual(await settled(), first);
    client.close();
  });

  it('has an end: the promise of connect() is kept or broken, and nothing runs any more', async () => {
    const { client, clock } = fakeClient();
    const promise = client.connect();
    (await settled()).ends(1008, 'not allowed here');
    await assert.rejects(promise, { name: 'VoxhallError', code: 'policy', close: 1008 });
    assert.throws(() => client.send({ type: 'x' }), { code: 'closed' });
    const again = client.connect();
    (await settled()).welcomes();
    assert.equal((await again).room, 'room');
    client.sendToRoom('unsure');
    assert.deepEqual(types(client.close()), ['room.send']);
    assert.deepEqual(FakeSocket.all.at(-1).closed, { code: 1000, reason: 'goodbye' });
    for (const name of ['backoff', 'ping', 'silence', 'confirm', 'connect', 'stable']) assert.ok(!clock.has(name), name);
  });

  it('makes the room again as it was', async () => {
    const { client, clock } = fakeClient({ engine: 'parrot' });
    client.connect();
    (await settled()).welcomes({ engine: 'relay', format: 'pcm16', rate: 24000 });
    FakeSocket.all[0].ends();
    await settled();
    await clock.fire('backoff');
    const { searchParams } = (await settled()).url;
    assert.deepEqual([searchParams.get('engine'), searchParams.get('rate')], ['relay', '24000']);
    client.close();
  });
});

describe('sending', () => {
  it('asks in time what has arrived, so that a busy sender is not stopped', async () => {
    const { client } = fakeClient({ queueEvents: 16 });
    client.connect();
    const socket = await settled();
    socket.welcomes();
    for (let n = 0; n < 200; n += 1) {
      client.sendToRoom(n);
      const ping = socket.sent.at(-1);
      if (ping.type === 'ping') socket.says({ type: 'pong', t: ping.t });
    }
    const said = socket.sent.filter(({ type }) => type === 'room.send');
    assert.deepEqual(said.map(({ client_seq: seq }) => seq), Array.from({ length: 200 }, (_, at) => at + 1));
    client.close();
  });

  /// A client that a server tells its limits, and whose clock the test moves.
  async function limited(options = {}) {
    const time = { ms: 0 };
    const made = fakeClient({ now: () => time.ms, ...options });
    const limits = { messages_per_s: 200, messages_burst: 400 };
    made.client.connect();
    (await settled()).welcomes({ limits });
    return { ...made, time, limits };
  }

  const numbers = (socket) => socket.sent.filter(({ type }) => type === 'room.send').map(({ client_seq: seq }) => seq);
  const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);

  it('goes in portions that the server takes, after whatever stall', async () => {
    const { client, clock, time, limits } = await limited();
    const stalled = await settled();
    for (let n = 1; n <= 1024; n += 1) {
      client.sendToRoom(n);
      // The user has its time; the network swallows everything.
      time.ms += 10;
      if (stalled.sent.length < 200 && clock.has('pace')) await clock.fire('pace');
      if (client.outgoing.unsent === 256) break;
    }
    assert.deepEqual(numbers(stalled), range(1, 200), 'no more than half of the burst is on its way');
    assert.throws(() => client.sendToRoom('one too many'), { code: 'queue_full' });
    stalled.ends();
    await settled();
    await clock.fire('backoff');
    const socket = await settled();
    socket.welcomes({ limits });
    socket.says({ type: 'session.restored', recovered: true, client_seq: 0 });
    // The server's own account.
    let debt = 0;
    let [seen, before] = [0, time.ms];
    while (client.outgoing.size > 0) {
      debt = Math.max(0, debt - (time.ms - before) * 0.2);
      before = time.ms;
      const came = socket.sent.slice(seen);
      seen = socket.sent.length;
      debt += came.length;
      assert.ok(debt <= 300, `${debt} messages at once`);
      for (const { type, t } of came) if (type === 'ping') socket.says({ type: 'pong', t });
      time.ms += 50;
      if (socket.sent.length === seen && client.outgoing.size > 0) await clock.fire(clock.has('pace') ? 'pace' : 'confirm');
    }
    assert.deepEqual(numbers(socket), range(1, 456), 'everything, once and in order');
    client.close();
  });

  it('that was refused for its haste goes again on a new connection, which says what has arrived', async () => {
    const { client, clock, told } = await limited();
    const first = await settled();
    for (let n = 1; n <= 50; n += 1) client.sendToRoom(n);
    const ping = first.sent.findLast(({ type }) => type === 'ping');
    first.says({ type: 'error', error: { type: 'rate_limit_error', code: 'rate_limit_exceeded', retryable: true } });
    assert.equal(first.closed.code, 4004);
    assert.equal(ping, undefined);
    await settled();
    await clock.fire('backoff');
    const second = await settled();
    second.welcomes();
    second.says({ type: 'session.restored', recovered: true, client_seq: 20 });
    assert.deepEqual(numbers(second), range(21, 50));
    assert.deepEqual(types(told).filter((type) => type === 'client.unconfirmed'), []);
    second.says({ type: 'error', seq: 1, error: { code: 'rate_limit_exceeded' } });
    assert.equal(second.closed, null, 'an engine may have limits of its own');
    client.close();
  });

  it('is not overtaken by what has a number and can not wait', async () => {
    const { client, clock, time } = await limited();
    const socket = await settled();
    for (let n = 1; n <= 150; n += 1) client.sendToRoom(n);
    assert.ok(client.outgoing.unsent > 0);
    assert.equal(client.send({ type: 'input_audio_buffer.append', audio: 'AAAA' }), 0);
    time.ms += 5000;
    await clock.fire('pace');
    assert.ok(client.send({ type: 'input_audio_buffer.append', audio: 'AAAA' }) > 150);
    const seqs = socket.sent.map(({ client_seq: seq }) => seq).filter(Boolean);
    assert.deepEqual(seqs, seqs.toSorted((a, b) => a - b));
    client.close();
  });

  /// A server of streams: what it was asked by POST, and what it answers by the body.
  async function streamed(answer) {
    const bodies = [];
    let stream;
    const made = fakeClient({
      transport: 'sse',
      queueEvents: 400,
      fetch: async (_, { method, body } = {}) => {
        if (method !== 'POST') {
          const created = { type: 'session.created', session: { id: 'conn', resume: { token: 't', epoch: 1, seq: 0 } } };
          stream = new ReadableStream({ start: (one) => one.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(created)}\n\n`)) });
          return new Response(stream);
        }
        bodies.push(body);
        return answer(body);
      },
    });
    return { ...made, bodies };
  }

  it('goes in requests of a bounded size', async () => {
    const { client, bodies } = await streamed(() => new Response('{}'));
    for (let n = 0; n < 40; n += 1) client.sendToRoom('é'.repeat(10_000));
    client.sendToRoom('é'.repeat(150_000));
    client.sendToRoom('end');
    const end = new Promise((resolve) => client.on('sent', ({ data }) => data === 'end' && resolve()));
    await client.connect();
    await end;
    while (client.outgoing.size > 0) await settled();
    const sizes = bodies.map((body) => Buffer.byteLength(body));
    assert.ok(sizes.every((size) => size <= 262_144 || size > 300_000), `${sizes}`);
    const seqs = bodies.flatMap((body) => JSON.parse(body)).map(({ client_seq: seq }) => seq).filter(Boolean);
    assert.deepEqual(seqs, range(1, 42));
    client.close();
  });

  it('gives up what is too big for the server, and nothing else', async () => {
    const { client, bodies, told } = await streamed((body) => new Response('{}', { status: body.length > 500 ? 413 : 200 }));
    for (let n = 1; n <= 20; n += 1) client.sendToRoom(n === 7 ? 'x'.repeat(1000) : 'y'.repeat(90));
    await client.connect();
    while (client.outgoing.size > 0) await settled();
    const taken = bodies.filter((body) => body.length <= 500).flatMap((body) => JSON.parse(body)).filter(({ client_seq: seq }) => seq);
    assert.deepEqual(taken.map(({ client_seq: seq }) => seq), range(1, 20), 'nobody waits for a number that never comes');
    assert.equal(taken[6].type, 'ping');
    const lost = told.filter(({ type }) => type === 'client.unconfirmed');
    assert.deepEqual(lost.map(({ events, reason }) => [events.map(({ client_seq: seq }) => seq), reason]), [[[7], 'too_big']]);
    assert.equal(client.state, 'open');
    client.close();
  });

  it('has nothing confirmed that was not sent before', async () => {
    const { client, clock } = fakeClient();
    client.sendToRoom('early');
    client.on('state', ({ state }) => state === 'open' && client.ping());
    client.connect();
    const socket = await settled();
    socket.welcomes();
    assert.deepEqual(types(socket.sent), ['room.send', 'ping']);
    assert.equal(socket.sent[1].t, 1);
    assert.ok(clock.has('silence'));
    client.close();
  });

  it('drops audio rather than to send it late, and counts it', async () => {
    const { client } = fakeClient();
    assert.equal(client.sendAudio(new Uint8Array(640)), false);
    client.connect();
    const socket = await settled();
    socket.welcomes();
    assert.equal(client.sendAudio(new Int16Array(320)), true);
    socket.bufferedAmount = 100_000;
    assert.equal(client.sendAudio(new Int16Array(320)), false);
    assert.deepEqual(client.counts, { framesSent: 1, framesDropped: 2, framesReceived: 0, bytesReceived: 0 });
    assert.equal(socket.sent[0].byteLength, 640);
    client.close();
  });
});
