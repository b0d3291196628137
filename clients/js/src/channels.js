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

class Subscription {
  #seen = new Set();
  /// A pattern may name several streams, which have no common position: the server says which. Nothing before it has.
  oneStream = null;

  constructor(channel, after, handler) {
    this.channel = channel;
    this.after = after ?? null;
    this.handlers = handler ? [handler] : [];
  }

  get request() {
    const after = this.oneStream === false ? null : this.after;
    return { type: 'channel.subscribe', channel: this.channel, ...(after === null ? {} : { after }) };
  }

  /// The subscription has begun, or something of it is lost. The position is behind what was missed, if that is still to
  /// come.
  begun({ id, recovered, missed }) {
    this.oneStream = id !== undefined;
    if (this.oneStream && !(recovered && missed > 0)) this.after = id;
  }

  /// Whether the message is new here.
  take(message) {
    const name = message.id ?? message.offset;
    if (name === undefined) return true;
    if (this.#seen.has(name)) return false;
    this.#seen.add(name);
    if (this.#seen.size > MESSAGES_SEEN_MAX) this.#seen.delete(this.#seen.values().next().value);
    this.after = name;
    return true;
  }
}

export class Subscriptions {
  #all = new Map();

  /// The subscription, and whether it is a new one.
  add(channel, after, handler) {
    const known = this.#all.get(channel);
    if (known) {
      if (handler) known.handlers.push(handler);
      return { subscription: known, fresh: false };
    }
    const subscription = new Subscription(channel, after, handler);
    this.#all.set(channel, subscription);
    return { subscription, fresh: true };
  }

  /// Takes a handler back; whether nobody is left who listens.
  remove(channel, handler) {
    const subscription = this.#all.get(channel);
    if (!subscription) return false;
    subscription.handlers = subscription.handlers.filter((other) => other !== handler);
    if (handler && subscription.handlers.length > 0) return false;
    return this.#all.delete(channel);
  }

  /// What to ask on a new connection.
  get requests() {
    return [...this.#all.values()].map((subscription) => subscription.request);
  }

  begun(event) {
    this.#all.get(event.channel)?.begun(event);
  }

  /// Those of which nobody can say what was missed while there was no connection.
  get withoutPosition() {
    return [...this.#all.values()].filter(({ oneStream }) => oneStream === false).map(({ channel }) => channel);
  }

  /// The handlers of a message; nothing when every subscription that it is for has had it.
  take(message) {
    const all = [...this.#all.values()].filter(({ channel }) => matches(channel, message.channel ?? ''));
    // The server may subscribe a client by its token: nobody asked, and nothing is known of what came before.
    if (all.length === 0) return [];
    const fresh = all.filter((subscription) => subscription.take(message));
    return fresh.length === 0 ? null : fresh.flatMap(({ handlers }) => handlers);
  }
}
