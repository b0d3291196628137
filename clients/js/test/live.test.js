// The client in rooms of a real server, over every transport, through a network that is cut.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, describe, it } from 'node:test';
import { Network } from '../../../tests/browser/proxy.mjs';
import { Voxhall } from '../voxhall.js';

const URL_ = new URL(process.env.VOXHALL_URL);
const WAYS = {
  'voxhall.v1': {},
  'voxhall.v1.plain': { subprotocol: 'voxhall.v1.plain' },
  'voxhall.v1.msgpack': { messagepack: true },
  'server-sent events': { transport: 'sse' },
};
const fresh = () => `room:${randomUUID()}@here`;
const clients = [];

after(() => clients.forEach((client) => client.close()));

/// A client whose waits are short.
async function join(room, { url = process.env.VOXHALL_URL, engine = 'relay', ...options } = {}) {
  const client = new Voxhall({ url, session: room, engine, random: () => 0.02, ...options });
  clients.push(client);
  client.told = [];
  client.on('*', (event) => client.told.push(event));
  await client.connect();
  return client;
}

/// The first event of this type that was told or will be, from the `from`th on.
async function told(client, type, is = () => true, from = 0) {
  const found = client.told.slice(from).find((event) => event.type === type && is(event));
  if (found) return found;
  for await (const event of client.events(type)) if (is(event)) return event;
  throw new Error(`the client ended before ${type}`);
}

const messages = (client) => client.told.filter(({ type }) => type === 'room.message').map(({ data }) => data);

async function cuttable() {
  const network = new Network({ host: URL_.hostname, port: Number(URL_.port) });
  await network.open();
  return network;
}

/// Cuts, and is there again at once.
async function cut(network) {
  await network.cut();
  await network.mend();
}

for (const [way, options] of Object.entries(WAYS)) {
  describe(way, () => {
    it('carries events, sound and state both ways', async () => {
      const room = fresh();
      const ann = await join(room, options);
      const ben = await join(room, options);
      assert.notEqual(ann.session.member, ben.session.member);
      ann.sendToRoom({ n: 1, text: 'ü€' });
      assert.deepEqual((await told(ben, 'room.message')).data, { n: 1, text: 'ü€' });
      ben.sendToRoom([2], { to: ann.session.member });
      assert.equal((await told(ann, 'room.message')).from, ben.session.member);
      const heard = new Promise((resolve) => ben.once('audio', resolve));
      const sound = new Uint8Array(640).fill(7);
      ann.sendAudio(sound);
      // Where sound goes in requests, what is said next takes it along.
      ann.updateState({ page: 4 });
      assert.deepEqual(new Uint8Array((await heard).payload), sound);
      await told(ben, 'session.updated', ({ session }) => session.state?.page === 4);
      assert.deepEqual(ben.roomState, { page: 4 });
      ann.close();
      ben.close();
    });

    it('gives every event once and in order over many cuts', async () => {
      const room = fresh();
      const network = await cuttable();
      const speaker = await join(room);
      const listener = await join(room, { url: `ws://127.0.0.1:${network.port}`, ...options });
      const each = 15;
      const rounds = 8;
      for (let round = 0; round < rounds; round += 1) {
        const from = listener.told.length;
        for (let n = 0; n < each; n += 1) {
          speaker.sendToRoom(round * each + n);
          if (n === 7) await cut(network);
        }
        assert.ok((await told(listener, 'session.restored', () => true, from)).recovered);
      }
      speaker.sendToRoom('end');
      await told(listener, 'room.message', ({ data }) => data === 'end');
      assert.deepEqual(messages(listener), [...Array(each * rounds).keys(), 'end']);
      listener.close();
      speaker.close();
      await network.close();
    });

    it('is heard once, whatever happened to what was said', async () => {
      const room = fresh();
      const network = await cuttable();
      const listener = await join(room);
      const speaker = await join(room, { url: `ws://127.0.0.1:${network.port}`, ...options });
      for (let n = 0; n < 60; n += 1) {
        speaker.sendToRoom(n);
        if (n % 20 === 10) {
          const from = speaker.told.length;
          await cut(network);
          await told(speaker, 'session.restored', () => true, from);
        }
      }
      speaker.sendToRoom('end');
      await told(listener, 'room.message', ({ data }) => data === 'end');
      assert.deepEqual(messages(listener), [...Array(60).keys(), 'end']);
      assert.ok(!speaker.told.some(({ type }) => type === 'client.unconfirmed'));
      listener.close();
      speaker.close();
      await network.close();
    });

    it('says everything that piled up, however much it is, and is not sent away for it', async () => {
      const room = fresh();
      const network = await cuttable();
      const listener = await join(room);
      const speaker = await join(room, { url: `ws://127.0.0.1:${network.port}`, queueEvents: 1200, ...options });
      const wanted = [...Array(1000).keys()];
      network.swallow();
      for (const n of wanted) speaker.sendToRoom(n);
      await network.mend();
      await cut(network);
      await told(listener, 'room.message', ({ data }) => data === wanted.at(-1));
      assert.deepEqual(messages(listener), wanted);
      assert.ok(!speaker.told.some(({ type }) => type === 'client.unconfirmed' || type === 'error'));
      assert.equal(speaker.state, 'open');
      listener.close();
      speaker.close();
      await network.close();
    });

    it('asks the parrot, and hears it', async () => {
      const client = await join(fresh(), { engine: 'parrot', ...options });
      let bytes = 0;
      client.on('audio', ({ payload }) => {
        bytes += payload.byteLength;
      });
      client.sendText('good morning');
      const { response } = await told(client, 'response.done');
      assert.equal(response.status, 'completed');
      assert.ok(bytes > 3200, `${bytes} bytes of sound`);
      assert.match((await told(client, 'response.output_audio_transcript.done')).transcript, /good morning/);
      client.close();
    });
  });
}

