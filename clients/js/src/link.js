// One session over as many connections as it takes: welcome, resumption, what was missed, what has to go again, and when
// to come back. `Voxhall` is its public face.

import { Backoff } from './backoff.js';
import { Subscriptions } from './channels.js';
import { Dialer, tokenEndsAt } from './dialer.js';
import { Emitter } from './emitter.js';
import { Position, roomSeq } from './position.js';
import { LEAVING_DRAINED, LEAVING_SILENT, VoxhallError, afterClose, afterStatus } from './reasons.js';
import { Uplink } from './uplink.js';

// Events held back while what was dropped is asked for again; more are given to the user, with the gap.
const HELD_MAX = 1024;
// How many connections in a row may end because of what can't be read; after them it is passed over.
const UNREADABLE_ENDS_MAX = 3;
const REFILL_MS = 250;
const REFRESH_BEFORE_MS = 30_000;
// What the client tells its user where the server has no answer.
const UNANSWERED = { type: 'session.restored', recovered: false, reason: 'unanswered' };
const LATER = ['connect', 'stable', 'ping', 'silence', 'confirm', 'draining', 'hold', 'backoff', 'token', 'pace'];

export class Link extends Emitter {
  #options;
  #timers;
  #dialer;
  #backoff;
  #position = new Position();
  uplink;
  #line = null;
  #attempt = 0;
  /// `idle`, `dialling`, `welcomed` (the answer to a resume token is still to come), `open`, `waiting`, `closed`.
  #phase = 'idle';
  #asked = false;
  #resume = null;
  #triedFreshToken = false;
  /// What is asked for again: `{after, held, again}`.
  #filling = null;
  /// What is being told again: everything up to `at` has come, and live events are those after `until`.
  #replay = null;
  #askedAfter = 0;
  #fills = 0;
  #notBefore = 0;
  #unreadableEnds = 0;
  /// Whether this client has been in the room before, and would miss something that is not told again.
  #known = false;

  subscriptions = new Subscriptions();
  state = 'idle';
  session = null;
  roomState = null;

  constructor(options) {
    super();
    this.#options = options;
    this.#timers = options.timers;
    this.#dialer = new Dialer(options);
    this.uplink = new Uplink(this, options);
    this.#backoff = new Backoff({ ...options.backoff, random: options.random });
  }

  get isOpen() {
    return this.#phase === 'open';
  }

  get transport() {
    return this.#dialer.transport;
  }

  get seq() {
    return this.#position.seq;
  }

  get backlogBytes() {
    return this.#line?.backlogBytes ?? 0;
  }

  get outgoing() {
    return this.uplink.outgoing;
  }

  /// Whether there is a connection that something can be sent on at once, without overtaking what waits.
  get isFree() {
    return this.isOpen && this.uplink.isFree;
  }

  get takesBinary() {
    return this.#line?.binary ?? true;
  }

  // What the user does.

