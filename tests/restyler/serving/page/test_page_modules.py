"""The page's modules in Chromium, the player in its own audio engine, offline: every sample of a sound tells which
sound it is of, and where."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyloudnorm
import pytest

RATE_HZ = 48_000
LENGTH = 2 * RATE_HZ  # samples of every sound
FADE = 576  # samples of 12 ms
AHEAD = 960  # samples of 20 ms between asking and happening
LEVELS = {"a": 1.0, "b": 0.5, "c": 0.8}
PACK = """
window.packed = (samples) => {
  const bytes = new Uint8Array(samples.buffer);
  let text = "";
  for (let n = 0; n < bytes.length; n += 32768) text += String.fromCharCode(...bytes.subarray(n, n + 32768));
  return btoa(text);
};
window.unpacked = (text) => new Float32Array(Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0)).buffer);
"""
RENDER = """
async ([levels, length, seconds, steps]) => {
  const { Player } = await import("/page/player.js");
  const rate = 48000;
  const context = new OfflineAudioContext(2, seconds * rate, rate);
  const player = new Player(context, length / rate);
  const add = (slot, place) => {
    const buffer = new AudioBuffer({ length, numberOfChannels: 1, sampleRate: rate });
    const samples = buffer.getChannelData(0);
    for (let n = 0; n < length; n += 1) samples[n] = 0.2 * (place + 1) + (0.1 * n) / length;
    player.add(slot, buffer, levels[slot]);
  };
  Object.keys(levels).forEach((slot, place) => { if (slot !== "c") add(slot, place); });
  const times = [];
  for (const [time, does, value] of steps) {
    context.suspend(time).then(() => {
      if (does === "add") add(value, Object.keys(levels).indexOf(value));
      else player[does](value);
      times.push(Math.round(context.currentTime * rate));
      context.resume();
    });
  }
  player.choose("a");
  player.begin();
  const made = await context.startRendering();
  return { samples: packed(made.getChannelData(0)), right: packed(made.getChannelData(1)), times };
}
"""


@pytest.fixture(scope="module")
def modules(browser: Any, page_files: str) -> Iterator[Any]:
    """An empty page that may import the page's modules."""
    page = browser.new_page()
    page.add_init_script(PACK)
    page.goto(page_files)
    yield page
    page.close()


@pytest.fixture(scope="module")
def rendered(modules: Any) -> Callable[..., tuple[np.ndarray, list[int]]]:
    """rendered(seconds, (time in seconds, method, argument) …): what the player played from context time 0 on, and at
    which samples what was asked for began."""

    def render(seconds: float, *steps: tuple[float, str, Any]) -> tuple[np.ndarray, list[int]]:
        made = modules.evaluate(RENDER, [LEVELS, LENGTH, seconds, [list(step) for step in steps]])
        assert made["samples"] == made["right"]  # mono is heard on both sides
        return np.frombuffer(base64.b64decode(made["samples"]), np.float32).astype(float), [
            time + AHEAD for time in made["times"]
        ]

    return render


def expected(slot: str, place: np.ndarray) -> np.ndarray:
    return LEVELS[slot] * (0.2 * (1 + "abc".index(slot)) + 0.1 * place / LENGTH)


def packed(samples: np.ndarray) -> str:
    return base64.b64encode(samples.astype(np.float32).tobytes()).decode()


def begins(samples: np.ndarray) -> int:
    return int(np.flatnonzero(samples)[0]) - 1  # the first point of the fade is 0


