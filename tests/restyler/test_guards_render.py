"""The guards in the command: what is said, what is written, and that seeds and likes mean what they meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio.io import read, read_tags, write
from audio.singing import demo_take
from restyler.guards_again import MOST_TRIES
from restyler.noise import TRIES_APART
from restyler.pipeline import VocalRestylePipeline
from restyler.sample import main


@pytest.fixture(scope="module")
def garbling(build_pipeline: Callable[..., VocalRestylePipeline], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of random weights: what it makes of a sung take is no longer that take."""
    folder = tmp_path_factory.mktemp("models") / "garbling"
    build_pipeline(steps=1).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sung(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.6 s of a sung phrase."""
    path = tmp_path_factory.mktemp("takes") / "sung.wav"
    soundfile.write(path, demo_take(48_000).samples[0, 24_000:100_800].numpy(), 48_000, subtype="PCM_24")
    return path


@pytest.fixture(scope="module")
def made(garbling: Path, sung: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Path]]:
    """made(*arguments): the mixes of the take, codec rendering, style none; the same call is made once."""
    kept: dict[tuple[str, ...], list[Path]] = {}

    def run(*arguments: object) -> list[Path]:
        words = tuple(map(str, arguments))
        if words not in kept:
            out = tmp_path_factory.mktemp("out")
            told = [] if "--like" in words else ["--style", "none"]
            render = [] if "--like" in words else ["--render", "codec"]
            assert main([str(sung), "--model", str(garbling), "--out", str(out), *told, *render, *words]) == 0
            kept[words] = sorted((out / "sung").glob("*.wav"))
        return kept[words]

    return run


def samples(path: Path) -> np.ndarray:
    return soundfile.read(path)[0]


def test_a_seed_that_garbles_is_tried_again_and_it_is_said(
    made: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    (guarded,) = made("--variations", 1, "--seed", 4)
    line = capsys.readouterr().out
    tags = read_tags(guarded)
    assert tags["guard"] == "on"
    assert "no other seed was better: " in tags["guarded"]  # this model has no good ones
    assert f"({tags['guarded']})" in line
    seed = int(tags["seed"])
    assert seed in [4 + number * TRIES_APART for number in range(MOST_TRIES)]
    assert ("instead of seed 4" in tags["guarded"]) == (seed != 4)
    (plain,) = made("--variations", 1, "--seed", seed, "--guard", "off")
    assert np.array_equal(samples(plain), samples(guarded))  # it is the mix of the seed that its comment names
    assert read_tags(plain)["guard"] == "off" and "guarded" not in read_tags(plain)


def test_the_same_seed_gives_the_same_file_however_many_are_made(made: Callable[..., list[Path]]) -> None:
    (alone,) = made("--variations", 1, "--seed", 4)
    _, second = made("--variations", 2, "--seed", 3, "--batch", 2)
    assert alone.read_bytes() == second.read_bytes()


def test_neither_strength_nor_level_chooses_the_seed(made: Callable[..., list[Path]]) -> None:
    (whole,) = made("--variations", 1, "--seed", 4)
    (faint,) = made("--variations", 1, "--seed", 4, "--strength", 0.1, "--lufs", -30, "--peak", -6)
    for name in ("seed", "guarded"):
        assert read_tags(faint)[name] == read_tags(whole)[name]


def test_between_has_the_seeds_own_mixes_at_its_ends(made: Callable[..., list[Path]]) -> None:
    way = made("--between", 3, 4, 3)
    ends = made("--variations", 2, "--seed", 3, "--batch", 2)
    assert [way[0].read_bytes(), way[2].read_bytes()] == [end.read_bytes() for end in ends]
    seed = read_tags(way[1])["seed"]
    assert seed in [f"3 {4 + number * TRIES_APART}@0.5" for number in range(MOST_TRIES)]


def test_a_liked_mix_comes_again_whatever_is_wrong_with_it(made: Callable[..., list[Path]]) -> None:
    for first in (made("--variations", 1, "--seed", 4), made("--variations", 1, "--seed", 4, "--guard", "off")):
        (again,) = made("--like", first[0], "--around", 0)
        assert np.array_equal(samples(again), samples(first[0]))
        kept, new = read_tags(first[0]), read_tags(again)
        assert {name: kept[name] for name in ("seed", "guard")} == {name: new[name] for name in ("seed", "guard")}
    (near,) = made("--like", first[0], "--variations", 1, "--seed", 9, "--guard", "on")
    origin = read_tags(first[0])["seed"]
    assert read_tags(near)["seed"] in [f"{origin} {9 + number * TRIES_APART}@0.3" for number in range(MOST_TRIES)]


def test_a_mix_of_before_the_guards_comes_again_without_them(made: Callable[..., list[Path]], tmp_path: Path) -> None:
    (first,) = made("--variations", 1, "--seed", 4, "--guard", "off")
    tags = {name: value for name, value in read_tags(first).items() if name not in ("guard", "software")}
    write(tmp_path / "old.wav", read(first), tags=tags)
    (again,) = made("--like", tmp_path / "old.wav", "--around", 0)
    assert np.array_equal(samples(again), samples(first))
    assert read_tags(again)["guard"] == "off"


def test_a_mix_that_may_go_out_has_nothing_to_tell(
    garbling: Path, sung: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The residual rendering of an unmoved take: σ 0 and a model whose network is silenced."""
    pipeline = VocalRestylePipeline.from_pretrained(garbling)
    for parameter in pipeline.denoiser.parameters():
        torch.nn.init.zeros_(parameter)
    pipeline.save_pretrained(tmp_path / "still")
    out = tmp_path / "out"
    arguments = [sung, "--model", tmp_path / "still", "--out", out, "--variations", 1, "--style", "none", "--sigma", 0]
    assert main([*map(str, arguments)]) == 0
    mix = out / "sung" / "mix_00.wav"
    assert "guarded" not in read_tags(mix)
    assert read_tags(mix)["seed"] == "0"
    assert read(mix).samples.shape[1] == len(samples(sung))
    assert "strayed" not in capsys.readouterr().out


def test_unknown_words_for_the_guard_are_refused(sung: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sung), "--guard", "maybe"]) == 2
    assert "--guard" in capsys.readouterr().err
