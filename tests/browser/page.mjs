// What every test of the talk page needs: a browser with a made-up microphone, and pages of it.

import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { writeMicrophone } from './microphone.mjs';

export const BASE = new URL(process.env.VOXHALL_URL.replace(/^ws/, 'http'));
const SCREENSHOTS = fileURLToPath(new URL('../../target/screenshots/', import.meta.url));
const PATIENCE_MS = 30_000;
export const DESK = { width: 1440, height: 900 };
export const PHONE = { width: 360, height: 780 };
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
];

export class Browser {
  #scratch;
  #browser;

  static async launch() {
    const launched = new Browser();
    launched.#scratch = mkdtempSync(join(tmpdir(), 'voxhall-browser-'));
    mkdirSync(SCREENSHOTS, { recursive: true });
    const microphone = join(launched.#scratch, 'microphone.wav');
    writeMicrophone(microphone);
    launched.#browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: [...FLAGS, `--use-file-for-fake-audio-capture=${microphone}`],
    });
    return launched;
  }

  async close() {
    await this.#browser?.close();
    rmSync(this.#scratch, { recursive: true, force: true });
  }

  /// A page of its own browser profile, with everything it complained about. The page runs with `mic=raw`, because echo
  /// cancelling and noise suppression would work against a made-up voice.
  async open({ base = BASE, room = `browser-${randomUUID()}`, engine = 'parrot', viewport = DESK, colorScheme = 'light' } = {}) {
    // A certificate that a test has made is nobody's whom a browser knows.
    const context = await this.#browser.newContext({ viewport, colorScheme, ignoreHTTPSErrors: base.protocol === 'https:' });
    await context.grantPermissions(['microphone'], { origin: base.origin });
    const page = await context.newPage();
    const complaints = [];
    page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(String(error)));
    const url = new URL('/', base);
    url.search = new URLSearchParams({ session: room, engine, mic: 'raw' });
    await page.goto(url.href);
    return { page, context, room, complaints, close: () => context.close() };
  }
}

export async function talk(page) {
  await page.getByRole('button', { name: 'Talk' }).click();
  await until(page, () => window.voxhall.state === 'open');
}

export const until = (page, check, argument) => page.waitForFunction(check, argument, { timeout: PATIENCE_MS });
export const counters = (page) => page.evaluate(() => window.voxhall);
export const screenshot = (page, name, options = {}) => page.screenshot({ path: join(SCREENSHOTS, name), ...options });
export { PATIENCE_MS };