describe('a subscriber', () => {
  for (const transport of ['websocket', 'sse']) {
    it(`hears every message once and in order, whatever happens to its connection: ${transport}`, async () => {
      const topic = `news-${randomUUID()}`;
      const publish = async (data) => {
        const body = JSON.stringify({ channel: `system:${topic}`, data });
        const answer = await fetch(`${process.env.VOXHALL_ADMIN}/api/v1/publish`, { method: 'POST', body });
        assert.equal(answer.status, 200, await answer.text());
      };
      const network = await cuttable();
      const client = await join(fresh(), { url: `ws://127.0.0.1:${network.port}`, transport });
      const heard = [];
      client.subscribe(`system:${topic}`, {}, ({ data }) => heard.push(data));
      await told(client, 'channel.subscribed');
      for (let n = 0; n < 30; n += 1) {
        await publish(n);
        if (n % 10 === 5) {
          const from = client.told.length;
          await network.cut();
          await publish(`${n}, while away`);
          await network.mend();
          assert.notEqual((await told(client, 'channel.subscribed', () => true, from)).recovered, false);
        }
      }
      await publish('end');
      await told(client, 'channel.message', ({ data }) => data === 'end');
      const wanted = [...Array(30).keys()].flatMap((n) => (n % 10 === 5 ? [n, `${n}, while away`] : [n]));
      assert.deepEqual(heard, [...wanted, 'end']);
      client.close();
      await network.close();
    });
  }
});

describe('a subscriber with MessagePack', () => {
  it('hears what is nested as deep as the server allows, and what comes behind it', async () => {
    const topic = `deep-${randomUUID()}`;
    const client = await join(fresh(), { messagepack: true });
    client.subscribe(`system:${topic}`);
    await told(client, 'channel.subscribed');
    const nested = (depth) => (depth === 0 ? 1 : [nested(depth - 1)]);
    const all = [nested(client.session.limits.json_depth_max), 'end'];
    for (const data of all) {
      const body = JSON.stringify({ channel: `system:${topic}`, data });
      const answer = await fetch(`${process.env.VOXHALL_ADMIN}/api/v1/publish`, { method: 'POST', body });
      assert.equal(answer.status, 200, await answer.text());
    }
    await told(client, 'channel.message', ({ data }) => data === 'end');
    assert.deepEqual(client.told.filter(({ type }) => type === 'channel.message').map(({ data }) => data), all);
    assert.ok(!client.told.some(({ type }) => type === 'session.restored'), 'on one connection');
    client.close();
  });
});

describe('a member', () => {
  it('that was replaced by a newer connection does not fight for its place', async () => {
    const network = await cuttable();
    const url = `ws://127.0.0.1:${network.port}`;
    const room = fresh();
    const first = await join(room, { url, transport: 'websocket' });
    // The network swallows everything, and the member comes back by another way while the first still stands.
    const ended = new Promise((resolve) => first.on('state', ({ state, code }) => state === 'closed' && resolve(code)));
    const { token } = first.session.resume;
    const second = new WebSocket(`${process.env.VOXHALL_URL}/ws/${room}?resume=${encodeURIComponent(token)}&after=0`);
    assert.equal(await ended, 'replaced');
    second.close();
    await network.close();
  });

  it('hears that what it missed is gone, and goes on', async () => {
    const network = await cuttable();
    const room = fresh();
    const client = await join(room, { url: `ws://127.0.0.1:${network.port}` });
    const gap = new Promise((resolve) => client.once('gap', resolve));
    await network.cut();
    await fetch(`${process.env.VOXHALL_ADMIN}/api/v1/rooms/${room}/close`, { method: 'POST' });
    await network.mend();
    assert.equal((await gap).channel, null);
    const restored = await told(client, 'session.restored');
    assert.equal(restored.recovered, false);
    client.updateState({ here: true });
    await told(client, 'session.updated', ({ session }) => session.state?.here);
    client.close();
    await network.close();
  });
});
