// Several sounds started in step, one of them audible: switching keeps the place, with a raised-cosine fade out and
// then a fade in, 5 ms each, never both at once (ITU-R BS.1534-3, 5.1).

export const FADE_S = 0.005;
export const SHORTEST_LOOP_S = 0.5;
const SOON_S = 0.01; // between asking for a change and its start, so that its first sample is not already past

const FADE_IN = new Float32Array(65).map((_, n) => 0.5 - 0.5 * Math.cos((Math.PI * n) / 64));
const FADE_OUT = FADE_IN.map((value) => 1 - value);

export class Player {
  constructor(context, buffers) {
    this.context = context;
    this.buffers = buffers; // by slot, of equal length
    this.durationS = Math.min(...[...buffers.values()].map((buffer) => buffer.duration));
    this.from = 0;
    this.to = this.durationS;
    this.repeat = true;
    this.voices = null;
    this.slot = null;
    this.wanted = null;
    this.offset = 0;
    this.busyUntil = 0;
    this.changed = () => {};
  }

  get playing() {
    return this.voices !== null;
  }

  // Seconds into the sounds.
  get position() {
    if (!this.playing) return this.offset;
    const length = this.to - this.from;
    const passed = Math.max(0, this.context.currentTime - this.startedAt) + this.offset - this.from;
    return this.from + (this.repeat ? passed % length : Math.min(passed, length));
  }

  // Makes a slot the audible one, from where the others are.
  choose(slot) {
    this.wanted = slot;
    if (!this.playing) {
      this.slot = slot;
      return this.start();
    }
    this.turn();
    return Promise.resolve();
  }

  turn() {
    clearTimeout(this.timer);
    if (!this.playing || this.wanted === this.slot) return;
    const now = this.context.currentTime;
    if (now < this.busyUntil) { // a fade under way is finished first; only the latest wish counts
      this.timer = setTimeout(() => this.turn(), 1000 * (this.busyUntil - now) + 1);
      return;
    }
    const at = now + SOON_S;
    this.voices.get(this.slot).gain.gain.setValueCurveAtTime(FADE_OUT, at, FADE_S);
    this.voices.get(this.wanted).gain.gain.setValueCurveAtTime(FADE_IN, at + FADE_S, FADE_S);
    this.busyUntil = at + 2 * FADE_S + SOON_S;
    this.slot = this.wanted;
    this.changed();
  }

  async start() {
    const ticket = (this.ticket = {});
    await this.context.resume();
    if (this.ticket !== ticket) return; // asked again meanwhile
    this.wanted ??= this.slot;
    this.slot = this.wanted;
    if (this.offset < this.from || this.offset >= this.to - 0.001) this.offset = this.from;
    const at = Math.max(this.context.currentTime + SOON_S, this.busyUntil); // after the fade-out of what was stopped
    this.startedAt = at;
    const voices = new Map();
    for (const [slot, buffer] of this.buffers) {
      const source = new AudioBufferSourceNode(this.context, { buffer: this.part(buffer), loop: this.repeat });
      const gain = new GainNode(this.context, { gain: 0 });
      source.connect(gain).connect(this.context.destination);
      source.start(at, this.offset - this.from);
      voices.set(slot, { source, gain });
    }
    voices.get(this.slot).gain.gain.setValueCurveAtTime(FADE_IN, at, FADE_S);
    this.busyUntil = at + FADE_S + SOON_S;
    this.voices = voices;
    if (!this.repeat) {
      voices.get(this.slot).source.onended = () => {
        if (this.voices === voices) this.stop(this.from);
      };
    }
    this.changed();
  }

  // The chosen region as a buffer of its own, its ends faded: a loop has no click, and needs no clock of ours.
  part(buffer) {
    if (this.from === 0 && this.to === this.durationS) return buffer; // its ends are faded already
    const rate = buffer.sampleRate;
    const [first, last] = [Math.round(this.from * rate), Math.round(this.to * rate)];
    const cut = new AudioBuffer({ length: last - first, numberOfChannels: buffer.numberOfChannels, sampleRate: rate });
    const fade = Math.round(FADE_S * rate);
    for (let channel = 0; channel < buffer.numberOfChannels; channel += 1) {
      const samples = buffer.getChannelData(channel).slice(first, last);
      for (let n = 0; n < fade; n += 1) {
        const gain = 0.5 - 0.5 * Math.cos((Math.PI * n) / fade);
        samples[n] *= gain;
        samples[samples.length - 1 - n] *= gain;
      }
      cut.copyToChannel(samples, channel);
    }
    return cut;
  }

  // Stops, to go on from here or from `offset`.
  stop(offset = this.position) {
    this.ticket = null;
    clearTimeout(this.timer);
    if (!this.playing) return;
    const at = Math.max(this.context.currentTime + SOON_S, this.busyUntil);
    for (const [slot, { source, gain }] of this.voices) {
      if (slot === this.slot) gain.gain.setValueCurveAtTime(FADE_OUT, at, FADE_S);
      source.stop(at + FADE_S);
    }
    this.offset = offset;
    this.voices = null;
    this.busyUntil = at + FADE_S;
    this.changed();
  }

  toggle() {
    if (this.playing) this.stop();
    else if (this.slot !== null) return this.start();
    return Promise.resolve();
  }

  // Loops from `from` to `to` seconds; false where that is shorter than half a second or outside of the sounds.
  region(from, to) {
    if (!(from >= 0 && to <= this.durationS + 1e-6 && to - from >= SHORTEST_LOOP_S - 1e-6)) return false;
    const was = this.playing;
    const position = this.position;
    this.stop();
    this.from = from;
    this.to = Math.min(to, this.durationS);
    this.offset = position >= this.from && position < this.to ? position : this.from;
    if (was) this.start();
    this.changed();
    return true;
  }
}
