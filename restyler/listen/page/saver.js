// Messages that must not get lost: kept in the browser until the server says that they are on its disk.

const DEBOUNCE_MS = 250;
const LONGEST_WAIT_MS = 8000;
const SPOKEN_MS = 10000;

export class Saver {
  // base: the listener's address. told(state): "saved", "saving" or "unsaved". refused(line): the server won't have it.
  constructor(base, told, refused) {
    this.base = base;
    this.told = told;
    this.refused = refused;
    this.key = `listen ${base}`;
    const kept = this.read();
    this.pending = new Map(kept.pending);
    this.sequence = kept.sequence;
    this.waitMs = 500;
    this.running = null;
    addEventListener("online", () => this.flush());
  }

  read() {
    try {
      const kept = JSON.parse(localStorage.getItem(this.key));
      if (Array.isArray(kept?.pending) && Number.isSafeInteger(kept.sequence)) return kept;
    } catch { /* nothing usable: start anew */ }
    return { pending: [], sequence: 0 };
  }

  keep() {
    try {
      localStorage.setItem(this.key, JSON.stringify({ pending: [...this.pending], sequence: this.sequence }));
    } catch { /* storage is off or full: the messages are still in memory */ }
  }

  // Numbers of this browser go on above what the server has seen.
  startFrom(sequence) {
    this.sequence = Math.max(this.sequence, sequence);
  }

  rating(page, field, value) {
    this.sequence += 1;
    this.add(`${page} ${field}`, "rating", { page, field, value, sequence: this.sequence }, DEBOUNCE_MS);
  }

  heard(page, slot) {
    this.add(`${page} heard ${slot}`, "heard", { page, slot }, 0);
  }

  add(name, action, body, delayMs) {
    this.pending.set(name, { action, body });
    this.keep();
    this.told("saving");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), delayMs);
  }

  // What is kept for a page and not acknowledged yet, over what the server knows.
  overlay(page, values, heard) {
    for (const { action, body } of this.pending.values()) {
      if (body.page !== page) continue;
      if (action === "rating") values[body.field] = body.value;
      else if (!heard.includes(body.slot)) heard.push(body.slot);
    }
  }

  // Sends all that waits; true when nothing is left.
  async flush() {
    while (this.running) await this.running;
    if (!this.pending.size) return true;
    this.running = this.send();
    try {
      return await this.running;
    } finally {
      this.running = null;
    }
  }

  async send() {
    clearTimeout(this.timer);
    let refusal = "";
    while (this.pending.size) {
      const [name, message] = this.pending.entries().next().value;
      const answer = await post(this.base, message.action, message.body);
      if (answer.status === 0 || answer.status >= 500 || answer.status === 408) {
        this.told("unsaved");
        this.timer = setTimeout(() => this.flush(), this.waitMs);
        this.waitMs = Math.min(2 * this.waitMs, LONGEST_WAIT_MS);
        return false;
      }
      this.waitMs = 500;
      if (this.pending.get(name) === message) this.pending.delete(name); // else it has changed since
      this.keep();
      if (answer.status >= 400) refusal = answer.line;
    }
    if (refusal) this.refused(refusal);
    else this.told("saved");
    return true;
  }
}

// {status, line}: status 0 where the server can't be reached.
export async function post(base, action, body) {
  try {
    const response = await fetch(`${base}/${action}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(SPOKEN_MS),
    });
    const told = await response.json().catch(() => ({}));
    return { status: response.status, line: told.error ?? "" };
  } catch {
    return { status: 0, line: "no connection to the server" };
  }
}
