"""`python -m restyler.bench_knobs`: its table against the pipeline itself, and the bundled model's knobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from audio.features import measure
from audio.io import read
from audio.waveform import Waveform
from restyler.bench_knobs import DEVIATIONS, changed, main
from restyler.model_folder import BUNDLED
from restyler.rendering import load_model
from restyler.sample import main as sample
from restyler.way_names import RESIDUAL
from restyler.ways import Way


def test_the_table_says_what_the_command_writes(
    model: Path, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A control told by `restyler sample`, measured in its file."""
    take, pipeline = vocal_file("take.wav", seconds=1.0), load_model(model, "cpu")
    assert main([str(take), "--model", str(model)]) == 0
    name, (mean, deviation) = next(iter(pipeline.defaults.controls.items()))
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines[2 : 2 + len(DEVIATIONS)]]
    assert lines[1].split() == [name, "told", "take"]
    assert [row[2] for row in rows] == [f"{mean + away * deviation:.1f}" for away in DEVIATIONS]
    assert len(lines) == 1 + len(pipeline.defaults.controls) * (1 + len(DEVIATIONS))
    value = mean + DEVIATIONS[-1] * deviation
    line = ["--model", model, "--control", f"{name}={value}", "--variations", 1, "--seed", 0, "--guard", "off"]
    assert sample([*map(str, [take, *line]), "--out", str(tmp_path / "out")]) == 0
    written = measure(read(tmp_path / "out" / "take" / "mix_00.wav"))[name]
    before = measure(read(take).stereo().resampled(pipeline.codec.sample_rate))[name]
    assert float(rows[-1][3]) == pytest.approx(written - before, abs=0.06)  # one digit, 24 bits


def test_a_bright_mix_is_brighter_and_a_wide_one_wider(vocal: Callable[..., Waveform]) -> None:
    pipeline = load_model(BUNDLED, "cpu")
    way = Way(RESIDUAL, pipeline, vocal(2.0, 48_000), strength=pipeline.defaults.strength)
    for name in ("brightness_db", "width_db"):
        mean, deviation = pipeline.defaults.controls[name]
        low, high = (changed(pipeline, way, {name: mean + away * deviation}, 0)[name] for away in (-1.5, 1.5))
        assert high - low > deviation / 2, name  # of three deviations told
