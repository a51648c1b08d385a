"""A listening test of what `restyler evaluate --keep-renders` left: by the real command, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from restyler.cli import main
from restyler.listen.plan import read_plan

RATE = 48_000
KEYS = ("a_0000", "b_0001")  # as `restyler synthesize` ends them: not to be taken for draws


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of two pairs, whose mixes are not called as their takes, one of them evaluated with one system."""
    folder = tmp_path_factory.mktemp("evaluated")
    time_s = np.arange(round(2.1 * RATE)) / RATE
    for number, key in enumerate(KEYS):
        sound = sum(np.cos(2 * np.pi * 150 * (number + 2) * n * time_s) / n for n in range(1, 12)) * 0.1
        for path, gain in ((f"set/raw/{key}", 1.0), (f"set/mix/{key}__hall", 0.5), (f"renders/other/{key}", 0.8)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / f"{path}.flac", np.stack([sound, gain * np.roll(sound, 30)], axis=1), RATE)
    rows = [{"key": key, "raw": f"raw/{key}.flac", "mix": f"mix/{key}__hall.flac", "style": "hall"} for key in KEYS]
    (folder / "set/pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["--set", folder / "set", "--renders", folder / "renders", "--out", folder / "OUT", "--limit", 1]
    assert main(["evaluate", *map(str, arguments), "--keep-renders", "--rows", "raw take", "other"]) == 0
    return folder


def design(folder: Path, out: Path, evaluate: dict[str, Any], **more: Any) -> int:
    spec = {"name": "t", "seed": 1, "listeners": 2, "excerpt": {"duration_s": 0.5}, "trials": [{"kind": "rating"}]}
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec | {"evaluate": evaluate} | more), encoding="utf-8")
    return main(["listen", "design", str(path), "--out", str(out)])


def test_all_rows_of_an_evaluation_are_conditions(evaluated: Path, tmp_path: Path) -> None:
    assert design(evaluated, tmp_path / "TEST", {"folder": "OUT"}) == 0
    plan = read_plan(tmp_path / "TEST")
    assert {trial.item for trial in plan.trials} == {"a_0000"}
    assert {tuple(one.condition for one in trial.stimuli) for trial in plan.trials} == {("other", "raw take")}


def test_the_set_gives_raw_takes_and_mixes_of_what_was_evaluated(evaluated: Path, tmp_path: Path) -> None:
    assert design(evaluated, tmp_path / "TEST", {"folder": "OUT", "set": "set", "rows": ["other"]}) == 0
    for trial in read_plan(tmp_path / "TEST").trials:
        assert [(one.condition, one.role, Path(one.source).name) for one in trial.stimuli] == [
            ("other", "system", f"{trial.item}_00.flac"),
            ("raw", "raw", f"{trial.item}.flac"),
            ("mix", "mix", f"{trial.item}__hall.flac"),
        ]


def test_the_mixes_of_the_set_can_be_the_reference(evaluated: Path, tmp_path: Path) -> None:
    evaluate = {"folder": "OUT", "set": "set", "rows": ["other"], "reference": True}
    assert design(evaluated, tmp_path / "TEST", evaluate, trials=[{"kind": "mushra"}]) == 0
    for trial in read_plan(tmp_path / "TEST").trials:
        assert [one.condition for one in trial.stimuli] == ["reference", "anchor35", "anchor70", "other", "raw"]
        assert trial.reference and Path(trial.reference.source).name == f"{trial.item}__hall.flac"


def test_a_set_that_was_not_evaluated_is_refused(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(evaluate: dict[str, Any], **more: Any) -> str:
        assert design(evaluated, tmp_path / "TEST", evaluate, **more) == 2
        assert not (tmp_path / "TEST").exists()
        return capsys.readouterr().err

    assert "give either it, or «raw» and «mix»" in refused({"folder": "OUT", "set": "set"}, raw="set/raw")
    assert "takes the mixes of «set»" in refused({"folder": "OUT", "reference": True})
    other = tmp_path / "other"
    for side in ("raw", "mix"):
        (other / side).mkdir(parents=True)
        (other / side / "x.flac").write_bytes((evaluated / "set/raw/a_0000.flac").read_bytes())
    assert "has no pair «a_0000», which was evaluated" in refused({"folder": "OUT", "set": str(other)})
    assert "report.json: cannot be read" in refused({"folder": "set", "set": "set"})
    (other / "report.json").write_text('{"pairs": 1}')
    assert "is no report of an evaluation" in refused({"folder": str(other), "set": "set"})
