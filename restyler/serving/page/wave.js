// Waveforms on canvases, and over the large one the region that loops and the place that is heard: click to go there,
// drag to loop.

import { SHORTEST_LOOP_S } from "./player.js";

const CLICK_PIXELS = 5; // a shorter drag is a click

export function paint(canvas, outline, colour) {
  const scale = devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  if (!outline || !width) return;
  const { low, high } = outline;
  let highest = 1e-4;
  for (let n = 0; n < low.length; n += 1) highest = Math.max(highest, high[n], -low[n]);
  const bars = Math.min(low.length, Math.floor(width / (3 * scale)));
  pen.fillStyle = getComputedStyle(canvas).getPropertyValue(colour);
  for (let bar = 0; bar < bars; bar += 1) {
    let [bottom, top] = [0, 0];
    for (let n = Math.floor((bar * low.length) / bars); n < Math.floor(((bar + 1) * low.length) / bars); n += 1) {
      [bottom, top] = [Math.min(bottom, low[n]), Math.max(top, high[n])];
    }
    const middle = height / 2;
    const half = (middle - 2 * scale) / highest;
    const tall = Math.max(scale, (top - bottom) * half);
    pen.beginPath();
    pen.roundRect((bar * width) / bars, middle - top * half - (tall === scale ? scale / 2 : 0), Math.max(scale, width / bars - scale), tall, scale);
    pen.fill();
  }
}

export class Ruler {
  // parts: { box, region, head }, elements above the canvas. asked(seconds): to go there; dragged(from, to): to loop.
  constructor(parts, { asked, dragged }) {
    this.parts = parts;
    this.durationS = 0;
    this.first = null;
    const { box } = parts;
    box.addEventListener("pointerdown", (event) => this.down(event));
    box.addEventListener("pointermove", (event) => this.move(event));
    box.addEventListener("pointerup", (event) => {
      const first = this.first;
      this.first = null;
      if (first === null || !this.durationS) return;
      const [from, to] = [first.seconds, this.seconds(event)].sort((a, b) => a - b);
      if (Math.abs(event.clientX - first.x) < CLICK_PIXELS) asked(first.seconds);
      else if (to - from >= SHORTEST_LOOP_S) dragged(from, to);
      else this.show(this.shown);
    });
    box.addEventListener("pointercancel", () => { // it became a scroll
      this.first = null;
      this.show(this.shown);
    });
  }

  seconds(event) {
    const box = this.parts.box.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * this.durationS;
  }

  down(event) {
    if (event.button !== 0) return;
    this.first = { x: event.clientX, seconds: this.seconds(event) };
    this.parts.box.setPointerCapture(event.pointerId);
  }

  move(event) {
    if (this.first === null || Math.abs(event.clientX - this.first.x) < CLICK_PIXELS) return;
    this.place([this.first.seconds, this.seconds(event)].sort((a, b) => a - b), true);
  }

  place(region, looping) {
    const { region: bar } = this.parts;
    bar.hidden = !region;
    bar.classList.toggle("idle", !looping);
    if (!region) return;
    bar.style.left = `${(100 * region[0]) / this.durationS}%`;
    bar.style.width = `${(100 * (region[1] - region[0])) / this.durationS}%`;
  }

  // { region, looping, position }
  show(shown) {
    this.shown = shown;
    if (this.first === null && shown) this.place(shown.region, shown.looping);
    if (shown) this.parts.head.style.left = `${(100 * shown.position) / Math.max(this.durationS, 1e-9)}%`;
    this.parts.head.hidden = !shown;
  }
}
