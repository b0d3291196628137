// What goes to the server: in its order, as fast as the server takes it, and kept until it is known to have been taken.

import { Outgoing } from './outgoing.js';
import { Pace } from './pace.js';
import { LEAVING_SILENT, LEAVING_TOO_FAST } from './reasons.js';

export class Uplink {
  #link;
  #options;
  #timers;
  #pace;
  #pings = [];
  #line = null;

  /// `link` has isOpen, emit(type, event) and leave(code, words).
  constructor(link, options) {
    this.#link = link;
    this.#options = options;
    this.#timers = options.timers;
    this.#pace = new Pace(options.now);
    this.outgoing = new Outgoing({ eventsMax: options.queueEvents, bytesMax: options.queueBytes });
  }

  /// A connection is open; `limits` are those of its session.
  begin(line, limits) {
    this.#line = line;
    this.#pace.begin(limits);
  }

  end() {
    this.#line = null;
    this.#pings = [];
  }

  /// Whether something can be sent at once without overtaking what waits.
  get isFree() {
    return this.outgoing.unsent === 0 && !this.#pace.isSpent;
  }

  /// Whether so much was sent of late that what may be left out should be.
  get isSpent() {
    return this.#pace.isSpent;
  }

  /// Sends what was accepted, as far as there is a connection for it.
  flush() {
    if (!this.#link.isOpen) return;
    this.#sendPortion();
    const { size, onTheWay } = this.outgoing;
    if (size > 0 && !this.#timers.has('confirm')) this.#timers.set('confirm', this.#options.confirmMs, () => this.ping());
    // Who sends much learns in time what has arrived.
    const much = size * 4 > this.#options.queueEvents || onTheWay * 2 > this.#pace.window;
    if (much && onTheWay > 0 && this.#pings.length === 0) this.ping();
    else this.#goOnLater();
  }

  #sendPortion() {
    const { outgoing } = this;
    const most = Math.min(this.#pace.room, this.#pace.window - outgoing.onTheWay);
    if (most > 0) this.transmit(outgoing.takeUnsent(most));
  }

  /// With what waits, once there is room. Where the window is full, the answer to a ping goes on.
  #goOnLater() {
    const { unsent, onTheWay } = this.outgoing;
    if (unsent > 0 && onTheWay < this.#pace.window) this.#timers.set('pace', this.#pace.waitMs, () => this.flush());
  }

  /// Sends events as they are. They are told to those who keep a log, without secrets.
  transmit(events) {
    if (events.length === 0) return;
    this.#pace.spend(events.length);
    this.#line.send(events);
    for (const event of events) this.#link.emit('sent', event.token ? { ...event, token: '…' } : event);
  }

  transmitAudio(bytes) {
    this.#pace.spend(1);
    this.#line.sendAudio(bytes);
  }

  /// Asks for a sign of life, which also says what has arrived: its `t` is the last number that was sent before.
  ping(patienceMs = undefined) {
    if (!this.#link.isOpen) return;
    this.#sendPortion();
    const t = this.outgoing.lastSent;
    this.#pings.push({ t, at: performance.now() });
    if (patienceMs !== undefined || !this.#timers.has('silence')) {
      const wait = patienceMs ?? this.#options.silenceMs;
      this.#timers.set('silence', wait, () => this.#link.leave(LEAVING_SILENT, 'nothing came for too long'));
    }
    this.transmit([{ type: 'ping', t }]);
    this.#goOnLater();
  }

  pong({ t }) {
    const at = this.#pings.findIndex((ping) => ping.t === t);
    if (at < 0) return;
    const [ping] = this.#pings.splice(0, at + 1).slice(-1);
    this.outgoing.taken(ping.t);
    this.#timers.clear('confirm');
    if (this.outgoing.size > 0) this.flush();
    this.#link.emit('rtt', performance.now() - ping.at);
  }

  /// The server has taken everything up to this number.
  taken(seq) {
    this.outgoing.taken(seq);
    this.flush();
  }

  /// Some of what was sent is refused and some may be taken later, and no `pong` can say which. Only a new connection is told
  /// what the last one taken was, before a later number hides that those before it are missing.
  tooFast() {
    if (this.#link.isOpen && this.outgoing.onTheWay > 0) this.#link.leave(LEAVING_TOO_FAST, 'more was sent than the server takes at once');
  }
}
