"""The report of `restyler sample`: what stands on it, that it is safe, and that it plays beside its files."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch

from audio.spectrum import THIRD_OCTAVES_HZ
from audio.waveform import Waveform
from restyler.command import shown
from restyler.pictures import curve_path
from restyler.report import report_html
from restyler.report_take import PAGE, TAKE
from restyler.report_versions import Shown, Version
from restyler.sample import main

RATE = 48_000
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "x\"><script>alert('x')<﹨script>&amp;<img src=q onerror=alert(1)>'.wav"
Files = Callable[..., Path]


@pytest.fixture(scope="module")
def browsing() -> ModuleType:
    """`in_browser` and `Page` of the tests of the page itself."""
    spec = importlib.util.spec_from_file_location("page_tests", Path(__file__).with_name("test_report.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["page_tests"] = module
    spec.loader.exec_module(module)
    return module


def restyle(model: Path, take: Path, *arguments: object) -> int:
    return main([str(take), "--model", str(model), "--style", "none", *map(str, arguments)])


def test_the_page_tells_of_every_mix_and_asks_nobody(
    model: Path, vocal_file: Files, tmp_path: Path, browsing: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    take = vocal_file(HOSTILE, seconds=1.2)
    assert (
        restyle(
            model,
            take,
            "--out",
            tmp_path / "out",
            "--variations",
            2,
            "--seed",
            7,
            "--report",
            "--lufs",
            -30,
            "--width",
            1,
        )
        == 0
    )
    folder = tmp_path / "out" / take.stem
    assert f"{shown(folder / PAGE)}  open this page" in capsys.readouterr().out
    assert sorted(file.name for file in folder.iterdir()) == ["mix_00.wav", "mix_01.wav", PAGE]
    source = (folder / PAGE).read_text(encoding="utf-8")
    page = browsing.Page(source)
    assert len(page.all("script")) == 1
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert page.text.count(HOSTILE) == 2  # title and heading
    for part in (
        "seed 7",
        "seed 8",
        "lufs -30.0",
        "guard on",
        "controls width +1.0 dB",
        "strength 1.0",
        "steps 2",
        "loudness -30.0 LUFS",
    ):
        assert part in page.text, part
    assert page.text.count("Guards") == 2 and "loudness: at most" in page.text
    addresses = [
        value or "" for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")
    ]
    assert len(addresses) == 6 and all(address.startswith("data:") for address in addresses)


def test_a_page_is_written_once_unless_told_and_never_over_another_file(
    model: Path, vocal_file: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take, out = vocal_file("take.wav", seconds=0.3), tmp_path / "out"
    common = (model, take, "--out", out, "--variations", 1, "--report")
    assert restyle(*common) == 0
    first = (out / "take" / PAGE).read_bytes()
    (out / "take" / "mix_00.wav").unlink()
    assert restyle(*common) == 2
    assert "report.html: already exists; use another --out, or --overwrite" in capsys.readouterr().err
    assert restyle(*common, "--overwrite") == 0
    assert (out / "take" / PAGE).read_bytes() == first
    (out / "take" / PAGE).write_text("<title>somebody's own page</title>")
    assert restyle(*common, "--overwrite") == 2
    assert "report.html: already exists; use another --out\n" in capsys.readouterr().err
    assert "own page" in (out / "take" / PAGE).read_text()
    (out / "take" / PAGE).unlink()
    (out / "take" / TAKE).write_bytes(b"somebody's own sound")
    assert restyle(*common, "--overwrite") == 2
    assert (out / "take" / TAKE).read_bytes() == b"somebody's own sound"
    (out / "take" / TAKE).unlink()
    assert restyle(*common, "--overwrite") == 0
    soundfile.write(out / "take" / TAKE, np.full((9_600, 2), 0.1), RATE)
    assert restyle(*common, "--overwrite", "--reference", out / "take" / TAKE) == 2
    assert "the report would replace the reference" in capsys.readouterr().err


def test_a_fitted_chain_can_be_read_on_the_page(
    model: Path, vocal_file: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restyler.transfer.fit.STEPS", 2)  # how well it fits is not the question here
    take, out = vocal_file("take.wav", seconds=0.6), tmp_path / "out"
    arguments = ("--out", out, "--variations", 1, "--report", "--render", "transfer", "--guard", "off")
    assert restyle(model, take, *arguments) == 0
    source = (out / "take" / PAGE).read_text(encoding="utf-8")
    chain = (out / "take" / "mix_00.txt").read_text(encoding="utf-8")
    folded = re.search(r"<details><summary>Chain</summary><pre>(.*?)</pre>", source, re.DOTALL)
    assert folded is not None and "threshold" in chain
    assert folded[1].replace("&#x27;", "'").replace("&lt;", "<").replace("&amp;", "&") == chain


# -- curves


def test_the_spectrum_is_that_of_scipy_and_told_against_the_take(browsing: ModuleType) -> None:
    noise = np.random.default_rng(0).normal(size=(2, 4 * RATE)) * 0.05
    shelved = scipy.signal.lfilter([1, -0.8], 1, noise)
    take, mix = (Waveform(torch.from_numpy(one).float(), RATE) for one in (noise, shelved))
    shown = [Shown.of(Version(name, one)) for name, one in (("take", take), ("mix", mix))]
    found = shown[1].thirds_db - shown[0].thirds_db
    _hz, response = scipy.signal.freqz([1, -0.8], worN=[*THIRD_OCTAVES_HZ[10:]], fs=RATE)
    assert found[10:] == pytest.approx(20 * np.log10(np.abs(response)), abs=0.5)
    page = browsing.Page(report_html("", "", [Version("take", take), Version("mix", mix)]))
    told = re.search(r"20 kHz: ([+-][0-9.]+) to ([+-][0-9.]+) dB against the first", page.text)
    apart = found + shown[0].loudness_lufs - shown[1].loudness_lufs
    assert told is not None
    assert [float(told[1]), float(told[2])] == pytest.approx([apart.min(), apart.max()], abs=0.06)


def test_a_curve_goes_from_edge_to_edge_and_stays_in_its_box() -> None:
    assert curve_path(np.array([0.0, -30.0, -90.0, np.nan_to_num(-np.inf)]), top_db=0, range_db=60) == (
        "M0.0 0.0L200.0 50.0L400.0 100.0L600.0 100.0"
    )


# -- beside its files, in a browser

PROBE = """(async () => {
  const wait = ms => new Promise(done => setTimeout(done, ms));
  const seen = { errors: [] };
  document.addEventListener("securitypolicyviolation", event => seen.errors.push(event.violatedDirective));
  addEventListener("error", event => seen.errors.push(event.message));
  await toggle();
  for (let i = 0; i < 250 && !(playing() && versions[0].audio.currentTime > 0.2); i++) await wait(20);
  seen.playing = playing() && versions.every(version => !version.audio.paused);
  seen.first = versions.map(version => version.audio.volume);
  choose(2);
  await wait(100);
  seen.second = versions.map(version => version.audio.volume);
  seen.apart = Math.abs(versions[2].audio.currentTime - versions[0].audio.currentTime);
  match.click();
  seen.unmatched = versions.map(version => version.audio.volume);
  jump(1.0);
  await wait(300);
  seen.sought = position();
  await toggle();
  seen.paused = !playing() && versions.every(version => version.audio.paused);
  seen.kept = position();
  return seen;
})()"""


@pytest.mark.skipif(CHROMIUM is None or shutil.which("bash") is None, reason="needs Chromium and bash")
def test_a_page_beside_its_sounds_switches_level_matched(
    vocal: Callable[..., Waveform], tmp_path: Path, browsing: ModuleType
) -> None:
    take = vocal(2.0, RATE, channels=2)
    versions, names = [], ("take.flac", "mix%20a.wav", "mix_b.wav")
    for name, gain_db in zip(names, (0, 6, 12), strict=True):
        quieter = Waveform(take.samples * 10 ** (-gain_db / 20), RATE)
        soundfile.write(tmp_path / name.replace("%20", " "), quieter.samples.numpy().T, RATE, subtype="PCM_24")
        versions.append(Version(name, quieter, link=name))
    page = tmp_path / PAGE
    page.write_text(report_html("Beside", "", versions), encoding="utf-8")
    assert page.stat().st_size < 1_000_000
    seen = browsing.in_browser(page, PROBE)
    assert seen["errors"] == []
    assert seen["playing"]
    matched = [10 ** (-gain / 20) for gain in (12, 6, 0)]
    assert seen["first"] == pytest.approx([matched[0], 0, 0], abs=0.005)
    assert seen["second"] == pytest.approx([0, 0, matched[2]], abs=0.005)
    assert seen["unmatched"] == pytest.approx([0, 0, 1], abs=0.005)
    assert seen["apart"] < 0.1
    assert 1.0 <= seen["sought"] < 1.9
    assert seen["paused"] and abs(seen["kept"] - seen["sought"]) < 0.5


def test_long_takes_are_played_from_the_files(
    model: Path, vocal_file: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restyler.report_take.EMBEDDED_S", 1.0)
    take, out = vocal_file("long.wav", seconds=0.6, rate=16_000), tmp_path / "out"
    arguments = ("--out", out, "--variations", 1, "--report", "--guard", "off", "--render", "codec", "--steps", 1)
    assert restyle(model, take, *arguments) == 0
    assert sorted(file.name for file in (out / "long").iterdir()) == ["mix_00.wav", PAGE, TAKE]
    source = (out / "long" / PAGE).read_text(encoding="utf-8")
    assert re.findall(r'<audio [^>]*src="([^"]*)"', source) == [TAKE, "mix_00.wav"]
    assert soundfile.info(out / "long" / TAKE).frames == soundfile.info(out / "long" / "mix_00.wav").frames
