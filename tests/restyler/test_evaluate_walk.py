"""Kept renders belong to the figures beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from audio.io import read, write
from audio.waveform import Waveform
from restyler.evaluate.evaluation_set import Entry
from restyler.evaluate.report import report
from restyler.evaluate.roles import parts_of
from restyler.evaluate.row import Row
from restyler.evaluate.walk import Plan, walk

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def entry(vocal: Callable[..., Waveform], tmp_path_factory: pytest.TempPathFactory) -> Entry:
    path = tmp_path_factory.mktemp("walk") / "a.wav"
    write(path, vocal(2.0, RATE_HZ).stereo(), tags={})
    return Entry("a", "a", path, path, style=None, unprocessed=False)


def evaluated(out: Path, entry: Entry, model: str, gains: Sequence[float]) -> list[float]:
    """What lies in OUT after one evaluation of a model whose draws are the take at these gains: their peaks, turned
    back into gains."""
    take = entry.load().take
    row = Row("ours", "", lambda song: [Waveform(gain * song.take.samples, RATE_HZ) for gain in gains])
    walk(out, Plan([entry], [row], {"ours": model}, aligned=False, kept=True), lambda done, of: None)
    peaks = [read(path).samples.abs().max() for path in sorted((out / "renders" / "ours").iterdir())]
    return [float(peak / take.samples.abs().max()) for peak in peaks]


def test_kept_renders_are_those_of_the_model_that_was_scored_last(entry: Entry, tmp_path: Path) -> None:
    first = [0.5, 0.25]
    assert evaluated(tmp_path, entry, "first", first) == pytest.approx(first, abs=1e-4)
    assert evaluated(tmp_path, entry, "second", [0.75]) == pytest.approx([0.75], abs=1e-4)
    assert evaluated(tmp_path, entry, "first", first) == pytest.approx(first, abs=1e-4)
    assert len(list((tmp_path / "scores").iterdir())) == 2


def test_results_of_other_code_are_counted(entry: Entry, tmp_path: Path) -> None:
    row = Row("ours", "", lambda song: [song.take])
    plan = Plan([entry], [row], {"ours": "model"}, aligned=False, kept=False)
    for changed in (False, True):
        records = walk(tmp_path, plan, lambda done, of: None)
        content = report([entry], parts_of([row], records), {"set": "x"}, seed=0)
        assert content["of_other_code"] == changed
        (path,) = (tmp_path / "scores").iterdir()
        path.write_text(path.read_text().replace(records["ours"][0].code, "another"))
