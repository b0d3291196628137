// The microphone and the loudspeaker. Owns the AudioContext and its two worklets; must be started by a click,
// because browsers allow sound only then.

export class Audio {
  #context = null;
  #playback = null;
  #capture = null;
  #stream = null;

  /// `on` has the callbacks frame(buffer), micLevel(level), outLevel(level, bufferedMs) and micLost().
  constructor(on) {
    this.on = on;
    this.rate = 16000;
  }

  get hasMicrophone() {
    return this.#capture !== null;
  }

  /// Loudspeaker only; once started, further calls just wake it.
  async start(rate) {
    if (this.#context) {
      await this.#context.resume();
      this.setRate(rate);
      return;
    }
    this.rate = rate;
    const context = new AudioContext({ latencyHint: 'interactive' });
    this.#context = context;
    const woken = context.resume();
    await context.audioWorklet.addModule('/capture.js');
    await woken;
    this.#playback = new AudioWorkletNode(context, 'voxhall-playback', {
      numberOfInputs: 0,
      outputChannelCount: [2],
      processorOptions: { rate },
    });
    this.#playback.port.onmessage = ({ data }) => this.on.outLevel(data.level, data.bufferedMs);
    this.#playback.connect(context.destination);
  }

  /// Opens the microphone; rejects with the browser's error when there is none or it is refused.
  async openMicrophone({ raw }) {
    if (this.#capture) return;
    if (!navigator.mediaDevices?.getUserMedia) throw new DOMException('no microphone here', 'SecurityError');
    const clean = !raw;
    this.#stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: clean, noiseSuppression: clean, autoGainControl: clean },
    });
    for (const track of this.#stream.getAudioTracks()) track.onended = () => this.on.micLost();
    const node = new AudioWorkletNode(this.#context, 'voxhall-capture', {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: 'explicit',
      processorOptions: { rate: this.rate },
    });
    node.port.onmessage = ({ data }) => {
      this.on.micLevel(data.level);
      this.on.frame(data.frame);
    };
    this.#context.createMediaStreamSource(this.#stream).connect(node);
    this.#capture = node;
  }

  closeMicrophone() {
    this.#capture?.port.postMessage({ stop: true });
    this.#capture?.disconnect();
    this.#capture = null;
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
  }

  /// A muted microphone goes on sending silence, so that the far side notices the end of the utterance.
  mute(muted) {
    for (const track of this.#stream?.getAudioTracks() ?? []) track.enabled = !muted;
  }

  setRate(rate) {
    if (rate === this.rate) return;
    this.rate = rate;
    this.#capture?.port.postMessage({ rate });
    this.#playback?.port.postMessage({ rate });
  }

  play({ track, first, last, payload }) {
    // An odd byte can't be half a sample of anything; the rest is still sound.
    const pcm = payload.byteLength % 2 === 0 ? payload : payload.slice(0, -1);
    this.#playback?.port.postMessage({ pcm, track, first, last }, [pcm]);
  }

  flush() {
    this.#playback?.port.postMessage({ flush: true });
  }
}
