// Who wants to hear of what. Handlers are called in the order in which they came, each with every event once.

// What an iteration keeps that nobody has asked for yet; past this it ends with an error, because it has missed something.
const WAITING_MAX = 4096;

export class Emitter {
  #handlers = new Map();

  /// Calls `handler(event, type)` for every event of a type; `*` stands for all events of the server. Returns what takes
  /// it back.
  on(type, handler) {
    if (typeof handler !== 'function') throw new TypeError(`the handler of ${type} is no function`);
    this.#handlers.set(type, [...(this.#handlers.get(type) ?? []), handler]);
    return () => this.off(type, handler);
  }

  once(type, handler) {
    const off = this.on(type, (event, name) => {
      off();
      handler(event, name);
    });
    return off;
  }

  off(type, handler) {
    const left = (this.#handlers.get(type) ?? []).filter((other) => other !== handler);
    this.#handlers.set(type, left);
  }

  /// Tells those who listen to `type`. What a handler throws is reported, and keeps nobody else from hearing it.
  emit(type, event) {
    this.#call(this.#handlers.get(type), event, type);
  }

  /// The same of an event of the server, which those hear too who listen to `*`, and before them these.
  emitToAll(event, first = []) {
    this.#call(first, event, event.type);
    this.#call(this.#handlers.get(event.type), event, event.type);
    this.#call(this.#handlers.get('*'), event, event.type);
  }

  /// The same only to these.
  emitTo(event, handlers) {
    this.#call(handlers, event, event.type);
  }

  #call(handlers = [], event, type) {
    for (const handler of handlers) {
      try {
        handler(event, type);
      } catch (error) {
        report(error);
      }
    }
  }

  /// `for await (const event of client.events('response.done'))`: those that come from now on, until the client closes.
  events(type = '*') {
    const waiting = [];
    const offs = [];
    let ended = null;
    let wake = () => {};
    const end = (why) => {
      ended ??= why;
      for (const off of offs) off();
      wake();
    };
    const take = (event) => {
      if (waiting.length >= WAITING_MAX) end(new Error(`more than ${WAITING_MAX} events waited for their reader`));
      else waiting.push(event);
      wake();
    };
    if (this.state === 'closed') end('closed');
    else offs.push(this.on(type, take), this.on('state', ({ state }) => state === 'closed' && end('closed')));
    async function* iterate() {
      try {
        for (;;) {
          while (waiting.length > 0) yield waiting.shift();
          if (ended instanceof Error) throw ended;
          if (ended) return;
          await new Promise((resolve) => {
            wake = resolve;
          });
        }
      } finally {
        end('left');
      }
    }
    return iterate();
  }
}

function report(error) {
  if (typeof reportError === 'function') reportError(error);
  else queueMicrotask(() => console.error(error));
}
