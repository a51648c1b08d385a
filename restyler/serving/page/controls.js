// What is asked of the mixes: only what somebody has set is sent, so that all else is the model's own.

import { button, byId, element, signed } from "./dom.js";

const NAMES = { brightness: "Brightness", space: "Space", compression: "Compression", width: "Width", strength: "Strength" };
const HELP = {
  brightness: "4 to 16 kHz against 200 Hz to 2 kHz, mix against take",
  space: "how high the level stays after a sound: reverb and echoes",
  compression: "how much the spread of the level shrinks",
  width: "side against middle; a mono take starts at −60 dB",
  strength: "0 % is the take, 100 % all of the mix",
};
const WAYS = { codec: "As decoded", residual: "Detail kept", transfer: "Effect chain" };
const STYLES = { any: "A style for each", none: "Not told" };
const NUMBERS = ["lufs", "seed", "guidance", "sigma", "spread", "steps", "peak_dbtp"];

// A slider that is not told until it is moved, and again when its button is pressed.
class Knob {
  constructor(name, { lowest, highest, step, shown, untold, start }) {
    this.name = name;
    this.shown = shown;
    this.untold = untold;
    this.start = start;
    this.input = element("input", { type: "range", id: name, min: lowest, max: highest, step, oninput: () => this.tell(true) });
    this.output = element("output", { for: name });
    this.reset = button("clear", () => this.tell(false), { class: "text", "aria-label": `Don't tell ${NAMES[name] ?? name}` });
    this.row = element("div", { class: "knob", title: HELP[name] }, element("label", { for: name }, NAMES[name] ?? name), this.output, this.reset, this.input);
    this.tell(false);
  }

  tell(told) {
    if (!told && this.reset === document.activeElement) this.input.focus();
    this.told = told;
    if (!told) this.input.value = this.start;
    const text = told ? this.shown(Number(this.input.value)) : this.untold;
    this.output.textContent = text;
    this.input.setAttribute("aria-valuetext", text);
    this.row.classList.toggle("untold", !told);
    this.reset.hidden = !told;
  }

  get value() {
    return this.told ? Number(this.input.value) : undefined;
  }
}

export class Controls {
  // model: /v1/model. references: files were chosen as references. submitted: the mixes are wanted.
  constructor(model, { references, submitted }) {
    this.model = model;
    this.references = []; // { take, weight }
    const { defaults, limits } = model;
    const variations = byId("variations");
    variations.max = limits.variations;
    variations.value = Math.min(defaults.variations, limits.variations);
    byId("style").append(
      element("option", { value: "" }, "Model’s choice"),
      ...["any", "none", ...model.styles].map((name) => element("option", { value: name }, STYLES[name] ?? name.replaceAll("_", " "))),
    );
    byId("render").append(...model.ways.map((way) => element("option", { value: way, selected: way === defaults.render }, WAYS[way] ?? way)));
    for (const name of NUMBERS) if (Number.isFinite(defaults[name])) byId(name).placeholder = String(Number(defaults[name].toPrecision(4)));
    this.knobs = Object.entries(model.knobs).map(([name, { lowest, highest }]) => new Knob(name, {
      lowest: Math.ceil(10 * lowest) / 10, highest: Math.floor(10 * highest) / 10, step: 0.1, shown: (value) => `${signed(value)} dB`, untold: "not told", start: (lowest + highest) / 2,
    }));
    const percent = (value) => `${Math.round(100 * value)} %`;
    this.knobs.push(new Knob("strength", { lowest: 0, highest: 1, step: 0.05, shown: percent, untold: percent(defaults.strength), start: defaults.strength }));
    byId("knobs").append(...this.knobs.map(({ row }) => row));
    byId("dice").addEventListener("click", () => { byId("seed").value = crypto.getRandomValues(new Uint32Array(1))[0]; });
    byId("reference").addEventListener("click", () => byId("reference-file").click());
    byId("reference-file").addEventListener("change", (event) => {
      references([...event.target.files]);
      event.target.value = "";
    });
    byId("controls").addEventListener("submit", (event) => {
      event.preventDefault();
      submitted();
    });
    byId("controls").addEventListener("input", () => this.mark(null));
  }

  addReference(take) {
    this.references.push({ take, weight: 1 });
    this.showReferences();
  }

  showReferences() {
    byId("references").replaceChildren(...this.references.map((reference) => element("li", {},
      element("span", {}, reference.take.name),
      element("input", {
        type: "number", min: 0.01, max: 1000, step: "any", value: reference.weight, required: true, "aria-label": `Weight of ${reference.take.name}`,
        oninput: (event) => { reference.weight = Number(event.target.value); },
      }),
      button("remove", () => {
        this.references = this.references.filter((other) => other !== reference);
        this.showReferences();
        byId("reference").focus();
      }, { class: "text", "aria-label": `Remove ${reference.take.name}` }))));
  }

  // The body of POST /v1/jobs.
  request(take) {
    const wished = { take: take.id, variations: Number(byId("variations").value), render: byId("render").value };
    const style = byId("style").value;
    if (style) wished.style = style;
    for (const name of NUMBERS) if (byId(name).value !== "") wished[name] = Number(byId(name).value);
    for (const { name, value } of this.knobs) if (value !== undefined) wished[name] = value;
    if (this.references.length) wished.reference = this.references.map(({ take: { id }, weight }) => ({ take: id, weight }));
    return wished;
  }

  // Shows which field was refused; null: none.
  mark(field) {
    for (const marked of document.querySelectorAll("#controls [aria-invalid]")) marked.removeAttribute("aria-invalid");
    const refused = field && /^[a-z_]+$/.test(field) ? document.querySelector(`#controls #${field}`) : null;
    if (!refused?.matches("input, select")) return;
    refused.setAttribute("aria-invalid", "true");
    refused.closest("details")?.setAttribute("open", "");
    refused.focus();
  }
}
