// How fast a connection may be written to. A server takes so many messages at once and so many a second, whatever they are
// (`session.limits`), refuses what comes above it, and ends a connection that goes on. What piled up goes in portions, then.

export class Pace {
  #now;
  #burst = Infinity;
  #perMs = Infinity;
  #debt = 0;
  #at = 0;

  /// `now` gives milliseconds.
  constructor(now) {
    this.#now = now;
  }

  /// A connection begins, which owes nothing. A server that names no limits, or 0, has none.
  begin({ messages_burst: burst, messages_per_s: rate } = {}) {
    const limited = burst > 0 && rate > 0;
    this.#burst = limited ? burst : Infinity;
    this.#perMs = limited ? rate / 1000 : Infinity;
    this.#debt = 0;
    this.#at = this.#now();
  }

  spend(messages) {
    this.#debt = this.#owed() + messages;
    this.#at = this.#now();
  }

  #owed() {
    return this.#perMs === Infinity ? 0 : Math.max(0, this.#debt - (this.#now() - this.#at) * this.#perMs);
  }

  /// How many may go at once. With the window it is three quarters of what the server takes: a network that stood still
  /// may bring all that was on its way together with all that is sent then.
  get #atOnce() {
    return Math.max(1, Math.floor(this.#burst / 4));
  }

  /// How many events may be on their way before the server has said that it has them.
  get window() {
    return Math.max(1, Math.floor(this.#burst / 2));
  }

  /// How many messages may go now.
  get room() {
    return Math.max(0, Math.floor(this.#atOnce - this.#owed()));
  }

  /// What may be left out had better be.
  get isSpent() {
    return this.#owed() > this.window;
  }

  /// The milliseconds until there is room again, for a few at a time.
  get waitMs() {
    const few = Math.max(1, Math.floor(this.#atOnce / 10));
    return Math.max(0, Math.ceil((this.#owed() - this.#atOnce + few) / this.#perMs));
  }
}
