"""A model can say that every second of its mixes stands in a room by hand, where nothing else says how they sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio.io import read_tags
from conditioning.conditioner import StyleConditioner
from restyler.bundle import main as bundle
from restyler.model_folder import BUNDLED
from restyler.pipeline import VocalRestylePipeline
from restyler.rendering import load_model
from restyler.sample import main
from restyler.settings import SamplingDefaults

Run = Callable[..., int]


@pytest.fixture(scope="module")
def with_rooms(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "card.md").write_text("A model.\n")
    assert bundle([str(model), str(folder / "rooms"), "--card", str(folder / "card.md"), "--reverb", "bundled"]) == 0
    return folder / "rooms"


@pytest.fixture
def take(vocal_file: Callable[..., Path]) -> Path:
    return vocal_file("take.wav", seconds=1.0)


@pytest.fixture
def run(with_rooms: Path, take: Path, tmp_path: Path) -> Run:
    common = [str(take), "--model", str(with_rooms), "--guard", "off"]
    return lambda out, *arguments: main([*common, "--out", str(tmp_path / out), *map(str, arguments)])


def in_rooms(folder: Path) -> list[bool]:
    return ["reverb" in read_tags(path) for path in sorted(folder.glob("mix_??.wav"))]


def sound(path: Path) -> np.ndarray:
    return soundfile.read(path, always_2d=True)[0].T


def test_its_mixes_are_those_of_bundled_by_turns(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("own", "--stems") == 0
    said = capsys.readouterr().out.splitlines()
    assert ["  in rooms.yaml  " in line for line in said] == [True, False, True, False]
    assert run("named", "--reverb", "bundled") == 0 and run("none", "--reverb", "none") == 0
    own, named, none = (tmp_path / out / "take" for out in ("own", "named", "none"))
    assert in_rooms(own) == in_rooms(named) == [True, False, True, False] and not any(in_rooms(none))
    assert {path.name for path in own.glob("*.room.wav")} == {"mix_00.room.wav", "mix_02.room.wav"}
    for number in range(4):
        mixes = [sound(folder / f"mix_0{number}.wav") for folder in (own, named, none)]
        np.testing.assert_array_equal(mixes[0], mixes[1])
        assert np.array_equal(mixes[0], mixes[2]) is (number in (1, 3))


@pytest.mark.parametrize(
    ("options", "has"),
    [
        (["--style", "any"], True),
        (["--strength", "0.5"], True),
        (["--strength", "0"], False),  # the take itself
        (["--style", "none"], False),
        (["--space", "1"], False),
        (["--control", "width_db=2"], False),
        (["--between", "0", "2", "2"], False),
        (["--reference"], False),
    ],
)
def test_what_says_how_mixes_sound_leaves_it_at_that(
    run: Run, take: Path, tmp_path: Path, options: list[str], has: bool
) -> None:
    some = [] if "--between" in options else ["--variations", "1"]
    reference = [take] if options == ["--reference"] else []
    assert run("out", *options, *reference, *some) == 0
    assert set(in_rooms(tmp_path / "out" / "take")) == {has}


def test_a_chain_is_fitted_to_mixes_that_no_bus_hears(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What comes beside them is no part of it."""
    assert run("out", "--variations", "2") == 0
    liked = tmp_path / "out" / "take" / "mix_00.wav"
    assert run("chain", "--like", liked, "--render", "transfer") == 2
    assert "that of the mix of --like too, need another --render than transfer" in capsys.readouterr().err
    assert run("stems", "--reverb", "none", "--stems") == 2 and not (tmp_path / "stems").exists()


def test_what_is_like_a_mix_stands_in_its_room(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("out", "--variations", "2") == 0
    folder = tmp_path / "out" / "take"
    for number, seeds in enumerate((["2", "4"], ["2", "3"])):
        liked = folder / f"mix_0{number}.wav"
        assert run(f"again{number}", "--like", liked, "--around", "0") == 0
        again = tmp_path / f"again{number}" / "take" / "mix_00.wav"
        np.testing.assert_array_equal(sound(again), sound(liked))
        assert run(f"more{number}", "--like", liked, "--around", "1", "--variations", "2") == 0
        more = tmp_path / f"more{number}" / "take"
        assert [read_tags(path)["seed"] for path in sorted(more.iterdir())] == seeds
        assert in_rooms(more) == [number == 0] * 2
    capsys.readouterr()
    assert run("other", "--like", folder / "mix_00.wav", "--reverb", "none") == 2
    assert "give the same --reverb as for that mix: rooms.yaml " in capsys.readouterr().err
    assert run("same", "--like", folder / "mix_01.wav", "--reverb", "none", "--variations", "1") == 0


def test_a_file_may_be_called_as_a_word_is(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("none").write_text("styles: {hall: [{reverb: {wet_db: -6, seed: 1}}]}\n")
    assert run("out", "--reverb", "./none", "--stems", "--variations", "1") == 0
    assert read_tags(tmp_path / "out" / "take" / "mix_00.hall.wav")["reverb"].startswith("none ")


def test_names_of_references_leave_room_for_the_rooms_alone(
    run: Run, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """420 bytes of names fit a comment without a chain, and not one with."""
    files = [vocal_file(f"{letter * 96}.wav", channels=2) for letter in "abcd"]
    named = [word for file in files for word in ("--reference", file)]
    assert run("none", *named, "--reverb", "none", "--variations", "1") == 0
    capsys.readouterr()
    assert run("rooms", *named, "--reverb", "bundled") == 2
    assert "bytes of a mix's comment, 380 are kept for them" in capsys.readouterr().err
    short = [vocal_file(f"{letter}.wav", channels=2) for letter in "abcd"]
    assert run("short", *(word for file in short for word in ("--reference", file)), "--reverb", "bundled") == 0
    for file, long in zip(short, files, strict=True):
        long.write_bytes(file.read_bytes())
    capsys.readouterr()
    assert run("more", *named, "--like", tmp_path / "short" / "take" / "mix_00.wav") == 2  # which takes the rooms over
    assert "bytes of a mix's comment, 380 are kept for them" in capsys.readouterr().err


def test_a_model_without_space_has_no_reverb(
    pipeline: VocalRestylePipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = load_model(BUNDLED, "cpu").defaults.model_dump(mode="json")
    assert fields["reverb"] == "bundled"  # the shipped one
    assert SamplingDefaults.read({**fields, "reverb": "none"}).reverb == "none"
    without = {**fields, "controls": {}, "draws": {}, "spread": 0.0}
    assert SamplingDefaults.read({**without, "reverb": "none"}).controls == {}
    with pytest.raises(ValueError, match="space_db"):
        SamplingDefaults.read(without)
    with pytest.raises(ValueError, match=r"sampling\.reverb"):
        SamplingDefaults.read({**fields, "reverb": "hall"})
    parts = pipeline.components
    parts["conditioner"] = StyleConditioner(pipeline.codec.latent_dim, 16, pipeline.styles, [], 8)
    sampling = {**pipeline.defaults.model_dump(mode="json"), "controls": {}, "draws": {}, "spread": 0.0}
    VocalRestylePipeline(**parts, sampling=sampling).save_pretrained(tmp_path / "plain")
    (tmp_path / "card.md").write_text("A model.\n")
    line = [str(tmp_path / "plain"), str(tmp_path / "out"), "--card", str(tmp_path / "card.md"), "--reverb"]
    assert bundle([*line, "bundled"]) == 2 and not (tmp_path / "out").exists()
    assert "--reverb needs a model that knows the control space_db" in capsys.readouterr().err
    assert bundle([*line, "none"]) == 0
