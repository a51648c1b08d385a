// What every refusal means to somebody who sits before the page.

import { Refusal } from "./api.js";
import { byId, megabytes, warn } from "./dom.js";

function inTime(seconds) {
  if (seconds === null) return "in a moment";
  return seconds < 90 ? `in ${Math.max(1, Math.ceil(seconds))} s` : `in ${Math.ceil(seconds / 60)} min`;
}

function sentence(line) {
  const trimmed = line.trim();
  if (!trimmed) return "";
  return trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? "" : ".");
}

// In words; limits: of /v1/model, or null where they are not known yet.
export function explained(refusal, limits) {
  const line = sentence(refusal.line);
  const most = limits ? `At most ${megabytes(limits.bytes)} and ${Math.round(limits.duration_s / 60)} minutes are taken. ` : "";
  switch (refusal.status) {
    case 0: return navigator.onLine
      ? "No answer from the server. Is it still running? Nothing here is lost; try again."
      : "This computer is offline. Nothing here is lost; try again when it is back.";
    case 401:
    case 403: return `The server doesn't know this page's key. ${line} Open the link that “restyler serve” printed when it started, or enter a key.`;
    case 404: return `It is not there any more. ${line}`;
    case 409: return `Not now: ${refusal.line.trim() || "something else uses it"}.`.replace(/\.\.$/, ".");
    case 413: return `Too large. ${most}${line}`;
    case 415: return `Not a sound file that can be read. ${line} WAV, FLAC, AIFF, OGG and MP3 can.`;
    case 422: return `That can't be done. ${line}`;
    case 429: return `Too much at once. ${line} Try again ${inTime(refusal.retryAfterS)}.`;
    case 503: return `The server is not ready: it is starting or stopping. Try again ${inTime(refusal.retryAfterS)}.`;
    case 507: return `Your space on the server is full. ${line} Delete takes or jobs that you don't need any more.`;
    default: return `The server could not do it (${refusal.status}). ${line}`;
  }
}

// Runs what a person asked for, and tells them where it was refused; whether it worked. about: what it was done with.
export async function attempt(limits, work, refused = () => {}, about = "") {
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    warn((about && `${about}: `) + explained(error, limits()));
    if (error.status === 401 || error.status === 403) byId("key-part").hidden = false;
    refused(error);
    return false;
  }
}
