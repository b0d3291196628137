// The talk page when its network goes and comes back, and when the server is killed: it comes back by itself, shows every
// event once and in order, and what was kept with the room is there again.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { BASE, Browser, counters, screenshot, talk, until } from './page.mjs';
import { Network } from './proxy.mjs';
import { OwnServer } from './server.mjs';

const ADMIN = process.env.VOXHALL_ADMIN;
// As long as somebody in a lift is away.
const AWAY_MS = 5000;
// A change may be on its way to the store, and another one in it.
const STORED_ROUNDS = 3;

let browser;

before(async () => {
  browser = await Browser.launch();
});

after(() => browser?.close());

/// Somebody says these numbers to the room, one after the other.
async function say(admin, room, numbers) {
  for (const number of numbers) {
    const answer = await fetch(`${admin}/api/v1/rooms/${room}/send`, { method: 'POST', body: JSON.stringify({ data: { text: `message ${number}` } }) });
    assert.equal(answer.status, 200);
  }
}

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);

/// What the page shows of what was said, and of which numbers.
const shown = (page) =>
  page.evaluate(() => ({
    messages: [...document.querySelectorAll('.bubble.other .body')].map((body) => Number(body.textContent.replace('message ', ''))),
    seqs: [...document.querySelectorAll('#log-rows [data-seq]')].map((row) => Number(row.dataset.seq)),
  }));

/// Everything that was said is there once and in order, and so is every event of the log.
async function isWhole(page, numbers) {
  await page.locator('.bubble.other .body', { hasText: `message ${numbers.at(-1)}` }).waitFor();
  const { messages, seqs } = await shown(page);
  assert.deepEqual(messages, numbers);
  assert.deepEqual(seqs, seqs.toSorted((a, b) => a - b), 'in order');
  assert.equal(new Set(seqs).size, seqs.length, 'none twice');
}

async function keepState(page, state) {
  await page.evaluate((wanted) => window.voxhall.client.updateState(wanted), state);
  await until(page, (wanted) => JSON.stringify(window.voxhall.roomState) === JSON.stringify(wanted), state);
}

/// A page without a microphone: only what the test says happens.
async function openQuiet(how) {
  const opened = await browser.open({ engine: 'relay', ...how });
  await opened.page.evaluate(() => {
    navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('refused', 'NotAllowedError'));
  });
  await talk(opened.page);
  return opened;
}

/// One that reaches the server through a network that can be cut.
async function openThrough(target) {
  const network = new Network(target);
  await network.open();
  const opened = await openQuiet({ base: new URL(`${BASE.protocol}//127.0.0.1:${network.port}`) });
  return { ...opened, network };
}

/// What was said is safe. Each round waits for a write of a change that was made in it; the first may still be one of what was
/// under way before, and the last has everything that was there when it began.
async function stored(page, admin, state) {
  const written = async () => Number(/^voxhall_store_rooms_written_total (\S+)/m.exec(await (await fetch(`${admin}/metrics`)).text())[1]);
  for (let round = 0; round < STORED_ROUNDS; round += 1) {
    const before = await written();
    await page.evaluate((wanted) => window.voxhall.client.updateState(wanted), state);
    while ((await written()) <= before) await pause(20);
  }
}

const target = { host: BASE.hostname, port: Number(BASE.port) };

