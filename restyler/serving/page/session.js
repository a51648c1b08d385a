// The take and the job that are worked on: started, followed as it is made, changed, saved and deleted.

import { Refusal, ask, save } from "./api.js";
import { askLike, askText, confirmed } from "./dialogs.js";
import { TAKE } from "./deck.js";
import { button, byId, quiet, say, warn } from "./dom.js";
import { ENDED, follow } from "./events.js";
import { Listening } from "./listening.js";
import { attempt, explained } from "./refusals.js";
import { mixName } from "./versions.js";

const WAVE_POINTS = 600;
const path = (job, rest = "") => `/jobs/${encodeURIComponent(job.id)}${rest}`;

export class Session {
  // model: /v1/model. opened(take, job): something else is worked on. changed(job), forgotten(job): of the list of jobs.
  constructor(model, { opened, changed, forgotten }) {
    Object.assign(this, { model, opened, changed, forgotten, take: null, job: null, follower: null });
    this.attempt = (work, refused) => attempt(() => model.limits, work, refused);
    this.listening = new Listening(model, {
      pick: (mix) => this.changeMix(mix, { picked: !mix.picked }),
      rename: (mix) => this.renameMix(mix),
      like: (mix) => this.like(mix),
      save: (mix, format) => this.save(`/mixes/${mix.number}?format=${format}`, `${mixName(mix)}.${format}`),
      chain: (mix, format) => this.save(`/mixes/${mix.number}/chain?format=${format}`, `${mixName(mix)}.${format}`),
    }, (slot, error) => {
      const name = slot === TAKE ? "The take" : "A mix";
      warn(`${name} can't be heard: ${error instanceof Refusal ? explained(error, model.limits) : "this browser can't decode it, perhaps for want of memory."}`);
    });
  }

  show(take, job) {
    this.follower?.abort();
    Object.assign(this, { take, job });
    this.listening.open(take, job);
    history.replaceState(null, "", job ? `#job=${job.id}` : location.pathname);
    this.opened(take, job);
    this.tools();
    this.attempt(async () => {
      const outline = await ask("GET", `/takes/${encodeURIComponent(take.id)}/waveform?points=${WAVE_POINTS}`);
      if (this.take === take) this.listening.setOutline(outline);
    });
  }

  // id: of a job of the server's.
  openJob(id) {
    return this.attempt(async () => {
      const job = await ask("GET", path({ id }));
      this.show(await ask("GET", `/takes/${encodeURIComponent(job.take)}`), job);
      this.changed(job);
      if (!ENDED.includes(job.state)) this.follow();
      else if (job.error) warn(`The job failed: ${job.error}`);
    });
  }

  // request: the body of POST /v1/jobs. refused(refusal): to show which field it was.
  start(request, refused) {
    quiet();
    return this.attempt(async () => {
      const job = await ask("POST", "/jobs", { body: request, headers: { "Idempotency-Key": crypto.randomUUID() } });
      this.show(this.take, job);
      this.changed(job);
      say("The mixes are ordered.");
      byId("listen-part").focus({ preventScroll: true });
      byId("listen-part").scrollIntoView({ block: "nearest" });
      this.follow();
    }, refused);
  }

  async follow() {
    const { job } = this;
    this.follower = new AbortController();
    const lost = (gone) => {
      this.gone = gone;
      this.progress();
    };
    try {
      await follow(job.id, (event, said) => this.told(event, said), lost, this.follower.signal);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      warn(explained(error, this.model.limits));
    }
  }

  told(event, said) {
    const { job } = this;
    if (event === "progress") job.progress = said.progress;
    else if (event === "mix") this.mixCame(said);
    else if (event === "state") {
      Object.assign(job, said, { mixes: said.mixes.length >= job.mixes.length ? said.mixes : job.mixes });
      if (said.state === "done") say(`All ${job.mixes.length} mixes are there.`);
      if (said.state === "cancelled") say("Cancelled; what was made is kept.");
      if (said.state === "failed") warn(`The job failed: ${said.error}`);
    }
    if (event !== "progress") {
      this.listening.update(job);
      this.tools();
      this.changed(job);
    }
    this.progress();
  }

