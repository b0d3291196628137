// Rate conversion for speech.

const ZERO_CROSSINGS = 8;
const PHASES = 256;

/// Streaming windowed-sinc rate conversion. Low-passes at the lower of the two rates, so that nothing folds back
/// into the speech band on the way down and no images are left on the way up.
export class Resampler {
  constructor(from, to) {
    this.step = from / to;
    const cutoff = Math.min(1, to / from);
    this.half = Math.ceil(ZERO_CROSSINGS / cutoff);
    this.kernel = Resampler.kernel(this.half, cutoff);
    this.history = new Float32Array(2 * this.half);
    this.position = 0;
  }

  /// One row of taps for each fractional position, every row scaled to pass a constant unchanged.
  static kernel(half, cutoff) {
    const taps = 2 * half;
    const kernel = new Float32Array((PHASES + 1) * taps);
    for (let phase = 0; phase <= PHASES; phase += 1) {
      let sum = 0;
      for (let tap = 0; tap < taps; tap += 1) {
        const x = tap - half + 1 - phase / PHASES;
        const sinc = x === 0 ? 1 : Math.sin(Math.PI * x * cutoff) / (Math.PI * x * cutoff);
        const window = Math.abs(x) >= half ? 0 : 0.5 + 0.5 * Math.cos((Math.PI * x) / half);
        kernel[phase * taps + tap] = sinc * window;
        sum += sinc * window;
      }
      for (let tap = 0; tap < taps; tap += 1) kernel[phase * taps + tap] /= sum;
    }
    return kernel;
  }

  /// Calls `emit` with each output sample that `input` completes.
  push(input, emit) {
    if (this.step === 1) {
      for (const sample of input) emit(sample);
      return;
    }
    const taps = 2 * this.half;
    const line = new Float32Array(this.history.length + input.length);
    line.set(this.history);
    line.set(input, this.history.length);
    const end = line.length - taps;
    while (this.position < end) {
      const base = Math.floor(this.position);
      const row = Math.round((this.position - base) * PHASES) * taps;
      let sum = 0;
      for (let tap = 0; tap < taps; tap += 1) sum += line[base + tap] * this.kernel[row + tap];
      emit(sum);
      this.position += this.step;
    }
    this.position -= end;
    this.history = line.slice(end);
  }
}
