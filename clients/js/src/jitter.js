// How long sound has to wait before it is played, so that it does not break off when the network is uneven. The wait grows
// with what the network does and shrinks while it behaves.

const LEAST_MS = 40;
const MOST_MS = 400;
const FIRST_MS = 60;
// Of the mean deviation; what is beyond is rare enough.
const DEVIATIONS = 3;
const FLOOR_MS = 20;
const SMOOTHING = 16;
const AFTER_RUNNING_DRY_MS = 20;
const CALM = 0.95;
// An engine may answer faster than real time: that is no jitter.
const AHEAD_MS = 1000;

export class Jitter {
  #deviation = 0;
  #last = null;
  #penalty = FIRST_MS - LEAST_MS;

  get targetMs() {
    const wanted = DEVIATIONS * this.#deviation + FLOOR_MS + this.#penalty;
    return Math.min(MOST_MS, Math.max(LEAST_MS, wanted));
  }

  /// A frame came. The first of a spurt says nothing of the way it took.
  arrived(nowMs, timestampMs, first) {
    const last = this.#last;
    this.#last = { nowMs, timestampMs };
    if (first || last === null || timestampMs <= last.timestampMs) {
      this.#penalty *= CALM;
      return;
    }
    const late = nowMs - last.nowMs - (timestampMs - last.timestampMs);
    if (Math.abs(late) < AHEAD_MS) this.#deviation += (Math.abs(late) - this.#deviation) / SMOOTHING;
  }

  /// Nothing was left to play in the middle of a spurt.
  ranDry() {
    this.#penalty = Math.min(MOST_MS, this.#penalty + AFTER_RUNNING_DRY_MS);
  }
}
