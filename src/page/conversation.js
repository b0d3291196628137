// The conversation as bubbles: what you said or wrote, what the engine answered, what others in the room said.

import { seconds } from '/words.js';

const BUBBLES_MAX = 200;
const BYTES_PER_SAMPLE = 2;

export class Conversation {
  #list;
  #empty;
  #speaking = null;
  #answers = new Map();
  #spurts = new Map();

  constructor({ list, empty }) {
    this.#list = list;
    this.#empty = empty;
  }

  wrote(text) {
    this.#bubble('you', 'You', text);
  }

  note(text) {
    this.#bubble('note', '', text);
  }

  message(name, text) {
    this.#bubble('other', name, text);
  }

  speechStarted(event) {
    const bubble = this.#bubble('you', 'You', 'Listening…', true);
    this.#speaking = { bubble, item: event.item_id, startMs: event.audio_start_ms, startedAt: performance.now() };
  }

  speechStopped(event) {
    const speech = this.#speaking;
    if (!speech) return;
    const measured = event.audio_end_ms - speech.startMs;
    const spokenMs = Number.isFinite(measured) ? measured : performance.now() - speech.startedAt;
    speech.bubble.finish(`Spoke for ${seconds(Math.max(0, spokenMs) / 1000)}`);
    speech.bubble.node.dataset.voice = '';
    this.#speaking = null;
  }

  /// A commit says which item the utterance became; without speech detection it is also the only sign of it.
  committed(event) {
    if (this.#speaking) this.speechStopped(event);
  }

  answerCreated(id, name) {
    this.#answers.set(id, this.#bubble('engine', name, '', true));
  }

  answerDelta(id, delta) {
    this.#answers.get(id)?.append(delta);
  }

  answerDone(id, response) {
    const bubble = this.#answers.get(id);
    if (!bubble) return;
    this.#answers.delete(id);
    const parts = [];
    if (response.audioSeconds > 0) parts.push(`${seconds(response.audioSeconds)} of sound`);
    if (response.firstAudioMs !== null) parts.push(`first after ${Math.round(response.firstAudioMs)} ms`);
    if (response.status !== 'completed') parts.push(response.status);
    bubble.finish(bubble.text || (response.status === 'cancelled' ? 'Interrupted' : '…'), parts.join(' · '));
    bubble.node.dataset.status = response.status;
  }

  /// Sound from another member: one bubble for a spurt, which ends with its last-frame flag or a pause.
  heard({ track, first, last, payload }, name, rate) {
    let spurt = this.#spurts.get(track);
    if (!spurt || first) {
      spurt?.end();
      spurt = this.#spurt(track, name, rate);
    }
    spurt.take(payload.byteLength);
    if (last) spurt.end();
  }

  #spurt(track, name, rate) {
    const bubble = this.#bubble('other', name, 'Speaking…', true);
    bubble.node.dataset.voice = '';
    let bytes = 0;
    let timer = 0;
    const end = () => {
      clearTimeout(timer);
      this.#spurts.delete(track);
      bubble.finish(`Spoke for ${seconds(bytes / BYTES_PER_SAMPLE / rate)}`);
    };
    const take = (more) => {
      bytes += more;
      clearTimeout(timer);
      timer = setTimeout(end, 1200);
    };
    const spurt = { take, end };
    this.#spurts.set(track, spurt);
    return spurt;
  }

  #bubble(kind, who, text, open = false) {
    this.#empty.hidden = true;
    const node = document.createElement('article');
    node.className = `bubble ${kind}`;
    const name = element('span', 'who', who);
    const body = element('p', 'body', text);
    const meta = element('span', 'meta', '');
    node.append(...(who ? [name] : []), body, meta);
    if (open) node.setAttribute('aria-busy', 'true');
    const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 80;
    this.#list.append(node);
    while (this.#list.childElementCount > BUBBLES_MAX) this.#list.querySelector('.bubble').remove();
    const follow = () => {
      if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
    };
    follow();
    return {
      node,
      get text() {
        return body.textContent;
      },
      append(more) {
        body.textContent += more;
        follow();
      },
      finish(final, small = '') {
        body.textContent = final;
        meta.textContent = small;
        node.removeAttribute('aria-busy');
        follow();
      },
    };
  }
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}