  mixCame(mix) {
    const { job } = this;
    job.mixes = [...job.mixes.filter(({ number }) => number !== mix.number), mix].sort((a, b) => a.number - b.number);
    say(`${mixName(mix)} is there, ${job.mixes.length} of ${job.variations}.`);
  }

  progress() {
    const { job } = this;
    const runs = job && !ENDED.includes(job.state);
    byId("progress-line").hidden = !runs;
    if (!runs) return;
    byId("progress").value = job.progress;
    const waits = job.position ? `Waiting, ${job.position} before it` : "Waiting for its turn";
    const made = `${job.mixes.length} of ${job.variations} mixes, ${Math.round(100 * job.progress)} %`;
    byId("progress-text").textContent = this.gone ? "No answer from the server; trying again …" : job.state === "queued" ? waits : made;
  }

  tools() {
    const { job } = this;
    byId("job-title").textContent = job ? job.name : "Listen";
    const running = job && !ENDED.includes(job.state);
    const tools = !job ? [] : [
      button("Rename", () => this.rename(), { class: "text", "aria-label": "Rename this job" }),
      ...(running ? [button("Cancel", () => this.cancel())] : []),
      ...(job.mixes.length ? [button("Download all", () => this.save("/archive", `${job.name}.zip`))] : []),
      ...(running ? [] : [button("Delete", () => this.remove(job), { class: "text", "aria-label": "Delete this job" })]),
    ];
    const focused = document.activeElement?.closest?.("#job-tools") ? document.activeElement.textContent : null;
    byId("job-tools").replaceChildren(...tools);
    if (focused) (tools.find(({ textContent }) => textContent === focused) ?? byId("listen-part")).focus({ preventScroll: true });
    this.progress();
  }

  took(job) {
    if (this.job?.id === job.id) {
      Object.assign(this.job, job);
      this.listening.update(this.job);
      this.tools();
    }
    this.changed(job);
  }

  async changeMix(mix, change) {
    const { job } = this;
    await this.attempt(async () => {
      const said = await ask("PATCH", path(job, `/mixes/${mix.number}`), { body: change });
      this.took({ ...job, mixes: job.mixes.map((other) => (other.number === mix.number ? said : other)) });
    });
  }

  async renameMix(mix) {
    const name = await askText("Rename the mix", "Name", mixName(mix));
    if (name !== null) await this.changeMix(mix, { name });
  }

  async rename() {
    const { job } = this;
    const name = await askText("Rename the job", "Name", job.name);
    if (name !== null) await this.attempt(async () => this.took({ ...job, ...(await ask("PATCH", path(job), { body: { name } })) }));
  }

  cancel() {
    return this.attempt(async () => this.took(await ask("POST", path(this.job, "/cancel"))));
  }

  async like(mix) {
    const { job } = this;
    const wish = await askLike(mixName(mix), this.model);
    if (!wish) return;
    const { reference } = job.request; // a mix like it is told the same
    await this.start({ take: job.take, like: { job: job.id, mix: mix.number }, ...wish, ...(reference?.length ? { reference } : {}) });
  }

  save(rest, otherwise) {
    const { job } = this;
    say("Downloading …");
    return this.attempt(async () => say(`Saved ${await save(path(job, rest), otherwise)}.`), () => say(""));
  }

  async remove(job) {
    if (!(await confirmed("Delete the job?", `${job.name}: its mixes are deleted for good.`, "Delete"))) return;
    await this.attempt(async () => {
      await ask("DELETE", path(job));
      if (this.job?.id === job.id) this.show(this.take, null);
      this.forgotten(job);
      say("Deleted.");
    });
  }
}
