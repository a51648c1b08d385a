// One page of a test: its sounds, what is asked of them, and the keys.

import { element, paragraphs, show } from "./dom.js";
import { Player } from "./player.js";
import { audio, load } from "./sounds.js";
import { drawing, envelope } from "./wave.js";
import { choices, sliders } from "./answers.js";
import { keys } from "./keys.js";

const TICK_MS = 50;
const NEARLY_S = 0.25; // the last tick of a sound that is heard whole may fall short of its end

export async function trial(state, base, saver, insist) {
  const context = audio(state.sample_rate_hz);
  saver.startFrom(state.sequence);
  const values = { ...state.values };
  const heard = [...state.heard];
  saver.overlay(state.page, values, heard);
  const slots = state.sounds.map((sound) => sound.slot);

  const loading = element("p", { role: "status" }, "Loading sounds …");
  show(element("h1", {}, heading(state)), loading);
  const buffers = new Map();
  for (const { slot, sound } of state.sounds) {
    loading.textContent = `Loading sound ${buffers.size + 1} of ${slots.length} …`;
    buffers.set(slot, await load(context, `${base}/sound/${sound}`));
  }
  const whole = state.heard_s === null;
  const player = new Player(context, buffers);
  player.repeat = !whole;
  const needS = whole ? player.durationS - NEARLY_S : Math.min(state.heard_s, player.durationS);

  const page = { state, slots, values, heard, player, whole };
  const locked = (slot) => state.kind === "ccr" && slot === "B" && !heard.includes("A"); // in the order of play
  page.rate = (field, value) => {
    values[field] = value;
    saver.rating(state.page, field, value);
    refresh();
  };
  page.choose = (slot) => {
    if (locked(slot)) return Promise.resolve();
    if (whole) { // from its beginning: two halves that are the same one are not the whole
      player.stop(0);
      listened.delete(slot);
    }
    return player.choose(slot);
  };

  const buttons = new Map(slots.map((slot) => [slot, element("button", { type: "button", onclick: () => page.choose(slot) },
    slot === "R" && state.kind !== "abx" ? "Reference" : slot)]));
  page.buttons = buttons;
  const asked = ["mushra", "rating"].includes(state.kind) ? sliders(page) : choices(page);
  const play = element("button", { type: "button", onclick: () => toggle() }, "Play");
  const canvas = element("canvas", { class: "wave", role: "img", "aria-label": whole ? "Waveform" : "Waveform; drag over it to loop a part" });
  const missing = element("p", { class: "soft", id: "missing", role: "status" });
  const next = element("button", { type: "button", class: "main next", disabled: true, onclick: () => submit() }, "Next");
  const comment = element("textarea", { id: "comment", maxlength: 2000 });
  comment.value = values.comment ?? "";
  comment.addEventListener("input", () => saver.rating(state.page, "comment", comment.value));

  const toggle = () => (player.slot === null ? page.choose(slots[0]) : player.toggle());
  const region = regionTools(player, whole);
  show(
    element("h1", {}, heading(state)),
    element("p", {}, state.question),
    element("details", { open: state.page === 0 },
      element("summary", {}, "Instructions and keys"),
      ...paragraphs(state.instructions),
      element("p", { class: "soft" }, help(state.kind, slots))),
    canvas,
    element("div", { class: "tools" }, play, ...region.parts),
    asked.part,
    element("label", { class: "soft", for: "comment" }, "Comment (if you like)"),
    comment,
    missing,
    next,
  );
  drawing(canvas, player, envelope(buffers), (from, to) => { if (!whole) region.set(from, to); });

  function refresh() {
    play.textContent = player.playing ? "Stop" : "Play";
    for (const [slot, button] of buttons) {
      const on = player.playing && player.slot === slot;
      button.setAttribute("aria-pressed", String(on));
      button.classList.toggle("heard", heard.includes(slot));
      button.disabled = locked(slot);
      button.setAttribute("aria-label",
        `Play ${slot === "R" ? "the reference" : `sound ${slot}`}${heard.includes(slot) ? ", heard" : ""}`);
    }
    asked.refresh();
    const unheard = slots.filter((slot) => !heard.includes(slot));
    const unanswered = asked.fields.filter((field) => !(field in values));
    const parts = [];
    if (unheard.length) parts.push(`Still to hear: ${unheard.map((slot) => (slot === "R" ? "reference" : slot)).join(", ")}.`);
    if (unanswered.length) parts.push(asked.unanswered(unanswered));
    if (missing.textContent !== parts.join(" ")) missing.textContent = parts.join(" ");
    next.disabled = parts.length > 0 || submitting;
  }

  let submitting = false;
  let before = context.currentTime;
  const listened = new Map();
  const ticking = setInterval(() => {
    const now = context.currentTime;
    const passed = now - before;
    before = now;
    if (!player.playing || now < player.startedAt) return;
    const { slot } = player;
    listened.set(slot, (listened.get(slot) ?? 0) + passed);
    if (listened.get(slot) >= needS && !heard.includes(slot)) {
      heard.push(slot);
      saver.heard(state.page, slot);
      refresh();
    }
  }, TICK_MS);
  player.changed = refresh;
  let finish;
  const finished = new Promise((done) => { finish = done; });
  const keyboard = keys(page, { toggle, submit, asked });
  refresh();

  async function submit() {
    if (next.disabled) return;
    submitting = true;
    player.stop();
    refresh();
    while (!(await saver.flush())) await new Promise((done) => setTimeout(done, 500));
    const refusal = await insist("submit", { page: state.page });
    if (refusal) { // what is shown and what the server has differ: show what the server has
      missing.textContent = refusal;
      await new Promise((done) => setTimeout(done, 1500));
    }
    finish();
  }

  try {
    await finished;
  } finally {
    clearInterval(ticking);
    keyboard.remove();
    player.changed = () => {};
    player.stop();
  }
}

function heading(state) {
  return `${state.training ? "Practice, page" : "Page"} ${state.page + 1} of ${state.of}`;
}

function help(kind, slots) {
  const reference = slots.includes("R") ? " (R the reference)" : "";
  const sounds = `Letters choose sounds${reference}, the space bar plays and stops, Enter goes on.`;
  if (["mushra", "rating"].includes(kind)) return `${sounds} Arrow keys move the slider of the sound that plays; the others are locked.`;
  if (kind === "acr") return `${sounds} Digits 1 to 5 or arrow keys answer.`;
  return `${sounds} Left and right arrow keys answer.`;
}

// From where to where it loops, in seconds: for hands that do not drag.
function regionTools(player, whole) {
  if (whole) return { parts: [], set: () => {} };
  const field = (label, value) => element("input", { type: "number", min: 0, max: player.durationS.toFixed(2), step: 0.1, value: value.toFixed(2), "aria-label": label });
  const from = field("Loop from, in seconds", 0);
  const to = field("Loop to, in seconds", player.durationS);
  const set = (first, last) => {
    const taken = player.region(first, last);
    from.value = player.from.toFixed(2);
    to.value = player.to.toFixed(2);
    return taken;
  };
  for (const input of [from, to]) {
    input.addEventListener("change", () => {
      const last = Number(to.value);
      set(Number(from.value), Math.abs(last - player.durationS) < 0.01 ? player.durationS : last);
    });
  }
  const all = element("button", { type: "button", onclick: () => set(0, player.durationS) }, "Whole");
  return { parts: [element("label", {}, "Loop from", from), element("label", {}, "to", to, "s"), all], set };
}
