// Sounds that run in step to the sample, one of them audible: switching fades from one to the other (12 ms, equal power)
// and keeps the place. A sound that arrives later joins where the others are.

export const FADE_S = 0.012;
export const SHORTEST_LOOP_S = 0.3;
const SOON_S = 0.02; // between asking and happening, so that the first sample of a change is not already past
const EDGE_HZ = 8_000; // of the curve that fades a loop's ends; its edges lie on this grid
const EDGE_FADE_S = 0.004;

const RISE = new Float32Array(65).map((_, n) => Math.sin((Math.PI * n) / 128));
const FALL = RISE.slice().reverse();

// Of exactly so many samples, the first frames of `buffer` and then silence.
function fitted(buffer, length) {
  if (buffer.length === length) return buffer;
  const made = new AudioBuffer({ length, numberOfChannels: buffer.numberOfChannels, sampleRate: buffer.sampleRate });
  for (let channel = 0; channel < buffer.numberOfChannels; channel += 1) {
    made.copyToChannel(buffer.getChannelData(channel).subarray(0, length), channel);
  }
  return made;
}

// 1 with faded ends, as long as a loop: looped beside the sounds it keeps their seam silent without a clock of ours.
function edges(lengthS) {
  const length = Math.round(lengthS * EDGE_HZ);
  const made = new AudioBuffer({ length, numberOfChannels: 1, sampleRate: EDGE_HZ });
  const curve = made.getChannelData(0).fill(1);
  const fade = Math.round(EDGE_FADE_S * EDGE_HZ);
  for (let n = 0; n < fade; n += 1) curve[n] = curve[length - 1 - n] = 0.5 - 0.5 * Math.cos((Math.PI * n) / fade);
  return made;
}

export class Player {
  constructor(context, durationS, output = context.destination) {
    this.context = context;
    this.output = output;
    this.length = Math.round(durationS * context.sampleRate); // samples
    this.sounds = new Map(); // slot → { buffer, level }
    this.region = null; // [from, to] in seconds
    this.looping = true;
    this.slot = null; // the audible one
    this.wanted = null;
    this.run = null; // what plays: { at, offset, out, edge, voices, clock }
    this.offset = 0;
    this.busyUntil = 0;
    this.changed = () => {};
  }

  get durationS() {
    return this.length / this.context.sampleRate;
  }

  get playing() {
    return this.run !== null;
  }

  // [from, to] of what is repeated, in seconds.
  get loop() {
    if (this.region) return this.region;
    return [0, Math.floor(this.durationS * EDGE_HZ) / EDGE_HZ];
  }

  // Seconds into the sounds, now or at a time of the context.
  position(time = this.context.currentTime) {
    if (!this.run) return this.offset;
    const passed = Math.max(0, time - this.run.at) + this.run.offset;
    if (!this.run.loop) return Math.min(passed, this.durationS);
    const [from, to] = this.run.loop;
    return passed < to ? passed : from + ((passed - from) % (to - from));
  }

  add(slot, buffer, level) {
    this.sounds.set(slot, { buffer: fitted(buffer, this.length), level });
    if (this.run) this.join(this.run, slot, this.soon());
  }

  remove(slot) {
    this.sounds.delete(slot);
    const voice = this.run?.voices.get(slot);
    voice?.source.stop();
    voice?.fade.disconnect();
    this.run?.voices.delete(slot);
  }

  // levels: slot → linear gain; those that play glide there.
  setLevels(levels) {
    for (const [slot, level] of levels) {
      const sound = this.sounds.get(slot);
      if (!sound || sound.level === level) continue;
      sound.level = level;
      this.run?.voices.get(slot)?.level.gain.setTargetAtTime(level, this.context.currentTime, 0.03);
    }
  }

  // A time a little ahead, on a sample.
  soon(earliest = 0) {
    const rate = this.context.sampleRate;
    return Math.ceil(Math.max(this.context.currentTime + SOON_S, earliest) * rate - 1e-3) / rate; // but for rounding
  }

  join(run, slot, at) {
    const { buffer, level } = this.sounds.get(slot);
    const source = new AudioBufferSourceNode(this.context, { buffer, loop: run.loop !== null });
    if (run.loop) [source.loopStart, source.loopEnd] = run.loop;
    const nodes = { source, level: new GainNode(this.context, { gain: level }), fade: new GainNode(this.context, { gain: 0 }) };
    source.connect(nodes.level).connect(nodes.fade).connect(run.edge);
    source.start(at, this.position(at));
    run.voices.set(slot, nodes);
    if (slot === this.slot) nodes.fade.gain.value = 1;
  }

