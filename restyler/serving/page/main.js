// Puts the page together: key, model, panels, keyboard.

import { Refusal, ask, keepKey, takeKey } from "./api.js";
import { Controls } from "./controls.js";
import { confirmed } from "./dialogs.js";
import { byId, quiet, say, warn } from "./dom.js";
import { keys } from "./keys.js";
import { Past } from "./past.js";
import { explained } from "./refusals.js";
import { Session } from "./session.js";
import { TakePanel } from "./take.js";

const AGAIN_S = 3;

// The model, however long the server takes to have it; null where this page has no key for it.
async function model() {
  for (;;) {
    try {
      return await ask("GET", "/model");
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      warn(explained(error, null));
      if (error.status === 401 || error.status === 403) {
        byId("key-part").hidden = false;
        byId("key").focus();
        return null;
      }
      await new Promise((done) => setTimeout(done, 1000 * (error.retryAfterS ?? AGAIN_S)));
    }
  }
}

function build(told) {
  byId("model").textContent = told.name;
  const past = new Past({
    open: (job) => session.openJob(job.id),
    remove: (job) => session.remove(job),
    use: ({ id }) => session.attempt(async () => session.show(await ask("GET", `/takes/${encodeURIComponent(id)}`), null)),
    removeTake: (take) => removeTake(take),
    attempt: (work) => session.attempt(work),
  });
  const session = new Session(told, {
    opened: (take, job) => {
      takePanel.show(take);
      byId("start").disabled = false;
      past.openJob = job?.id ?? null;
      past.show();
    },
    changed: (job) => past.update(job),
    forgotten: (job) => past.forget(job),
  });
  const takePanel = new TakePanel(told, (take) => session.show(take, null));
  const controls = new Controls(told, {
    references: async (files) => {
      for (const file of files) {
        const take = await takePanel.store(file);
        if (take) controls.addReference(take);
      }
    },
    submitted: async () => {
      if (!session.take || byId("start").disabled) return;
      byId("start").disabled = true;
      await session.start(controls.request(session.take), ({ field }) => controls.mark(field));
      byId("start").disabled = false;
    },
  });

  async function removeTake(take) {
    if (!(await confirmed("Delete the take?", `${take.name} and everything that was made of it are deleted for good.`, "Delete"))) return;
    await session.attempt(async () => {
      await ask("DELETE", `/takes/${encodeURIComponent(take.id)}`);
      say("Deleted.");
      if (session.take?.id === take.id) location.assign(location.pathname);
      await past.load();
      await past.loadTakes();
    });
  }

  const { listening } = session;
  keys({
    ready: () => listening.deck !== null,
    toggle: () => listening.toggle(),
    choosePlace: (digit) => listening.choosePlace(digit),
    step: (by) => listening.step(by),
    move: (seconds) => listening.move(seconds),
    loop: () => listening.loop(),
    blind: () => listening.blind(),
  });
  session.attempt(() => past.load());
  const job = new URLSearchParams(location.hash.slice(1)).get("job");
  if (job) session.openJob(job);
}

let built = false;

async function begin() {
  const told = await model();
  if (!told) return;
  byId("key-part").hidden = true;
  quiet();
  if (!built) build(told);
  built = true;
  document.body.dataset.ready = "";
}

takeKey();
byId("alert-close").addEventListener("click", quiet);
byId("key-part").addEventListener("submit", (event) => {
  event.preventDefault();
  const said = byId("key").value.trim();
  keepKey(new URLSearchParams(said.split("#")[1]).get("key") ?? said); // the whole link will do
  byId("key").value = "";
  begin();
});
addEventListener("hashchange", () => { // the link of a server that was started anew
  if (!location.hash.includes("key=")) return;
  takeKey();
  begin();
});
addEventListener("offline", () => warn(explained(new Refusal(0, ""), null)));
addEventListener("online", quiet);
begin();
