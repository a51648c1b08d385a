"""The speed table: whole calls take at least what the network alone takes, and the first file comes first."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from audio.waveform import Waveform
from restyler.bench_speed import main, measured, print_whole
from restyler.pipeline import VocalRestylePipeline
from restyler.rendering import render
from restyler.way_names import WAYS


def test_shares_add_up_and_the_first_file_does_not_wait_for_the_last(
    pipeline: VocalRestylePipeline, vocal: Callable[..., Waveform]
) -> None:
    one, more = measured(pipeline, vocal(2, 48_000), ["codec"], [1, 3], time.process_time)
    for found in (one, more):
        assert sum(found.shares.values()) == pytest.approx(found.seconds, rel=0.05, abs=0.05)
        assert found.seconds > found.shares["codec"] > 0 and found.shares["denoiser"] > 0
        assert found.times_real_time == pytest.approx(2 / found.seconds)
    assert more.first_s < 0.6 * more.seconds
    assert one.first_s == pytest.approx(one.seconds, rel=0.2, abs=0.05)
    assert more.bare_s > one.bare_s


def test_the_table_has_every_way(
    pipeline: VocalRestylePipeline, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restyler.transfer.fit.STEPS", 1)
    monkeypatch.setattr("restyler.bench_speed.VARIATIONS", (1,))
    print_whole(pipeline, 2)
    printed = capsys.readouterr().out
    for way in WAYS:
        (numbers,) = re.findall(rf"^  {way}, 1 mix +([\d.]+) +([\d.]+) +([\d.]+) s  (.*)$", printed, re.MULTILINE)
        assert float(numbers[0]) > 0 and float(numbers[1]) > 1
        assert "codec" in numbers[3] and "denoiser" in numbers[3]


def test_waiting_costs_no_seconds_of_the_processor(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(*arguments: Any, **options: Any) -> Iterator[Any]:
        time.sleep(0.5)
        yield from render(*arguments, **options)

    monkeypatch.setattr("restyler.bench_speed.render", waits)
    monkeypatch.setattr("restyler.bench_speed.VARIATIONS", (1,))
    monkeypatch.setattr("restyler.bench_speed.WAYS", ("codec",))
    first_s = []
    for words in ([], ["--processor"]):
        assert main(["--model", str(model), "--seconds", "2", *words]) == 0
        first_s.append(float(re.findall(r"([\d.]+) s  codec", capsys.readouterr().out)[0]))
    assert first_s[0] >= 0.5 and first_s[0] - first_s[1] >= 0.3


@pytest.mark.slow
def test_four_mixes_cost_at_most_a_tenth_more_than_their_parts(shared_data) -> None:
    """With the bundled model, in seconds of the processor: the take is read, encoded and judged once for all."""
    from audio.io import read
    from restyler.model_folder import BUNDLED

    files = sorted((shared_data / "research" / "gtsinger").rglob("*.flac"))
    if not files:
        pytest.skip("needs the takes of research/gtsinger")
    take = read(files[0]).resampled(48_000)
    bundled = VocalRestylePipeline.from_pretrained(BUNDLED)
    (one,) = measured(bundled, take, ["residual"], [1], time.process_time)
    for max_batch in (1, 4):
        (four,) = measured(bundled, take, ["residual"], [4], time.process_time, max_batch)
        spent = [f"{each.seconds:.1f} s" for each in (one, four)]
        print(f"\n{take.duration_s:.1f} s of take, batch {max_batch}: 1 mix {spent[0]}, 4 mixes {spent[1]}")
        assert four.seconds < 1.1 * 4 * one.seconds
        assert one.times_real_time > 1 and four.times_real_time > 0.25  # of one core alone
