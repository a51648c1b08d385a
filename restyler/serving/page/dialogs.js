// Questions that stand in the way until they are answered: null where they are not.

import { button, byId, element } from "./dom.js";

function open(title, parts, confirm, answer) {
  return new Promise((done) => {
    const dialog = byId("dialog");
    let said = null;
    const form = element("form", {
      onsubmit: (event) => {
        event.preventDefault();
        said = answer();
        dialog.close();
      },
    });
    form.append(
      element("h2", { id: "dialog-title" }, title),
      ...parts,
      element("div", { class: "line" }, button("Cancel", () => dialog.close()), element("button", { type: "submit", class: "main" }, confirm)),
    );
    dialog.replaceChildren(form);
    dialog.addEventListener("close", () => done(said), { once: true });
    dialog.showModal();
    form.querySelector("input")?.select();
  });
}

export function askText(title, label, value) {
  const field = element("input", { value, maxlength: 200, required: true });
  return open(title, [element("label", {}, label, field)], "Save", () => field.value);
}

export const confirmed = (title, text, confirm) => open(title, [element("p", {}, text)], confirm, () => true);

// { variations, around } of more like a mix.
export function askLike(name, { defaults, limits }) {
  const variations = element("input", { type: "number", min: 1, max: limits.variations, step: 1, value: Math.min(defaults.variations, limits.variations), required: true });
  const around = element("input", { type: "range", min: 0.05, max: 1, step: 0.05, value: defaults.around });
  const shown = element("span", {}); // an output in a label would be what it labels
  const refresh = () => {
    shown.textContent = Number(around.value).toFixed(2);
    around.setAttribute("aria-valuetext", shown.textContent);
  };
  around.addEventListener("input", refresh);
  refresh();
  const parts = [
    element("label", {}, "Number", variations),
    element("label", {}, "How far from it: 1 shares only its style and what was told ", shown, around),
  ];
  return open(`More like ${name}`, parts, "Make them", () => ({ variations: Number(variations.value), around: Number(around.value) }));
}
