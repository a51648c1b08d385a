// Fetching and decoding, one sound after another, until it works.

const AGAIN_MS = 1500;

export async function load(context, url) {
  for (;;) {
    try {
      const response = await fetch(url, { cache: "no-store" });
      if (response.ok) return await context.decodeAudioData(await response.arrayBuffer());
      if (response.status === 404) throw new Gone();
    } catch (error) {
      if (error instanceof Gone) throw error;
    }
    await new Promise((done) => setTimeout(done, AGAIN_MS));
  }
}

// The page was finished elsewhere.
export class Gone extends Error {}

let shared = null;

export function audio(sampleRate) {
  shared ??= new AudioContext({ sampleRate, latencyHint: "interactive" });
  return shared;
}
