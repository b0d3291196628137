// `@openai/agents-realtime` in a real browser, which can set no header: the key travels as a subprotocol.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, before, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const URL_OF_SERVER = process.env.VOXHALL_URL;
const BUNDLE = fileURLToPath(new URL('./node_modules/@openai/agents-realtime/dist/bundle/', import.meta.url));
const FLAGS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-sync'];

let browser;
let page;

// A page of this host's own: a browser keeps others away from it.
const site = createServer((request, response) => {
  const file = request.url.endsWith('.mjs');
  response.setHeader('content-type', file ? 'text/javascript' : 'text/html');
  response.end(file ? readFileSync(BUNDLE + request.url.slice(1)) : '<!doctype html><title>sdk</title>');
});

before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
  // A certificate that a test has made is nobody's whom a browser knows.
  const context = await browser.newContext({ ignoreHTTPSErrors: URL_OF_SERVER.startsWith('wss:') });
  page = await context.newPage();
  await new Promise((ready) => site.listen(0, '127.0.0.1', ready));
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
});

after(async () => {
  await browser?.close();
  site.close();
});

/// Runs in the page: a spoken turn, an interruption, and what came of both.
async function converse({ url, apiKey }) {
  const { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession } = await import('/openai-realtime-agents.mjs');
  const rate = 24000;
  const tone = (ms) => {
    const pcm = new Int16Array((ms * rate) / 1000);
    return pcm.map((_, i) => Math.round(9000 * Math.sin((2 * Math.PI * i * 180) / rate) * (0.6 + 0.4 * Math.sin(i / 950))));
  };
  const silence = (ms) => new Int16Array((ms * rate) / 1000);
  const events = [];
  const waiting = [];
  const errors = [];
  let heard = [];
  const transport = new OpenAIRealtimeWebSocket({ url, useInsecureApiKey: true });
  const turnDetection = { type: 'server_vad', silenceDurationMs: 300, interruptResponse: true, createResponse: true };
  const config = { audio: { input: { turnDetection } } };
  const session = new RealtimeSession(new RealtimeAgent({ name: 'parrot' }), { transport, config });
  session.on('error', (error) => errors.push(JSON.stringify(error)));
  session.on('audio', ({ data }) => heard.push(...new Int16Array(data)));
  session.on('transport_event', (event) => {
    events.push(event);
    waiting.forEach((check) => check());
  });
  const next = (type) =>
    new Promise((resolve, reject) => {
      const patience = setTimeout(() => reject(new Error(`waited in vain for ${type}`)), 30000);
      const check = () => {
        const at = events.findIndex((event) => event.type === type);
        if (at < 0) return;
        clearTimeout(patience);
        const index = waiting.indexOf(check);
        if (index >= 0) waiting.splice(index, 1);
        resolve(events.splice(0, at + 1).at(-1));
      };
      waiting.push(check);
      check();
    });
  const speak = (pcm) => {
    for (let at = 0; at < pcm.length; at += rate / 10) session.sendAudio(pcm.slice(at, at + rate / 10).buffer);
  };
  const contains = (long, short) => {
    const last = long.length - short.length;
    const matches = (at) => short.every((sample, i) => long[at + i] === sample);
    for (let at = 0; at <= last; at += 1) if (long[at] === short[0] && matches(at)) return true;
    return false;
  };

  await session.connect({ apiKey });
  speak(silence(400));
  speak(tone(800));
  speak(silence(800));
  const spoken = await next('response.done');
  const whole = contains(heard, Array.from(tone(800)));
  heard = [];
  session.sendMessage('one two three four five six seven eight nine ten');
  await next('response.output_audio.delta');
  speak(tone(600));
  const interrupted = await next('response.done');
  await next('conversation.item.truncated');
  session.close();
  const of = ({ response }) => ({ status: response.status, reason: response.status_details?.reason });
  return { spoken: of(spoken), whole, interrupted: of(interrupted), errors };
}

it('holds a spoken conversation in a browser', async () => {
  const url = `${URL_OF_SERVER}/v1/realtime?model=gpt-realtime`;
  const apiKey = process.env.VOXHALL_TOKEN ?? 'sk-anything';
  const told = await page.evaluate(converse, { url, apiKey });
  assert.deepEqual(told, {
    spoken: { status: 'completed', reason: undefined },
    whole: true,
    interrupted: { status: 'cancelled', reason: 'turn_detected' },
    errors: [],
  });
});
