// permessage-deflate with the client `ws`, which offers it by itself: agreed to when the server has it on
// (VOXHALL_DEFLATE is then set), declined otherwise; over rooms of both subprotocols, and over /echo.

import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import WebSocket from 'ws';
import { Member, PUBLIC } from './client.mjs';

const ON = Boolean(process.env.VOXHALL_DEFLATE);
const skip = ON ? false : 'the server has it off';
const LONG = 'all of us, '.repeat(1000);

async function echo(perMessageDeflate) {
  const socket = new WebSocket(`${PUBLIC}/echo`, { perMessageDeflate });
  socket.binaryType = 'nodebuffer';
  await once(socket, 'open');
  return socket;
}

async function returned(socket, message) {
  const answer = once(socket, 'message');
  socket.send(message);
  const [data, isBinary] = await answer;
  return isBinary ? data : data.toString();
}

describe('permessage-deflate', () => {
  for (const subprotocol of ['', 'voxhall.v1.plain', 'voxhall.v1']) {
    it(`a long event reaches a room over ${subprotocol || 'no subprotocol'}`, async () => {
      const scene = { room: `node-${randomUUID()}`, engine: 'relay', subprotocol };
      const [sender, listener] = [await Member.join(scene), await Member.join(scene)];
      assert.equal(listener.socket.extensions === 'permessage-deflate', ON, listener.socket.extensions);
      for (const data of ['short', LONG, { text: LONG, κ: '🎧'.repeat(2000) }, 'short again']) {
        sender.send({ type: 'room.send', data });
        assert.deepEqual((await listener.next('room.message')).data, data);
      }
      await Promise.all([sender.leave(), listener.leave()]);
    });
  }

  for (const bits of [undefined, 9, 12, 15]) {
    it(`/echo returns messages of every kind and length with window ${bits ?? 'of any size'}`, { skip }, async () => {
      const socket = await echo({ threshold: 0, serverMaxWindowBits: bits });
      assert.equal(socket.extensions, 'permessage-deflate');
      for (const size of [0, 1, 126, 1023, 1024, 5000, 65_536, 1 << 20]) {
        const text = LONG.repeat(Math.ceil(size / LONG.length)).slice(0, size);
        // Noise becomes longer when it is compressed, and the bound is also on what travels.
        for (const message of [text, Buffer.from(text), randomBytes(Math.floor(size * 0.9))]) assert.deepEqual(await returned(socket, message), message);
      }
      socket.close(1000);
      await once(socket, 'close');
    });
  }

  it('a message that inflates beyond the bound is too big', { skip }, async () => {
    const socket = await echo(true);
    socket.on('error', () => {});
    const closed = once(socket, 'close');
    socket.send(Buffer.alloc(8 << 20));
    assert.equal((await closed)[0], 1009);
  });
});
