// One WebSocket to /ws/{session}. Owns the wire format (subprotocol voxhall.v1), the counters that describe it,
// and the round-trip clock. Knows nothing of the page or of sound.

const HEADER_BYTES = 8;
const KIND_AUDIO = 1;
const FLAG_FIRST = 1;
const FLAG_LAST = 2;
const PING_MS = 2000;
// Two seconds of pcm16 at 16 kHz. A socket further behind than this gets no more sound until it has caught up.
const SEND_BACKLOG_BYTES_MAX = 64_000;

export class Session {
  #socket = null;
  #pinger = 0;

  /// `counters` is updated in place; `on` has the callbacks open, event, audio, sent, rtt and close.
  constructor({ id, counters, on }) {
    this.id = id;
    this.counters = counters;
    this.on = on;
    this.resume = null;
    this.seq = 0;
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  open({ engine, rate, token }) {
    this.drop();
    const url = new URL(`/ws/${encodeURIComponent(this.id)}`, location.href);
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    url.search = new URLSearchParams({ engine, format: 'pcm16', rate });
    if (token) url.searchParams.set('token', token);
    if (this.resume) {
      url.searchParams.set('resume', this.resume);
      url.searchParams.set('after', this.seq);
    }
    const socket = new WebSocket(url, 'voxhall.v1');
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    let wasOpen = false;
    socket.onopen = () => {
      wasOpen = true;
      this.#pinger = setInterval(() => this.#ping(), PING_MS);
      this.on.open();
      this.#ping();
    };
    socket.onmessage = ({ data }) => (typeof data === 'string' ? this.#text(data) : this.#binary(data));
    socket.onclose = ({ code, reason }) => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      clearInterval(this.#pinger);
      this.on.close({ code, reason, wasOpen });
    };
  }

  /// Says goodbye; `on.close` follows with 1000.
  close() {
    this.#socket?.close(1000, 'goodbye');
  }

  /// Forgets the present socket without a word to the page.
  drop() {
    const socket = this.#socket;
    this.#socket = null;
    clearInterval(this.#pinger);
    socket?.close(1000);
  }

  send(event) {
    if (!this.isOpen) return false;
    this.#socket.send(JSON.stringify(event));
    this.on.sent(event);
    return true;
  }

  sendAudio(buffer) {
    if (!this.isOpen) return;
    if (this.#socket.bufferedAmount > SEND_BACKLOG_BYTES_MAX) {
      this.counters.framesDropped += 1;
      return;
    }
    this.#socket.send(buffer);
    this.counters.framesSent += 1;
  }

  #ping() {
    this.send({ type: 'ping', t: Math.round(performance.now() * 1000) / 1000 });
  }

  #text(text) {
    for (const line of text.split('\n')) {
      if (!line.trim()) continue;
      let event;
      try {
        event = JSON.parse(line);
      } catch {
        event = { type: 'unreadable', text: line.slice(0, 200) };
      }
      this.#event(event);
    }
  }

  #event(event) {
    const { events } = this.counters;
    events[event.type] = (events[event.type] ?? 0) + 1;
    if (event.seq > this.seq) this.seq = event.seq;
    if (event.type === 'session.created') this.resume = event.session?.resume?.token ?? null;
    if (event.type === 'pong' && typeof event.t === 'number') this.on.rtt(performance.now() - event.t);
    this.on.event(event);
  }

  #binary(data) {
    if (data.byteLength < HEADER_BYTES) return;
    const head = new DataView(data, 0, HEADER_BYTES);
    if (head.getUint8(0) !== KIND_AUDIO) return;
    const flags = head.getUint8(1);
    const payload = data.slice(HEADER_BYTES);
    this.counters.framesReceived += 1;
    this.counters.bytesReceived += payload.byteLength;
    this.on.audio({
      first: (flags & FLAG_FIRST) !== 0,
      last: (flags & FLAG_LAST) !== 0,
      track: head.getUint16(2, true),
      timestampMs: head.getUint32(4, true),
      payload,
    });
  }
}

/// The sample rate a session speaks, wherever the server wrote it.
export function sessionRate(session, fallback) {
  const audio = session?.audio ?? {};
  return audio.rate ?? audio.input?.format?.rate ?? audio.input?.rate ?? audio.output?.format?.rate ?? fallback;
}
