// Integrated loudness as in ITU-R BS.1770-4, and the outline of a sound, in one pass over its samples.

const STEP = 1 << 18; // samples between two pauses, so that the page stays usable

// The two filters of the K weighting as [b0 b1 b2 a1 a2]: the standard's at 48 kHz, carried to other rates by the
// bilinear transform (as libebur128 does).
function weighting(rate) {
  const shelf = (() => {
    const k = Math.tan((Math.PI * 1681.974450955533) / rate);
    const q = 0.7071752369554196;
    const high = 10 ** (3.999843853973347 / 20);
    const band = high ** 0.4996667741545416;
    const a0 = 1 + k / q + k * k;
    return [(high + (band * k) / q + k * k) / a0, (2 * (k * k - high)) / a0, (high - (band * k) / q + k * k) / a0, (2 * (k * k - 1)) / a0, (1 - k / q + k * k) / a0];
  })();
  const k = Math.tan((Math.PI * 38.13547087602444) / rate);
  const q = 0.5003270373238773;
  const a0 = 1 + k / q + k * k;
  return [shelf, [1, -2, 1, (2 * (k * k - 1)) / a0, (1 - k / q + k * k) / a0]];
}

// Adds the K-weighted energy of a channel to `energy`, one sum for each `hop` samples.
async function addEnergy(samples, rate, hop, energy) {
  const [[b0, b1, b2, a1, a2], [, , , c1, c2]] = weighting(rate);
  let [x1, x2, y1, y2, z1, z2] = [0, 0, 0, 0, 0, 0];
  for (let from = 0; from < samples.length; from += STEP) {
    const to = Math.min(samples.length, from + STEP);
    for (let n = from; n < to; n += 1) {
      const x = samples[n];
      const y = b0 * x + b1 * x1 + b2 * x2 - a1 * y1 - a2 * y2;
      const z = y - 2 * y1 + y2 - c1 * z1 - c2 * z2;
      [x2, x1, y2, y1, z2, z1] = [x1, x, y1, y, z1, z];
      energy[Math.floor(n / hop)] += z * z;
    }
    await new Promise((done) => setTimeout(done));
  }
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const lufs = (power) => -0.691 + 10 * Math.log10(power);

// In LUFS; −Infinity for silence. A mono sound counts twice: it is heard on both sides.
export async function loudness(buffer) {
  const hop = Math.round(buffer.sampleRate / 10);
  const energy = new Float64Array(Math.ceil(buffer.length / hop));
  for (let channel = 0; channel < buffer.numberOfChannels; channel += 1) {
    await addEnergy(buffer.getChannelData(channel), buffer.sampleRate, hop, energy);
  }
  const heard = buffer.numberOfChannels === 1 ? 2 : 1;
  const blocks = [];
  for (let n = 0; n + 4 <= Math.floor(buffer.length / hop); n += 1) {
    blocks.push((heard * (energy[n] + energy[n + 1] + energy[n + 2] + energy[n + 3])) / (4 * hop));
  }
  if (!blocks.length) return lufs((heard * energy.reduce((sum, value) => sum + value, 0)) / buffer.length);
  const audible = blocks.filter((power) => lufs(power) > -70);
  if (!audible.length) return -Infinity;
  const gate = lufs(mean(audible)) - 10;
  return lufs(mean(audible.filter((power) => lufs(power) > gate)));
}

// {low, high}: of the mean of the channels, for so many stretches of equal length.
export function outline(buffer, points) {
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, n) => buffer.getChannelData(n));
  const made = { low: new Float32Array(points), high: new Float32Array(points) };
  for (let point = 0; point < points; point += 1) {
    const to = Math.floor(((point + 1) * buffer.length) / points);
    let [low, high] = [0, 0];
    for (let n = Math.floor((point * buffer.length) / points); n < to; n += 1) {
      let sum = 0;
      for (const samples of channels) sum += samples[n];
      if (sum < low) low = sum;
      else if (sum > high) high = sum;
    }
    made.low[point] = low / channels.length;
    made.high[point] = high / channels.length;
  }
  return made;
}

// slot → linear gain that brings each to the quietest of them, so that nothing is ever turned up into clipping.
export function levels(loudnessOf) {
  const known = [...loudnessOf].filter(([, value]) => Number.isFinite(value));
  const quietest = Math.min(...known.map(([, value]) => value));
  return new Map([...loudnessOf].map(([slot, value]) => [slot, Number.isFinite(value) ? 10 ** ((quietest - value) / 20) : 1]));
}
