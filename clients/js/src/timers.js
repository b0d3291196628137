// Everything that the client does later, by name, so that a test can let time pass as it likes.

// What `setTimeout` takes.
const LONGEST_MS = 2 ** 31 - 1;

export class Timers {
  #handles = new Map();

  /// Runs it after `ms`, instead of what had this name.
  set(name, ms, run) {
    this.clear(name);
    const handle = setTimeout(
      () => {
        this.#handles.delete(name);
        run();
      },
      Math.min(ms, LONGEST_MS),
    );
    this.#handles.set(name, handle);
  }

  has(name) {
    return this.#handles.has(name);
  }

  clear(...names) {
    for (const name of names) {
      clearTimeout(this.#handles.get(name));
      this.#handles.delete(name);
    }
  }
}
