// A server of the test's own, which it may kill and start again at the same addresses.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

export class OwnServer {
  #arguments;
  #child = null;

  /// `VOXHALL_BINARY` says which program; `words` are arguments of `voxhall serve`.
  constructor(words) {
    this.#arguments = words;
  }

  async start() {
    const [listen, admin] = [this.public, this.admin].map((url) => url?.host ?? '127.0.0.1:0');
    const words = ['serve', '--listen', listen, '--admin', admin, ...this.#arguments];
    this.#child = spawn(process.env.VOXHALL_BINARY, words, { stdio: ['ignore', 'pipe', 'inherit'], env: {} });
    const [ready] = await once(createInterface({ input: this.#child.stdout }), 'line');
    [this.public, this.admin] = [...ready.matchAll(/\w+:\/\/[\w.:]+/g)].map(([url]) => new URL(url.replace(/^ws/, 'http')));
  }

  /// As when the machine loses its power.
  async kill() {
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}
