// How to reach the server: addresses, subprotocols, and which transport is tried next.

import { retryAfterMs } from './backoff.js';
import { VoxhallError } from './reasons.js';
import { SseLine } from './sse.js';
import { SocketLine } from './websocket.js';
import { SUBPROTOCOL, SUBPROTOCOL_MSGPACK } from './wire.js';

// A WebSocket that has failed so often, while the server may well be there, is likely to be stopped on the way.
const FAILURES_BEFORE_FALLBACK = 2;
const PROBE_MS = 3000;

export class Dialer {
  #options;
  #failures = 0;
  #worked = false;
  #reachable = false;
  #next;

  constructor(options) {
    this.#options = options;
    this.#next = options.transport === 'sse' ? 'sse' : 'websocket';
    if (!options.session) throw new VoxhallError('bad_options', 'a session is needed: its name is the name of the room');
    if (!['auto', 'websocket', 'sse'].includes(options.transport)) {
      throw new VoxhallError('bad_options', `transport is auto, websocket or sse, not ${options.transport}`);
    }
  }

  /// What the next attempt, or the present connection, uses.
  get transport() {
    return this.#next;
  }

  dial({ token, resume, after, on }) {
    const { WebSocket = globalThis.WebSocket, fetch, messagepack, subprotocol } = this.#options;
    const url = this.#address(this.#next === 'sse' ? 'sse' : 'ws', resume, after);
    if (this.#next === 'sse') return new SseLine({ url, token, fetch, on });
    if (!WebSocket) throw new VoxhallError('no_websocket', 'this JavaScript has no WebSocket: use Node 22 or newer, or give one as an option');
    const asked = messagepack ? [SUBPROTOCOL_MSGPACK, SUBPROTOCOL] : [SUBPROTOCOL];
    return new SocketLine({ url, subprotocols: subprotocol ? [subprotocol] : asked, token, WebSocket, on });
  }

  #address(kind, resume, after) {
    const { url, session, engine, format, rate } = this.#options;
    // A colon and an `@` may stand in a path as they are, and are frequent in names of rooms.
    const room = encodeURIComponent(session).replaceAll('%3A', ':').replaceAll('%40', '@');
    const address = new URL(`${kind}/${room}`, url);
    const query = { engine, format, rate, resume, after: resume ? after : null };
    for (const [key, value] of Object.entries(query)) {
      if (value !== undefined && value !== null) address.searchParams.set(key, value);
    }
    return address.href;
  }

  /// The transport has carried a welcome.
  succeeded() {
    this.#worked = true;
    this.#failures = 0;
    this.#reachable = false;
  }

  /// It has failed before it carried one. Where a WebSocket does not get through, the fallback and the WebSocket take turns.
  failed() {
    if (this.#options.transport !== 'auto') return;
    if (this.#next === 'sse') {
      this.#next = 'websocket';
      return;
    }
    this.#failures += 1;
    if (this.#failures >= FAILURES_BEFORE_FALLBACK && (!this.#worked || this.#reachable)) this.#next = 'sse';
  }

  /// Why a WebSocket was refused is hidden from pages. Whether the server is there at all, and whether it asks to wait, is
  /// told by its readiness: the milliseconds that it asks for, or nothing.
  async probe() {
    if (this.#next === 'sse') return null;
    this.#reachable = false;
    try {
      const signal = AbortSignal.timeout(PROBE_MS);
      const answer = await this.#options.fetch(new URL('readyz', this.#options.url).href, { cache: 'no-store', signal });
      this.#reachable = answer.ok;
      return answer.ok ? null : retryAfterMs(answer.headers.get('retry-after'));
    } catch {
      return null;
    }
  }
}

/// The server's address as `http(s)://host/`, whatever it was given as; a page's own server when it was not.
export function httpAddress(url) {
  const own = typeof location === 'undefined' ? undefined : location.href;
  if (url === undefined && own === undefined) throw new VoxhallError('bad_options', 'a url is needed, such as https://voice.example');
  const address = new URL(url ?? '/', own);
  address.protocol = address.protocol.replace('ws', 'http');
  address.search = '';
  address.hash = '';
  if (!address.pathname.endsWith('/')) address.pathname += '/';
  return address.href;
}

/// When a JSON Web Token ends, in milliseconds since 1970; nothing of what is none, or has no end.
export function tokenEndsAt(token) {
  try {
    const claims = JSON.parse(atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/')));
    return typeof claims.exp === 'number' ? claims.exp * 1000 : null;
  } catch {
    return null;
  }
}