describe('the talk page comes back', () => {
  it('after five seconds without a network', async () => {
    const { page, room, network, close } = await openThrough(target);
    await keepState(page, { page: 7 });
    await say(ADMIN, room, range(1, 10));
    await network.cut();
    await until(page, () => window.voxhall.state === 'waiting');
    await say(ADMIN, room, range(11, 20));
    await page.getByRole('textbox', { name: 'Write to the room' }).fill('written without a network');
    await page.getByRole('button', { name: 'Send' }).click();
    assert.match(await page.getByRole('status').textContent(), /Reconnecting/);
    assert.match(await page.getByRole('alert').textContent(), /connection was lost.*Trying again/s);
    await pause(AWAY_MS);
    await screenshot(page, 'talk-reconnecting.png');
    await network.mend();
    await until(page, () => window.voxhall.state === 'open');
    await say(ADMIN, room, range(21, 30));
    await isWhole(page, range(1, 30));
    await page.locator('.bubble.note', { hasText: 'nothing missed' }).waitFor();
    assert.equal(await page.getByRole('alert').count(), 0, 'the notice has gone');
    const { roomState, events } = await counters(page);
    assert.deepEqual(roomState, { page: 7 });
    assert.equal(events['session.restored'], 1);
    assert.equal(events['client.unconfirmed'], undefined);
    await screenshot(page, 'talk-back.png');
    await close();
    await network.close();
  });

  it('when nobody says that the network has gone', async () => {
    const { page, context, room, network, close } = await openThrough(target);
    await say(ADMIN, room, range(1, 5));
    await page.locator('.bubble.other .body', { hasText: 'message 5' }).waitFor();
    network.swallow();
    await say(ADMIN, room, range(6, 15));
    // The browser noticed something; the page asks, and gets no answer.
    await context.setOffline(true);
    await until(page, () => window.voxhall.state === 'waiting');
    await network.mend();
    await context.setOffline(false);
    await until(page, () => window.voxhall.state === 'open');
    await say(ADMIN, room, range(16, 20));
    await isWhole(page, range(1, 20));
    await close();
    await network.close();
  });

  it('to somebody else who is in the room, as if it had never been away', async () => {
    const { page, room, network, close } = await openThrough(target);
    const other = await browser.open({ room, engine: 'relay' });
    await talk(other.page);
    await until(page, () => window.voxhall.members === 2);
    await network.cut();
    await until(page, () => window.voxhall.state === 'waiting');
    await network.mend();
    await until(page, () => window.voxhall.state === 'open');
    await page.getByRole('textbox', { name: 'Write to the room' }).fill('here again');
    await page.getByRole('button', { name: 'Send' }).click();
    await other.page.locator('.bubble.other .body', { hasText: 'here again' }).waitFor();
    assert.equal(await other.page.locator('.bubble.other .body').count(), 1);
    await close();
    await other.close();
    await network.close();
  });

  it('and says so when what was missed can not be had again', async () => {
    const { page, network, close } = await openThrough(target);
    await until(page, () => window.voxhall.state === 'open');
    await network.cut();
    await until(page, () => window.voxhall.state === 'waiting');
    // The room is another one when the page comes back.
    const { room } = await page.evaluate(() => ({ room: window.voxhall.session }));
    await fetch(`${ADMIN}/api/v1/rooms/${room}/close`, { method: 'POST' });
    await network.mend();
    await until(page, () => window.voxhall.state === 'open');
    await page.locator('.bubble.note', { hasText: 'What was said meanwhile is lost' }).waitFor();
    await close();
    await network.close();
  });

  it('after the server was killed and started again, with what its store has', async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'voxhall-store-'));
    const server = new OwnServer(['--shards', '2', '--set', 'store.kind=file', '--set', `store.path=${join(scratch, 'rooms.redb')}`]);
    await server.start();
    const admin = server.admin.origin;
    const { page, room, close } = await openQuiet({ base: server.public });
    await say(admin, room, range(1, 10));
    await keepState(page, { page: 12 });
    await isWhole(page, range(1, 10));
    await stored(page, admin, { page: 12 });
    await server.kill();
    await until(page, () => window.voxhall.state === 'waiting');
    await screenshot(page, 'talk-killed.png');
    await server.start();
    await until(page, () => window.voxhall.state === 'open');
    await say(admin, room, range(11, 20));
    await isWhole(page, range(1, 20));
    await page.locator('.bubble.note', { hasText: 'nothing missed' }).waitFor();
    assert.deepEqual((await counters(page)).roomState, { page: 12 });
    // Who comes later finds it there, too.
    const other = await openQuiet({ base: server.public, room });
    await until(other.page, () => window.voxhall.roomState?.page === 12);
    await other.close();
    await close();
    await server.kill();
    rmSync(scratch, { recursive: true, force: true });
  });
});
