// A connection over server-sent events, for networks that let no WebSocket through: events come as one long answer, and go
// as requests of their own, one after the other, so that they arrive in their order.

import { retryAfterMs } from './backoff.js';
import { LEAVING_UNREADABLE } from './reasons.js';
import { UNREADABLE, readLines } from './wire.js';

// Events of one request, and their bytes: far below what a server takes. A single event may be longer.
const POST_EVENTS_MAX = 64;
const POST_BYTES_MAX = 262_144;
const TOO_LARGE = 413;
// How often a request that failed on the way is made again before the whole connection is given up.
const POST_ATTEMPTS = 3;

export class SseLine {
  binary = false;
  #url;
  #token;
  #fetch;
  #on;
  #abort = new AbortController();
  #unsent = [];
  #posting = false;
  #connection = null;
  #most = POST_EVENTS_MAX;

  /// `on` is as a WebSocket's, and has besides: taken(seq), when everything up to this number has arrived, and
  /// refused(event), when the server will never take it.
  constructor({ url, token, fetch, on }) {
    this.#url = url;
    this.#token = token;
    this.#fetch = fetch;
    this.#on = on;
    this.#read();
  }

  get backlogBytes() {
    return this.#unsent.reduce((sum, event) => sum + (event.audio?.length ?? 0), 0);
  }

  send(events) {
    this.#unsent.push(...events);
    this.#post();
  }

  leave() {
    this.#on = null;
    this.#abort.abort();
  }

  #end(ending) {
    const on = this.#on;
    this.leave();
    on?.close(ending);
  }

  #headers(more) {
    return this.#token ? { ...more, authorization: `Bearer ${this.#token}` } : more;
  }

  async #read() {
    let opened = false;
    try {
      const answer = await this.#fetch(this.#url, {
        headers: this.#headers({ accept: 'text/event-stream' }),
        cache: 'no-store',
        signal: this.#abort.signal,
      });
      if (!answer.ok) {
        this.#end({ ...(await refusal(answer)), opened });
        return;
      }
      opened = true;
      await this.#listen(answer.body.getReader());
      this.#end({ close: 1006, words: 'the stream ended', opened });
    } catch (error) {
      this.#end({ close: 1006, words: String(error?.message ?? error), opened });
    }
  }

  async #listen(reader) {
    const parser = new EventStream();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || !this.#on) return;
      for (const message of parser.push(decoder.decode(value, { stream: true }))) this.#take(message);
    }
  }

  #take({ type, data }) {
    // The last one says what a close code would.
    if (type === 'close') {
      const { code = 1006, reason = '' } = JSON.parse(data);
      this.#end({ close: code, words: reason, opened: true });
      return;
    }
    const [event = UNREADABLE] = readLines(data.replaceAll('\n', ' '));
    if (event === UNREADABLE) {
      if (this.#on?.unreadable() === false) this.#end({ close: LEAVING_UNREADABLE, words: 'the server sent what is no event', opened: true });
      return;
    }
    if (event.type === 'session.created') this.#connection = event.session?.id ?? null;
    this.#on?.event(event);
  }

  async #post() {
    if (this.#posting) return;
    this.#posting = true;
    while (this.#unsent.length > 0 && this.#on) {
      const { events, body } = this.#portion();
      const ending = await this.#deliver(body);
      if (ending?.status === TOO_LARGE) {
        this.#tooLarge(events);
        continue;
      }
      if (ending) {
        this.#end(ending);
        return;
      }
      this.#unsent.splice(0, events.length);
      // A token that was brought in band is that of the requests to come; the one before may end sooner.
      this.#token = events.findLast(({ type, token }) => type === 'session.update' && token)?.token ?? this.#token;
      const numbers = events.map((event) => event.client_seq).filter((seq) => seq !== undefined);
      if (numbers.length > 0) this.#on?.taken(numbers.at(-1));
    }
    this.#posting = false;
  }

  /// As many of the events that wait as one request may have.
  #portion() {
    const encoder = new TextEncoder();
    const events = [];
    const texts = [];
    let bytes = 0;
    for (const event of this.#unsent.slice(0, this.#most)) {
      const text = JSON.stringify(event);
      bytes += encoder.encode(text).length + 1;
      if (events.length > 0 && bytes > POST_BYTES_MAX) break;
      events.push(event);
      texts.push(text);
    }
    return { events, body: texts.length === 1 ? texts[0] : `[${texts.join(',')}]` };
  }

  /// Half as much may be taken; a single event never will be. Its number is used up by something that does nothing, so that
  /// those behind it need not wait.
  #tooLarge(events) {
    if (events.length > 1) {
      this.#most = Math.ceil(events.length / 2);
      return;
    }
    const [event] = events;
    const { client_seq: seq } = event;
    this.#unsent.splice(0, 1, ...(seq === undefined ? [] : [{ type: 'ping', client_seq: seq }]));
    this.#on?.refused(event);
  }

  /// Nothing when the server has them, otherwise how the connection ends. What is sent twice has the same numbers, so
  /// the server takes it once.
  async #deliver(body) {
    const url = new URL(this.#url);
    url.search = '';
    if (this.#connection) url.searchParams.set('id', this.#connection);
    for (let attempt = 1; ; attempt += 1) {
      try {
        const answer = await this.#fetch(url.href, {
          method: 'POST',
          headers: this.#headers({ 'content-type': 'application/json' }),
          body,
          signal: this.#abort.signal,
        });
        if (answer.ok) return null;
        // The uplink alone was refused: what it was refused for is told where the connection is made anew.
        const { status, close, words, retryAfterMs: wait } = await refusal(answer);
        if (status === TOO_LARGE) return { status };
        return { close: 1006, words: `the uplink was refused with ${close}: ${words}`, retryAfterMs: wait, opened: true };
      } catch (error) {
        if (attempt === POST_ATTEMPTS || !this.#on) return { close: 1006, words: String(error?.message ?? error), opened: true };
      }
    }
  }
}

async function refusal(answer) {
  let words = '';
  try {
    words = (await answer.json()).detail ?? '';
  } catch {
    // Whoever refused says no more than the status.
  }
  return { status: answer.status, close: answer.status, words, retryAfterMs: retryAfterMs(answer.headers.get('retry-after')) };
}

/// The parser of an event stream (WHATWG HTML, 9.2.6). Bytes may be cut anywhere.
export class EventStream {
  #rest = '';
  #event = { type: 'message', data: [], id: null };

  /// The events that this piece completes: `{type, data, id}`.
  push(text) {
    const events = [];
    this.#rest += text;
    for (;;) {
      const at = this.#rest.search(/[\r\n]/);
      // A carriage return at the end may be half of a line end.
      if (at < 0 || (this.#rest[at] === '\r' && at + 1 === this.#rest.length)) return events;
      const line = this.#rest.slice(0, at);
      this.#rest = this.#rest.slice(at + (this.#rest.startsWith('\r\n', at) ? 2 : 1));
      this.#line(line, events);
    }
  }

  #line(line, events) {
    if (line === '') {
      if (this.#event.data.length > 0) events.push({ ...this.#event, data: this.#event.data.join('\n') });
      this.#event = { type: 'message', data: [], id: this.#event.id };
      return;
    }
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    if (field === 'data') this.#event.data.push(value);
    else if (field === 'event') this.#event.type = value;
    else if (field === 'id' && !value.includes('\0')) this.#event.id = value;
  }
}
