// A connection over WebSocket. A line carries events and audio both ways and says once that it has ended; it knows
// nothing of what the events mean, and does not come back.

import { LEAVING_UNREADABLE } from './reasons.js';
import { KIND_AUDIO, KIND_EVENTS, SUBPROTOCOL, SUBPROTOCOL_MSGPACK, UNREADABLE, readBinary, readLines, readPacked, writeBinary, writeLines, writePacked } from './wire.js';

// What a subprotocol may be made of (RFC 9110, 5.6.2): a token of other letters travels in the query.
const SUBPROTOCOL_LETTERS = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;

export class SocketLine {
  /// Audio goes as it is.
  binary = true;
  #socket;
  #on;
  #opened = false;
  #began = Date.now();

  /// `on` has event(event), audio(frame), close({close, words, opened}), and unreadable(): whether to go on all the same.
  constructor({ url, subprotocols, token, WebSocket, on }) {
    this.#on = on;
    const offered = [...subprotocols];
    const address = new URL(url);
    address.protocol = address.protocol.replace('http', 'ws');
    if (token && SUBPROTOCOL_LETTERS.test(token)) offered.push(`bearer.${token}`);
    else if (token) address.searchParams.set('token', token);
    this.#socket = new WebSocket(address.href, offered);
    this.#socket.binaryType = 'arraybuffer';
    this.#socket.onopen = () => {
      this.#opened = true;
    };
    this.#socket.onmessage = ({ data }) => this.#message(data);
    this.#socket.onclose = ({ code, reason }) => this.#end(code, reason);
    // A close follows and says all that can be known; in Node not always.
    this.#socket.onerror = () => {
      if (!this.#opened) this.#end(1006, 'no connection could be made');
    };
  }

  get backlogBytes() {
    return this.#socket.bufferedAmount;
  }

  get #packed() {
    return this.#socket.protocol === SUBPROTOCOL_MSGPACK;
  }

  send(events) {
    if (this.#packed) for (const event of events) this.#socket.send(writePacked(event));
    else if (this.#socket.protocol === SUBPROTOCOL) for (const batch of writeLines(events)) this.#socket.send(batch);
    else for (const event of events) this.#socket.send(JSON.stringify(event));
  }

  sendAudio(bytes) {
    const timestampMs = Date.now() - this.#began;
    this.#socket.send(this.#packed ? writeBinary(KIND_AUDIO, bytes, { timestampMs }) : bytes);
  }

  /// Says goodbye, and nothing more to whoever made this line.
  leave(code, words) {
    this.#on = null;
    this.#socket.close(code, words);
  }

  #message(data) {
    if (!this.#on) return;
    const events = typeof data === 'string' ? this.#text(data) : this.#binary(data);
    for (const event of events) {
      if (event !== UNREADABLE) this.#on?.event(event);
      else if (this.#on?.unreadable() === false) {
        this.#socket.close(LEAVING_UNREADABLE, 'unreadable');
        this.#end(LEAVING_UNREADABLE, 'the server sent what is no event');
        return;
      }
    }
  }

  #text(text) {
    return this.#socket.protocol === SUBPROTOCOL ? readLines(text) : readLines(text.replaceAll('\n', ' '));
  }

  #binary(buffer) {
    if (!this.#packed && this.#socket.protocol !== SUBPROTOCOL) {
      this.#on.audio({ first: false, last: false, track: 0, timestampMs: 0, payload: buffer });
      return [];
    }
    const message = readBinary(buffer);
    if (message === null) return [UNREADABLE];
    if (message.kind === KIND_EVENTS) return readPacked(message.payload);
    if (message.kind === KIND_AUDIO) this.#on.audio(message);
    return [];
  }

  #end(code, words) {
    const on = this.#on;
    this.#on = null;
    on?.close({ close: code, words, opened: this.#opened });
  }
}