  change(options) {
    Object.assign(this.#options, options);
  }

  begin() {
    this.#tellState('connecting');
    this.#dial();
  }

  /// Leaves for good, and forgets the session.
  end() {
    if (this.#phase === 'closed' || this.#phase === 'idle') return;
    this.#hangUp(1000, 'goodbye');
    this.#finish({ code: 'left', message: 'the client has left', close: 1000 });
  }

  flush() {
    this.uplink.flush();
  }

  /// Sends events as they are.
  transmit(events) {
    this.uplink.transmit(events);
  }

  /// Asks for a sign of life, which has to come within the time that is given.
  ping(patienceMs = undefined) {
    this.uplink.ping(patienceMs);
  }

  /// A hint that the network may have come back, or gone.
  nudge(patienceMs) {
    if (this.isOpen) this.ping(patienceMs);
    else if (this.#phase === 'waiting' && Date.now() >= this.#notBefore) this.#dial();
  }

  async refreshToken() {
    const token = await this.#token();
    if (this.isOpen && token) {
      this.transmit([{ type: 'session.update', token }]);
      this.#refreshBefore(token);
    }
    return token;
  }

  // A connection begins.

  async #dial() {
    this.#timers.clear('backoff');
    this.#attempt += 1;
    const attempt = this.#attempt;
    this.#phase = 'dialling';
    this.#timers.set('connect', this.#options.connectMs, () => this.leave(LEAVING_SILENT, 'no welcome came in time'));
    try {
      const token = await this.#token();
      if (attempt !== this.#attempt) return;
      this.#asked = this.#resume !== null;
      this.#askedAfter = Math.min(this.#position.seq, this.#replay?.at ?? Infinity);
      const on = this.#listener(attempt);
      this.#line = this.#dialer.dial({ token, resume: this.#resume, after: this.#askedAfter, on });
      this.#refreshBefore(token);
    } catch (error) {
      if (attempt !== this.#attempt) return;
      if (error instanceof VoxhallError) this.#finish(error);
      else this.#lost({ close: 1006, words: String(error?.message ?? error) });
    }
  }

  async #token() {
    const { token, getToken } = this.#options;
    return getToken ? getToken() : (token ?? null);
  }

  #refreshBefore(token) {
    const endsAt = this.#options.getToken && token ? tokenEndsAt(token) : null;
    if (endsAt === null) return;
    const left = endsAt - Date.now();
    const wait = Math.max(left / 2, left - REFRESH_BEFORE_MS);
    const again = () => this.refreshToken().catch(() => this.#timers.set('token', REFRESH_BEFORE_MS / 6, again));
    if (wait > 0) this.#timers.set('token', wait, again);
  }

  #listener(attempt) {
    const mine = (run) => (value) => (attempt === this.#attempt ? run(value) : undefined);
    return {
      event: mine((event) => this.#take(event)),
      audio: mine((frame) => {
        this.#heard();
        this.emit('audio', frame);
      }),
      unreadable: mine(() => this.#passesOver()),
      taken: mine((seq) => this.uplink.taken(seq)),
      refused: mine((event) => this.#tellUnconfirmed(this.outgoing.refused(event.client_seq), 'too_big')),
      close: mine((ending) => this.#lost(ending)),
    };
  }

  #heard() {
    this.#timers.clear('silence');
    if (this.isOpen) this.#timers.set('ping', this.#options.pingMs, () => this.ping());
  }

  // What the server says.

  #take(event) {
    this.#heard();
    if (event.type === 'session.created') this.#welcomed(event);
    else if (event.type === 'session.restored') this.#restored(event);
    else {
      // Whoever asked to resume and gets no answer was taken for somebody new.
      if (this.#phase === 'welcomed') this.#restored(UNANSWERED);
      this.#hold(event);
    }
  }

  /// Whether what can't be read is passed over. It is a cut at first, after which it may come whole; where it comes again as
  /// it was, everything behind it would never come.
  #passesOver() {
    if (this.#unreadableEnds < UNREADABLE_ENDS_MAX) {
      this.#unreadableEnds += 1;
      return false;
    }
    this.#heard();
    this.emit('gap', { channel: null, after: this.#position.seq, reason: 'unreadable' });
    return true;
  }

  #welcomed(event) {
    const known = this.#known;
    this.#adopt(event.session ?? {});
    this.#known = true;
    this.#triedFreshToken = false;
    this.#dialer.succeeded();
    this.#timers.clear('connect');
    this.#phase = 'welcomed';
    this.emitToAll(event);
    if (this.#phase !== 'welcomed') return;
    if (this.#asked && this.session.resume) {
      this.#timers.set('hold', this.#options.silenceMs, () => this.#restored(UNANSWERED));
    } else if (known) {
      // A server without recovery says nothing more.
      this.#restored(UNANSWERED);
    } else {
      this.#resume = this.session.resume?.token ?? null;
      this.#startOver(this.session.resume);
      this.#abandonSent();
      this.outgoing.settle(0);
      this.#opened();
    }
  }

  #startOver(resume) {
    this.#replay = null;
    this.#position.begin(resume?.epoch, resume?.seq);
  }

  #restored(event) {
    const atWelcome = this.#phase === 'welcomed';
    const { after, held } = this.#filling ?? { after: this.#askedAfter, held: [] };
    const again = this.#filling?.again;
    this.#filling = null;
    this.#timers.clear('hold');
    if (event.state !== undefined) this.roomState = event.state;
    // Only now is the token of the welcome worth as much as the one before.
    if (atWelcome) this.#resume = this.session.resume?.token ?? null;
    if (event.recovered) {
      this.#replay = { at: after, until: event.last_seq ?? Infinity };
      this.#position.epoch = event.epoch ?? this.#position.epoch;
    } else if (atWelcome) {
      const { epoch, seq } = this.session.resume ?? {};
      this.#startOver({ epoch: event.epoch ?? epoch, seq: event.last_seq ?? seq });
    } else {
      this.#replay = null;
    }
    this.emitToAll(event);
    if (!event.recovered) this.emit('gap', { channel: null, after, reason: event.reason ?? 'unknown' });
    if (atWelcome) this.#settleOutgoing(event);
    // What was held back comes again where it is recovered; otherwise it is all there is.
    if (!event.recovered) for (const kept of held) this.#deliver(kept);
    if (again !== undefined) this.#fill(again);
  }

  #settleOutgoing({ recovered, client_seq: taken }) {
    if (this.#phase !== 'welcomed') return;
    if (recovered || typeof taken === 'number') {
      this.outgoing.settle(taken ?? 0);
    } else {
      this.#abandonSent();
      // Whoever has had nothing of this member waits for its first event where the order of requests is in question.
      if (!this.takesBinary) this.outgoing.settle(0);
    }
    this.#opened();
  }

  /// What was on its way when nobody knows any more what arrived is not sent twice: its sender decides.
  #abandonSent() {
    this.#tellUnconfirmed(this.outgoing.abandonSent(), 'unknown');
  }

  #tellUnconfirmed(events, reason) {
    if (events.length > 0) this.emitToAll({ type: 'client.unconfirmed', events, reason });
  }

  #opened() {
    this.#phase = 'open';
    this.uplink.begin(this.#line, this.session.limits);
    this.#timers.set('stable', this.#options.stableMs, () => this.#stands());
    this.transmit(this.subscriptions.requests);
    for (const channel of this.subscriptions.withoutPosition) this.emit('gap', { channel, after: null, reason: 'several_streams' });
    this.#heard();
    this.#tellState('open');
    this.flush();
  }

  #stands() {
    this.#backoff.reset();
    this.#unreadableEnds = 0;
  }

  /// While what was dropped is asked for again, numbered events wait, so that everything is given in its order.
  #hold(event) {
    const filling = this.#filling;
    if (!filling || roomSeq(event) === null) {
      this.#deliver(event);
      return;
    }
    filling.held.push(event);
    if (filling.held.length > HELD_MAX) this.#restored({ type: 'session.restored', recovered: false, reason: 'overflow' });
  }

  #deliver(event) {
    const { type } = event;
    this.#follow(roomSeq(event));
    const { fresh, handlers } = type === 'channel.message' ? this.subscriptions.take(event) : { fresh: this.#position.take(event), handlers: [] };
    if (!fresh) {
      this.emitTo(event, handlers);
      return;
    }
    if (type === 'pong') this.uplink.pong(event);
    else if (type === 'session.updated') this.#updated(event);
    else if (type === 'session.draining') this.#draining(event);
    else if (type === 'error' && this.#isMine(event.error ?? {})) return;
    this.emitToAll(event, handlers);
    if (type === 'outbox.dropped') this.#dropped(event);
    else if (type === 'channel.subscribed') this.#ask(this.subscriptions.begun(event));
    else if (type === 'channel.unsubscribed') this.subscriptions.ended(event);
    else if (type === 'error' && roomSeq(event) === null && event.error?.code === 'rate_limit_exceeded') this.uplink.tooFast();
  }

  /// What a channel needs is asked for, and what is lost of it is told.
  #ask({ request, gap }) {
    if (request && this.isOpen) this.transmit([request]);
    if (gap) this.emit('gap', gap);
  }

  /// Whether an error answers what only the client has asked.
  #isMine(error) {
    if (this.#filling && error.event_id === this.#filling.name) return this.#notFilled(error);
    const gap = this.subscriptions.refused(error);
    if (gap) this.emit('gap', gap);
    return gap !== null;
  }

  /// What is told again comes in order: a connection that ends in the middle goes on from there, whatever came before.
  #follow(seq) {
    if (this.#replay === null || seq === null) return;
    if (seq > this.#replay.until) this.#replay = null;
    else this.#replay.at = seq;
  }

  #updated({ session }) {
    this.#adopt({ ...this.session, ...session });
  }

  /// The room is right about what it is, and if it has to be made again, it should be that.
  #adopt(session) {
    this.session = session;
    this.roomState = session.state ?? null;
    for (const key of ['engine', 'format', 'rate']) if (session[key] !== undefined) this.change({ [key]: session[key] });
  }

