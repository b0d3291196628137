// The client's events in the order of their numbers (`client_seq`), each until the server is known to have taken it.

import { VoxhallError } from './reasons.js';
import { snapshot } from './wire.js';

export const OUTGOING = { eventsMax: 256, bytesMax: 1_048_576 };
// What was sent, and is not yet known to have been taken, may be so many times as much.
const SENT_TIMES = 4;

export class Outgoing {
  #entries = [];
  #bytes = 0;
  #last = 0;
  #lastSent = 0;
  #unsent = 0;

  constructor({ eventsMax = OUTGOING.eventsMax, bytesMax = OUTGOING.bytesMax } = {}) {
    this.eventsMax = eventsMax;
    this.bytesMax = bytesMax;
  }

  /// How many wait to be sent, or to be known to have been taken.
  get size() {
    return this.#entries.length;
  }

  /// How many wait to be sent.
  get unsent() {
    return this.#unsent;
  }

  /// How many were sent, and are not known to have been taken.
  get onTheWay() {
    return this.size - this.#unsent;
  }

  /// The last number that was sent on this connection.
  get lastSent() {
    return this.#lastSent;
  }

  /// The last number given out.
  get last() {
    return this.#last;
  }

  /// Numbers an event and keeps it. Throws `queue_full` when there is no room: nothing that was accepted is ever pushed
  /// out by what comes later. What can't be sent is refused here, and has no number.
  push(event) {
    const whole = snapshot({ ...event, client_seq: this.#last + 1 });
    const bytes = JSON.stringify(whole).length;
    const full = this.#unsent >= this.eventsMax || this.size >= this.eventsMax * SENT_TIMES;
    if (full || this.#bytes + bytes > this.bytesMax) {
      throw new VoxhallError('queue_full', `${this.#entries.length} events of ${this.#bytes} characters wait to be taken by the server: there is no room for another`);
    }
    this.#last += 1;
    this.#unsent += 1;
    this.#bytes += bytes;
    this.#entries.push({ seq: this.#last, event: whole, bytes, sent: false });
    return this.#last;
  }

  /// Numbers an event that is of no use later. It may not overtake those that wait: the server takes no number below the last.
  number(event) {
    const whole = snapshot({ ...event, client_seq: this.#last + 1 });
    this.#last += 1;
    this.#lastSent = this.#last;
    return whole;
  }

  /// What has not been sent on this connection, in order and so many of it; from now on it has.
  takeUnsent(most = Infinity) {
    const unsent = this.#entries.slice(this.onTheWay).slice(0, most);
    for (const entry of unsent) {
      entry.sent = true;
      this.#lastSent = entry.seq;
    }
    this.#unsent -= unsent.length;
    return unsent.map((entry) => entry.event);
  }

  /// The server has taken everything up to this number.
  taken(seq) {
    this.#drop((entry) => entry.seq <= seq);
  }

  /// The server has taken everything up to this number and nothing else: the rest has to be sent again, in numbers that
  /// follow, because those of what was not kept are missing between them.
  settle(seq) {
    this.taken(seq);
    this.#last = seq;
    this.#lastSent = seq;
    for (const entry of this.#entries) {
      this.#last += 1;
      entry.seq = this.#last;
      entry.event.client_seq = this.#last;
      entry.sent = false;
    }
    this.#unsent = this.size;
  }

  /// Gives up what the server will never take; those with this number.
  refused(seq) {
    return this.#drop((entry) => entry.seq === seq);
  }

  /// Gives up what was sent and may or may not have been taken.
  abandonSent() {
    return this.#drop((entry) => entry.sent);
  }

  /// Gives up everything.
  abandon() {
    return this.#drop(() => true);
  }

  #drop(isIt) {
    const gone = this.#entries.filter(isIt);
    this.#entries = this.#entries.filter((entry) => !isIt(entry));
    for (const entry of gone) {
      this.#bytes -= entry.bytes;
      if (!entry.sent) this.#unsent -= 1;
    }
    return gone.map((entry) => entry.event);
  }
}
