"""Options of training whose effect shows after the run: the best weights, changes on resume, compiled blocks."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from restyler.train import main

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "data.takes": "8", "data.seconds": "1.5", "denoiser.width": "48", "denoiser.depth": "1", "denoiser.heads": "2",
    "training.steps": "6", "training.crop_s": "0.5", "training.reference_s": "0.4", "training.precision": "no",
    "training.save_every": "3", "training.keep": "1", "validation.every": "2", "validation.examples": "3",
    "validation.buckets": "2", "validation.takes": "1", "validation.take_s": "1", "tracking.log_every": "1",
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("fresh_accelerator")
Train = Callable[..., int]


@pytest.fixture(scope="module")
def train(model: Path, synthetic_cache: Path) -> Train:
    """train(run_dir, **{"optim.lr": "1"}): the exit code of a small run."""
    common = SMALL | {"codec.path": str(model / "codec"), "data.cache": str(synthetic_cache)}

    def run(run_dir: Path, **changes: str) -> int:
        overrides = [f"{key}={value}" for key, value in (common | changes).items()]
        return main([str(ROOT / "configs" / "tiny.yaml"), *overrides, "--run-dir", str(run_dir)])

    return run


def rows(run: Path, key: str) -> dict[int, float]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row[key] for row in found if key in row}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "denoiser" / "diffusion_pytorch_model.safetensors")


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(ours[name], theirs[name]) for name in ours.keys() | theirs.keys())


@pytest.mark.parametrize("best", ["val_loss", "val_mss_lr"])
def test_the_best_weights_are_kept_whatever_comes_after_them(train: Train, tmp_path: Path, best: str) -> None:
    """The learning rate is far too high: what is saved last is far from the best."""
    run = tmp_path / "run"
    wild = {"optim.lr": "0.06", "optim.schedule": "constant", "optim.warmup_steps": "2", "ema.decay": "0.1"}
    assert train(run, **wild, **{"validation.best": best}) == 0
    values = rows(run, best)
    assert list(values) == [0, 2, 4, 6]
    step = min((value, step) for step, value in values.items())[1]
    assert step < 6, values  # else the newest would do
    assert (run / "best" / ".step").read_text() == str(step)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [f"step_{step:06d}", "step_000006"]
    ours, theirs = weights(run / "best"), weights(run / "pipeline")
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)
    # A kill before its export, or someone who tidies up: it comes back, and the run is where it was.
    shutil.rmtree(run / "best")
    shutil.rmtree(run / "pipeline")
    assert train(run, **wild, **{"validation.best": best}) == 0
    assert_same(weights(run / "best"), ours)
    assert_same(weights(run / "pipeline"), theirs)


def test_what_is_heard_is_measured_between_floor_and_ceiling_and_kept(train: Train, tmp_path: Path) -> None:
    assert train(tmp_path, **{"training.steps": "2"}) == 0
    (untrained, trained) = rows(tmp_path, "val_mss_lr").values()
    (floor, *_), (ceiling, *_) = rows(tmp_path, "floor_mss_lr").values(), rows(tmp_path, "ceiling_mss_lr").values()
    assert trained != untrained and ceiling < floor
    (take,) = [path for path in (tmp_path / "heard").iterdir() if path.is_dir()]
    assert sorted(path.name for path in take.iterdir()) == ["mix.flac", "raw.flac", "seed 0.flac", "seed 1.flac"]
    assert take.with_name(f"{take.name}.png").exists()


def test_changes_that_change_nothing_are_allowed_and_told(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "plain", **{"training.keep": "3"}) == 0
    shutil.copytree(tmp_path / "plain", tmp_path / "changed")
    for later in ("step_000004", "step_000006"):
        shutil.rmtree(tmp_path / "changed" / "checkpoints" / later, ignore_errors=True)
    capsys.readouterr()
    assert train(tmp_path / "changed", **{"training.accumulation": "2", "training.keep": "2"}) == 0
    told = capsys.readouterr().out
    assert "changed since this run began: training.accumulation: 1 → 2" in told
    assert json.loads((tmp_path / "changed" / "config.json").read_text())["training"]["accumulation"] == 2
    ours, theirs = rows(tmp_path / "plain", "loss"), rows(tmp_path / "changed", "loss")
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert train(tmp_path / "changed", **{"optim.lr": "1e-4"}) == 2
    assert "optim.lr: 0.003 → 0.0001" in capsys.readouterr().err


@pytest.mark.slow  # a minute or two of compiling
@pytest.mark.skipif(not any(shutil.which(name) for name in ("g++", "clang++")), reason="needs a C++ compiler")
def test_compiled_blocks_learn_the_same(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    short = {"training.steps": "2", "validation.takes": "0", "training.batch_size": "2"}
    assert train(tmp_path / "plain", **short) == 0
    assert train(tmp_path / "compiled", **short, **{"training.compile": "true"}) == 0
    assert list((tmp_path / "inductor").rglob("*.so"))  # something was compiled
    for key in ("loss", "val_loss", "grad_norm"):
        assert rows(tmp_path / "plain", key) == pytest.approx(rows(tmp_path / "compiled", key), rel=1e-4)
