"""Memory of a whole call grows by the samples of take and mix and by the latents, and by nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from restyler.bench_long import Ran, main, picture, table

MOST_MIB_A_MINUTE = 130.0  # what is kept is about 90, see docs/whole_takes.md


@pytest.mark.slow
def test_memory_of_a_minute_more_stays_under_its_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real processes; four minutes against one, each with the curve of its memory."""
    assert main(["--minutes", "1", "4", "--out", str(tmp_path)]) == 0
    *_, row, _ = capsys.readouterr().out.splitlines()
    assert row.split()[0] == "4" and 0 < float(row.split()[-1]) < MOST_MIB_A_MINUTE
    points = np.genfromtxt(tmp_path / "memory.csv", delimiter=",", names=True)
    assert set(points["minutes"]) == {1.0, 4.0} and (points["MiB"] > 100).any()
    assert (tmp_path / "memory.svg").read_text().count("<svg") == 1


def test_the_table_tells_growth_by_the_minute() -> None:
    ran = [
        Ran(1.0, 30.0, 40.0, ((0.0, 500.0), (30.0, 900.0)), 1000.0, ""),
        Ran(3.0, 90.0, 1.0, ((0.0, 1.0),), 1200.0, ""),
    ]
    first, second = table(ran, 2, "codec")[2:]
    assert first.split() == ["1", "30.0", "4.00", "40", "1000"]
    assert second.split() == ["3", "90.0", "4.00", "1", "1200", "100.0"]
    assert "<svg" in picture(ran)
