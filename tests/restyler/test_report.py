"""The page: what it carries, that it asks nobody for anything, and that it works in a browser."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
import pytest
import soundfile
import torch
from PIL import Image

from audio.waveform import Waveform
from restyler.pictures import (
    ENVELOPE_COLUMNS,
    HIGHEST_HZ,
    LOWEST_HZ,
    SPECTROGRAM_ROWS,
    envelope_heights,
    envelope_path,
    spectrogram_db,
    spectrogram_png,
)
from restyler.report import MARK, Version, is_report, report_html

RATE = 48_000
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "\"><script>alert('x')</script>&amp;<img src=http://example.org/x onerror=alert(1)>.wav"


class Page(HTMLParser):
    """Start tags with their attributes, and the text outside script and style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def payload(uri: str | None) -> bytes:
    return base64.b64decode((uri or "").partition(",")[2], validate=True)


@pytest.fixture(scope="module")
def versions(vocal: Callable[..., Waveform]) -> list[Version]:
    """A take, and two mixes 6 dB and 12 dB below it."""
    take = vocal(1.0, RATE, channels=2)
    quieter = [Waveform(take.samples * 10 ** (-gain / 20), RATE) for gain in (6, 12)]
    return [
        Version(HOSTILE, take),
        Version("Mix 00", quieter[0], {"seed": "41", "style": HOSTILE}),
        Version("Mix 01", quieter[1], {"seed": "42"}),
    ]


