// A take by the microphone, as it comes: no echo, noise or gain control of the browser's, 24-bit WAV.

import { megabytes } from "./dom.js";

const WAV_HEADER_BYTES = 44;

// 24-bit mono WAV of chunks of samples; what is over full scale is cut there, as every converter does.
export function wav(chunks, sampleRate) {
  const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const bytes = new ArrayBuffer(WAV_HEADER_BYTES + 3 * length);
  const view = new DataView(bytes);
  const text = (at, letters) => [...letters].forEach((letter, n) => view.setUint8(at + n, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, bytes.byteLength - 8, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, 3 * sampleRate, true);
  view.setUint16(32, 3, true);
  view.setUint16(34, 24, true);
  text(36, "data");
  view.setUint32(40, 3 * length, true);
  let at = WAV_HEADER_BYTES;
  for (const chunk of chunks) {
    for (const sample of chunk) {
      const value = Math.round(Math.max(-1, Math.min(1 - 2 ** -23, sample)) * 2 ** 23);
      view.setUint8(at, value & 255);
      view.setInt16(at + 1, value >> 8, true);
      at += 3;
    }
  }
  return new Blob([bytes], { type: "audio/wav" });
}

export class Recorder {
  // limits: of /v1/model. told({ seconds, peak }): while it runs; full(): no more is taken.
  constructor(limits, told, full) {
    Object.assign(this, { limits, told, full, chunks: [], length: 0 });
  }

  // Throws a DOMException where there is no microphone or it is not allowed.
  async start() {
    const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    this.stream = await navigator.mediaDevices.getUserMedia({ audio });
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("/page/capture.js");
    const node = new AudioWorkletNode(this.context, "capture", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    node.port.onmessage = ({ data }) => this.take(data);
    this.context.createMediaStreamSource(this.stream).connect(node);
    await this.context.resume();
  }

  take(chunk) {
    if (this.ended) return;
    this.chunks.push(chunk);
    this.length += chunk.length;
    const seconds = this.length / this.context.sampleRate;
    this.told({ seconds, peak: chunk.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0) });
    if (seconds > this.limits.duration_s - 0.5 || WAV_HEADER_BYTES + 3 * this.length > this.limits.bytes - 1e6) this.full();
  }

  // Ends; the recording as a WAV file.
  stop() {
    this.ended = true;
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    const rate = this.context?.sampleRate;
    this.context?.close();
    return this.length ? wav(this.chunks, rate) : null;
  }
}

export function whyNot(error) {
  if (error.name === "NotAllowedError") return "The microphone is not allowed here: allow it for this page in the browser's address bar.";
  if (error.name === "NotFoundError") return "No microphone was found.";
  return `The microphone can't be used: ${error.message}`;
}

export const fullLine = (limits) => `The recording has reached what the server takes (${Math.round(limits.duration_s / 60)} minutes, ${megabytes(limits.bytes)}) and was ended.`;
