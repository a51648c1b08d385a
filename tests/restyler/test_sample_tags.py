"""What stands in a mix's comment: it fits, however much is told, and what is wrong in it is one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio.encoding import MAX_TAG_BYTES
from audio.io import read_tags, write
from audio.waveform import Waveform
from restyler.guards import WORDS, Verdict
from restyler.model_folder import BUNDLED
from restyler.noise import HIGHEST_SEED, MOST_TURNS, Walk
from restyler.rack_chain import LONGEST_NAME_BYTES
from restyler.sample import main
from restyler.sample_plan import CHAIN_TAG_BYTES, MOST_REFERENCE_BYTES, MOST_REFERENCES, STEM_TAG_BYTES

LONGEST = 1.0 + 1 / 3  # 18 characters, as the least round number has


def test_the_fullest_comment_of_the_bundled_model_fits(tmp_path: Path) -> None:
    """Else a mix would be made and then could not be written."""
    config = json.loads((BUNDLED / "conditioner" / "config.json").read_text(encoding="utf-8"))
    walk = str(Walk(HIGHEST_SEED, tuple((HIGHEST_SEED, 0.1 + 0.2) for _ in range(MOST_TURNS))))
    styles = sorted(config["styles"], key=len)[-2:]
    fault = max((words.format(99) for words in WORDS.values()), key=len) + " from 35999 s on"
    verdict = Verdict((fault,), 1.0, {}, 99.9, 5.9, instead_of=walk, refused=(fault,), tries=4)
    tags = {
        "model": f"{BUNDLED.name} {'0' * 12}",
        "reference": "x" * (MOST_REFERENCE_BYTES - 2 * CHAIN_TAG_BYTES - 2),
        "reference_sha256": " ".join(f"{'0' * 12}={LONGEST!r}" for _ in range(MOST_REFERENCES)),
        "take": "0" * 12,
        "seed": walk,
        "style": json.dumps(dict.fromkeys(styles, LONGEST)),
        "controls": str(dict.fromkeys(config["controls"], -10 * LONGEST)),
        "drawn": " ".join(config["controls"]),
        "render": "transfer",
        "before": "x" * (LONGEST_NAME_BYTES - 2) + f" {'0' * 12}",
        "after": "x" * (LONGEST_NAME_BYTES - 2) + f" {'0' * 12}",
        "guard": "off",
        "guarded": verdict.note(),
        "steps": "1000",
        **{name: repr(-LONGEST) for name in ("guidance", "sigma", "spread", "strength", "lufs", "peak_dbtp", "tail")},
    }
    write(tmp_path / "mix.wav", Waveform(torch.zeros(2, 4_800), 48_000), tags=tags)
    assert read_tags(tmp_path / "mix.wav").items() >= tags.items()
    stem = tags | {"reference": tags["reference"][STEM_TAG_BYTES:], "stem": "x" * (LONGEST_NAME_BYTES - 2)}
    write(tmp_path / "mix.stem.wav", Waveform(torch.zeros(2, 4_800), 48_000), tags=stem)
    assert len(json.dumps(tags)) > 0.9 * MAX_TAG_BYTES  # the limits aren't lower than they have to be


@pytest.fixture
def chosen(model: Path, vocal_file: Callable[..., Path], tmp_path: Path) -> Callable[..., int]:
    """chosen(*arguments): `sample.py` on one short take with the small model; the exit code."""
    take = vocal_file("take.wav", seconds=0.3)
    common = [str(take), "--model", str(model), "--variations", "1"]
    return lambda out, *arguments: main([*common, "--out", str(tmp_path / out), *map(str, arguments)])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("style", "[" * 1200),
        ("style", json.dumps({"dry booth": 10**400})),
        ("controls", "{'width_db': 1" + "0" * 400 + "}"),
        ("controls", "(" * 1200),
        ("steps", "9" * 1000),
        ("seed", "9" * 1000),
        ("guard", "perhaps"),
    ],
)
def test_a_forged_comment_is_refused_in_one_line(
    chosen: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    assert chosen("first") == 0
    tags = read_tags(tmp_path / "first" / "take" / "mix_00.wav") | {name: text}
    write(tmp_path / "forged.wav", Waveform(torch.zeros(2, 4_800), 48_000), tags=tags)
    capsys.readouterr()
    assert chosen("new", "--like", tmp_path / "forged.wav") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "forged.wav" in line
    assert not (tmp_path / "new").exists()


def test_a_reference_is_known_by_what_it_holds(
    chosen: Callable[..., int], vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = vocal_file("one.wav", channels=2), vocal_file("the other.wav", channels=2)
    renamed = shutil.copy(one, tmp_path / "renamed.wav")
    assert chosen("first", "--reference", f"{one}=2") == 0
    liked = tmp_path / "first" / "take" / "mix_00.wav"
    assert chosen("again", "--like", liked, "--around", 0, "--reference", f"{renamed}=2") == 0
    again = tmp_path / "again" / "take" / "mix_00.wav"
    assert np.array_equal(soundfile.read(again)[0], soundfile.read(liked)[0])
    assert read_tags(again)["reference"] == "renamed.wav=2"
    capsys.readouterr()
    for wrong in (f"{other}=2", str(one)):
        assert chosen("wrong", "--like", liked, "--around", 0, "--reference", wrong) == 2
        assert "same --reference as for that mix: one.wav=2" in capsys.readouterr().err