  /// The server says when it will close: whoever leaves by then comes back where there is more time.
  #draining({ reconnect_in_ms: ms }) {
    this.#timers.set('draining', ms ?? 0, () => {
      this.#hangUp(LEAVING_DRAINED, 'draining');
      this.#tellState('reconnecting', { code: 'draining', message: 'the server is going away', attempt: 1, inMs: 0 });
      if (this.#phase === 'waiting') this.#timers.set('backoff', 0, () => this.#dial());
    });
  }

  /// What a full lane let go of can be had again, but for audio and what had no number.
  #dropped({ class: kind, first_seq: first }) {
    if (kind === 'audio' || typeof first !== 'number' || !this.isOpen) return;
    if (!this.#filling) this.#fill(first - 1);
    else if (first - 1 < this.#filling.after) this.#filling.again = first - 1;
  }

  /// Calls the handler of a subscription, which has to be asked for if it is the first one, or wants what came before.
  listen(channel, after, handler) {
    const { listener, request, gap } = this.subscriptions.add(channel, after, handler);
    this.#ask({ request, gap });
    return listener;
  }

  #fill(after) {
    if (!this.isOpen) return;
    this.#fills += 1;
    this.#filling = { after, held: this.#filling?.held ?? [], name: `fill_${this.#fills}` };
    this.#replay = { at: Math.min(after, this.#replay?.at ?? after), until: Infinity };
    this.#timers.set('hold', this.#options.silenceMs, () => this.#restored(UNANSWERED));
    this.transmit([{ type: 'session.update', event_id: this.#filling.name, after }]);
  }

  /// One replay at a time: while another is on its way, the question has to be asked again. Otherwise there is no answer.
  #notFilled({ retryable }) {
    const { after, again = after } = this.#filling;
    if (retryable) this.#timers.set('hold', REFILL_MS, () => this.#fill(Math.min(after, again)));
    else this.#restored(UNANSWERED);
    return retryable;
  }

  // A connection ends.

  /// Takes the line down and everything that belongs to it.
  #hangUp(code, words) {
    this.#attempt += 1;
    this.#timers.clear(...LATER);
    this.#filling = null;
    this.uplink.end();
    const line = this.#line;
    this.#line = null;
    this.#phase = 'waiting';
    if (code !== undefined) line?.leave(code, words);
  }

  get #wasWelcomed() {
    return this.#phase === 'open' || this.#phase === 'welcomed';
  }

  /// Gives the connection up, and comes back.
  leave(code, words) {
    const welcomed = this.#wasWelcomed;
    this.#hangUp(code, words);
    this.#comeBack({ again: true, code: 'connection_lost', message: words, close: 1006 }, welcomed, null);
  }

  #lost({ status, close, words, retryAfterMs = null }) {
    const welcomed = this.#wasWelcomed;
    const canRefresh = Boolean(this.#options.getToken) && !this.#triedFreshToken;
    const why = status ? afterStatus(status, words, canRefresh) : afterClose(close, words, canRefresh);
    if (why.code === 'unauthorized' || why.code === 'token_expired') this.#triedFreshToken = true;
    this.#hangUp();
    if (why.again) this.#comeBack(why, welcomed, retryAfterMs);
    else this.#finish(why);
  }

  async #comeBack(why, welcomed, retryAfterMs) {
    const attempt = this.#attempt;
    let floor = retryAfterMs;
    // The user hears at once that it is away; how long is known a moment later.
    this.#tellState('reconnecting', { ...why, attempt: this.#backoff.attempts + 1, inMs: null });
    if (!welcomed && attempt === this.#attempt) {
      floor ??= await this.#dialer.probe();
      if (attempt !== this.#attempt) return;
      this.#dialer.failed();
    }
    if (attempt !== this.#attempt || this.#phase !== 'waiting') return;
    const wait = Math.max(this.#backoff.next(), floor ?? 0);
    this.#notBefore = Date.now() + (floor ?? 0);
    this.#tellState('reconnecting', { ...why, attempt: this.#backoff.attempts, inMs: wait });
    if (attempt === this.#attempt) this.#timers.set('backoff', wait, () => this.#dial());
  }

  #finish(why) {
    this.#hangUp();
    this.#phase = 'closed';
    this.#resume = null;
    this.#known = false;
    this.#backoff.reset();
    this.#tellState('closed', why);
  }

  #tellState(state, { code = null, message = '', close = null, words = '', attempt = 0, inMs = null } = {}) {
    const previous = this.state;
    this.state = state;
    this.emit('state', { state, previous, code, message, close, words, attempt, inMs });
  }
}
