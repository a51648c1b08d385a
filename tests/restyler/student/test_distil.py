"""`restyler distil` with the bundled model: what is told is what stands in the files, and a stop costs nothing. What
mixes is slow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from audio import io
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from restyler.model_folder import BUNDLED
from restyler.pipeline import VocalRestylePipeline
from restyler.settings import CONTROL_REACH
from restyler.sing import sing_voice
from restyler.student.data import read_distilled
from restyler.student.distil import main
from restyler.student.distilling import LOUDNESS_LUFS
from restyler.student.knobs import CONTROLS, REACH_STD, Knobs, ordered_styles, style_mean, style_shares

HELD_OUT = "voice_0001"


@pytest.fixture(scope="module")
def sounds(vocal: Callable[..., Waveform], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is never mixed: enough to be refused with."""
    folder = tmp_path_factory.mktemp("sounds") / "somebody"
    io.make_folder(folder)
    io.write(folder / "take.wav", Waveform(0.1 * vocal(0.5, 48_000).samples, 48_000), tags={})
    return folder


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voices")
    for number in range(2):
        sing_voice(folder, number, seconds=1.0, seed=3)
    return folder


@pytest.fixture(scope="module")
def bundled() -> VocalRestylePipeline:
    return VocalRestylePipeline.from_pretrained(BUNDLED)


@pytest.fixture(scope="module")
def pairs(
    voices: Path, tmp_path_factory: pytest.TempPathFactory, python: Callable[..., list[CompletedProcess[str]]]
) -> Path:
    """Made by two processes after each other, the first of which was only to make one pair."""
    out = tmp_path_factory.mktemp("distilled") / "pairs"
    for limit in (["--limit", "1"], []):
        program = ["-c", "import sys; from restyler.cli import main; sys.exit(main(sys.argv[1:]))"]
        told = ["distil", str(voices), "--out", str(out), "--hold-out", HELD_OUT, "--seed", "4", *limit]
        (ended,) = python(([*program, *told], {}))
        assert ended.returncode == 0, ended
        kept = {path: path.read_bytes() for path in out.rglob("*.flac")}
        assert len(kept) == (2 if limit else 4)
        if limit:
            first = kept
    assert all(path.read_bytes() == content for path, content in first.items())
    return out


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_takes_and_mixes_are_in_time_equally_loud_and_split_by_singer(pairs: Path) -> None:
    found = rows(pairs)
    assert {row["singer"]: row["split"] for row in found} == {"voice_0000": "train", HELD_OUT: "validation"}
    for row in found:
        take, mix = io.read(pairs / row["raw"]), io.read(pairs / row["mix"])
        assert (take.samples.shape[0], mix.samples.shape[0]) == (1, 2)
        assert take.samples.shape[1] == mix.samples.shape[1] and take.sample_rate == mix.sample_rate == 48_000
        assert integrated_loudness_lufs(mix) == pytest.approx(LOUDNESS_LUFS, abs=0.1)
        assert integrated_loudness_lufs(take) == pytest.approx(LOUDNESS_LUFS, abs=0.1)
    distilled = read_distilled(pairs)
    assert [len(distilled.train), len(distilled.validation)] == [1, 1]


@pytest.mark.slow
def test_what_a_mix_was_told_stands_in_it_as_the_row_says(pairs: Path, bundled: VocalRestylePipeline) -> None:
    styles = ordered_styles(bundled.styles, bundled.defaults)
    for row in rows(pairs):
        tags = io.read_tags(pairs / row["mix"])
        assert tags["strength"] == "1.0"  # whatever the model's own is
        assert tags["render"] == "residual" and tags["seed"].startswith(row["seed"].split()[0])
        told = Knobs(**row["knobs"]).told(styles, bundled.defaults)
        assert row["styles"] == dict(told.styles)
        assert {name: row[name] for name in CONTROLS} == dict(told.controls)
        assert tags["style"] == told.style


@pytest.mark.slow
def test_a_folder_of_another_seed_or_other_singers_is_refused_and_left_alone(
    pairs: Path, voices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in pairs.rglob("*") if path.is_file()}
    table = tmp_path / "singers.tsv"  # other singers: other phrases by the same names
    names = [
        f"{path.resolve()}\t{path.parent.name[:-1]}{9 - int(path.parent.name[-1])}" for path in voices.rglob("*.*")
    ]
    table.write_text("\n".join(["file\tsinger", *names]) + "\n")
    changes = (["--hold-out", HELD_OUT, "--seed", "5"], ["--seed", "4", "--manifest", str(table)])
    for change in changes:
        assert main([str(voices), "--out", str(pairs), *change]) == 2
        assert "of another model or seed" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in pairs.rglob("*") if path.is_file()} == before


def test_a_singer_who_is_not_there_and_a_folder_of_other_things_are_refused(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        ([sounds, "--out", tmp_path / "new", "--hold-out", "nobody"], "no recording is of 'nobody'"),
        ([sounds, "--out", sounds], "not a new or empty folder"),
    ):
        assert main([str(argument) for argument in arguments]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_model_without_the_controls_is_refused(
    model: Path, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(sounds), "--out", str(tmp_path / "new"), "--model", str(model)]) == 2
    assert "not taught the control brightness_db" in capsys.readouterr().err


def test_the_middle_of_a_knob_is_usual_for_the_style_and_its_ends_are_two_deviations_off(
    bundled: VocalRestylePipeline,
) -> None:
    defaults = bundled.defaults
    styles = ordered_styles(bundled.styles, defaults)
    assert sorted(styles) == sorted(bundled.styles)
    means = [style_mean(defaults, style, "brightness_db") for style in styles]
    assert means == sorted(means)
    middle = Knobs(0.5, 0.5, 1.0).told(styles, defaults)
    assert middle.styles == {styles[-1]: 1.0}
    assert middle.controls["brightness_db"] == pytest.approx(means[-1])
    bright = Knobs(1.0, 0.5, 0.0).told(styles, defaults)
    std = defaults.controls["brightness_db"][1]
    assert bright.controls["brightness_db"] == pytest.approx(means[0] + REACH_STD * std)
    for knobs in (Knobs(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 0.4, 1)):
        bundled.settings(controls=knobs.told(styles, defaults).controls)  # else it would be refused
    assert REACH_STD < CONTROL_REACH


def test_places_between_styles_have_shares_of_both() -> None:
    assert style_shares(0.0, ["a", "b", "c"]) == {"a": 1.0}
    assert style_shares(0.5, ["a", "b", "c"]) == {"b": 1.0}
    assert style_shares(0.75, ["a", "b", "c"]) == pytest.approx({"b": 0.5, "c": 0.5})
    assert style_shares(0.3, []) == {}


def test_knobs_are_drawn_over_all_styles_and_both_ranges() -> None:
    drawn = [Knobs.drawn(5, torch.Generator().manual_seed(number)) for number in range(400)]
    whole = [round(4 * each.style, 9) for each in drawn if (4 * each.style) % 1 == 0]
    assert 0.55 < len(whole) / 400 < 0.78
    assert {whole.count(number) > 20 for number in range(5)} == {True}
    for name in ("brightness", "space"):
        values = [getattr(each, name) for each in drawn]
        assert min(values) < 0.05 and max(values) > 0.95 and 0.45 < sum(values) / 400 < 0.55
