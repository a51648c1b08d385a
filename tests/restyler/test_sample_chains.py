"""`restyler sample --before` and `--after`: effect chains around the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio.io import read_tags
from restyler.sample import main

Run = Callable[..., int]


@pytest.fixture
def take(vocal_file: Callable[..., Path]) -> Path:
    return vocal_file("take.wav", seconds=0.5)


@pytest.fixture
def run(model: Path, take: Path, tmp_path: Path) -> Run:
    common = [str(take), "--model", str(model), "--variations", "1", "--guard", "off"]
    return lambda out, *arguments: main([*common, "--out", str(tmp_path / out), *map(str, arguments)])


def chain(path: Path, part: str) -> Path:
    path.write_text(f"styles:\n  only:\n    - {part}\n")
    return path


def mix(tmp_path: Path, out: str) -> np.ndarray:
    return soundfile.read(tmp_path / out / "take" / "mix_00.wav", always_2d=True)[0].T


def test_a_chain_after_is_heard_before_the_level_is_set(run: Run, tmp_path: Path) -> None:
    """Its gain is nothing, then; its balance stays."""
    louder, left = (
        chain(tmp_path / "g.yaml", "gain: {gain_db: 7}"),
        chain(tmp_path / "l.yaml", "pan: {pan_percent: -60}"),
    )
    assert run("plain", "--lufs", "-24") == 0
    assert run("louder", "--lufs", "-24", "--after", louder) == 0
    assert run("left", "--lufs", "-24", "--after", left) == 0
    np.testing.assert_allclose(mix(tmp_path, "louder"), mix(tmp_path, "plain"), atol=1e-5)
    energies = [(mix(tmp_path, out) ** 2).sum(axis=1) for out in ("plain", "left")]
    balance = [np.log10(left_energy / right_energy) for left_energy, right_energy in energies]
    # Constant power: the angle of the pan says how far.
    angle = (-60 + 100) / 200 * np.pi / 2
    assert balance[1] - balance[0] == pytest.approx(2 * np.log10(np.cos(angle) / np.sin(angle)), abs=1e-3)


def test_a_chain_before_is_what_the_model_hears(run: Run, tmp_path: Path) -> None:
    """At strength 0 the mix is the take as it comes from the chain."""
    left = chain(tmp_path / "l.yaml", "pan: {pan_percent: -100}")
    assert run("before", "--strength", "0", "--before", left) == 0
    sides = mix(tmp_path, "before")
    assert np.abs(sides[0]).max() > 0.01 and np.abs(sides[1]).max() < 1e-6
    assert run("whole", "--before", left) == 0 and run("plain") == 0
    assert not np.array_equal(mix(tmp_path, "whole"), mix(tmp_path, "plain"))


def test_chains_stand_in_the_comment_and_like_asks_for_the_same(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = chain(tmp_path / "left.yaml", "pan: {pan_percent: -60}")
    assert run("one", "--after", left) == 0
    made = tmp_path / "one" / "take" / "mix_00.wav"
    name, digest = read_tags(made)["after"].split(" ")
    assert name == "left.yaml" and len(digest) == 12 and "before" not in read_tags(made)
    assert run("two", "--like", made, "--around", "0") == 2
    assert "give the same --after as for that mix: left.yaml" in capsys.readouterr().err
    moved = left.rename(tmp_path / "moved.yaml")
    assert run("two", "--like", made, "--around", "0", "--after", moved) == 0
    np.testing.assert_array_equal(mix(tmp_path, "two"), mix(tmp_path, "one"))
    chain(moved, "pan: {pan_percent: -61}")
    assert run("three", "--like", made, "--around", "0", "--after", moved) == 2
    assert run("three", "--like", made, "--around", "0", "--after", moved, "--before", moved) == 2


@pytest.mark.parametrize("part", ["gain: {gain_db: 99}", "ffmpeg: {filter: amovie}", "nothing: {}"])
def test_what_cant_be_is_refused_before_anything_is_made(run: Run, tmp_path: Path, part: str) -> None:
    bad = chain(tmp_path / "bad.yaml", part)
    for option in ("--before", "--after"):
        assert run("bad", option, bad) == 2 and not (tmp_path / "bad").exists()
    good = chain(tmp_path / "good.yaml", "gain: {gain_db: -3}")
    assert run("bad", "--after", good, "--render", "transfer") == 2 and not (tmp_path / "bad").exists()