def test_switching_keeps_the_place_to_the_sample_and_fades_with_equal_power(rendered: Callable) -> None:
    steps = [(0.4, "choose", "b"), (0.8, "add", "c"), (0.9, "choose", "c"), (1.2, "choose", "a")]
    samples, (first, _, second, third) = rendered(1.5, *steps)
    start = begins(samples)
    assert start == AHEAD
    place = np.arange(len(samples)) - start
    switches = [first, second, third]
    gain = {slot: np.zeros(len(samples)) for slot in LEVELS}
    for slot, begin, end in zip("abca", [start, *switches], [*switches, None], strict=True):
        rise = np.clip((np.arange(len(samples)) - begin) / FADE, 0, 1)
        fall = np.ones(len(samples)) if end is None else np.clip((end - np.arange(len(samples))) / FADE + 1, 0, 1)
        gain[slot] += np.sin(np.pi / 2 * np.minimum(rise, fall))
    played = sum(gain[slot] * expected(slot, place) for slot in LEVELS)
    # One sample beside its place, a sound would be wrong by 1e-6; the fades are 64 straight lines.
    steady = np.ones(len(samples), bool)
    for begin in (start, *switches):
        steady[begin - 2 : begin + FADE + 2] = False
    assert np.abs(samples - played)[steady & (place > 0)].max() < 3e-7
    assert np.abs(samples - played)[place > FADE].max() < 3e-4
    assert np.abs(np.diff(samples)).max() < 2.1e-3  # the steepest of any such fade: π / 2 / 576 of the higher sound


def test_a_region_loops_without_a_click_and_without_drift(rendered: Callable) -> None:
    """The seam is silent; the same sample of the region comes again after exactly its length, whoever is heard."""
    samples, _ = rendered(3.2, (0.3, "setRegion", [0.5, 0.9]), (1.3, "choose", "b"))
    assert np.abs(np.diff(samples)).max() < 5.1e-3  # 4 ms of a raised cosine
    place = lambda slot, at: (samples[at] / LEVELS[slot] - 0.2 * (1 + "abc".index(slot))) / 0.1 * LENGTH  # noqa: E731
    loop = round(0.4 * RATE_HZ)
    seams = [n for n in np.flatnonzero(samples < 1e-4) if n > 0.4 * RATE_HZ]
    firsts = [n for n in seams if n - 1 not in seams]
    assert len(firsts) >= 6
    assert set(np.diff(firsts)) == {loop}
    begin = firsts[0] % loop
    late = np.arange(round(2.9 * RATE_HZ), round(3.2 * RATE_HZ))
    inside = late[((late - begin) % loop > 500) & ((late - begin) % loop < loop - 500)]
    offset = (place("b", inside) - (inside - begin) % loop) - 0.5 * RATE_HZ
    assert np.ptp(np.round(offset)) == 0 and abs(np.round(offset)[0]) <= 8  # the first zero of the seam is near its end


def test_seeking_fades_over_and_the_end_without_a_loop_is_the_end(rendered: Callable) -> None:
    samples, (_, at) = rendered(1.2, (0.1, "setLooping", False), (0.4, "seek", 1.5))
    after = np.arange(at + FADE + 2, at + round(0.5 * RATE_HZ) - 2)
    assert np.abs(samples[after] - expected("a", 1.5 * RATE_HZ + after - at)).max() < 3e-7
    assert np.all(samples[at + round(0.5 * RATE_HZ) + 2 :] == 0)
    middle = np.arange(at - 2 * FADE, at + 2 * FADE)
    assert samples[middle].min() > 0.2  # never silent while it goes elsewhere


