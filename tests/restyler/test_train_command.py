"""`python train.py`: what it tells before anything is trained, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from restyler.building import build_model
from restyler.config import load_config
from restyler.pipeline import VocalRestylePipeline
from restyler.train import main

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["data.takes=8", "data.seconds=1.5", "denoiser.width=48", "denoiser.depth=1", "denoiser.heads=2"]
SMALL += ["training.steps=24", "training.crop_s=0.5", "training.reference_s=0.4", "training.precision=no"]

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture
def settings(model: Path, synthetic_cache: Path) -> list[str]:
    return ["configs/tiny.yaml", *SMALL, f"codec.path={model / 'codec'}", f"data.cache={synthetic_cache}"]


@pytest.fixture(autouse=True)
def at_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_dry_run_prints_sizes_and_writes_nothing(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = [text for text in settings if not text.startswith("data.cache")] + [f"data.cache={tmp_path / 'cache'}"]
    assert main([*fresh, "--dry-run", "--run-dir", str(tmp_path / "run")]) == 0
    assert list(tmp_path.iterdir()) == []
    output = capsys.readouterr().out
    config = load_config(ROOT / "configs/tiny.yaml", fresh[1:])
    codec = VocalRestylePipeline.from_pretrained(Path(config.codec.path).parent).codec
    model = build_model(config, codec, ["bright", "dark hall", "echo"])
    for module in (codec, model.conditioner, model.denoiser):
        assert f"{sum(p.numel() for p in module.parameters()):,} parameters" in output
    assert "audio per step 4 s (8 × 0.5 s)" in output
    assert "epoch          7.9 steps of 8 examples" in output  # 7 of 8 takes × 3 chains × 1.5 s in crops of .5 s
    assert "crop_s: 0.5" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["configs/none.yaml"], "configs/none.yaml: the config can't be read: No such file or directory"),
        (["configs/pocket.yaml", "data.path=/nowhere"], "/nowhere: there is no such folder of pairs"),
        (["configs/tiny.yaml", "codec.path=/nowhere"], "codec.path: no pocket codec can be read from /nowhere"),
        (["configs/tiny.yaml", "denoiser.heads=7"], "denoiser: the width is divisible by twice the heads"),
        (["configs/tiny.yaml", "optim.lr=x", "seed=y"], "optim.lr: should be a valid number"),
        (["configs/tiny.yaml", "--no-such-option"], "unrecognized arguments: --no-such-option"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    settings: list[str], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    if not any(text.startswith("codec.path") for text in arguments):
        arguments = [*arguments, *(text for text in settings if text.startswith("codec.path"))]
    assert main([*arguments, "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_an_unwritable_run_folder_is_told(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([*settings, "--run-dir", str(tmp_path / "file" / "run")]) == 2
    assert "not usable as a run folder" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has half precision with a scaler")
def test_fp16_without_a_gpu_is_refused(settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [text for text in settings if not text.startswith("training.precision")]
    assert main([*arguments, "training.precision=fp16", "--run-dir", str(tmp_path)]) == 2
    assert "training.precision: fp16 needs a GPU" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_can_not_be_shared_is_told(settings: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [text for text in settings if not text.startswith("training.batch_size")]
    assert main([*arguments, "training.batch_size=7", "training.accumulation=2"]) == 2
    assert "batch_size (7) is not a multiple of accumulation (2)" in capsys.readouterr().err
