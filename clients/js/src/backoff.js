// How long to wait before the next attempt: full jitter, so that those who were cut off together don't come back together.

export const BACKOFF = { baseMs: 1000, factor: 1.5, capMs: 30_000 };

export class Backoff {
  #attempts = 0;

  constructor({ baseMs = BACKOFF.baseMs, factor = BACKOFF.factor, capMs = BACKOFF.capMs, random = Math.random } = {}) {
    this.baseMs = baseMs;
    this.factor = factor;
    this.capMs = capMs;
    this.random = random;
  }

  get attempts() {
    return this.#attempts;
  }

  /// The most that the next wait may be.
  get ceilingMs() {
    return Math.min(this.capMs, this.baseMs * this.factor ** this.#attempts);
  }

  next() {
    const wait = this.random() * this.ceilingMs;
    this.#attempts += 1;
    return wait;
  }

  reset() {
    this.#attempts = 0;
  }
}

/// The milliseconds of a `Retry-After` header: seconds or a date. Nothing of what is neither.
export function retryAfterMs(header, now = Date.now()) {
  if (header === null || header === undefined || header === '') return null;
  if (/^\s*\d+\s*$/.test(header)) return Number(header) * 1000;
  const at = Date.parse(header);
  return Number.isNaN(at) ? null : Math.max(0, at - now);
}
