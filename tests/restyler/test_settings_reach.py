"""Keys of the config whose effect no figure shows: each must reach the place that it names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from diffusers import DPMSolverMultistepScheduler

from restyler.building import build_model
from restyler.config import DenoiserConfig, load_config
from restyler.material import load_material
from restyler.pipeline import VocalRestylePipeline
from restyler.processes import make_accelerator
from restyler.training import DenoiserTask

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "tiny.yaml"
SMALL = ["data.takes=8", "data.seconds=1.5", "denoiser.width=48", "denoiser.depth=1", "denoiser.heads=2"]
SMALL += ["training.batch_size=4", "training.crop_s=0.3", "training.precision=no", "optim.warmup_steps=0"]
# Every value differs from what tiny.yaml would give.
CHOSEN = {
    "optim.betas": "[0.8, 0.95]",
    "optim.weight_decay": "0.07",
    "optim.clip": "0.01",
    "ema.decay": "0.6",
    "ema.warmup_power": "0.5",
    "sampling.scheduler": "dpmpp",
    "sampling.steps": "7",
    "sampling.guidance": "2.5",
    "sampling.window_s": "4.0",
    "sampling.context_s": "0.3",
    "training.reference_s": "0.4",
    "conditioner.reference_width": "24",
}


@pytest.fixture(scope="module")
def task(model: Path, synthetic_cache: Path) -> Iterator[DenoiserTask]:
    chosen = [f"{key}={value}" for key, value in CHOSEN.items()]
    config = load_config(CONFIG, [*SMALL, *chosen, f"codec.path={model / 'codec'}", f"data.cache={synthetic_cache}"])
    assert isinstance(config, DenoiserConfig)
    accelerator = make_accelerator(precision="no", batch_size=config.training.batch_size, parts=1)
    material = load_material(config, accelerator)
    trained = build_model(config, material.codec, material.train.styles)
    trained.denoiser.set_residual_std(material.statistics.residual_std)
    yield DenoiserTask(config, accelerator, material, trained)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    PartialState._reset_state()


def test_the_chosen_values_are_not_those_of_tiny() -> None:
    usual = load_config(CONFIG).model_dump()
    chosen = load_config(CONFIG, [f"{key}={value}" for key, value in CHOSEN.items()]).model_dump()
    for key in CHOSEN:
        section, name = key.split(".")
        assert usual[section][name] != chosen[section][name], key


def test_the_optimiser_has_its_betas_and_its_weight_decay(task: DenoiserTask) -> None:
    groups = task.optimisation._plain_optimiser().param_groups
    assert [tuple(group["betas"]) for group in groups] == [(0.8, 0.95)] * 2
    assert [group["weight_decay"] for group in groups] == [0.07, 0.0]


def test_the_gradient_is_cut_to_the_stated_norm(task: DenoiserTask) -> None:
    before, _ = task.backward(0, iter(task.batches(0)))["grad_norm"]
    gradients = [p.grad for p in task.model.parameters() if p.grad is not None]
    after = float(torch.stack([gradient.norm() for gradient in gradients]).norm())
    assert before > 0.02
    assert after == pytest.approx(0.01, rel=1e-3)


def test_the_average_follows_its_decay_and_warm_up(task: DenoiserTask) -> None:
    average = task.optimisation._ema
    assert average is not None
    assert average.get_decay(1_000_000) == 0.6
    assert average.get_decay(4) == pytest.approx(1 - 1 / math.sqrt(4))  # 1 − (1 + 3)^(−0.5)


def test_references_have_the_stated_length_and_width(task: DenoiserTask) -> None:
    batch = next(iter(task.batches(0)))
    assert batch["reference"].shape[2] == round(0.4 * task.material.codec.frame_rate_hz)
    assert {c.out_channels for c in task.model.conditioner.reference_encoder.convolutions} == {24}


def test_the_exported_pipeline_samples_as_the_config_says(task: DenoiserTask, tmp_path: Path) -> None:
    task.export(tmp_path / "pipeline", 0)
    pipeline = VocalRestylePipeline.from_pretrained(tmp_path / "pipeline")
    rate_hz, defaults = task.material.codec.frame_rate_hz, pipeline.defaults
    assert (defaults.window_frames, defaults.context_frames) == (round(4.0 * rate_hz), round(0.3 * rate_hz))
    assert (defaults.steps, defaults.guidance) == (7, 2.5)
    assert isinstance(pipeline.scheduler, DPMSolverMultistepScheduler)
