// The keyboard, wherever the focus is; keys that a focused control needs itself stay its own.

export function keys(page, { toggle, submit, asked }) {
  const { slots, state } = page;

  function slotOf(key) {
    if (/^[a-z]$/i.test(key)) return slots.find((slot) => slot === key.toUpperCase());
    if (key === "0") return slots.find((slot) => slot === "R");
    if (/^[1-9]$/.test(key) && state.kind !== "acr") return slots.filter((slot) => slot !== "R")[Number(key) - 1];
    return undefined;
  }

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { target, key } = event;
    if (target.matches("textarea, input[type=number]")) return;
    const slot = slotOf(key);
    if (slot) page.choose(slot);
    else if (key === " " && !target.matches("button, input[type=radio], summary")) toggle();
    else if (key === "Enter" && !target.matches("button, summary")) submit();
    else if (target.matches("input[type=radio]") || !asked.key(key)) return;
    event.preventDefault();
  }

  document.addEventListener("keydown", pressed);
  return { remove: () => document.removeEventListener("keydown", pressed) };
}
