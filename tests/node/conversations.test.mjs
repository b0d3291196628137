// Every conversation of the table over every subprotocol it names, and the plain HTTP answers.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { describe, it } from 'node:test';
import { ADMIN, PUBLIC_HTTP } from './client.mjs';
import { play } from './play.mjs';

const table = JSON.parse(readFileSync(new URL('conversations.json', import.meta.url)));

describe('conversations', { concurrency: 6 }, () => {
  for (const conversation of table.conversations) {
    for (const subprotocol of conversation.over ?? table.subprotocols) {
      it(`${conversation.engine}, ${subprotocol || 'no subprotocol'}: ${conversation.name}`, () => play(conversation, subprotocol, `node-${randomUUID()}`));
    }
  }
});

describe('answers', () => {
  for (const { at, path, upgrade, status, type, header } of table.answers) {
    it(`${at} ${path} is ${status}`, async () => {
      const { statusCode, headers } = await get((at === 'admin' ? ADMIN : PUBLIC_HTTP) + path, upgrade);
      assert.equal(statusCode, status);
      if (type) assert.ok(headers['content-type']?.startsWith(type), `content-type is ${headers['content-type']}`);
      if (header) assert.ok(headers[header], `${header} is missing`);
    });
  }
});

function get(url, upgrade) {
  const headers = upgrade
    ? { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' }
    : { Connection: 'close' };
  return new Promise((resolve, reject) => {
    const request = (url.startsWith('https:') ? https : http).get(url, { headers, agent: false }, (response) => {
      response.resume();
      resolve(response);
    });
    request.on('error', reject);
    request.on('upgrade', (response, socket) => {
      socket.destroy();
      resolve(response);
    });
  });
}
