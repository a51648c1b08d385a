// Jobs and takes of before, to be opened again or deleted.

import { ask } from "./api.js";
import { button, byId, clock, counted, element } from "./dom.js";

const PAGE = 12;
const STATES = { queued: "waiting", running: "running", done: "done", failed: "failed", cancelled: "cancelled" };

function date(text) {
  return new Date(text).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

export class Past {
  // does: { open(job), remove(job), use(take), removeTake(take), attempt(work) }
  constructor(does) {
    this.does = does;
    this.jobs = [];
    this.openJob = null;
    byId("older").addEventListener("click", () => does.attempt(() => this.load(this.jobs.at(-1)?.id)));
    byId("takes").closest("details").addEventListener("toggle", (event) => {
      if (event.target.open) does.attempt(() => this.loadTakes());
    });
  }

  // before: the id of a job, to see those before it.
  async load(before) {
    const { jobs } = await ask("GET", `/jobs?limit=${PAGE}${before ? `&before=${encodeURIComponent(before)}` : ""}`);
    this.jobs = before ? [...this.jobs, ...jobs] : jobs;
    byId("older").hidden = jobs.length < PAGE;
    this.show();
  }

  update(job) {
    const place = this.jobs.findIndex(({ id }) => id === job.id);
    if (place < 0) this.jobs.unshift(job);
    else this.jobs[place] = job;
    this.show();
  }

  forget(job) {
    this.jobs = this.jobs.filter(({ id }) => id !== job.id);
    this.show();
  }

  show() {
    const focused = document.activeElement?.dataset.key;
    const rows = this.jobs.map((job) => {
      const picked = job.mixes.filter((mix) => mix.picked).length;
      const facts = [date(job.created), STATES[job.state], counted(job.mixes.length, "mix", "mixes"), ...(picked ? [`${picked} picked`] : [])];
      return element("li", { class: job.id === this.openJob ? "on" : "" },
        element("div", {}, element("b", {}, job.name), element("div", { class: "soft" }, facts.join(" · "))),
        element("div", { class: "line" },
          button("Open", () => this.does.open(job), { "aria-label": `Open ${job.name}`, "data-key": `open ${job.id}` }),
          button("Delete", () => this.does.remove(job), { class: "text", "aria-label": `Delete ${job.name}`, "data-key": `delete ${job.id}` })));
    });
    byId("jobs").replaceChildren(...(rows.length ? rows : [element("li", { class: "soft" }, "No jobs yet.")]));
    if (focused) [...document.querySelectorAll("#jobs [data-key]")].find(({ dataset }) => dataset.key === focused)?.focus();
  }

  async loadTakes() {
    const { takes } = await ask("GET", "/takes");
    const rows = takes.map((take) => element("li", {},
      element("div", {}, element("b", {}, take.name), element("div", { class: "soft" }, `${clock(take.duration_s)} · ${date(take.created)}`)),
      element("div", { class: "line" },
        button("Use", () => this.does.use(take), { "aria-label": `Use ${take.name}` }),
        button("Delete", () => this.does.removeTake(take), { class: "text", "aria-label": `Delete take ${take.name}` }))));
    byId("takes").replaceChildren(...(rows.length ? rows : [element("li", { class: "soft" }, "No takes yet.")]));
  }
}
