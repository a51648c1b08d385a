// The picture above a page's sounds: the reference where it is open, else the mean of all sounds but X, so that it tells
// none from another, and nothing of a sound that is alone; the region that loops, and where the sound is.

import { SHORTEST_LOOP_S } from "./player.js";

const BINS = 400;

export function envelope(buffers) {
  const all = [...buffers].filter(([slot]) => slot !== "X").map(([, buffer]) => buffer); // with X twice in, it would show
  const sounds = buffers.has("R") ? [buffers.get("R")] : all;
  const bins = new Float32Array(BINS);
  if (buffers.size === 1) return bins.fill(0.5);
  for (const sound of sounds) {
    const samples = sound.getChannelData(0);
    for (let bin = 0; bin < BINS; bin += 1) {
      let peak = 0;
      const end = Math.floor(((bin + 1) * samples.length) / BINS);
      for (let n = Math.floor((bin * samples.length) / BINS); n < end; n += 1) peak = Math.max(peak, Math.abs(samples[n]));
      bins[bin] += peak / sounds.length;
    }
  }
  const highest = Math.max(...bins, 1e-6);
  return bins.map((value) => value / highest);
}

export function drawing(canvas, player, bins, chosen) {
  const style = getComputedStyle(document.documentElement);
  const [soft, accent] = ["--soft", "--accent"].map((name) => style.getPropertyValue(name).trim());
  function draw() {
    if (!canvas.isConnected) return;
    requestAnimationFrame(draw);
    const scale = devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * scale);
    const height = Math.round(canvas.clientHeight * scale);
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    for (let bin = 0; bin < BINS; bin += 1) {
      const at = (bin / BINS) * player.durationS;
      pen.fillStyle = at >= player.from && at < player.to ? accent : soft;
      pen.globalAlpha = at >= player.from && at < player.to ? 0.75 : 0.35;
      const tall = Math.max(1, bins[bin] * (height - 8));
      pen.fillRect((bin / BINS) * width, (height - tall) / 2, Math.max(1, width / BINS - 1), tall);
    }
    pen.globalAlpha = 1;
    pen.fillStyle = soft;
    pen.fillRect((player.position / player.durationS) * width - scale, 0, 2 * scale, height);
  }
  requestAnimationFrame(draw);

  let first = null;
  const seconds = (event) => {
    const box = canvas.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * player.durationS;
  };
  canvas.addEventListener("pointerdown", (event) => {
    first = seconds(event);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", (event) => {
    const last = seconds(event);
    if (first !== null && Math.abs(last - first) >= SHORTEST_LOOP_S) chosen(Math.min(first, last), Math.max(first, last));
    first = null;
  });
  canvas.addEventListener("pointercancel", () => { first = null; }); // it became a scroll
}
