// The client in rooms of a server that asks for tokens, whose secret is known here.

import assert from 'node:assert/strict';
import { createHmac, randomUUID } from 'node:crypto';
import { after, describe, it } from 'node:test';
import { Network } from '../../../tests/browser/proxy.mjs';
import { Voxhall } from '../voxhall.js';

const { VOXHALL_URL, VOXHALL_ADMIN, VOXHALL_SECRET } = process.env;
const clients = [];

after(() => clients.forEach((client) => client.close()));

const encoded = (what) => Buffer.from(JSON.stringify(what)).toString('base64url');

function sign(claims) {
  const said = `${encoded({ alg: 'HS256', typ: 'JWT' })}.${encoded({ exp: Math.floor(Date.now() / 1000) + 600, ...claims })}`;
  return `${said}.${createHmac('sha256', VOXHALL_SECRET).update(said).digest('base64url')}`;
}

async function publish(channel, data) {
  const headers = { authorization: `Bearer ${sign({ sub: 'operator', role: 'admin' })}` };
  const answer = await fetch(`${VOXHALL_ADMIN}/api/v1/publish`, { method: 'POST', headers, body: JSON.stringify({ channel, data }) });
  assert.equal(answer.status, 200, await answer.text());
}

function make(options) {
  const client = new Voxhall({ url: VOXHALL_URL, session: `room-${randomUUID()}`, engine: 'relay', random: () => 0.02, ...options });
  clients.push(client);
  return client;
}

/// The next event of this type.
const next = (client, type, is = () => true) =>
  new Promise((resolve) => {
    const off = client.on(type, (event) => {
      if (!is(event)) return;
      off();
      resolve(event);
    });
  });

for (const transport of ['websocket', 'sse']) {
  describe(`over ${transport}`, () => {
    it('what a token subscribes to goes on where it was', async () => {
      const network = new Network({ host: new URL(VOXHALL_URL).hostname, port: Number(new URL(VOXHALL_URL).port) });
      await network.open();
      const user = `ann-${randomUUID()}`;
      const client = make({ url: `ws://127.0.0.1:${network.port}`, transport, token: sign({ sub: user, subscriptions: [`user:${user}:*`] }) });
      const heard = [];
      const gaps = [];
      client.on('channel.message', ({ data }) => heard.push(data));
      client.on('gap', (gap) => gaps.push(gap));
      const begun = next(client, 'channel.subscribed');
      await client.connect();
      await begun;
      const first = next(client, 'channel.message');
      await publish(`user:${user}:x`, 1);
      await first;
      await network.cut();
      await publish(`user:${user}:x`, 2);
      await publish(`user:${user}:x`, 3);
      const third = next(client, 'channel.message', ({ data }) => data === 3);
      await network.mend();
      await third;
      const fourth = next(client, 'channel.message', ({ data }) => data === 4);
      await publish(`user:${user}:x`, 4);
      await fourth;
      assert.deepEqual(heard, [1, 2, 3, 4]);
      assert.deepEqual(gaps, []);
      client.close();
      await network.close();
    });

    it('goes on with the token that was brought last', async () => {
      const asked = [];
      const tokens = [sign({ sub: 'ben' }), sign({ sub: 'ben', jti: 'fresh' })];
      const states = [];
      const client = make({
        transport,
        getToken: () => tokens[0],
        fetch: (url, request) => {
          if (request?.method === 'POST') asked.push(request.headers.authorization);
          return fetch(url, request);
        },
      });
      client.on('state', ({ state }) => states.push(state));
      await client.connect();
      tokens.shift();
      const updated = next(client, 'session.updated');
      await client.refreshToken();
      await updated;
      const state = next(client, 'session.updated', ({ session }) => session.state?.page === 1);
      client.updateState({ page: 1 });
      await state;
      assert.deepEqual(states, ['connecting', 'open']);
      if (transport === 'sse') assert.equal(asked.at(-1), `Bearer ${tokens[0]}`);
      client.close();
    });
  });
}
