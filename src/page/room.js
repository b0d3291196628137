// The room: its name in the address bar, the link that brings in others, and who is here.

const SESSION_ID = /^[A-Za-z0-9._~:@-]{1,128}$/;
const FIRST = ['amber', 'calm', 'clear', 'early', 'gentle', 'golden', 'hazel', 'quiet', 'silver', 'still', 'warm', 'wide'];
const SECOND = ['arch', 'atrium', 'bell', 'brook', 'choir', 'garden', 'hall', 'harbour', 'lantern', 'meadow', 'orchard', 'tower'];

/// The session named in the address, or a new one that is put there, so that a copy of the address leads here.
export function sessionFromAddress() {
  const query = new URLSearchParams(location.search);
  const asked = query.get('session') ?? query.get('room');
  const id = asked !== null && SESSION_ID.test(asked) ? asked : madeUp();
  query.delete('room');
  query.set('session', id);
  history.replaceState(null, '', `?${query}`);
  return { id, engine: query.get('engine'), token: query.get('token'), rawMicrophone: query.get('mic') === 'raw' };
}

/// Keeps a setting in the address; `null` takes it out.
export function rememberInAddress(key, value) {
  const query = new URLSearchParams(location.search);
  if (value === null) query.delete(key);
  else query.set(key, value);
  history.replaceState(null, '', `?${query}`);
}

/// The address others may have: the room and its engine, never the token.
export function linkToRoom() {
  const url = new URL(location.href);
  url.searchParams.delete('token');
  return url.href;
}

function madeUp() {
  const [first, second, number] = crypto.getRandomValues(new Uint16Array(3));
  return `${FIRST[first % FIRST.length]}-${SECOND[second % SECOND.length]}-${1000 + (number % 9000)}`;
}

/// Events name members by number, by id, or by an object that has both; this gives one key for either.
export function memberKey(member) {
  if (member === null || member === undefined) return null;
  if (typeof member === 'object') return memberKey(member.number ?? member.track ?? member.id ?? null);
  return String(member);
}

export class Members {
  #list;
  #count;
  #members = new Map();
  #self = null;
  #total = 0;

  constructor({ list, count }) {
    this.#list = list;
    this.#count = count;
  }

  /// How many are here. The server says how many; who they are shows when they come, speak or write.
  get size() {
    return Math.max(this.#members.size, this.#total);
  }

  total(members) {
    this.#total = members ?? 0;
    this.#render();
  }

  isSelf(member) {
    return memberKey(member) === this.#self;
  }

  welcome(self, others = []) {
    this.#members.clear();
    this.#total = 0;
    this.#self = memberKey(self) ?? 'you';
    this.#members.set(this.#self, 'You');
    for (const other of others) this.join(other);
    this.#render();
  }

  join(member) {
    const key = memberKey(member);
    if (key === null || this.#members.has(key)) return;
    this.#members.set(key, this.name(member));
    this.#render();
  }

  leave(member) {
    this.#members.delete(memberKey(member));
    this.#render();
  }

  clear() {
    this.#members.clear();
    this.#total = 0;
    this.#render();
  }

  name(member) {
    const key = memberKey(member);
    const given = typeof member === 'object' ? (member?.user ?? member?.name) : null;
    return this.#members.get(key) ?? (given ? String(given) : `Member ${key}`);
  }

  #render() {
    this.#count.textContent = String(this.size);
    const items = [...this.#members].map(([key, name]) => this.#item(key, name));
    const unknown = this.size - this.#members.size;
    if (unknown > 0) items.push(this.#item('', `${unknown} more`));
    this.#list.replaceChildren(...items);
  }

  #item(key, name) {
    const item = document.createElement('li');
    item.textContent = name;
    item.dataset.hue = String([...key].reduce((sum, letter) => sum + letter.charCodeAt(0), 0) % 6);
    if (key === this.#self) item.dataset.self = '';
    return item;
  }
}
