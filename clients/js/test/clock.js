// A client's timers in a test: nothing happens by itself but what `runs` says, and nothing waits.

export class Clock {
  #timers = new Map();
  #waiting = [];
  /// The milliseconds that have passed: those of the timers of the pace, which counts them.
  now = 0;

  /// `runs(name)`: whether the time of such a timer is over at once. `seen` has the waits of the timers by name.
  constructor(runs = () => false) {
    this.runs = runs;
    this.seen = [];
  }

  set(name, ms, run) {
    this.clear(name);
    this.seen.push([name, ms]);
    const timer = { run, ms };
    this.#timers.set(name, timer);
    if (this.runs(name)) setImmediate(() => this.#timers.get(name) === timer && this.#run(name));
    for (const waiter of this.#waiting.filter(({ wanted }) => wanted === name)) waiter.wake();
    this.#waiting = this.#waiting.filter(({ wanted }) => wanted !== name);
  }

  has(name) {
    return this.#timers.has(name);
  }

  clear(...names) {
    for (const name of names) this.#timers.delete(name);
  }

  /// Waits until there is a timer of this name, and lets its time be over.
  async fire(name) {
    if (!this.has(name)) await new Promise((wake) => this.#waiting.push({ wanted: name, wake }));
    this.#run(name);
  }

  #run(name) {
    const { run, ms } = this.#timers.get(name);
    if (name === 'pace') this.now += ms;
    this.#timers.delete(name);
    run();
  }

  /// The waits of one timer, in whole milliseconds.
  waits(name) {
    return this.seen.filter(([seen]) => seen === name).map(([, ms]) => Math.floor(ms));
  }
}
