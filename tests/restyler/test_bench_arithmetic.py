"""The table of cheaper arithmetic: what is computed otherwise is nearly the same, and not the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from audio.waveform import Waveform
from restyler.bench_arithmetic import BFloat16Linear, main, measured, ways, with_linear_layers
from restyler.model_folder import BUNDLED
from restyler.pipeline import VocalRestylePipeline

QUICK = ["bfloat16, autocast", "bfloat16, matrix products", "int8, matrix products"]


def test_each_way_computes_otherwise_and_nearly_the_same(
    pipeline: VocalRestylePipeline, vocal: Callable[..., Waveform]
) -> None:
    exact, *rows = measured(pipeline, 1, 1, QUICK)
    assert (exact.name, exact.error) == ("float32", 0)
    assert [row.name for row in rows] == QUICK
    for row in rows:
        assert 1e-5 < row.error < 0.2, row
        assert row.seconds > 0
    assert rows[2].error > rows[1].error / 2  # seven bits beside eight


def test_only_linear_layers_are_replaced_and_the_model_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.SiLU(), nn.Linear(8, 4)), nn.Conv1d(1, 1, 1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = with_linear_layers(model, BFloat16Linear)
    assert [type(part).__name__ for part in (other[0], *other[1], other[2])] == [
        "BFloat16Linear",
        "SiLU",
        "BFloat16Linear",
        "Conv1d",
    ]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    wanted = nn.functional.linear(x.bfloat16(), model[0].weight.bfloat16(), model[0].bias.bfloat16()).float()
    assert torch.equal(other[0](x), wanted)


@pytest.mark.slow
def test_the_table_of_the_bundled_model(capsys: pytest.CaptureFixture[str]) -> None:
    """Compiled it is the same to rounding; bfloat16 is far under what two seeds differ by."""
    assert main(["--times", "2"]) == 0
    printed = capsys.readouterr().out
    bundled = VocalRestylePipeline.from_pretrained(BUNDLED)
    assert all(name in printed for name in ways(bundled.denoiser))
    errors = {row.name: row.error for row in measured(bundled, 10, 1)}
    assert errors["float32, torch.compile"] < 1e-4
    assert errors["bfloat16, autocast"] < 0.01
