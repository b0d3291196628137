// How far the client has heard the room: which numbers it has seen, so that what is told again is not shown again.

// More than a room keeps, so that no event that is told again is older than what is remembered here.
const SEEN_MAX = 4096;
/// The number of an event of the room; nothing of what has none.
export function roomSeq({ seq }) {
  return typeof seq === 'number' ? seq : null;
}

export class Position {
  #seen = new Set();
  #floor = 0;

  /// The epoch and the number of the last event; nothing before the first welcome.
  epoch = null;
  seq = 0;

  /// From now on numbers are of this epoch, and everything up to `seq` is past.
  begin(epoch, seq) {
    this.epoch = epoch ?? null;
    this.seq = seq ?? 0;
    this.#floor = this.seq;
    this.#seen.clear();
  }

  /// Whether an event is new. Those without a number always are.
  take(event) {
    const seq = roomSeq(event);
    if (seq === null) return true;
    if (seq <= this.#floor || this.#seen.has(seq)) return false;
    this.#seen.add(seq);
    this.seq = Math.max(this.seq, seq);
    // A set gives its members in the order in which they came.
    if (this.#seen.size > SEEN_MAX) {
      const oldest = this.#seen.values().next().value;
      this.#seen.delete(oldest);
      this.#floor = Math.max(this.#floor, oldest);
    }
    return true;
  }
}
