// The take: dropped, chosen or recorded, sent, and shown.

import { upload } from "./api.js";
import { byId, clock, counted, quiet, say, warn } from "./dom.js";
import { Recorder, fullLine, whyNot } from "./recorder.js";
import { attempt } from "./refusals.js";

const KEPT_PEAK = 0.85; // of the meter, each eighth of a second

export class TakePanel {
  // model: /v1/model. uploaded(take): it is the one to work on now.
  constructor(model, uploaded) {
    Object.assign(this, { model, uploaded, recorder: null, peak: 0 });
    byId("choose").addEventListener("click", () => byId("file").click());
    byId("file").addEventListener("change", (event) => {
      const [file] = event.target.files;
      event.target.value = "";
      if (file) this.send(file);
    });
    byId("record").addEventListener("click", () => (this.recorder ? this.finish(true) : this.record()));
    byId("discard").addEventListener("click", () => this.finish(false));
    this.dropping();
  }

  dropping() {
    const drop = byId("drop");
    let depth = 0;
    const over = (change) => {
      depth = Math.max(0, depth + change);
      drop.classList.toggle("over", depth > 0);
    };
    const files = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragenter", (event) => files(event) && over(1));
    addEventListener("dragleave", (event) => files(event) && over(-1));
    addEventListener("dragover", (event) => files(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!files(event)) return;
      event.preventDefault();
      depth = 0;
      over(0);
      if (this.recorder) return;
      if (event.dataTransfer.files.length > 1) warn("One take at a time: several files were dropped.");
      else if (event.dataTransfer.files[0]) this.send(event.dataTransfer.files[0]);
    });
  }

  async send(file) {
    const sent = await this.store(file);
    if (sent) this.uploaded(sent);
  }

  // The stored take, or null where it was refused.
  async store(file) {
    const { limits } = this.model;
    const bar = byId("sent");
    let stored = null;
    quiet();
    const work = async () => {
      if (file.size > limits.bytes) { // not worth sending
        warn(`${file.name}: ${Math.ceil(file.size / 1e6)} MB are too large; the server takes at most ${Math.floor(limits.bytes / 1e6)} MB.`);
        return;
      }
      bar.hidden = false;
      bar.value = 0;
      this.busy(true);
      say(`Sending ${file.name} …`);
      stored = await upload(file.name, file, (share) => { bar.value = share; });
      say(`${stored.name} is there.`);
    };
    await attempt(() => limits, work, () => say(""), file.name);
    bar.hidden = true;
    this.busy(false);
    return stored;
  }

  busy(sending) {
    for (const id of ["choose", "record", "reference"]) byId(id).disabled = sending;
  }

  show(take) {
    byId("drop").classList.add("has");
    byId("take-name").textContent = take.name;
    const channels = take.channels === 1 ? "mono" : take.channels === 2 ? "stereo" : counted(take.channels, "channel", "channels");
    byId("take-facts").textContent = `${clock(take.duration_s)} · ${take.sample_rate_hz / 1000} kHz · ${channels}`;
    byId("choose").textContent = "Another file";
  }

  async record() {
    const { limits } = this.model;
    quiet();
    const recorder = new Recorder(limits, (heard) => this.heard(heard), () => {
      warn(fullLine(limits));
      this.finish(true);
    });
    byId("record").disabled = true;
    try {
      await recorder.start();
    } catch (error) {
      recorder.stop();
      warn(whyNot(error));
      return;
    } finally {
      byId("record").disabled = false;
    }
    this.recorder = recorder;
    this.recording(true);
    say("Recording.");
  }

  heard({ seconds, peak }) {
    this.peak = Math.max(peak, KEPT_PEAK * this.peak);
    byId("meter").value = this.peak;
    byId("record").textContent = `Stop · ${clock(seconds)}`;
  }

  recording(on) {
    byId("meter").hidden = byId("discard").hidden = !on;
    byId("choose").disabled = on;
    byId("record").setAttribute("aria-pressed", String(on));
    if (!on) byId("record").textContent = "Record";
  }

  finish(keep) {
    const file = this.recorder.stop();
    this.recorder = null;
    this.recording(false);
    if (!keep) {
      say("The recording was discarded.");
      return;
    }
    const now = new Date();
    const two = (number) => String(number).padStart(2, "0");
    const date = `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())} ${two(now.getHours())}.${two(now.getMinutes())}`;
    if (file) this.send(new File([file], `Recording ${date}.wav`, { type: file.type }));
    else warn("Nothing was recorded.");
  }
}
