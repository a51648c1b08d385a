"""`restyler evaluate` from files to reports: what must be nought, what must be alike, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audio.waveform import Waveform
from restyler.cli import main
from restyler.evaluate.evaluation_set import read_set

RATE_HZ = 16_000
SECONDS = 2.0
KEYS = ("a", "b & <c>", "d")
REPORTS = ("report.json", "report.md", "report.html")
FEW = ("--rows", "raw take", "mixes", "takes")

Tree = dict[str, Any]


@pytest.fixture(scope="module")
def pairs(vocal: Callable[..., Waveform], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three takes with darker, wider, louder mixes of them, one virtually its take; and both sides again as renders."""
    folder = tmp_path_factory.mktemp("evaluation") / "set"
    rows = []
    for place in ("raw", "mix", "systems/mixes", "systems/takes"):
        (folder / place).mkdir(parents=True)
    for number, key in enumerate(KEYS):
        take = vocal(SECONDS, RATE_HZ, seed=number).samples.numpy()
        mix = 1.5 * np.concatenate([take + np.roll(take, 2, 1), take + np.roll(take, 60 + number, 1)])
        for place, samples in (("raw", take), ("mix", mix), ("systems/takes", take), ("systems/mixes", mix)):
            soundfile.write(folder / place / f"{key}.wav", samples.T, RATE_HZ, subtype="FLOAT")
        rows.append({"key": key, "raw": f"raw/{key}.wav", "mix": f"mix/{key}.wav", "song": key[0], "split": "test"})
    rows[2]["unprocessed"] = True
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def scored(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one evaluation of files: for reading."""
    out = tmp_path_factory.mktemp("scored") / "out"
    assert evaluate(pairs, out, "--renders", pairs / "systems", *FEW) == 0
    return out


def evaluate(pairs: Path, out: Path, *more: object) -> int:
    return main(["evaluate", "--set", str(pairs), "--out", str(out), "--device", "cpu", *map(str, more)])


def report(out: Path) -> Tree:
    return json.loads((out / "report.json").read_text())


def lines(out: Path, part: str = "all") -> dict[str, Tree]:
    return {line["name"]: line for line in report(out)["groups"][0][part]["lines"]}


# -- what the figures must be


def test_the_mixes_themselves_are_at_no_distance_and_the_takes_are_the_floor(scored: Path) -> None:
    found = lines(scored)
    assert list(found) == ["raw take", "mixes", "takes"]
    for quantity, estimate in found["mixes"]["estimates"].items():
        if report_kind(scored, quantity) == "fidelity":
            assert estimate["mean"] == [0, 0, 0] and estimate["median"] == [0, 0, 0], quantity
    assert found["takes"]["estimates"] == found["raw take"]["estimates"]
    assert found["takes"]["differences"]["raw take"]["mss_lr"] == [0, 0, 0]
    assert found["takes"]["estimates"]["f0_rmse_cents"]["mean"][0] == 0
    assert found["takes"]["estimates"]["envelope_correlation"]["mean"][0] == pytest.approx(1)
    value, low, high = found["raw take"]["estimates"]["mss_ms"]["mean"]
    assert 0 < low < value < high
    assert found["mixes"]["differences"]["raw take"]["mss_ms"] == [-value, -high, -low]


def report_kind(out: Path, quantity: str) -> str:
    return next(one["kind"] for one in report(out)["quantities"] if one["name"] == quantity)


def test_means_come_with_and_without_pairs_that_teach_nothing(scored: Path) -> None:
    every, fewer = (lines(scored, part)["raw take"] for part in ("all", "without_unprocessed"))
    assert list(every["by_pair"]) == list(KEYS) and list(fewer["by_pair"]) == list(KEYS[:2])
    assert every["estimates"]["mss_lr"]["mean"][0] == pytest.approx(np.mean(list(every["by_pair"].values())), abs=1e-6)
    assert fewer["estimates"]["mss_lr"]["mean"][0] == pytest.approx(np.mean(list(fewer["by_pair"].values())), abs=1e-6)
    assert "without the pairs whose mix is virtually its raw take" in (scored / "report.md").read_text()


def test_an_offset_is_found_and_taken_out_if_asked(pairs: Path, tmp_path: Path) -> None:
    """The mixes come 1 ms late and half a sample."""
    late = tmp_path / "late"
    late.mkdir()
    for key in KEYS:
        samples = soundfile.read(pairs / "mix" / f"{key}.wav")[0]
        spectrum = np.fft.rfft(samples, axis=0)
        turn = np.exp(-2j * np.pi * np.fft.rfftfreq(len(samples)) * 24.5)
        soundfile.write(late / f"{key}.wav", np.fft.irfft(spectrum * turn[:, None], len(samples), 0), RATE_HZ, "FLOAT")
    for name, options in (("left", ()), ("aligned", ("--align",))):
        assert evaluate(pairs, tmp_path / name, "--renders", late, "--rows", "late", "--limit", 2, *options) == 0
    offsets = [score["offset"] for score in report(tmp_path / "left")["scores"]]
    assert [one["milliseconds"] for one in offsets] == pytest.approx([1000 * 24.5 / RATE_HZ] * 2, abs=0.01)
    assert [score["offset"] for score in report(tmp_path / "aligned")["scores"]] == offsets
    distance = {name: lines(tmp_path / name)["late"]["estimates"]["mss_lr"]["mean"][0] for name in ("left", "aligned")}
    assert distance["aligned"] < 0.3 * distance["left"]


def test_numbered_files_are_draws(pairs: Path, tmp_path: Path) -> None:
    """One draw is the mix, the other the take: the best is at 0, the expected half way, and n draws lie between."""
    (tmp_path / "both").mkdir()
    for key in KEYS:
        for number, side in ((0, "raw"), (10, "mix")):
            shutil.copy(pairs / side / f"{key}.wav", tmp_path / "both" / f"{key}_{number:02d}.wav")
    assert (
        evaluate(pairs, tmp_path / "out", "--renders", tmp_path / "both", "--limit", 2, "--rows", "raw take", "both")
        == 0
    )
    found = {name: line["estimates"]["mss_lr"]["mean"][0] for name, line in lines(tmp_path / "out").items()}
    assert found["both, best of 2"] == 0
    assert found["both, expected"] == pytest.approx(found["raw take"] / 2, abs=1e-6)
    [group] = report(tmp_path / "out")["groups"]
    assert [point[0] for point in group["best_of_n"]["both"]] == pytest.approx([found["raw take"] / 2, 0], abs=1e-6)
    assert group["diversity"]["both"]["pairwise_db"][0] > 0


# -- reports


def test_every_table_has_its_floor_and_its_intervals(scored: Path) -> None:
    text = (scored / "report.md").read_text()
    sections = text.split("\n### ")[1:-1]
    assert len(sections) >= 7
    for section in sections:
        assert "| raw take " in section, section
    for section in (sections[0], sections[2]):
        assert re.search(r"\| raw take .*\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", section), section


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe", "object")
        assert not {"src", "href", "style-src"} & dict(attrs).keys()
        if tag not in ("meta", "line", "circle", "polyline", "html"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "circle", "polyline", "html"):
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_asks_the_network_for_nothing(scored: Path) -> None:
    text = (scored / "report.html").read_text()
    assert "http:" not in text and "https:" not in text and "url(" not in text and "default-src 'none'" in text
    page = Page(text)
    assert page.open == []
    assert {"raw take", "mixes", "b & <c>"} <= set(page.words)


# -- once more, after a stop, with another model


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_gives_the_same_bytes(pairs: Path, scored: Path, tmp_path: Path) -> None:
    """A process that is killed in the midst, then the same call once more."""
    out = tmp_path / "out"
    arguments = ["evaluate", "--set", pairs, "--out", out, "--renders", pairs / "systems", *FEW]
    code = "import sys; from restyler.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)])
    while process.poll() is None and len(list(out.glob("scores/*.json"))) < 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in out.glob("scores/*.json")}
    assert 2 <= len(done) < 9 and not (out / "report.json").exists()
    assert evaluate(pairs, out, "--renders", pairs / "systems", *FEW) == 0
    assert all(path.stat().st_mtime_ns == before for path, before in done.items())
    assert [(out / name).read_bytes() for name in REPORTS] == [(scored / name).read_bytes() for name in REPORTS]


def test_what_is_there_stays_and_what_is_damaged_or_missing_is_made_anew(
    pairs: Path, scored: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(scored, tmp_path / "out")
    damaged, other, missing, *intact = sorted(out.glob("scores/*.json"))
    damaged.write_text(damaged.read_text()[:100])
    other.write_text("[]")
    missing.unlink()
    before = [path.stat().st_mtime_ns for path in intact]
    for name in REPORTS:
        (out / name).unlink()
    assert evaluate(pairs, out, "--renders", pairs / "systems", *FEW) == 0
    assert [path.stat().st_mtime_ns for path in intact] == before and len(before) == 6
    assert [(out / name).read_bytes() for name in REPORTS] == [(scored / name).read_bytes() for name in REPORTS]


def test_another_model_makes_its_own_rows_anew(
    pairs: Path, build_pipeline: Callable[..., Any], model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    build_pipeline(sigma=0.5).save_pretrained(other)
    rows = ("--rows", "raw take", "ours, codec", "ours, with reference, codec*", "--draws", 2, "--limit", 1)
    for folder in (model, other):
        assert evaluate(pairs, tmp_path / "out", "--model", folder, *rows) == 0
    made = [json.loads(path.read_text())["row"] for path in (tmp_path / "out" / "scores").iterdir()]
    # The pair is too short for a reference: that row is there without draws, and not in the tables.
    assert sorted(made) == ["ours, codec"] * 2 + ["ours, with reference, codec, second half"] * 2 + ["raw take"]
    assert set(lines(tmp_path / "out")) == {"raw take", "ours, codec, expected", "ours, codec, best of 2"}
    assert lines(tmp_path / "out")["raw take"]["estimates"]["mss_lr"]["mean"][1:] == [None, None]  # of one song


def test_kept_renders_can_be_scored_again(pairs: Path, model: Path, tmp_path: Path) -> None:
    """Written in 24 bits, and read back as somebody's files, they score the same."""
    rows = ("--rows", "ours, codec", "--draws", 2, "--limit", 1)
    assert evaluate(pairs, tmp_path / "first", "--model", model, *rows, "--keep-renders") == 0
    kept = tmp_path / "first" / "renders"
    assert sorted(path.name for path in kept.glob("*/*")) == [f"a_0{n}.flac" for n in (0, 1)]
    assert 'class="version"' in (tmp_path / "first" / "listen" / "a.html").read_text()
    kept.joinpath("ours, codec").rename(kept / "theirs")
    assert evaluate(pairs, tmp_path / "second", "--renders", kept, "--limit", 1, "--rows", "theirs") == 0
    ours, theirs = (lines(tmp_path / name) for name in ("first", "second"))
    for view in ("expected", "best of 2"):
        for quantity, estimate in ours[f"ours, codec, {view}"]["estimates"].items():
            if quantity == "lufs_error_lu":  # what is over full scale was turned down
                continue
            assert theirs[f"theirs, {view}"]["estimates"][quantity]["mean"][0] == pytest.approx(
                estimate["mean"][0], abs=2e-3, rel=2e-2
            ), quantity


# -- bad input


def broken(folder: Path, fault: str) -> tuple[str, ...]:
    """Breaks the copy of a set in one way; further arguments of the call that must fail."""
    renders = ("--renders", str(folder / "systems"))
    match fault:
        case "silent":
            soundfile.write(folder / "raw" / "d.wav", np.zeros(round(SECONDS * RATE_HZ)), RATE_HZ)
        case "short":
            samples, rate = soundfile.read(folder / "mix" / "d.wav")
            soundfile.write(folder / "mix" / "d.wav", np.append(samples, samples[-1:], 0), rate)
        case "short_render":
            samples, rate = soundfile.read(folder / "mix" / "d.wav")
            soundfile.write(folder / "systems" / "mixes" / "d.wav", np.append(samples, samples[-1:], 0), rate)
        case "tiny":
            samples, rate = soundfile.read(folder / "mix" / "d.wav")
            soundfile.write(folder / "mix" / "d.wav", samples[: rate // 2], rate)
        case "missing_render":
            (folder / "systems" / "takes" / "d.wav").unlink()
        case "unknown_render":
            shutil.copy(folder / "raw" / "d.wav", folder / "systems" / "takes" / "e.wav")
        case "two_renders":
            shutil.copy(folder / "raw" / "d.wav", folder / "systems" / "takes" / "d_00.wav")
        case "draws":
            for number in range(2):
                shutil.copy(folder / "raw" / "d.wav", folder / "systems" / "takes" / f"d_{number:02d}.wav")
            (folder / "systems" / "takes" / "d.wav").unlink()
        case "key":
            text = (folder / "pairs.jsonl").read_text()
            (folder / "pairs.jsonl").write_text(text.replace('"key": "d"', '"key": "../d"'))
        case "no_row":
            return (*renders, "--rows", "raw*", "nobody")
        case "column":
            text = (folder / "pairs.jsonl").read_text()
            (folder / "pairs.jsonl").write_text(text.replace('"unprocessed": true', '"unprocessed": 1'))
        case "split":
            return (*renders, "--split", "validation")
        case "taken":
            (folder / "systems" / "takes").rename(folder / "systems" / "raw take")
        case "presets":
            return (*renders, "--presets", str(folder / "pairs.jsonl"))
        case "no_renders":
            return ("--renders", str(folder / "nowhere"))
    return renders


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("silent", "raw/d.wav: silent"),
        ("short", "raw/d.wav: 2.0000 s long, its mix"),
        ("tiny", "mix/d.wav: 0.50 s long; at least 2 s"),
        ("short_render", "systems/mixes/d.wav: 2.0001 s long, its mix"),
        ("missing_render", "systems/takes: no render of «d»"),
        ("unknown_render", "systems/takes/e.wav: renders no pair"),
        ("two_renders", "systems/takes/d_00.wav: another file"),
        ("draws", "systems/takes: 1 renders of «a», 2 of «d»"),
        ("key", "«../d» can't be a key"),
        ("no_row", "no row 'nobody' (allowed: raw take; "),
        ("column", "line 3: «unprocessed» is true or false, not 1"),
        ("split", "none of its pairs is in the validation split"),
        ("taken", "can't be called «raw take»"),
        ("presets", "raw_params.npy: "),
        ("no_renders", "nowhere: there is no such folder"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_written(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str, told: str
) -> None:
    folder = shutil.copytree(pairs, tmp_path / "set")
    assert evaluate(folder, tmp_path / "out", *broken(folder, fault)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and told.replace("/", os.sep) in line, line
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.json").write_text("mine")
    assert evaluate(pairs, tmp_path) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


# -- sets


def test_a_set_without_splits_is_scored_whole(pairs: Path, tmp_path: Path) -> None:
    for side in ("raw", "mix"):
        shutil.copytree(pairs / side, tmp_path / side)
    entries = read_set(tmp_path, "test")
    assert [entry.key for entry in entries] == list(KEYS)
    assert [entry.song for entry in entries] == list(KEYS) and not any(entry.unprocessed for entry in entries)


def test_two_mixes_of_a_take_are_two_pairs_of_one_song(pairs: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pairs, tmp_path / "set")
    shutil.copy(folder / "mix" / "a.wav", folder / "mix" / "again.wav")
    row = {"key": "a", "raw": "raw/a.wav", "mix": "mix/again.wav", "split": "test"}
    with (folder / "pairs.jsonl").open("a") as manifest:
        manifest.write(json.dumps(row) + "\n")
    assert {entry.key: entry.song for entry in read_set(folder, "test")}["again"] == "a"


def test_the_published_pairs_become_a_set(pairs: Path, model: Path, tmp_path: Path) -> None:
    from restyler.evaluate.medleydb import main as convert

    (tmp_path / "page").mkdir()
    for song in ("Anna_One", "MatthewEntwistle_DontYouEver"):
        for what, side in (("dry", "raw"), ("wet", "mix"), ("diffvox", "mix"), ("rt_diffvox", "raw")):
            shutil.copy(pairs / side / "a.wav", tmp_path / "page" / f"{song}__{what}.wav")
    assert convert([str(tmp_path / "page"), str(tmp_path / "set")]) == 0
    assert [(entry.song, entry.unprocessed) for entry in read_set(tmp_path / "set", "test")] == [
        ("Anna_One", False),
        ("MatthewEntwistle_DontYouEver", True),
    ]
    assert evaluate(tmp_path / "set", tmp_path / "out", "--model", model, "--rows", "raw take", "DiffVox*") == 0
    found = {name: line["estimates"]["mss_lr"]["mean"][0] for name, line in lines(tmp_path / "out").items()}
    assert found["DiffVox fitted to the mix"] == 0
    assert found["DiffVox fitted to the mix, real-time form"] == found["raw take"] > 0
    (tmp_path / "page" / "Anna_One__wet.wav").unlink()
    assert convert([str(tmp_path / "page"), str(tmp_path / "other")]) == 2
    assert not (tmp_path / "other").exists()