def test_loudness_and_levels_are_those_of_the_standard(modules: Any, vocal: Callable) -> None:
    """Against pyloudnorm: mono and stereo, with a quiet half that the gate leaves out; all levels to the quietest."""
    loud = vocal(3.0, RATE_HZ, channels=2).samples.numpy().T
    gated = np.concatenate([loud, 1e-3 * loud])
    mono = loud[:, :1] * 0.4
    script = """
    async (sounds) => {
      const { loudness, levels } = await import("/page/loudness.js");
      const made = [];
      for (const channels of sounds.map((channels) => channels.map(unpacked))) {
        const [{ length }] = channels;
        const buffer = new AudioBuffer({ length, numberOfChannels: channels.length, sampleRate: 48000 });
        channels.forEach((samples, n) => buffer.copyToChannel(samples, n));
        made.push(await loudness(buffer));
      }
      return [made, [...levels([...[...made, -Infinity].entries()]).values()]];
    }
    """
    sounds = [loud, gated, mono, loud[:9600]]
    measured, levels = modules.evaluate(script, [[packed(channel) for channel in sound.T] for sound in sounds])
    meter = pyloudnorm.Meter(RATE_HZ)
    for sound, lufs in zip(sounds[:3], measured, strict=False):
        assert lufs == pytest.approx(meter.integrated_loudness(np.repeat(sound, 3 - sound.shape[1], axis=1)), abs=0.1)
    # Too short for a block: the mean of all of it, as a block of that length would have it.
    whole = pyloudnorm.Meter(RATE_HZ, block_size=0.2).integrated_loudness(loud[:9600])
    assert measured[3] == pytest.approx(whole, abs=0.1)
    after = np.array(measured) + 20 * np.log10(levels[:4])
    assert np.ptp(after) < 1e-6 and max(levels[:4]) == pytest.approx(1) and levels[4] == 1


def test_a_recording_is_a_wav_file_with_its_samples(modules: Any, tmp_path: Any) -> None:
    import soundfile

    wanted = np.array([0, 0.5, -0.5, 1.5, -1.5, 2.0**-23, -(2.0**-23), 0.123456], np.float32)
    script = """
    async (samples) => {
      const { wav } = await import("/page/recorder.js");
      const chunks = [new Float32Array(samples.slice(0, 3)), new Float32Array(samples.slice(3))];
      return Array.from(new Uint8Array(await wav(chunks, 44100).arrayBuffer()));
    }
    """
    path = tmp_path / "recorded.wav"
    path.write_bytes(bytes(modules.evaluate(script, wanted.tolist())))
    samples, rate = soundfile.read(path)
    assert rate == 44_100 and soundfile.info(path).subtype == "PCM_24"
    assert np.abs(samples - np.clip(wanted, -1, 1)).max() <= 2.0**-23


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_events_are_read_however_the_network_cuts_them(modules: Any, end: str) -> None:
    lines = [
        ": beat",
        "",
        "id: 7",
        "event: mix",
        'data: {"a":',
        'data: "é"}',
        "",
        "data: 1",
        "",
        "id: 9",
        "data: unfinished",
    ]
    script = """
    async ([text, cut]) => {
      const { Parser } = await import("/page/events.js");
      const parser = new Parser();
      const events = [];
      for (let n = 0; n < text.length; n += cut) events.push(...parser.push(text.slice(n, n + cut)));
      return events;
    }
    """
    wanted = [{"id": "7", "event": "mix", "data": '{"a":\n"é"}'}, {"id": None, "event": "message", "data": "1"}]
    for cut in (1, 2, 7, 1000):
        assert modules.evaluate(script, [end.join(lines), cut]) == wanted


@pytest.mark.parametrize(
    ("status", "retry_after_s", "words"),
    [
        (0, None, "No answer from the server"),
        (401, None, "restyler serve"),
        (404, None, "not there any more"),
        (409, None, "Not now: the line."),
        (413, None, "At most 200 MB and 10 minutes"),
        (415, None, "Not a sound file that can be read. The line."),
        (422, None, "That can't be done. The line."),
        (429, 12, "The line. Try again in 12 s."),
        (429, 200, "Try again in 4 min."),
        (503, 3, "Try again in 3 s."),
        (507, None, "Delete takes or jobs"),
        (500, None, "(500). The line."),
    ],
)
def test_every_refusal_has_words(modules: Any, status: int, retry_after_s: float | None, words: str) -> None:
    script = """
    async ([status, after]) => {
      const [{ Refusal }, { explained }] = [await import("/page/api.js"), await import("/page/refusals.js")];
      return explained(new Refusal(status, "the line", null, after), { bytes: 200e6, duration_s: 600 });
    }
    """
    assert words in modules.evaluate(script, [status, retry_after_s])
