"""The spectral loss of one-step estimates: what it hears, where it acts, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from codec.pocket import PocketCodec
from restyler.building import TrainingModel, build_model
from restyler.config import DenoiserConfig, SpectralSection, load_config
from restyler.pipeline import VocalRestylePipeline
from restyler.spectral import SpectralLoss

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def codec(pipeline: VocalRestylePipeline) -> PocketCodec:
    return pipeline.codec


def loss(codec: PocketCodec, **weights: float) -> SpectralLoss:
    chosen = {"excerpt_s": 1.0, "convergence": 0.0, "log_magnitude": 0.0, "mel": 0.0} | weights
    return SpectralLoss(codec, SpectralSection(**chosen))


@pytest.fixture(scope="module")
def tone() -> torch.Tensor:
    """1.5 s of harmonics, stereo, without any noise."""
    phase = 2 * torch.pi * 200 * torch.arange(72_000) / 48_000
    return (0.1 * sum(torch.sin(k * phase) / k for k in range(1, 12))).expand(1, 2, -1)


def noisy(codec: PocketCodec, tone: torch.Tensor, seed: int) -> torch.Tensor:
    """Latents of the tone in noise: most channels hold something unpredictable."""
    return codec.encode(tone + 0.02 * torch.randn(tone.shape, generator=torch.Generator().manual_seed(seed)))


def test_the_right_energy_beats_the_mean_where_the_square_error_prefers_the_mean(codec: PocketCodec, tone) -> None:
    """A mix with noise of one draw: an estimate with another draw, and one without any (the mean of all draws)."""
    mix, other, mean = noisy(codec, tone, 1), noisy(codec, tone, 2), codec.encode(tone)
    assert (mean - mix).square().mean() < 0.7 * (other - mix).square().mean()
    hears = loss(codec, log_magnitude=1.0)
    assert hears(other, mix) < 0.9 * hears(mean, mix)


def test_each_weight_scales_its_own_term(codec: PocketCodec, tone) -> None:
    mix, estimate = noisy(codec, tone, 1), noisy(codec, tone, 2)
    weights = {"convergence": 0.5, "log_magnitude": 2.0, "mel": 3.0}
    alone = [weight * loss(codec, **{name: 1.0})(estimate, mix) for name, weight in weights.items()]
    assert min(float(term) for term in alone) > 0.01
    torch.testing.assert_close(loss(codec, **weights)(estimate, mix), torch.stack(alone).sum(dim=0))
    assert float(loss(codec, **weights)(mix, mix)) == 0


def test_it_hears_the_excerpt_alone_and_teaches_the_estimate_alone(codec: PocketCodec, tone) -> None:
    mix, estimate = noisy(codec, tone, 1), noisy(codec, tone, 2).requires_grad_()
    loss(codec, excerpt_s=0.5, log_magnitude=1.0)(estimate, mix).sum().backward()
    heard = estimate.grad[0].abs().amax(dim=0) > 0
    frames, excerpt = mix.shape[-1], 75
    first = (frames - excerpt) // 2
    assert heard[first : first + excerpt].all()
    assert not heard[:first].any()
    assert not heard[first + excerpt :].any()
    assert all(parameter.grad is None for parameter in codec.parameters())


@pytest.fixture(scope="module")
def batch(codec: PocketCodec) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    raw, mix, noise = torch.randn(3, 4, codec.latent_dim, 60, generator=generator)
    return {
        "raw": raw,
        "mix": mix,
        "noise": noise,
        "t": torch.tensor([1.0, 0.4, 1.0, 0.9]),
        "sigma": torch.full((4,), 0.5),
        "style": torch.full((4,), -1),
        "reference": torch.zeros(4, codec.latent_dim, 10),
        "reference_frames": torch.zeros(4, dtype=torch.long),
        "controls": torch.full((4, 4), torch.nan),
        "told": torch.ones(4, dtype=torch.bool),
        "frame_mask": torch.ones(4, 60, dtype=torch.bool),
    }


def model(codec: PocketCodec, *changes: str) -> TrainingModel:
    config = load_config(ROOT / "configs/tiny.yaml", ["denoiser.width=24", "denoiser.depth=1", *changes])
    assert isinstance(config, DenoiserConfig)
    return build_model(config, codec, [])


def test_only_examples_at_the_start_of_the_path_are_heard(codec: PocketCodec, batch: dict[str, torch.Tensor]) -> None:
    weights = "spectral={excerpt_s: 0.2, convergence: 1.0, log_magnitude: 1.0, mel: 1.0}"
    with_it, without = model(codec, weights), model(codec)
    more = (with_it(batch) - without(batch)).detach()
    assert more[0] > 0.1 and more[2] > 0.1
    assert not more[[1, 3]].any()
    assert with_it.state_dict().keys() == without.state_dict().keys()  # the codec is no part of what is saved
    later = batch | {"t": torch.tensor([0.2, 0.4, 0.6, 0.9])}
    torch.testing.assert_close(with_it(later), without(later))
