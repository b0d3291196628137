// The event log: what went over the wire, newest last. Keeps a bounded number of events; a paused log keeps
// counting what it did not show.

import { roomSeq } from '/client.js';

const KEPT_MAX = 400;
const DETAIL_CHARS_MAX = 160;
const PINGS = new Set(['ping', 'pong']);

export class EventLog {
  #rows;
  #pause;
  #entries = [];
  #filter = '';
  #pings = false;
  #paused = false;
  #missed = 0;
  #started = performance.now();

  constructor({ rows, filter, pings, pause, clear }) {
    this.#rows = rows;
    this.#pause = pause;
    filter.addEventListener('input', () => {
      this.#filter = filter.value.trim().toLowerCase();
      this.#render();
    });
    pings.addEventListener('change', () => {
      this.#pings = pings.checked;
      this.#render();
    });
    pause.addEventListener('click', () => this.#togglePause());
    clear.addEventListener('click', () => {
      this.#entries = [];
      this.#render();
    });
  }

  /// `direction` is `in`, `out` or `note`.
  add(direction, type, detail = {}) {
    const entry = { direction, type, seq: roomSeq({ ...detail, type }), at: performance.now() - this.#started, text: brief(detail) };
    this.#entries.push(entry);
    if (this.#entries.length > KEPT_MAX) this.#entries.shift();
    if (!this.#shows(entry)) return;
    if (this.#paused) {
      this.#missed += 1;
      this.#pause.textContent = `Resume (${this.#missed})`;
      return;
    }
    this.#append(row(entry));
  }

  #shows(entry) {
    if (!this.#pings && PINGS.has(entry.type)) return false;
    return !this.#filter || `${entry.type} ${entry.text}`.toLowerCase().includes(this.#filter);
  }

  #append(...rows) {
    const list = this.#rows;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    list.append(...rows);
    while (list.childElementCount > KEPT_MAX) list.firstElementChild.remove();
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  #render() {
    this.#rows.replaceChildren();
    this.#append(...this.#entries.filter((entry) => this.#shows(entry)).map(row));
    this.#rows.scrollTop = this.#rows.scrollHeight;
  }

  #togglePause() {
    this.#paused = !this.#paused;
    this.#missed = 0;
    this.#pause.setAttribute('aria-pressed', String(this.#paused));
    this.#pause.textContent = this.#paused ? 'Resume' : 'Pause';
    if (!this.#paused) this.#render();
  }
}

function row({ direction, type, seq, at, text }) {
  const item = document.createElement('li');
  item.dataset.direction = direction;
  if (direction === 'in' && seq !== null) item.dataset.seq = seq;
  if (type === 'error') item.dataset.fault = '';
  item.append(cell('time', (at / 1000).toFixed(2)), cell('type', type), cell('detail', text));
  item.title = text;
  return item;
}

function cell(name, text) {
  const span = document.createElement('span');
  span.className = name;
  span.textContent = text;
  return span;
}

/// What tells events of one type apart comes first; the ids that most of them share come last.
function brief({ type: _type, event_id: _eventId, response_id, item_id, ...telling }) {
  const text = JSON.stringify({ ...telling, item_id, response_id }, (_key, value) => (typeof value === 'string' && value.length > 60 ? `${value.slice(0, 57)}…` : value));
  if (text === '{}') return '';
  return text.length > DETAIL_CHARS_MAX ? `${text.slice(0, DETAIL_CHARS_MAX - 1)}…` : text;
}
