// In the audio thread: hands on what the microphone gives, an eighth of a second at a time.

registerProcessor("capture", class extends AudioWorkletProcessor {
  constructor() {
    super();
    this.parts = new Float32Array(Math.ceil(sampleRate / 8 / 128) * 128);
    this.filled = 0;
  }

  process([[channel]]) {
    if (!channel) return true;
    this.parts.set(channel, this.filled);
    this.filled += channel.length;
    if (this.filled === this.parts.length) {
      this.port.postMessage(this.parts.slice());
      this.filled = 0;
    }
    return true;
  }
});