@pytest.fixture(scope="module")
def source(versions: list[Version]) -> str:
    return report_html(HOSTILE, "Three versions", versions)


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_everything_is_inside(page: Page, source: str) -> None:
    addresses = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert len(addresses) == 6  # a sound and a picture each
    assert all((address or "").startswith("data:") for address in addresses)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|WebSocket|import\(", source)
    [policy] = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert "default-src 'none'" in (policy or "")


def test_given_text_is_shown_and_never_run(page: Page) -> None:
    assert len(page.all("script")) == 1
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert page.text.count(HOSTILE) == 4  # title, heading, name, style


def test_a_page_is_known_by_its_mark(source: str, tmp_path: Path) -> None:
    (tmp_path / "ours.html").write_text(source, encoding="utf-8")
    (tmp_path / "other.html").write_text(source.replace(MARK, ""), encoding="utf-8")
    assert is_report(tmp_path / "ours.html")
    assert not is_report(tmp_path / "other.html")
    assert not is_report(tmp_path / "absent.html")


def test_bytes_that_are_no_utf8_can_be_shown(versions: list[Version]) -> None:
    name = b"caf\xe9.wav".decode("utf-8", "surrogateescape")
    report_html(name, "", versions).encode("utf-8")


def test_sounds_are_the_given_ones(page: Page, versions: list[Version]) -> None:
    for element, version in zip(page.all("audio"), versions, strict=True):
        samples, rate = soundfile.read(io.BytesIO(payload(element["src"])))
        assert rate == RATE
        assert np.abs(samples.T - version.waveform.samples.numpy()).max() <= 1.01 / 2**15


def test_switching_is_level_matched(page: Page, versions: list[Version]) -> None:
    gains = [
        float(element["data-gain-db"] or "nan") for element in page.all("div") if element.get("class") == "version"
    ]
    meter = pyloudnorm.Meter(RATE)
    heard = [
        meter.integrated_loudness(version.waveform.samples.numpy().T) + gain
        for version, gain in zip(versions, gains, strict=True)
    ]
    assert heard == pytest.approx([heard[0]] * 3, abs=0.01)
    assert max(gains) == 0  # nothing is turned up, so nothing clips


def test_facts_are_shown(page: Page, versions: list[Version]) -> None:
    loudness = pyloudnorm.Meter(RATE).integrated_loudness(versions[0].waveform.samples.numpy().T)
    shown = [float(number) for number in re.findall(r"loudness (-[0-9.]+) LUFS", page.text)]
    assert shown == pytest.approx([loudness, loudness - 6, loudness - 12], abs=0.15)
    assert "seed 41" in page.text
    assert "seed 42" in page.text


@pytest.mark.parametrize(("side", "shown"), [(0.0, "mono"), (0.1, "side -20 dB"), (1.0, "side 0 dB")])
def test_width_is_side_over_mid(vocal: Callable[..., Waveform], side: float, shown: str) -> None:
    mid, other = vocal(0.5, RATE, seed=1).samples[0], vocal(0.5, RATE, seed=1).samples[0].roll(12_000)
    other = other * side * mid.norm() / other.norm()
    stereo = Waveform(torch.stack([mid + other, mid - other]), RATE)
    assert f"width {shown}" in Page(report_html("", "", [Version("take", stereo)])).text


@pytest.mark.parametrize("other", [(2, RATE - 1, RATE), (2, RATE, 44_100), (1, RATE, RATE)])
def test_only_comparable_versions_are_compared(versions: list[Version], other: tuple[int, int, int]) -> None:
    channels, samples, rate = other
    stranger = Version("other", Waveform(torch.ones(channels, samples), rate))
    with pytest.raises(ValueError, match="one length and sample rate"):
        report_html("", "", [versions[0], stranger])


# -- pictures


@pytest.mark.parametrize("tone_hz", [60.0, 440.0, 3_000.0, 15_000.0])
def test_a_tone_is_a_line_at_its_height(tone_hz: float) -> None:
    tone = np.sin(2 * np.pi * tone_hz * np.arange(RATE) / RATE).astype(np.float32)
    density = spectrogram_db(np.stack([tone, tone]), RATE)
    assert density.shape[0] == SPECTROGRAM_ROWS
    octaves = np.log(HIGHEST_HZ / LOWEST_HZ)
    row = np.log(HIGHEST_HZ / tone_hz) / octaves * SPECTROGRAM_ROWS
    one_bin = np.log(1 + 2 * RATE / 2048 / tone_hz) / octaves * SPECTROGRAM_ROWS
    middle = density[:, density.shape[1] // 2]
    assert abs(np.argmax(middle) + 0.5 - row) <= max(1, one_bin)


def test_white_noise_is_flat_and_its_level_right() -> None:
    noise = np.random.default_rng(0).standard_normal((2, 4 * RATE)).astype(np.float32)
    loud, quiet = spectrogram_db(noise, RATE), spectrogram_db(noise * 0.1, RATE)
    assert np.mean(loud - quiet) == pytest.approx(20, abs=0.01)
    rows = 10 * np.log10(np.mean(10 ** (loud[:, 2:-2] / 10), axis=1))
    assert np.ptp(rows) < 1.5


def test_time_runs_to_the_right_and_nothing_is_above_nyquist() -> None:
    click = np.zeros((2, 22_050), np.float32)
    click[:, 16_537] = 1
    density = spectrogram_db(click, 22_050)
    assert np.argmax(density[-20]) / density.shape[1] == pytest.approx(0.75, abs=0.02)
    above = int(np.log(HIGHEST_HZ / 11_100) / np.log(HIGHEST_HZ / LOWEST_HZ) * SPECTROGRAM_ROWS)
    assert np.all(np.isneginf(density[:above]))


def test_the_spectrograms_colours_rise_with_level() -> None:
    ramp = np.linspace(-100, 0, 500)[None].repeat(3, axis=0)
    image = np.asarray(Image.open(io.BytesIO(spectrogram_png(ramp, 0.0))).convert("L"), dtype=float)
    assert image.shape == ramp.shape
    assert np.all(np.diff(image[0]) >= 0)
    assert np.ptp(image[0][ramp[0] < -81]) == 0  # below the range everything is dark
    assert image[0, -1] - image[0, 0] > 180


def test_the_envelope_shows_peaks_left_up_right_down() -> None:
    samples = np.zeros((2, 60_000), np.float32)
    samples[0, 15_000], samples[1, 45_000] = -0.5, 0.25
    points = [
        tuple(map(float, point.split()))
        for point in envelope_path(envelope_heights(samples), 1.0).strip("MZ").split("L")
    ]
    left, right = points[:ENVELOPE_COLUMNS], points[ENVELOPE_COLUMNS:][::-1]
    assert [point for point in left if point[1] != 50] == [(150, 25)]
    assert [point for point in right if point[1] != 50] == [(450, 62.5)]


def test_the_shortest_take_has_pictures() -> None:
    shortest = Waveform(torch.ones(2, 4_800) * 0.1, RATE)
    assert len(Page(report_html("", "", [Version("take", shortest)])).all("img")) == 1


# -- in a browser

PROBE = """(async () => {
  const wait = ms => new Promise(done => setTimeout(done, ms));
  const press = (key, target = document.body) =>
    target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const gains = () => versions.map(version => version.gain.gain.value);
  const seen = { errors: [] };
  addEventListener("error", event => seen.errors.push(event.message));
  document.addEventListener("securitypolicyviolation", event => seen.errors.push(event.blockedURI));
  seen.native = getComputedStyle(versions[0].audio).display;
  press(" ");
  for (let i = 0; i < 500 && !playing(); i++) await wait(20);
  await wait(200);
  seen.playing = playing();
  seen.lengths = versions.map(version => version.buffer.length);
  seen.first = gains();
  const jumps = [], started = position();
  for (const key of "0121012") {  // a busy machine's audio clock moves in bursts: the smallest jump counts
    const before = position();
    press(key);
    jumps.push(Math.abs(position() - before));
  }
  seen.jump = Math.min(...jumps);
  await wait(200);
  seen.moved = position() !== started;
  seen.second = gains();
  seen.checked = versions.map(version => version.radio.checked);
  match.click();
  await wait(200);
  seen.unmatched = gains();
  match.click();
  press("1");
  seek.value = 0.5;
  seek.dispatchEvent(new Event("input"));
  seen.sought = position();
  press(" ");
  seen.paused = !playing();
  seek.value = 0.3;
  seek.dispatchEvent(new Event("input"));
  seen.position = position();
  const plots = versions[0].element.querySelector(".plots"), box = plots.getBoundingClientRect();
  plots.dispatchEvent(new MouseEvent("click", { clientX: box.left + box.width * 0.25, bubbles: true }));
  seen.clicked = [position(), versions[0].radio.checked, parseFloat(versions[0].line.style.left)];
  press("9");  // no such version
  press(" ", play);  // a focused button presses itself
  seen.still = !playing() && versions[0].radio.checked;
  return seen;
})()"""


def in_browser(page: Path, expression: str) -> Any:
    """What a JavaScript expression (a promise) comes to in headless Chromium, over the DevTools protocol's pipe."""
    (commands, send), (receive, answers) = os.pipe(), os.pipe()
    browser = subprocess.Popen(
        ["bash", "-c", f'exec "$@" 3<&{commands} 4>&{answers}', "browser", str(CHROMIUM), "--headless", "--no-sandbox",
         "--disable-gpu", "--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe",
         f"--user-data-dir={page.parent / 'profile'}"],
        pass_fds=(commands, answers), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(commands)
    os.close(answers)
    with os.fdopen(send, "wb", buffering=0) as to_browser, os.fdopen(receive, "rb") as from_browser:

        def call(method: str, session: str | None = None, **params: Any) -> Any:
            message = {"id": 1, "method": method, "params": params} | ({"sessionId": session} if session else {})
            to_browser.write(json.dumps(message).encode() + b"\0")
            while True:
                answer = b""
                while not answer.endswith(b"\0"):
                    byte = from_browser.read(1)
                    assert byte, "the browser is gone"
                    answer += byte
                found = json.loads(answer[:-1])
                if found.get("id") == 1:
                    return found["result"]

        try:
            target = call("Target.createTarget", url=page.as_uri())["targetId"]
            session = call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            ready = "location.protocol === 'file:' && document.readyState === 'complete'"
            while not call("Runtime.evaluate", session, expression=ready)["result"].get("value"):
                time.sleep(0.05)
            answer = call("Runtime.evaluate", session, expression=expression, awaitPromise=True, returnByValue=True)
            assert "exceptionDetails" not in answer, answer
            return answer["result"]["value"]
        finally:
            browser.terminate()
            browser.wait()


@pytest.mark.skipif(CHROMIUM is None or shutil.which("bash") is None, reason="needs Chromium and bash")
def test_the_page_works_in_a_browser(source: str, tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    file.write_text(source, encoding="utf-8")
    seen = in_browser(file, PROBE)
    assert seen["errors"] == []
    assert seen["native"] == "none"
    assert seen["playing"]
    assert seen["lengths"] == [RATE] * 3
    matched = [10 ** (-gain / 20) for gain in (12, 6, 0)]
    assert seen["first"] == pytest.approx([matched[0], 0, 0], abs=0.005)
    assert seen["second"] == pytest.approx([0, 0, matched[2]], abs=0.005)
    assert seen["unmatched"] == pytest.approx([0, 0, 1], abs=0.005)
    assert seen["checked"] == [False, False, True]
    assert seen["jump"] < 0.02
    assert seen["moved"]
    assert seen["paused"]
    assert 0.47 < seen["sought"] < 1  # the source starts 20 ms later
    assert seen["position"] == pytest.approx(0.3, abs=0.001)
    assert seen["clicked"] == [pytest.approx(0.25, abs=0.01), True, pytest.approx(25, abs=1)]
    assert seen["still"]


@pytest.mark.skipif(CHROMIUM is None or shutil.which("bash") is None, reason="needs Chromium and bash")
def test_a_sound_that_cannot_be_decoded_leaves_the_browsers_own_players(source: str, tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    file.write_text(source, encoding="utf-8")
    seen = in_browser(
        file,
        """(async () => {
          versions[1].audio.src = "data:audio/flac;base64,AAAA";
          for (let i = 0; i < 2; i++) await toggle();
          return [playing(), context === null, getComputedStyle(versions[0].audio).display,
                  getComputedStyle(document.querySelector(".transport")).display];
        })()""",
    )
    assert seen == [False, True, "block", "none"]
