// A browser's own EventSource: the log of a WebSocket, what fetch posts, and what was missed when the stream was opened
// again by the browser itself.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { chromium } from 'playwright-core';

const BASE = new URL(process.env.VOXHALL_URL.replace(/^ws/, 'http'));
const ADMIN = process.env.VOXHALL_ADMIN;
const PATIENCE_MS = 30_000;

let browser;

before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  });
});

after(() => browser?.close());

/// Runs in the page: a member on a WebSocket and one with an EventSource, each with everything it hears.
async function listen(room) {
  const heard = { socket: [], stream: [], ids: [], closes: [], opened: 0 };
  window.heard = heard;
  window.socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/ws/${room}?engine=relay`);
  window.socket.onmessage = ({ data }) => heard.socket.push(JSON.parse(data));
  await new Promise((resolve) => (window.socket.onopen = resolve));
  window.stream = new EventSource(`/sse/${room}`);
  window.stream.onopen = () => (heard.opened += 1);
  window.stream.onmessage = ({ data, lastEventId }) => {
    heard.stream.push(JSON.parse(data));
    heard.ids.push(lastEventId);
  };
  window.stream.addEventListener('close', ({ data }) => heard.closes.push(JSON.parse(data)));
}

const until = (page, check, argument) => page.waitForFunction(check, argument, { timeout: PATIENCE_MS });

describe('an EventSource', () => {
  it('hears the log of a WebSocket, and what it has missed when the browser opens it again', async () => {
    const context = await browser.newContext({ ignoreHTTPSErrors: BASE.protocol === 'https:' });
    const page = await context.newPage();
    await page.goto(new URL('/healthz', BASE).href);
    const room = `browser-${randomUUID()}`;
    await page.evaluate(listen, room);
    await until(page, () => window.heard.stream.some(({ type }) => type === 'session.created'));

    const send = (from, to) =>
      page.evaluate(([from, to]) => {
        for (let data = from; data < to; data += 1) window.socket.send(JSON.stringify({ type: 'room.send', data }));
      }, [from, to]);
    await send(0, 20);
    const posted = await page.evaluate(async (room) => {
      const body = JSON.stringify([1, 2, 3].map((n) => ({ type: 'room.send', data: `posted ${n}`, client_seq: n })));
      return (await fetch(`/sse/${room}`, { method: 'POST', body })).json();
    }, room);
    assert.deepEqual(posted, { accepted: 3, client_seq: 3 });
    await until(page, () => window.heard.stream.filter(({ type }) => type === 'room.message').length === 20);
    await until(page, () => window.heard.socket.filter(({ type }) => type === 'room.message').length === 3);

    // The server ends the stream; the browser comes back by itself, and is told what was said meanwhile.
    const id = await page.evaluate(() => window.heard.stream[0].session.id);
    const closed = await fetch(`${ADMIN}/api/v1/connections/${id}/close`, { method: 'POST', body: '{"code": 1012}' });
    assert.equal(closed.status, 200);
    await until(page, () => window.heard.closes.length === 1);
    await send(20, 60);
    await until(page, () => window.heard.opened === 2);
    await send(60, 80);
    await until(page, () => window.heard.stream.filter(({ type }) => type === 'room.message').length >= 83);

    const { stream, ids, closes } = await page.evaluate(() => window.heard);
    assert.equal(closes[0].code, 1012);
    // It is another member now, who hears what the one before has said.
    const before = stream[0].session.member;
    const messages = stream.filter(({ type, from }) => type === 'room.message' && from !== before);
    assert.deepEqual(messages.map(({ data }) => data), [...Array(80).keys()], 'each once, in order');
    const restored = stream.filter(({ type }) => type === 'session.restored');
    assert.deepEqual(restored.map(({ recovered }) => recovered), [true]);
    stream.forEach(({ type, seq }, at) => {
      if (seq !== undefined && !type.startsWith('session.')) assert.equal(ids[at], String(seq));
    });
    await context.close();
  });
});
