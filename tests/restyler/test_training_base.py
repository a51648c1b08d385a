"""The config for a GPU, on the official EnCodec architecture: the same road as the pocket one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from restyler.pipeline import VocalRestylePipeline
from restyler.train import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.usefixtures("fresh_accelerator")
def test_base_config_runs_end_to_end_on_the_official_architecture(
    write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    """Random weights in the official layout and a narrow denoiser; all the rest is base.yaml."""
    pairs = write_pairs(tmp_path / "pairs", seconds=1.2)
    # Of the keys a and b, b goes to validation.
    data = (
        f"{{kind: folder, path: {pairs}, validation_fraction: 0.25, loudness_lufs: -18, cache: {tmp_path / 'cache'}}}"
    )
    arguments = [
        str(ROOT / "configs" / "base.yaml"),
        f"data={data}",
        "codec.weights=random",
        "conditioner.controls=[]",
        "denoiser.width=48",
        "denoiser.depth=2",
        "denoiser.heads=2",
        "training.steps=2",
        "training.batch_size=2",
        "training.crop_s=0.4",
        "training.reference_s=0.3",
        "training.workers=0",
        "validation.examples=1",
        "validation.seeds=2",
    ]
    assert main([*arguments, "--run-dir", str(tmp_path / "run")]) == 0
    pipeline = VocalRestylePipeline.from_pretrained(tmp_path / "run" / "pipeline")
    assert pipeline.codec.config.n_filters == 32
    # EnCodec comes without statistics: those of the pairs were measured and travel with the model.
    assert pipeline.codec.latent_dim == 129
    assert float(pipeline.codec.latent_mean[-1]) < -5  # the level in dB
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (row,) = [row for row in rows if "loss" in row]
    assert row["step"] == 2
    assert 0 < row["loss"] < 10
