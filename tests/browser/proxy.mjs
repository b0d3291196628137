// A network that a test can cut: bytes go through, or nothing does.

import { createServer, connect } from 'node:net';

export class Network {
  #target;
  #pairs = new Set();
  #server = null;
  #mode = 'through';
  port = 0;

  constructor(target) {
    this.#target = target;
  }

  async open() {
    this.#server = createServer((near) => this.#join(near));
    await new Promise((resolve) => this.#server.listen(this.port, '127.0.0.1', resolve));
    this.port = this.#server.address().port;
  }

  #join(near) {
    const pair = { near, far: null };
    this.#pairs.add(pair);
    near.on('error', () => this.#part(pair));
    if (this.#mode === 'swallow') {
      near.pause();
      return;
    }
    pair.far = connect(this.#target);
    near.pipe(pair.far).pipe(near);
    for (const end of [near, pair.far]) {
      end.on('error', () => this.#part(pair));
      end.on('close', () => this.#part(pair));
    }
  }

  #part(pair) {
    this.#pairs.delete(pair);
    pair.near.destroy();
    pair.far?.destroy();
  }

  /// As when a cable is pulled and the other end says so: what stands is reset, what is new is refused.
  async cut() {
    for (const { near, far } of this.#pairs) {
      near.resetAndDestroy();
      far?.destroy();
    }
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /// As when a phone has walked out of reach: nothing arrives any more, and nobody says so. It stays so for what stands.
  swallow() {
    this.#mode = 'swallow';
    for (const { near, far } of this.#pairs) {
      near.unpipe();
      far?.unpipe();
      near.pause();
      far?.pause();
    }
  }

  /// Bytes go through again.
  async mend() {
    if (this.#mode === 'through') await this.open();
    this.#mode = 'through';
  }

  async close() {
    for (const pair of this.#pairs) this.#part(pair);
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
