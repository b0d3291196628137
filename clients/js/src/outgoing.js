// The client's events in their order, each until the server is known to have taken it. They have numbers (`client_seq`),
// so that the server can tell what it has had; settings have none, because saying them twice does no harm.

import { VoxhallError } from './reasons.js';

export const OUTGOING = { eventsMax: 256, bytesMax: 1_048_576 };
const WITHOUT_NUMBER = new Set(['session.update']);

export class Outgoing {
  #entries = [];
  #bytes = 0;
  #last = 0;
  #named = 0;

  constructor({ eventsMax = OUTGOING.eventsMax, bytesMax = OUTGOING.bytesMax } = {}) {
    this.eventsMax = eventsMax;
    this.bytesMax = bytesMax;
  }

  /// How many wait to be sent, or to be known to have been taken.
  get size() {
    return this.#entries.length;
  }

  /// The last number given out.
  get last() {
    return this.#last;
  }

  /// Numbers an event and keeps it. Throws `queue_full` when there is no room: nothing that was accepted is ever pushed
  /// out by what comes later.
  push(event) {
    const numbered = !WITHOUT_NUMBER.has(event.type);
    const whole = numbered ? { ...event, client_seq: this.#last + 1 } : { event_id: `update_${this.#named + 1}`, ...event };
    const bytes = JSON.stringify(whole).length;
    if (this.#entries.length >= this.eventsMax || this.#bytes + bytes > this.bytesMax) {
      throw new VoxhallError('queue_full', `${this.#entries.length} events of ${this.#bytes} characters wait to be taken by the server: there is no room for another`);
    }
    if (numbered) this.#last += 1;
    else this.#named += 1;
    this.#bytes += bytes;
    this.#entries.push({ seq: numbered ? this.#last : null, event: whole, bytes, sent: false });
    return this.#last;
  }

  /// Numbers an event that is of no use later.
  number(event) {
    this.#last += 1;
    return { ...event, client_seq: this.#last };
  }

  /// What has not been sent on this connection, in order; from now on it has.
  takeUnsent() {
    const unsent = this.#entries.filter((entry) => !entry.sent);
    for (const entry of unsent) entry.sent = true;
    return unsent.map((entry) => entry.event);
  }

  /// The server has taken everything up to this number.
  taken(seq) {
    this.#drop((entry) => entry.seq !== null && entry.seq <= seq);
  }

  /// The server has answered the event of this name, whatever it said.
  answered(eventId) {
    if (eventId) this.#drop((entry) => entry.sent && entry.event.event_id === eventId);
  }

  /// The server has taken the oldest settings that were sent.
  updated() {
    const oldest = this.#entries.find((entry) => entry.seq === null && entry.sent);
    this.#drop((entry) => entry === oldest);
  }

  /// What the server has not taken has to be sent again.
  rewind() {
    for (const entry of this.#entries) entry.sent = false;
  }

  /// Gives up what was sent and may or may not have been taken. Settings can be sent again all the same.
  abandonSent() {
    const given = this.#drop((entry) => entry.sent && entry.seq !== null);
    this.rewind();
    return given;
  }

  /// Gives up everything.
  abandon() {
    return this.#drop(() => true);
  }

  #drop(isIt) {
    const gone = this.#entries.filter(isIt);
    if (gone.length === 0) return [];
    this.#entries = this.#entries.filter((entry) => !gone.includes(entry));
    for (const entry of gone) this.#bytes -= entry.bytes;
    return gone.map((entry) => entry.event);
  }
}
