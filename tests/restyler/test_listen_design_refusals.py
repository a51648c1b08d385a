"""What `restyler listen design` refuses: one line that names the culprit, exit code 2, and nothing left behind."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from audio.io import read
from restyler.cli import main
from restyler.listen.excerpts import cut
from restyler.listen.plan import read_plan

RATE = 48_000
MUSHRA, RATING = {"kind": "mushra"}, {"kind": "rating"}
AB = {"kind": "ab", "pairs": [["a", "b"]]}
BASE: dict[str, Any] = {
    "name": "t",
    "seed": 1,
    "listeners": 2,
    "conditions": {"a": "a", "b": "b"},
    "raw": "takes",
    "excerpt": {"duration_s": 0.5},
    "trials": [RATING],
}


def put(path: Path, *, seconds: float = 0.7, gain: float = 0.1, rate: int = RATE, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = gain * np.random.default_rng(seed).uniform(-1, 1, round(seconds * rate))
    soundfile.write(path, sound, rate, "PCM_24")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("takes", "a", "b"):
        for song in ("s1", "s2"):
            put(tmp_path / name / f"{song}.wav")
    return tmp_path


def refusal(folder: Path, capsys: pytest.CaptureFixture[str], text: str | None = None, **changes: Any) -> str:
    """The one line for BASE with changes (None takes a key away), or for the text of a spec."""
    tree = {key: value for key, value in (BASE | changes).items() if value is not None}
    (folder / "spec.yaml").write_text(text or yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    before = sorted(folder.rglob("*"))
    assert main(["listen", "design", str(folder / "spec.yaml"), "--out", str(folder / "TEST")]) == 2
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert (out, line[:7]) == ("", "error: ")
    assert sorted(folder.rglob("*")) == before
    return line


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loudnes_lufs": -23}, "loudnes_lufs: unknown key, did you mean «loudness_lufs»?"),
        ({"trials": [RATING | {"repeat": 1}]}, "trials.0.repeat: unknown key, did you mean «repeats»?"),
        ({"trials": [{"kind": "mushras"}]}, "trials.0.kind"),
        ({"trials": []}, "trials"),
        ({"listeners": 0}, "listeners"),
        ({"seed": 1.5}, "seed"),
        ({"name": None}, "name: missing"),
        ({"excerpt": {"duration_s": 12.5}}, "excerpt.duration_s: should be less than or equal to 12"),
        ({"conditions": {"raw": "a"}}, "«raw» has a meaning of its own"),
        ({"conditions": None}, "nothing to compare"),
        ({"trials": [MUSHRA]}, "mushra is offered only where a true reference exists"),
        ({"trials": [AB | {"reference": True}]}, "needs the folder «reference»"),
        ({"trials": [{"kind": "ab"}]}, "ab needs «pairs»"),
        ({"trials": [{"kind": "ab", "pairs": [["a", "a"]]}]}, "«a» against itself"),
        ({"trials": [{"kind": "ab", "pairs": [["a", "b"], ["b", "a"]]}]}, "a pair is given twice"),
        ({"trials": [{"kind": "ab", "pairs": [["a", "c"]]}]}, "there is no condition «c» (there are: a, b, raw)"),
        ({"trials": [RATING | {"conditions": ["a", "raws"]}]}, "«raws», did you mean «raw»?"),
        ({"trials": [RATING | {"anchors": True}]}, "«anchors» belongs to mushra, not to rating"),
        ({"trials": [AB | {"trials_per_pair": 3}]}, "«trials_per_pair» belongs to abx, not to ab"),
        ({"trials": [RATING | {"ties": True}]}, "«ties» belongs to ab, paired, not to rating"),
        ({"trials": [RATING | {"repeats": 3}]}, "repeats of 3, but the block has 2 trials"),
        ({"trials": [RATING | {"training": 3}]}, "training of 3, but the block has 2 trials"),
        ({"trials": [MUSHRA | {"conditions": ["reference"]}], "reference": "a"}, "hidden reference is there already"),
        ({"trials": [{"kind": "paired", "conditions": ["a"]}]}, "comparison of one condition"),
        ({"trials": [RATING | {"conditions": ["a"]}], "raw": None}, "rating of one sound"),
        ({"items": ["s1", "s9"]}, "«raw» has no file of «s9»"),
        ({"raw": "nowhere"}, "nowhere: there is no such folder"),
        ({"conditions": {"a": "a/*.mp3"}}, "no file fits this pattern"),
        ({"conditions": {"a": "*/*.wav"}}, "a pattern has one *"),
        ({"evaluate": {"folder": "."}}, "evaluate with --keep-renders"),
        ({"excerpt": {"duration_s": 0.5, "per_item": 2}}, "hold no 2 excerpts of 0.5 s"),
        ({"power": {"effect_d": 0.001}}, "no number of listeners"),
        ({"variations": "a"}, "«s1» has no number"),
    ],
)
def test_a_spec_that_can_not_be_right(
    changes: dict[str, Any], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refusal(folder, capsys, **changes)


def test_text_that_is_no_spec(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not valid YAML" in refusal(folder, capsys, "name: [")
    assert "line 2" in refusal(folder, capsys, "name: a\nname: b\n")


def test_thirteen_sounds_are_too_many_for_a_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = {f"c{number}": "a" for number in range(12)}
    assert "rating of 13 sounds; at most 12" in refusal(folder, capsys, conditions=many)
    nine = {f"c{number}": "a" for number in range(9)}
    said = refusal(folder, capsys, conditions=nine, reference="a", trials=[MUSHRA])
    assert "mushra of 13 sounds; at most 12" in said  # nine, the raw take, the hidden reference and two anchors


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("b/s2.wav", {"seconds": 0.69}, "b/s2.wav: 480 samples (0.0100 s) shorter than"),
        ("b/s2.wav", {"seconds": 0.7001}, "5 samples (0.0001 s) longer than"),
        ("b/s2.wav", {"gain": 0.0}, "b/s2.wav: silent"),
        ("b/s2.wav", {"gain": 1e-4}, "«b» of s2 from 0.20 s: the audio is silent, or too quiet"),
        ("b/s3.wav", {}, "b/s3.wav: belongs to no item"),
        ("b/s2.flac", {}, "two files of «s2»"),
    ],
)
def test_sounds_that_can_not_be_compared(
    file: str, changes: dict[str, Any], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(folder / file, **changes)
    trials = [{"kind": "ab", "pairs": [["a", "b"]]}]
    keyed = {"raw": None} if "two files" in said else {}
    line = refusal(folder, capsys, trials=trials, **keyed)
    assert said in line


def test_a_condition_without_a_file_of_an_item_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "b/s2.wav").unlink()
    assert "«b» has no file of «s2» (1 of 2 are missing" in refusal(folder, capsys)


def test_a_condition_that_is_silent_in_the_excerpt_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, at in (("takes", 1.0), ("a", 1.0), ("b", 0.0)):
        for song in ("s1", "s2"):
            sound = np.zeros(2 * RATE)
            sound[round(at * RATE) : round((at + 0.9) * RATE)] = 0.1 * np.random.default_rng(1).uniform(-1, 1, 43200)
            soundfile.write(folder / name / f"{song}.wav", sound, RATE, "PCM_24")
    line = refusal(folder, capsys)
    assert "«b» of s1 from 1." in line
    assert "silent" in line


def test_files_of_other_rates_are_brought_to_one_and_a_rounded_length_is_no_difference(folder: Path) -> None:
    put(folder / "b/s1.wav", rate=44_100)
    for name, rate in (("takes", RATE), ("a", RATE), ("b", 44_100)):  # 33 601 samples; 30 871, which come to 33 602
        put(folder / name / "s2.wav", rate=rate, seconds=33_601 / RATE)
    (folder / "spec.yaml").write_text(yaml.safe_dump(BASE), encoding="utf-8")
    assert main(["listen", "design", str(folder / "spec.yaml"), "--out", str(folder / "TEST")]) == 0
    infos = [soundfile.info(path) for path in (folder / "TEST/stimuli").iterdir()]
    assert {(info.samplerate, info.frames, info.channels, info.subtype) for info in infos} == {
        (RATE, RATE // 2, 2, "PCM_24")
    }


def test_an_excerpt_is_the_same_as_if_the_whole_file_had_been_resampled(folder: Path) -> None:
    for number, (name, rate) in enumerate((("takes", RATE), ("a", 44_100), ("b", 32_000))):
        sound = 0.1 * np.random.default_rng(number).uniform(-1, 1, 8 * rate)
        sound[: 4 * rate] *= 0.01
        sound[round(4.5 * rate) :] *= 0.01
        for song in ("s1", "s2"):
            soundfile.write(folder / name / f"{song}.wav", sound, rate, "PCM_24")
    (folder / "spec.yaml").write_text(yaml.safe_dump(BASE), encoding="utf-8")
    assert main(["listen", "design", str(folder / "spec.yaml"), "--out", str(folder / "TEST")]) == 0
    trial = read_plan(folder / "TEST").trials[0]
    assert trial.start_s == 4.0
    for one in trial.stimuli:
        expected = cut(read(one.source).resampled(RATE), 4.0, 0.5).samples[0].numpy() * 10 ** (one.gain_db / 20)
        heard = soundfile.read(folder / "TEST/stimuli" / one.file)[0]
        assert np.abs(heard[:, 0] - expected).max() < 1e-5


def test_a_test_is_never_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "TEST").mkdir()
    (folder / "TEST/answers.sqlite3").write_bytes(b"precious")
    assert "TEST: not a new or empty folder" in refusal(folder, capsys)


def test_a_full_disk_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit on the size of files does what a full disk does: writing fails in the middle of the sounds."""
    (folder / "spec.yaml").write_text(yaml.safe_dump(BASE), encoding="utf-8")
    before = sorted(folder.rglob("*"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        code = main(["listen", "design", str(folder / "spec.yaml"), "--out", str(folder / "TEST")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "cannot be written: File too large" in line
    assert sorted(folder.rglob("*")) == before


def test_the_spec_has_its_own_seed_and_listeners(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "spec.yaml").write_text(yaml.safe_dump(BASE), encoding="utf-8")
    for option in ("--seed", "--listeners"):
        arguments = ["listen", "design", str(folder / "spec.yaml"), "--out", str(folder / "TEST"), option, "5"]
        assert main(arguments) == 2
        assert f"error: {option}: the spec says that" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["designs"]])
def test_an_unknown_part_of_listen_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["listen", *arguments]) == 2
    assert "allowed: design, serve, analyse, import" in capsys.readouterr().err
