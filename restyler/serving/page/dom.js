// Building the page from text alone: nothing that a file or the server brings is ever read as HTML.

export const byId = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export const button = (text, onclick, attributes = {}) => element("button", { type: "button", onclick, ...attributes }, text);

// 0:07.3
export function clock(seconds) {
  const tenths = Math.floor(seconds * 10 + 1e-6);
  return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
}

export const signed = (value, digits = 1) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;

export function megabytes(bytes) {
  return `${bytes >= 1e7 ? Math.round(bytes / 1e6) : Math.round(bytes / 1e5) / 10} MB`;
}

export const counted = (count, one, many) => `${count} ${count === 1 ? one : many}`;

const SAID_MS = 8_000;
let saying = 0;

// Said by screen readers when they are free, and shown for a while.
export function say(text) {
  clearTimeout(saying);
  byId("status").textContent = text;
  saying = setTimeout(() => { byId("status").textContent = ""; }, SAID_MS);
}

// Shown at once and said at once; stays until it is closed or the next one comes.
export function warn(text) {
  byId("alert-text").textContent = text;
  byId("alert").hidden = false;
}

export function quiet() {
  byId("alert").hidden = true;
  byId("alert-text").textContent = "";
}
