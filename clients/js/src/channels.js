// What the client has subscribed to, and how far it has heard each: enough to subscribe again on a new connection.

// Messages of a subscription whose names are remembered, so that none is shown twice.
const MESSAGES_SEEN_MAX = 1024;

/// Whether a channel is one that a subscription is for: `*` stands for one segment, and at the end for the rest.
export function matches(pattern, channel) {
  const wanted = pattern.split(':');
  const given = channel.split(':');
  for (const [at, segment] of wanted.entries()) {
    if (segment === '*' && at === wanted.length - 1) return given.length > at;
    if (at >= given.length || (segment !== '*' && segment !== given[at])) return false;
  }
  return given.length === wanted.length;
}

/// The last messages, by their names.
class Seen {
  #names = new Set();

  /// Whether it has not been seen before.
  take(name) {
    if (this.#names.has(name)) return false;
    this.#names.add(name);
    if (this.#names.size > MESSAGES_SEEN_MAX) this.#names.delete(this.#names.values().next().value);
    return true;
  }
}

class Subscription {
  #seen = new Seen();
  /// A question for what came after `after` is out: until it is answered, what comes live is no position.
  #asking;
  /// So many messages are still told again, in their order.
  #toldAgain = 0;
  /// Where the channel is, if the question is refused.
  #now = null;
  listeners = new Set();
  /// A pattern may name several streams, which have no common position: the server says which. Nothing before it has.
  oneStream = null;

  /// `asked`: by the user, and not by the server because of its token.
  constructor(channel, after, asked) {
    this.channel = channel;
    this.after = after ?? null;
    this.asked = asked;
    this.#asking = this.after !== null;
  }

  get request() {
    const after = this.oneStream === false ? null : this.after;
    return { type: 'channel.subscribe', channel: this.channel, ...(after === null ? {} : { after }) };
  }

  /// The request of a new connection, which knows nothing of the questions of the one before.
  get again() {
    this.#asking = this.after !== null;
    this.#toldAgain = 0;
    return this.request;
  }

  /// The request for what came after a place further back.
  askAfter(after) {
    this.after = after;
    this.#asking = true;
    return this.request;
  }

  /// The subscription has begun, or something of it is lost: the request, or the gap, that comes of it.
  begun({ id, offset, recovered, missed = 0, reason }) {
    const at = id ?? offset ?? null;
    this.oneStream = at !== null;
    this.#now = at;
    const lost = recovered === false;
    const mayBeHad = this.oneStream && this.after !== null;
    // What was lost between shards the history may have.
    if (mayBeHad && lost && reason === 'overloaded') return { request: this.askAfter(this.after) };
    const isAnswer = recovered !== undefined;
    // A subscription by the token begins with what is new, whatever there was while nobody was connected.
    if (mayBeHad && !this.asked && !isAnswer && at !== this.after) return { request: this.askAfter(this.after) };
    // Somebody has asked meanwhile; this is the answer to what was said before.
    if (this.asked && this.#asking && !isAnswer) return {};
    const gap = lost ? this.#gap(reason ?? 'unknown') : undefined;
    this.#asking = false;
    this.#toldAgain = recovered ? missed : 0;
    // The position is behind what was missed, which is still to come.
    if (this.oneStream && this.#toldAgain === 0) this.after = at;
    return { gap };
  }

  /// The question was refused: what came before is not to be had.
  refused(reason) {
    const gap = this.#gap(reason);
    this.#asking = false;
    this.after = this.#now;
    return gap;
  }

  #gap(reason) {
    return { channel: this.channel, after: this.oneStream === false ? null : this.after, reason };
  }

  /// Whether the message is new here, and whose handlers it is for: those who have asked for what was before them may be
  /// told what the others have had.
  take(message) {
    const at = message.id ?? message.offset;
    // Two streams may both have a message of this name.
    const name = at === undefined ? null : `${message.channel} ${at}`;
    const fresh = name === null || this.#seen.take(name);
    if (name !== null) this.#move(at, fresh);
    const mine = [...this.listeners].filter(({ seen }) => (seen && name !== null ? seen.take(name) : fresh));
    return { fresh, handlers: mine.flatMap(({ handler }) => handler ?? []) };
  }

  #move(at, fresh) {
    const told = this.#toldAgain > 0;
    if (told) this.#toldAgain -= 1;
    if (!this.#asking && (fresh || told)) this.after = at;
  }
}

export class Subscriptions {
  #all = new Map();
  /// What the user has asked for on this connection, so that a late answer is not taken for a subscription by the token.
  #asked = new Set();
  #questions = 0;
  #open = new Map();

  /// Somebody listens: the listener, and the request that has to be made for it, or the gap that comes of it.
  add(channel, after, handler) {
    this.#asked.add(channel);
    let subscription = this.#all.get(channel);
    let request;
    let gap;
    // Whoever asks for what was before is told it, though others have had it.
    const listener = { handler, seen: subscription && after !== undefined ? new Seen() : null };
    if (!subscription) {
      subscription = new Subscription(channel, after, true);
      this.#all.set(channel, subscription);
      request = subscription.request;
    } else if (after !== undefined && subscription.oneStream === false) {
      gap = { channel, after: null, reason: 'several_streams' };
    } else if (after !== undefined) {
      request = subscription.askAfter(after);
    }
    subscription.asked = true;
    subscription.listeners.add(listener);
    return { listener, request, gap };
  }

  /// Takes one listener back, or all with this handler, or all; whether nobody is left who listens.
  remove(channel, { listener, handler } = {}) {
    const subscription = this.#all.get(channel);
    if (!subscription) return false;
    const { listeners } = subscription;
    const before = listeners.size;
    for (const one of listeners) if (listener ? one === listener : handler === undefined || one.handler === handler) listeners.delete(one);
    const wasOne = listeners.size < before || (listener === undefined && handler === undefined);
    return wasOne && listeners.size === 0 && this.#all.delete(channel);
  }

  /// What to ask on a new connection. To what a token subscribes the server begins by itself.
  get requests() {
    this.#open.clear();
    const again = [...this.#all.values()].map(({ asked, again: request }) => ({ asked, request })).filter(({ asked }) => asked);
    this.#asked = new Set(again.map(({ request }) => request.channel));
    return again.map(({ request }) => request);
  }

  /// `channel.subscribed` has come: the request, or the gap, that comes of it.
  begun(event) {
    const { channel } = event;
    if (!this.#all.has(channel) && !this.#asked.has(channel)) this.#all.set(channel, new Subscription(channel, null, false));
    const { request, gap } = this.#all.get(channel)?.begun(event) ?? {};
    if (!request) return { gap };
    this.#questions += 1;
    const name = `channel_${this.#questions}`;
    this.#open.set(name, channel);
    return { request: { ...request, event_id: name } };
  }

  /// `channel.unsubscribed` has come: what the token does not name any more is not asked for.
  ended({ channel }) {
    if (this.#all.get(channel)?.asked === false) this.#all.delete(channel);
  }

  /// The gap that comes of an error, if it answers a question that the user has not asked.
  refused({ code, event_id: name } = {}) {
    const subscription = this.#all.get(this.#open.get(name));
    this.#open.delete(name);
    return subscription?.refused(code ?? 'unknown') ?? null;
  }

  /// Those of which nobody can say what was missed while there was no connection.
  get withoutPosition() {
    return [...this.#all.values()].filter(({ oneStream }) => oneStream === false).map(({ channel }) => channel);
  }

  /// Whether a message is new to anybody, and the handlers that it is for.
  take(message) {
    const all = [...this.#all.values()].filter(({ channel }) => matches(channel, message.channel ?? ''));
    const taken = all.map((subscription) => subscription.take(message));
    return {
      // Where nobody here knows of the subscription, nothing is known of what came before.
      fresh: taken.length === 0 || taken.some(({ fresh }) => fresh),
      handlers: taken.flatMap(({ handlers }) => handlers),
    };
  }
}
