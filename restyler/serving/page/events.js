// Server-sent events over fetch, because EventSource can't send a key: goes on after the last event that came, until the
// job has ended.

import { Refusal, call } from "./api.js";

const SHORTEST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8_000;
const SILENCE_MS = 40_000; // the server beats every 15 s: a longer silence is a dead connection
export const ENDED = ["done", "failed", "cancelled"];

// Splits what comes into events {id, event, data}; comments and unfinished events give none.
export class Parser {
  constructor() {
    this.rest = "";
    this.fields = { id: null, event: "message", data: [] };
  }

  push(text) {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    const events = [];
    for (const line of lines) {
      if (line === "") {
        if (this.fields.data.length) events.push({ ...this.fields, data: this.fields.data.join("\n") });
        this.fields = { id: null, event: "message", data: [] };
        continue;
      }
      const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (name === "data") this.fields.data.push(value);
      else if (name === "id" || name === "event") this.fields[name] = value;
    }
    return events;
  }
}

async function listen(path, state, told) {
  const silence = new AbortController();
  const stop = () => silence.abort();
  state.signal.addEventListener("abort", stop);
  let timer = setTimeout(stop, SILENCE_MS);
  try {
    const headers = { Accept: "text/event-stream", ...(state.last === null ? {} : { "Last-Event-ID": state.last }) };
    const response = await call("GET", path, { headers, signal: silence.signal });
    state.waitMs = SHORTEST_WAIT_MS;
    state.lost(false);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new Parser();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(stop, SILENCE_MS);
      for (const { id, event, data } of parser.push(value)) {
        if (state.signal.aborted) return;
        const said = JSON.parse(data);
        told(event, said);
        if (id !== null) state.last = id;
        if (event === "state" && ENDED.includes(said.state)) state.ended = true;
      }
    }
  } finally {
    clearTimeout(timer);
    state.signal.removeEventListener("abort", stop);
  }
}

// told(event, data) for every event of a job; lost(whether there is no connection); ends with the job or `signal`.
// Throws the Refusal where there is no such job or key.
export async function follow(job, told, lost, signal) {
  const state = { signal, lost, last: null, ended: false, waitMs: SHORTEST_WAIT_MS };
  while (!state.ended && !signal.aborted) {
    try {
      await listen(`/jobs/${encodeURIComponent(job)}/events`, state, told);
      if (state.ended || signal.aborted) return;
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refusal && [401, 403, 404].includes(error.status)) throw error;
      if (error instanceof SyntaxError) throw error;
      state.askedWaitMs = 1000 * (error.retryAfterS ?? 0);
    }
    lost(true);
    await new Promise((done) => setTimeout(done, Math.max(state.waitMs, state.askedWaitMs ?? 0)));
    state.waitMs = Math.min(2 * state.waitMs, LONGEST_WAIT_MS);
    state.askedWaitMs = 0;
  }
}
