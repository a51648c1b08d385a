"""Learning rate, weight decay and the running average of weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.training_utils import EMAModel

from restyler.building import build_model
from restyler.config import load_config
from restyler.optimisation import learning_rate, parameter_groups
from restyler.pipeline import VocalRestylePipeline

ROOT = Path(__file__).resolve().parents[2]


def test_warm_up_is_linear_and_the_cosine_ends_at_nothing() -> None:
    optim = load_config(ROOT / "configs/tiny.yaml", ["optim.lr=0.1", "optim.warmup_steps=4"]).optim
    rates = [learning_rate(step, 104, optim) for step in range(104)]
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert rates[4 + 50] == pytest.approx(0.05)
    assert 0 < rates[-1] < 1e-4
    assert rates[4:] == sorted(rates[4:], reverse=True)
    constant = optim.model_copy(update={"schedule": "constant"})
    assert [learning_rate(step, 104, constant) for step in (3, 4, 103)] == [0.1] * 3


def test_weight_decay_spares_biases_norms_and_embeddings(model: Path) -> None:
    config = load_config(ROOT / "configs/tiny.yaml")
    codec = VocalRestylePipeline.from_pretrained(model).codec
    trained = build_model(config, codec, ["a", "b"])
    decayed, spared = parameter_groups(trained, 0.5)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0.0)
    names = {id(parameter): name for name, parameter in trained.named_parameters()}
    spared_names = {names[id(parameter)] for parameter in spared["params"]}
    assert "conditioner.style_embedding.weight" in spared_names
    assert {name for name in names.values() if name.endswith("bias")} <= spared_names
    assert len(decayed["params"]) + len(spared["params"]) == len(names)
    assert {names[id(parameter)] for parameter in decayed["params"]} >= {"denoiser.embed_frames.weight"}


def test_the_average_of_a_jump_follows_its_closed_form() -> None:
    """From 0 to a constant 1: what is left of 0 is the product of the decays, the first of which is 0."""
    parameter = torch.nn.Parameter(torch.zeros(()))
    ema = EMAModel([parameter], decay=0.9, use_ema_warmup=True, power=0.75, foreach=True)
    ema.step([parameter])
    parameter.data.fill_(1.0)
    left = 1.0
    for step in range(1, 60):
        ema.step([parameter])
        left *= min(0.9, 1 - (1 + step) ** -0.75)
        assert float(ema.shadow_params[0]) == pytest.approx(1 - left, abs=1e-6)
