// A level meter on a canvas: the last few seconds as bars that run from right to left. Where the reader asked for
// less motion, one bar that grows and shrinks.

const FLOOR_DB = -60;
const BAR_PX = 3;
const GAP_PX = 2;
const STEP_MS = 50;
const STILL_STEP_MS = 200;

export class Meter {
  #canvas;
  #output;
  #colour;
  #levels = [];
  #peak = 0;
  #drawnAt = 0;
  #still = matchMedia('(prefers-reduced-motion: reduce)');

  constructor(canvas, output) {
    this.#canvas = canvas;
    this.#output = output;
    new ResizeObserver(() => this.#resize()).observe(canvas);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#resize());
    this.#resize();
  }

  /// Takes a root-mean-square level between 0 and 1; draws at most once a step.
  push(level) {
    this.#peak = Math.max(this.#peak, level);
    const now = performance.now();
    if (now - this.#drawnAt < (this.#still.matches ? STILL_STEP_MS : STEP_MS)) return;
    this.#drawnAt = now;
    const db = 20 * Math.log10(Math.max(this.#peak, 1e-6));
    this.#peak = 0;
    this.#output.textContent = db <= FLOOR_DB ? 'silent' : `−${Math.round(-db)} dB`;
    this.#levels.push(Math.max(0, 1 - db / FLOOR_DB));
    this.#draw();
  }

  rest() {
    this.#levels = [];
    this.#output.textContent = '–';
    this.#draw();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.#canvas;
    const scale = window.devicePixelRatio || 1;
    this.#canvas.width = Math.max(1, Math.round(clientWidth * scale));
    this.#canvas.height = Math.max(1, Math.round(clientHeight * scale));
    const style = getComputedStyle(this.#canvas);
    this.#colour = { bar: style.color, rest: style.borderTopColor };
    this.#draw();
  }

  #draw() {
    const scale = window.devicePixelRatio || 1;
    const pen = this.#canvas.getContext('2d');
    const width = this.#canvas.width / scale;
    const height = this.#canvas.height / scale;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (this.#still.matches) this.#drawStill(pen, width, height);
    else this.#drawHistory(pen, width, height);
  }

  #drawHistory(pen, width, height) {
    const slots = Math.floor((width + GAP_PX) / (BAR_PX + GAP_PX));
    this.#levels = this.#levels.slice(-slots);
    for (let slot = 0; slot < slots; slot += 1) {
      const level = this.#levels[this.#levels.length - slots + slot] ?? 0;
      const tall = Math.max(BAR_PX, level * height);
      pen.fillStyle = level > 0 ? this.#colour.bar : this.#colour.rest;
      pen.globalAlpha = level > 0 ? 0.35 + (0.65 * (slot + 1)) / slots : 1;
      pen.beginPath();
      pen.roundRect(slot * (BAR_PX + GAP_PX), (height - tall) / 2, BAR_PX, tall, BAR_PX / 2);
      pen.fill();
    }
    pen.globalAlpha = 1;
  }

  #drawStill(pen, width, height) {
    const level = this.#levels.at(-1) ?? 0;
    this.#levels = this.#levels.slice(-1);
    const thick = 10;
    const bar = (length, colour) => {
      pen.fillStyle = colour;
      pen.beginPath();
      pen.roundRect(0, (height - thick) / 2, length, thick, thick / 2);
      pen.fill();
    };
    bar(width, this.#colour.rest);
    if (level > 0) bar(Math.max(thick, level * width), this.#colour.bar);
  }
}
