// The sounds of the job that is open: fetched and decoded one after another, brought to one loudness, handed to the
// player. What would not fit into memory together is decoded when it is chosen.

import { Refusal, call, read } from "./api.js";
import { levels, loudness, outline } from "./loudness.js";
import { Player } from "./player.js";

const MOST_BYTES = 800e6; // of decoded sound at a time
const POINTS = 400; // of an outline
export const TAKE = "take"; // the slot of the raw take; a mix's is its number

let shared = null;

function audio(sampleRate) {
  shared ??= new AudioContext({ sampleRate, latencyHint: "interactive" });
  return shared;
}

export class Deck {
  // changed(): anything that is shown. failed(slot, error): a sound could not be had.
  constructor(sampleRate, take, { changed, failed, mostBytes = MOST_BYTES }) {
    Object.assign(this, { changed, failed, mostBytes });
    this.context = audio(sampleRate);
    this.player = new Player(this.context, take.duration_s);
    this.player.changed = changed;
    this.slots = new Map(); // slot → { path, state: waiting | loading | ready | asleep | failed, lufs, outline, heard, work }
    this.bytesEach = this.player.length * 2 * 4;
    this.stopper = new AbortController();
    this.last = Promise.resolve();
    this.add(TAKE, `/takes/${encodeURIComponent(take.id)}/audio?format=wav`);
  }

  add(slot, path) {
    if (this.slots.has(slot)) return;
    const sound = { path, state: "waiting", lufs: null, outline: null, heard: 0 };
    this.slots.set(slot, sound);
    sound.work = this.next(() => (this.full ? this.sleep(sound) : this.load(slot)));
  }

  // One after another: while a sound is decoded it is there twice.
  next(work) {
    this.last = this.last.then(work);
    return this.last;
  }

  state(slot) {
    return this.slots.get(slot)?.state;
  }

  get full() {
    return (this.player.sounds.size + 1) * this.bytesEach > this.mostBytes && this.player.sounds.size >= 2;
  }

  sleep(sound) {
    sound.state = "asleep";
    this.changed();
  }

  async load(slot) {
    const sound = this.slots.get(slot);
    if (!sound || sound.state === "ready" || this.stopper.signal.aborted) return;
    sound.state = "loading";
    this.changed();
    try {
      const response = await call("GET", sound.path, { signal: this.stopper.signal });
      const buffer = await this.context.decodeAudioData(await read(response, "arrayBuffer"));
      sound.lufs ??= await loudness(buffer);
      sound.outline ??= outline(buffer, POINTS);
      if (this.stopper.signal.aborted) return;
      const gains = this.levels();
      this.player.add(slot, buffer, gains.get(slot));
      this.player.setLevels(gains);
      if (this.player.slot === null) this.player.choose(slot);
      sound.state = "ready";
    } catch (error) {
      if (this.stopper.signal.aborted) return;
      sound.state = "failed";
      if (!(error instanceof Refusal) && error.name !== "EncodingError") throw error;
      this.failed(slot, error);
    } finally {
      this.changed();
    }
  }

  levels() {
    return levels([...this.slots].filter(([, { lufs }]) => lufs !== null).map(([slot, { lufs }]) => [slot, lufs]));
  }

  // Makes a sound audible, and where `play` starts it; one that is not decoded yet comes as soon as it is.
  async choose(slot, play = false) {
    const sound = this.slots.get(slot);
    if (!sound) return;
    const wish = (this.wish = {});
    sound.heard = performance.now();
    await sound.work;
    if (this.wish === wish && sound.state !== "ready") {
      this.makeRoom(slot);
      sound.work = this.next(() => this.load(slot));
      await sound.work;
    }
    if (this.wish !== wish || sound.state !== "ready") return;
    this.player.choose(slot);
    if (play && !this.player.playing) await this.player.start();
  }

  // Lets go of the sound that was heard longest ago, never of the take or of what is heard now.
  makeRoom(slot) {
    if (!this.full) return;
    const [oldest] = [...this.slots]
      .filter(([other, { state }]) => state === "ready" && ![TAKE, slot, this.player.slot, this.player.wanted].includes(other))
      .sort(([, a], [, b]) => a.heard - b.heard);
    if (!oldest) return;
    this.player.remove(oldest[0]);
    oldest[1].state = "asleep";
  }

  close() {
    this.stopper.abort();
    this.player.changed = () => {};
    this.player.stop();
    for (const slot of [...this.player.sounds.keys()]) this.player.sounds.delete(slot);
  }
}
