// The list of what can be heard: the take and its mixes; in blind mode letters in an order drawn by chance.

import { TAKE } from "./deck.js";
import { button, byId, element, signed } from "./dom.js";
import { paint } from "./wave.js";

export const mixName = (mix) => mix.name || `Mix ${String(mix.number).padStart(2, "0")}`;

function facts(mix, knobs) {
  const styles = Object.entries(mix.styles ?? {}).map(([name, share]) => name.replaceAll("_", " ") + (share < 1 ? ` ${Math.round(100 * share)} %` : ""));
  const drawn = Object.entries(mix.drawn ?? {}).map(([control, value]) => {
    const [name, { sign }] = Object.entries(knobs).find(([, knob]) => knob.control === control) ?? [control, { sign: 1 }];
    return `${name} ${signed(sign * value)} dB`;
  });
  const levels = [`${mix.loudness_lufs.toFixed(1).replace("-", "−")} LUFS`, ...(mix.limited ? ["quieter than asked, for its peaks"] : [])];
  const reverb = mix.chosen?.reverb;
  const room = reverb ? [`in ${reverb.slice(0, reverb.lastIndexOf(" "))}`] : [];
  return [...styles, `seed ${mix.seed}`, ...drawn, ...room, ...levels].join(" · ");
}

function shuffled(items) {
  const order = [...items];
  for (let n = order.length - 1; n > 0; n -= 1) {
    const other = Math.floor((crypto.getRandomValues(new Uint32Array(1))[0] / 2 ** 32) * (n + 1));
    [order[n], order[other]] = [order[other], order[n]];
  }
  return order;
}

export class Versions {
  // does: { hear(slot), changed(), and of a mix pick, rename, like, save(mix, format), chain(mix, format) }.
  // knobs: of /v1/model.
  constructor(knobs, does) {
    this.knobs = knobs;
    this.does = does;
    this.rows = new Map(); // slot → what has to be kept in step
    this.order = [];
    this.blind = false;
    this.picked = new Set(); // slots, in blind mode: what was picked before would tell, and so would a take without a star
    this.key = "";
  }

  // The slots, from first to last as they are shown; a digit key is the place in it.
  update(take, job, deck) {
    const mixes = job?.mixes ?? [];
    const slots = [TAKE, ...mixes.map(({ number }) => number)];
    if (!this.blind) this.order = slots;
    const key = JSON.stringify([this.blind, [...this.picked], take.name, job?.id, mixes]);
    if (key !== this.key) this.build(take, mixes);
    this.key = key;
    for (const [slot, row] of this.rows) this.refresh(slot, row, deck);
  }

  setBlind(blind) {
    if (blind) this.order = shuffled(this.order);
    this.picked.clear();
    this.blind = blind;
  }

  build(take, mixes) {
    const focused = document.activeElement?.closest?.("#versions") ? document.activeElement.dataset.key : null;
    this.rows = new Map(this.order.map((slot, place) => [slot, this.row(slot, place, take, mixes.find(({ number }) => number === slot))]));
    byId("versions").replaceChildren(...[...this.rows.values()].map(({ item }) => item));
    if (focused) [...document.querySelectorAll("#versions [data-key]")].find(({ dataset }) => dataset.key === focused)?.focus();
  }

  row(slot, place, take, mix) {
    const { does } = this;
    const sign = this.blind ? String.fromCharCode(65 + place) : String(place);
    const name = this.blind ? `Sound ${sign}` : mix ? mixName(mix) : "Raw take";
    const hear = button(sign, () => does.hear(slot), { class: "hear", "data-key": `hear ${slot}`, "aria-label": `Hear ${name}` });
    const parts = [hear, element("span", { class: "name" }, name)];
    const canvas = this.blind ? null : element("canvas", { "aria-hidden": "true" });
    if (canvas) parts.push(canvas);
    if (mix || this.blind) {
      const picked = this.blind ? this.picked.has(slot) : mix.picked;
      parts.push(button(picked ? "★" : "☆", () => (this.blind ? this.pickBlindly(slot) : does.pick(mix)), {
        class: "pick", "data-key": `pick ${slot}`, "aria-pressed": String(picked), "aria-label": `Pick ${name}`,
      }));
    }
    if (!this.blind) parts.push(element("span", { class: "facts" }, mix ? facts(mix, this.knobs) : "as it is, turned to the loudness of the mixes"));
    if (mix && !this.blind) {
      const act = (text, what, label) => button(text, what, { class: "text", "data-key": `${text} ${slot}`, "aria-label": `${label}: ${name}` });
      parts.push(element("div", { class: "line actions" },
        act("More like this", () => does.like(mix), "More like this"),
        act("Rename", () => does.rename(mix), "Rename"),
        ...["wav", "flac"].map((format) => act(format.toUpperCase(), () => does.save(mix, format), `Download as ${format.toUpperCase()}`)),
        ...(mix.has_chain ? [["Chain", "yaml"], ["Chain to read", "txt"]] : []).map(([text, format]) => act(text, () => does.chain(mix, format), text))));
    }
    return { item: element("li", { class: this.blind ? "version blind" : "version" }, ...parts), hear, canvas, painted: null };
  }

  pickBlindly(slot) {
    if (!this.picked.delete(slot)) this.picked.add(slot);
    this.does.changed();
  }

  refresh(slot, row, deck) {
    const on = deck.player.slot === slot;
    const sound = deck.slots.get(slot);
    row.item.classList.toggle("on", on);
    row.hear.setAttribute("aria-pressed", String(on));
    row.hear.setAttribute("aria-busy", String(sound?.state === "loading"));
    const look = `${on} ${row.canvas?.clientWidth} ${Boolean(sound?.outline)}`;
    if (!row.canvas || row.painted === look) return;
    row.painted = look;
    paint(row.canvas, sound?.outline, on ? "--accent" : "--wave");
  }

  repaint() {
    for (const row of this.rows.values()) row.painted = null;
  }
}