  // Makes a sound the audible one, from where the others are.
  choose(slot) {
    this.wanted = slot;
    if (!this.run) {
      this.slot = slot;
      this.changed();
    } else this.turn();
  }

  turn() {
    clearTimeout(this.timer);
    if (!this.run || this.wanted === this.slot) return;
    const now = this.context.currentTime;
    if (now < this.busyUntil) { // a fade under way is finished first; only the latest wish counts
      this.timer = setTimeout(() => this.turn(), 1000 * (this.busyUntil - now) + 1);
      return;
    }
    const at = this.soon();
    this.run.voices.get(this.slot)?.fade.gain.setValueCurveAtTime(FALL, at, FADE_S);
    this.run.voices.get(this.wanted)?.fade.gain.setValueCurveAtTime(RISE, at, FADE_S);
    this.busyUntil = at + FADE_S + 0.005;
    this.slot = this.wanted;
    this.changed();
  }

  async start() {
    if (this.run || !this.sounds.has(this.slot)) return;
    const ticket = (this.ticket = {});
    await this.context.resume();
    if (this.ticket === ticket) this.begin();
  }

  begin() {
    const loop = this.looping ? this.loop : null;
    if (this.offset >= this.durationS - 0.001) this.offset = 0;
    if (loop && (this.offset < loop[0] || this.offset >= loop[1] - 0.001)) this.offset = loop[0];
    const at = this.soon();
    const out = new GainNode(this.context, { gain: 0 });
    const edge = new GainNode(this.context, { gain: loop ? 0 : 1 });
    edge.connect(out).connect(this.output);
    out.gain.setValueCurveAtTime(RISE, at, FADE_S);
    const run = { at, offset: this.offset, loop, out, edge, voices: new Map(), freeAt: at + FADE_S + 0.005 };
    this.run = run;
    this.wanted = this.slot;
    for (const slot of this.sounds.keys()) this.join(run, slot, at);
    if (loop) this.fadeEdges(run, at);
    else this.endAtTheEnd(run, at);
    this.busyUntil = run.freeAt;
    this.changed();
  }

  fadeEdges(run, at) {
    const [from, to] = run.loop;
    const curve = new AudioBufferSourceNode(this.context, { buffer: edges(to - from), loop: true });
    curve.connect(run.edge.gain);
    curve.start(at, Math.max(0, run.offset - from));
    run.curve = curve;
  }

  endAtTheEnd(run, at) {
    const end = new ConstantSourceNode(this.context, { offset: 0 });
    end.connect(run.out);
    end.start(at);
    end.stop(at + this.durationS - run.offset);
    end.onended = () => {
      if (this.run === run) this.stop(0);
    };
  }

  // Fades out what plays; it can begin anew from `offset` at once.
  stop(offset = this.position()) {
    this.ticket = null;
    clearTimeout(this.timer);
    this.offset = offset;
    const run = this.run;
    this.run = null;
    if (run) {
      const at = this.soon(run.freeAt);
      run.out.gain.setValueCurveAtTime(FALL, at, FADE_S);
      for (const { source } of run.voices.values()) source.stop(at + FADE_S);
      run.curve?.stop(at + FADE_S);
      this.slot = this.wanted;
      setTimeout(() => run.out.disconnect(), 1000 * (at + FADE_S - this.context.currentTime) + 100);
    }
    this.changed();
  }

  toggle() {
    if (!this.run) return this.start();
    this.stop();
    return Promise.resolve();
  }

  // Goes on from elsewhere; the old place fades out while the new one fades in.
  seek(seconds) {
    const to = Math.min(Math.max(seconds, 0), Math.max(0, this.durationS - 0.01));
    const was = this.run !== null;
    this.stop(to);
    if (was) this.begin();
  }

  // Repeats [from, to] in seconds, or everything (null); false where that is too short or outside.
  setRegion(region) {
    if (region) {
      const edge = (seconds) => Math.round(seconds * EDGE_HZ) / EDGE_HZ;
      const [from, to] = [edge(region[0]), Math.min(edge(region[1]), Math.floor(this.durationS * EDGE_HZ) / EDGE_HZ)];
      if (!(from >= 0 && to - from >= SHORTEST_LOOP_S - 1e-6)) return false;
      this.region = [from, to];
      this.looping = true;
    } else this.region = null;
    this.seek(this.position());
    return true;
  }

  setLooping(looping) {
    this.looping = looping;
    this.seek(this.position());
  }
}
