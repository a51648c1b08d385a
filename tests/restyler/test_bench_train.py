"""The benchmark of training prints what it measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from restyler.bench_train import main

TINY = Path(__file__).resolve().parents[2] / "configs" / "tiny.yaml"


@pytest.mark.slow  # trains four times
@pytest.mark.usefixtures("fresh_accelerator")
def test_overhead_waiting_and_efficiency_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["denoiser.width=48", "denoiser.depth=1", "denoiser.heads=2", "training.batch_size=4"]
    assert main([str(TINY), *small, "--steps", "3"]) == 0
    printed = capsys.readouterr().out
    number = r" +([0-9.]+) "
    bare_ms, step_ms = (
        float(re.search(name + number, printed)[1]) for name in ("bare forward and backward", "step of training")
    )
    overhead, efficiency = (
        float(re.search(text, printed)[1]) for text in (r"of training.*?([+-][0-9.]+)%", r"efficiency ([0-9]+)%")
    )
    assert overhead == pytest.approx(100 * (step_ms / bare_ms - 1), abs=1)
    assert step_ms > 0.9 * bare_ms > 0 and 0 < efficiency < 150
