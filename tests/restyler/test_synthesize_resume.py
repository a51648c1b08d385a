"""`restyler synthesize` on a folder that it began to fill: what has changed since, what is damaged, what has moved."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio.errors import InputError
from restyler.chain_settings import render_again
from restyler.phrases import find_recordings
from restyler.synthesize import main

RATE_HZ = 48000
CHAINS = """
styles:
  near: [{gain: {gain_db: {uniform: [-3, 3]}}}]
  room: [{convolution: {impulse_response: {files: rooms/*.wav}, wet_db: {uniform: [-12, -6]}}}]
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a voice, rooms and chains in it: for `tree`."""
    folder = tmp_path_factory.mktemp("planted") / "tree"
    (folder / "voices" / "anna").mkdir(parents=True)
    (folder / "rooms").mkdir()
    noise = np.random.default_rng(0).standard_normal(2 * RATE_HZ)
    soundfile.write(folder / "voices" / "anna" / "take.wav", 0.1 * noise * np.linspace(0.1, 1, len(noise)), RATE_HZ)
    for number in (1, 2):
        room = np.exp(-np.arange(4800) / (300 * number)) * noise[:4800]
        soundfile.write(folder / "rooms" / f"room{number}.wav", 0.2 * room, RATE_HZ)
    (folder / "chains.yaml").write_text(CHAINS)
    return folder


@pytest.fixture(scope="module")
def finished(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its pairs, made once: for `made`."""
    folder = shutil.copytree(planted, tmp_path_factory.mktemp("finished") / "tree")
    assert run(folder) == 0
    return folder


@pytest.fixture
def tree(planted: Path, tmp_path: Path) -> Path:
    """A test's own copy of the folder, without pairs."""
    return shutil.copytree(planted, tmp_path / "tree")


@pytest.fixture
def made(finished: Path, tmp_path: Path) -> Path:
    """A test's own copy of the folder, with its pairs."""
    return shutil.copytree(finished, tmp_path / "made")


def run(tree: Path) -> int:
    arguments = ["--mixes-per-take", "4", "--workers", "1"]
    voices, chains, out = (str(tree / name) for name in ("voices", "chains.yaml", "pairs"))
    return main([voices, "--chains", chains, "--out", out, *arguments])


def contents(tree: Path) -> dict[str, bytes]:
    out = tree / "pairs"
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    sound, rate_hz = soundfile.read(path)
    soundfile.write(path, change(sound), rate_hz)


@pytest.mark.parametrize("file", ["voices/anna/take.wav", "rooms/room2.wav"])
def test_a_sound_that_has_changed_at_the_same_length_is_noticed(
    made: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    next((made / "pairs" / "mix").glob("*.flac")).unlink()
    before = contents(made)
    rewrite(made / file, np.flip)
    assert run(made) == 2
    assert "made from other voices or with other settings" in capsys.readouterr().err
    assert contents(made) == before


def test_a_moved_tree_goes_on_with_the_same_chains(tree: Path) -> None:
    assert run(tree) == 0
    before = contents(tree)
    (tree.parent / "further" / "down").mkdir(parents=True)
    moved = tree.rename(tree.parent / "further" / "down" / "tree")
    rows = [json.loads(line) for line in (moved / "pairs" / "pairs.jsonl").read_text().splitlines()]
    for row in rows:
        again, style = render_again(moved / "pairs" / row["settings"])
        assert style == row["style"]
        mix = soundfile.read(moved / "pairs" / row["mix"])[0]
        np.testing.assert_allclose(again.samples.numpy().T, mix, atol=2e-6)
    (moved / "pairs" / rows[0]["mix"]).unlink()
    assert run(moved) == 0
    found = contents(moved)
    assert {name: found[name] for name in before if name != "synthesis.jsonl"} == {
        name: content for name, content in before.items() if name != "synthesis.jsonl"
    }


def test_rooms_of_equal_content_and_name_are_one_chain_and_others_are_not(tree: Path) -> None:
    def chain(name: str) -> str:
        (tree / "chains.yaml").write_text(f"styles: {{a: [{{convolution: {{impulse_response: {name}, wet_db: -9}}}}]}}")
        out = tree / f"pairs-{name.replace('/', '-')}"
        arguments = ["--chains", str(tree / "chains.yaml"), "--mixes-per-take", "1", "--workers", "1"]
        assert main([str(tree / "voices"), *arguments, "--out", str(out)]) == 0
        return str(json.loads((out / "pairs.jsonl").read_text())["chain"])

    (tree / "copies").mkdir()
    (tree / "copies" / "room1.wav").write_bytes((tree / "rooms" / "room1.wav").read_bytes())
    first = chain("rooms/room1.wav")
    assert chain("copies/room1.wav") == first
    rewrite(tree / "copies" / "room1.wav", lambda sound: sound**3)
    (tree / "pairs-copies-room1.wav").rename(tree / "old")
    assert chain("copies/room1.wav") != first


@pytest.mark.parametrize("kind", ["raw/*.flac", "mix/*.flac", "mix/*.yaml"])
def test_a_truncated_file_is_rendered_anew(made: Path, kind: str) -> None:
    before = contents(made)
    damaged = next((made / "pairs").glob(kind))
    damaged.write_bytes(damaged.read_bytes()[:-7])
    assert run(made) == 0
    after = contents(made)
    assert after.pop("synthesis.jsonl") == 2 * before.pop("synthesis.jsonl")  # the take once more
    assert after == before
    assert run(made) == 0
    assert len(contents(made)["synthesis.jsonl"].splitlines()) == 2  # and then no more


@pytest.mark.parametrize(
    "line", [b"{}", b"3", b"nonsense", b"\xff", b"", b'{"key": "a", "rows": [{}], "bytes": {}}', b'{"rows": 1}']
)
def test_a_bad_line_of_the_log_is_named(made: Path, capsys: pytest.CaptureFixture[str], line: bytes) -> None:
    log = made / "pairs" / "synthesis.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + line + b"\n" + whole)
    capsys.readouterr()
    assert run(made) == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {log}, line 2: damaged")
    log.write_bytes(whole + line)  # the last line, not yet at its end: what an interruption leaves
    assert run(made) == 0


@pytest.mark.parametrize("name", [b"anna/\xff.wav", b"\xff/take.wav"])
def test_a_name_that_is_not_utf8_is_refused(tree: Path, name: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(os.fsdecode(os.fsencode(tree / "voices") + b"/" + name))
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((tree / "voices" / "anna" / "take.wav").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert run(tree) == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ") and "udcff" in error and "a name that is not UTF-8" in error
    assert not (tree / "pairs").exists()
    with pytest.raises(InputError, match="not UTF-8"):
        find_recordings([path], None)
    path.rename(tree / "rooms" / os.fsdecode(b"\xff.wav"))
    assert run(tree) == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert "chains.yaml: style «room», part 1: " in error and "a name that is not UTF-8" in error
