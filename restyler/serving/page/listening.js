// The panel where one listens: waveform, transport, loop, blind mode, and the list of what can be heard.

import { Deck, TAKE } from "./deck.js";
import { byId, clock, say } from "./dom.js";
import { SHORTEST_LOOP_S } from "./player.js";
import { Versions, mixName } from "./versions.js";
import { Ruler, paint } from "./wave.js";

const SLOW_MS = 500; // between two moves of the place, for those who want less motion
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Listening {
  // The first: /v1/model. does: what Versions needs beside `hear`. failed(slot, error): a sound could not be had.
  constructor({ sample_rate_hz: sampleRate, knobs }, does, failed) {
    Object.assign(this, { sampleRate, does, failed, deck: null, take: null, job: null, outline: null });
    this.versions = new Versions(knobs, { ...does, hear: (slot) => this.hear(slot), changed: () => this.refresh() });
    this.ruler = new Ruler({ box: byId("wave"), region: byId("region"), head: byId("head") }, {
      asked: (seconds) => this.player?.seek(seconds),
      dragged: (from, to) => this.player?.setRegion([from, to]),
    });
    byId("play").addEventListener("click", () => this.toggle());
    byId("seek").addEventListener("input", (event) => this.player?.seek(Number(event.target.value)));
    byId("loop").addEventListener("click", () => this.loop());
    byId("blind").addEventListener("click", () => this.blind());
    byId("whole").addEventListener("click", () => this.player?.setRegion(null));
    for (const id of ["from", "to"]) byId(id).addEventListener("change", () => this.typed());
    const again = () => this.repaint();
    new ResizeObserver(again).observe(byId("wave"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  }

  get player() {
    return this.deck?.player;
  }

  // A take to listen to, with or without a job; outline: {low, high} of the take.
  open(take, job) {
    this.close();
    Object.assign(this, { take, job, outline: null });
    byId("empty").hidden = true;
    byId("deck").hidden = false;
    this.ruler.durationS = take.duration_s;
    byId("seek").max = take.duration_s;
    this.deck = new Deck(this.sampleRate, take, { changed: () => this.refresh(), failed: this.failed });
    this.update(job);
  }

  close() {
    this.deck?.close();
    this.deck = null;
    this.versions.setBlind(false);
    byId("deck").hidden = true;
    byId("empty").hidden = false;
    this.ruler.show(null);
  }

  setOutline(outline) {
    this.outline = outline;
    this.repaint();
  }

  // The same job with what it has by now.
  update(job) {
    this.job = job;
    for (const { number } of job?.mixes ?? []) {
      this.deck.add(number, `/jobs/${encodeURIComponent(job.id)}/mixes/${number}?format=wav`);
    }
    this.refresh();
  }

  repaint() {
    paint(byId("take-wave"), this.outline, "--wave");
    this.versions.repaint();
    if (this.deck) this.refresh();
  }

  refresh() {
    const { player, deck } = this;
    if (!deck) return;
    this.versions.update(this.take, this.job, deck);
    byId("play").textContent = player.playing ? "Pause" : "Play";
    byId("play").disabled = !player.sounds.size;
    byId("loop").setAttribute("aria-pressed", String(player.looping));
    byId("blind").setAttribute("aria-pressed", String(this.versions.blind));
    byId("blind").textContent = this.versions.blind ? "Reveal" : "Blind";
    for (const [id, value] of [["from", player.loop[0]], ["to", player.loop[1]]]) {
      if (document.activeElement !== byId(id)) byId(id).value = value.toFixed(2);
    }
    this.place();
  }

  place() {
    clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
    const { player } = this;
    if (!player) return;
    const position = player.position();
    this.ruler.show({ region: player.region, looping: player.looping, position });
    byId("seek").value = position;
    byId("seek").setAttribute("aria-valuetext", clock(position));
    byId("time").textContent = `${clock(position)} / ${clock(player.durationS)}`;
    if (!player.playing) return;
    if (still.matches) this.timer = setTimeout(() => this.place(), SLOW_MS);
    else this.frame = requestAnimationFrame(() => this.place());
  }

  hear(slot) {
    if (this.player.slot === slot && this.player.playing) this.player.stop();
    else this.deck.choose(slot, true);
  }

  toggle() {
    return this.player?.toggle();
  }

  // By a digit: the take is 0; in blind mode A is 1.
  choosePlace(digit) {
    const slot = this.versions.order[digit - (this.versions.blind ? 1 : 0)];
    if (slot !== undefined) this.deck.choose(slot);
  }

  step(by) {
    const { order } = this.versions;
    const slot = order[order.indexOf(this.player.wanted ?? this.player.slot) + by];
    if (slot !== undefined) this.deck.choose(slot);
  }

  move(seconds) {
    this.player.seek(this.player.position() + seconds);
  }

  loop() {
    this.player?.setLooping(!this.player.looping);
    say(this.player?.looping ? "Loop on." : "Loop off.");
  }

  typed() {
    const { player } = this;
    if (player && !player.setRegion([Number(byId("from").value), Number(byId("to").value)])) {
      say(`A loop lies within the take and is at least ${SHORTEST_LOOP_S} s long.`);
    }
    document.activeElement.blur?.();
    this.refresh();
  }

  // Names away and the order by chance; only with all sounds there, or the way they come would tell.
  blind() {
    if (!this.deck) return;
    const there = [...this.deck.slots.values()].every(({ state }) => state !== "waiting" && state !== "loading");
    const ended = this.job && !["queued", "running"].includes(this.job.state);
    if (!this.versions.blind && !(ended && there && this.job.mixes.length)) {
      say("Blind mode begins when all mixes are there.");
      return;
    }
    const picked = new Set(this.versions.picked);
    this.versions.setBlind(!this.versions.blind);
    if (this.versions.blind) {
      say("Blind: the names are hidden and the order is new.");
      this.deck.choose(this.versions.order[0]);
    } else this.reveal(picked);
    this.refresh();
  }

  reveal(picked) {
    const mixes = this.job.mixes.filter(({ number }) => picked.has(number));
    const names = [...mixes.map(mixName), ...(picked.has(TAKE) ? ["the raw take"] : [])];
    say(`The names are back. ${names.length ? `You picked ${names.join(" and ")}.` : "Nothing was picked."}`);
    for (const mix of mixes) if (!mix.picked) this.does.pick(mix);
  }
}
