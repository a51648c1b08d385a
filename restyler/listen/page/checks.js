// Before the first page: the level, then headphones.

import { element, show } from "./dom.js";
import { Gone, audio, load } from "./sounds.js";

async function play(state, base, loop, started, ended) {
  const context = audio(state.sample_rate_hz);
  await context.resume();
  const buffer = await load(context, `${base}/sound/${state.sound}`);
  const source = new AudioBufferSourceNode(context, { buffer, loop });
  source.connect(context.destination);
  source.onended = ended;
  source.start();
  started(source);
}

// The check was passed in another window meanwhile: on to where the listener is.
function passed(error, done) {
  if (!(error instanceof Gone)) throw error;
  done();
}

export function level(state, base, insist) {
  return new Promise((done) => {
    let source = null;
    let loading = false; // a second noise could not be stopped any more
    let left = false;
    const hear = element("button", { type: "button", "aria-pressed": "false" }, "Play noise");
    const next = element("button", { type: "button", class: "main", disabled: true }, "My level is set");
    const started = (made) => {
      loading = false;
      source = made;
      if (left) source.stop();
      else next.disabled = false;
    };
    hear.addEventListener("click", async () => {
      if (loading) return;
      if (source) {
        source.stop();
        source = null;
        hear.setAttribute("aria-pressed", "false");
        return;
      }
      loading = true;
      hear.setAttribute("aria-pressed", "true");
      await play(state, base, true, started, () => {}).catch((error) => passed(error, done));
    });
    next.addEventListener("click", async () => {
      left = true;
      next.disabled = true;
      source?.stop();
      await insist("level", {});
      done();
    });
    show(
      element("h1", {}, "Set your level"),
      element("p", {}, "Put on headphones. Play the noise and set your computer's volume so that it is comfortable."
        + " It is as loud as the sounds of the test. Then leave the volume as it is until the end."),
      element("div", { class: "tools" }, hear, next),
    );
  });
}

export function headphones(state, base, insist) {
  return new Promise((done) => {
    const hear = element("button", { type: "button" }, "Play the three tones");
    const choices = [1, 2, 3].map((answer) => {
      const choice = element("button", { type: "button", disabled: true }, ["First", "Second", "Third"][answer - 1]);
      choice.addEventListener("click", async () => {
        for (const each of choices) each.disabled = true;
        await insist("check", { number: state.number, answer });
        done();
      });
      return choice;
    });
    const ended = () => {
      hear.disabled = false;
      for (const each of choices) each.disabled = false;
    };
    hear.addEventListener("click", () => {
      hear.disabled = true;
      return play(state, base, false, () => {}, ended).catch((error) => passed(error, done));
    });
    show(
      element("h1", {}, `Headphone check ${state.number + 1} of ${state.of}`),
      element("p", {}, "You will hear three tones. Which one is the quietest?"),
      element("div", { class: "tools" }, hear),
      element("div", { class: "tools", role: "group", "aria-label": "The quietest tone" }, ...choices),
    );
  });
}
