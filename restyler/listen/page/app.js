// From consent to thanks: shows whatever stage the server says the listener is at.

import { element, paragraphs, show } from "./dom.js";
import { Saver, post } from "./saver.js";
import { level, headphones } from "./checks.js";
import { trial } from "./trial.js";
import { Gone } from "./sounds.js";

const base = location.pathname.replace(/\/+$/, "");
const AGAIN_MS = 1500;
const TOLD = { saved: "Saved", saving: "Saving …", unsaved: "Not saved yet: no answer from the server. Trying again …" };

function tell(state, line = TOLD[state]) {
  const saved = document.getElementById("saved");
  saved.textContent = line;
  saved.className = state === "unsaved" ? "not" : "";
  document.body.dataset.saved = state;
}

async function pause() {
  await new Promise((done) => setTimeout(done, AGAIN_MS));
}

async function fetchState() {
  for (;;) {
    try {
      const response = await fetch(`${base}/state`, { cache: "no-store" });
      if (response.ok) return await response.json();
    } catch { /* no connection: again */ }
    tell("unsaved", "No answer from the server. Trying again …");
    await pause();
  }
}

// Posts until the server has it; the line of its refusal, or "".
async function insist(action, body) {
  for (;;) {
    const answer = await post(base, action, body);
    if (answer.status >= 200 && answer.status < 300) {
      tell("saved", "");
      return "";
    }
    if (answer.status >= 400 && answer.status < 500 && answer.status !== 408) return answer.line;
    tell("unsaved");
    await pause();
  }
}

function consent(state) {
  return new Promise((done) => {
    const agree = element("input", { type: "checkbox", id: "agree" });
    const next = element("button", { class: "main", type: "button", disabled: true }, "Begin");
    agree.addEventListener("change", () => { next.disabled = !agree.checked; });
    next.addEventListener("click", async () => {
      next.disabled = true;
      await insist("consent", { agree: true });
      done();
    });
    show(
      element("h1", {}, "Listening test"),
      ...paragraphs(state.text),
      element("label", { class: "agree", for: "agree" }, agree, "I have read this and agree to take part."),
      next,
    );
  });
}

async function run() {
  const saver = new Saver(base, tell, (line) => tell("unsaved", `Not taken by the server: ${line}`));
  await saver.flush();
  for (;;) {
    const state = await fetchState();
    document.body.dataset.stage = state.stage;
    try {
      if (state.stage === "consent") await consent(state);
      else if (state.stage === "level") await level(state, base, insist);
      else if (state.stage === "headphones") await headphones(state, base, insist);
      else if (state.stage === "page") await trial(state, base, saver, insist);
      else {
        show(element("h1", {}, "Thank you"), ...paragraphs(state.text));
        tell("saved", "");
        return;
      }
    } catch (error) {
      if (!(error instanceof Gone)) throw error;
    }
  }
}

// One tab at a time: two would overtake each other's ratings. Browsers have locks only for HTTPS and this computer.
if (navigator.locks) {
  const waiting = setTimeout(() => show(
    element("h1", {}, "Open in another tab"),
    element("p", {}, "This test is open in another tab or window. Close that one to go on here."),
  ), 500);
  navigator.locks.request(`listen ${base}`, () => {
    clearTimeout(waiting);
    return run();
  });
} else {
  run();
}
