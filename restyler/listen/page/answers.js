// What is answered on a page: a slider for each sound, or one choice.

import { element } from "./dom.js";

const BANDS = ["Bad", "Poor", "Fair", "Good", "Excellent"];
const ACR = ["Bad", "Poor", "Fair", "Good", "Excellent"];
const CCR = ["Much worse", "Worse", "Slightly worse", "About the same", "Slightly better", "Better", "Much better"];

// Each slider from 0 to 100 can be moved while its own sound plays.
export function sliders(page) {
  const { state, slots, values, player, buttons } = page;
  const fields = slots.filter((slot) => slot !== "R");
  const rows = new Map();
  for (const slot of fields) {
    const slider = element("input", { type: "range", min: 0, max: 100, step: 1, value: values[slot] ?? 0, "aria-label": `Rating of sound ${slot}`, disabled: true });
    const shown = element("output", {});
    const rate = () => page.rate(slot, Number(slider.value));
    slider.addEventListener("input", rate);
    slider.addEventListener("click", () => { if (!(slot in values)) rate(); }); // at 0 already: no input event
    rows.set(slot, { slider, shown, row: element("div", { class: "row" }, buttons.get(slot), slider, shown) });
  }
  const reference = slots.includes("R") ? [element("div", { class: "sounds" }, buttons.get("R"))] : [];
  const bands = element("div", { class: "bands", "aria-hidden": "true" }, ...BANDS.map((band) => element("span", {}, band)));
  return {
    part: element("div", { role: "group", "aria-label": state.question }, ...reference, bands, ...[...rows.values()].map(({ row }) => row)),
    fields,
    unanswered: (missing) => `Still to rate: ${missing.join(", ")}.`,
    refresh() {
      for (const [slot, { slider, shown, row }] of rows) {
        const on = player.playing && player.slot === slot;
        const rated = slot in values;
        const entered = on && slider.disabled;
        slider.disabled = !on;
        if (rated) slider.value = values[slot];
        const band = BANDS[Math.min(4, Math.floor(Number(slider.value) / 20))];
        slider.setAttribute("aria-valuetext", rated ? `${slider.value}, ${band}` : "not rated");
        shown.textContent = rated ? slider.value : "–";
        row.classList.toggle("unrated", !rated);
        if (entered && !document.activeElement?.matches("textarea, input[type=number]")) slider.focus({ preventScroll: true });
      }
    },
    // key: of the keyboard; true where it moved the slider.
    key(key) {
      const row = player.playing && rows.get(player.slot);
      if (!row) return false;
      const now = Number(row.slider.value);
      const moved = { ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1, PageDown: now - 10, PageUp: now + 10, Home: 0, End: 100 }[key];
      if (moved === undefined) return false;
      row.slider.value = Math.min(100, Math.max(0, moved));
      page.rate(player.slot, Number(row.slider.value));
      return true;
    },
  };
}

// Radio buttons: which of two, or a whole number of a scale.
export function choices(page) {
  const { state, slots, values, buttons } = page;
  const answers = offered(state);
  const radios = answers.map(([value, label], index) => {
    const radio = element("input", { type: "radio", name: "choice", id: `choice${index}`, value });
    radio.addEventListener("change", () => page.rate("choice", value));
    return { value, radio, part: element("label", { for: `choice${index}` }, radio, label) };
  });
  return {
    part: element("div", {},
      element("div", { class: "sounds", role: "group", "aria-label": "Sounds" }, ...slots.map((slot) => buttons.get(slot))),
      element("fieldset", { class: "choices" }, element("legend", {}, "Your answer"), ...radios.map(({ part }) => part))),
    fields: ["choice"],
    unanswered: () => "Still to answer.",
    refresh() {
      for (const { value, radio } of radios) radio.checked = values.choice === value;
    },
    key(key) {
      if (state.kind === "acr" && /^[1-5]$/.test(key)) {
        page.rate("choice", Number(key));
        return true;
      }
      const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[key];
      if (step === undefined) return false;
      const now = answers.findIndex(([value]) => value === values.choice);
      const moved = now < 0 ? (step > 0 ? 0 : answers.length - 1) : Math.min(answers.length - 1, Math.max(0, now + step));
      if (now !== moved) page.rate("choice", answers[moved][0]);
      return true;
    },
  };
}

function offered(state) {
  if (state.kind === "abx") return [["A", "X is A"], ["B", "X is B"]];
  if (state.kind === "ab") return [["A", "A"], ...(state.ties ? [["tie", "No difference"]] : []), ["B", "B"]];
  if (state.kind === "acr") return ACR.map((label, index) => [index + 1, `${index + 1} ${label}`]);
  return CCR.map((label, index) => [index - 3, `${label} (${index > 3 ? "+" : ""}${index - 3})`]);
}
