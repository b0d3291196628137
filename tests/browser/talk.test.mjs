// The talk page in a real browser: what a person sees and hears when they click and speak.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { RATE, TONE_S } from './microphone.mjs';
import { Browser, PATIENCE_MS, PHONE, counters, screenshot, talk, until } from './page.mjs';

let browser;
const open = (how) => browser.open(how);

before(async () => {
  browser = await Browser.launch();
});

after(() => browser?.close());

describe('the talk page', () => {
  it('speaks, and gets the whole utterance back as sound and a completed response', async () => {
    const { page, complaints, close } = await open();
    await talk(page);
    // The page may join in the middle of the first turn; the second is whole.
    await until(page, () => window.voxhall.events['response.done'] >= 2);
    const { events, framesSent, framesReceived, lastResponse } = await counters(page);

    assert.equal(lastResponse.status, 'completed');
    assert.match(lastResponse.transcript, /heard \d+\.\d+ s/);
    assert.ok(framesSent > 0 && framesReceived > 0);
    for (const type of ['session.created', 'input_audio_buffer.speech_started', 'input_audio_buffer.speech_stopped', 'input_audio_buffer.committed', 'response.created']) {
      assert.ok(events[type] >= 1, `${type} came`);
    }
    const heardS = Number(/heard (\d+\.\d+) s/.exec(lastResponse.transcript)[1]);
    const returnedS = lastResponse.audioBytes / 2 / RATE;
    assert.ok(returnedS >= TONE_S * 0.9, `${returnedS} s came back of at least ${TONE_S} s spoken`);
    assert.ok(Math.abs(returnedS - heardS) <= 0.2 * heardS, `${returnedS} s came back, ${heardS} s were heard`);

    await page.locator('.bubble.engine .body', { hasText: /heard \d/ }).first().waitFor();
    await until(page, () => window.voxhall.rttMs !== null);
    await screenshot(page, 'talk-desk-light.png');
    assert.deepEqual(complaints, []);
    await close();
  });

  it('goes on without a microphone: says so, and answers what is written', async () => {
    const { page, complaints, close } = await open();
    await page.evaluate(() => {
      navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('refused', 'NotAllowedError'));
    });
    await talk(page);
    assert.match(await page.getByRole('alert').textContent(), /microphone was refused/);
    assert.match(await page.getByRole('status').textContent(), /listening only/);
    await screenshot(page, 'talk-refused.png');
    await page.getByRole('textbox', { name: 'Write to the room' }).fill('good morning');
    await page.getByRole('button', { name: 'Send' }).click();
    await page.locator('.bubble.engine .body', { hasText: 'good morning' }).waitFor({ timeout: PATIENCE_MS });
    assert.deepEqual(complaints, []);
    await close();
  });

  it('talks over server-sent events where no WebSocket gets through', async () => {
    const { page, context, close } = await open();
    await context.routeWebSocket(/\/ws\//, (socket) => socket.close({ code: 1011, reason: 'a proxy on the way' }));
    await talk(page);
    await until(page, () => window.voxhall.events['response.done'] >= 2);
    const { transport, lastResponse, framesReceived } = await counters(page);
    assert.equal(transport, 'sse');
    assert.equal(lastResponse.status, 'completed');
    assert.match(lastResponse.transcript, /heard \d+\.\d+ s/);
    assert.ok(framesReceived > 10 && lastResponse.audioSeconds >= TONE_S * 0.9);
    await close();
  });

  it('lets a second tab in the same room hear the first under relay', async () => {
    const first = await open({ engine: 'relay' });
    await talk(first.page);
    const [second] = await Promise.all([
      first.page.context().waitForEvent('page'),
      first.page.getByRole('link', { name: 'Open a second tab' }).click(),
    ]);
    await second.waitForLoadState();
    assert.equal(new URL(second.url()).searchParams.get('session'), first.room, 'the link leads to the same room');
    await talk(second);
    await until(second, () => window.voxhall.framesReceived > 50);
    for (const page of [first.page, second]) {
      await until(page, () => document.querySelectorAll('#members li').length === 2);
      assert.equal((await counters(page)).members, 2);
    }
    await screenshot(second, 'talk-relay.png');
    await second.close();
    await until(first.page, () => document.querySelectorAll('#members li').length === 1);
    assert.deepEqual(first.complaints, []);
    await first.close();
  });

  it('fits a phone, light and dark', async () => {
    for (const colorScheme of ['light', 'dark']) {
      const { page, complaints, close } = await open({ viewport: PHONE, colorScheme });
      await talk(page);
      await until(page, () => window.voxhall.events['response.done'] >= 1);
      const { scroll, inner } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, inner: window.innerWidth }));
      assert.ok(scroll <= inner, `the page is ${scroll} px wide on a phone of ${inner} px`);
      await screenshot(page, `talk-phone-${colorScheme}.png`, { fullPage: true });
      assert.deepEqual(complaints, []);
      await close();
    }
  });

  it('hangs up, and talks again in the same room', async () => {
    const { page, complaints, close } = await open({ engine: 'echo' });
    await talk(page);
    await until(page, () => window.voxhall.framesReceived > 10);
    await page.getByRole('button', { name: 'Hang up' }).click();
    await until(page, () => window.voxhall.state === 'closed');
    const before = (await counters(page)).framesReceived;
    await talk(page);
    await until(page, (count) => window.voxhall.framesReceived > count + 10, before);
    assert.deepEqual(complaints, []);
    await close();
  });

  it('is named and reachable without a mouse', async () => {
    const { page, close } = await open();
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll('button, a, input, canvas')]
        .filter((node) => !(node.textContent.trim() || node.getAttribute('aria-label') || node.labels?.length))
        .map((node) => node.outerHTML),
    );
    assert.deepEqual(nameless, []);
    assert.equal(await page.locator('[role="status"][aria-live]').count(), 1);
    await page.locator('#talk').focus();
    await page.keyboard.press('Enter');
    await until(page, () => window.voxhall.state === 'open');
    await close();
  });

  it('stays usable and says why when there is no server behind the page any more', async () => {
    const { page, close } = await open();
    await page.routeWebSocket(/\/ws\//, (socket) => socket.close({ code: 1008, reason: 'token expired' }));
    await page.getByRole('button', { name: 'Talk' }).click();
    await until(page, () => window.voxhall.state === 'closed');
    assert.match(await page.getByRole('alert').textContent(), /does not allow this connection.*token expired/s);
    await page.getByRole('button', { name: 'Reconnect' }).waitFor();
    await close();
  });
});
