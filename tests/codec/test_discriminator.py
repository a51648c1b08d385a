"""Hinge and feature losses against values worked out by hand, and where their gradients go."""

from __future__ import annotations

import pytest
import torch
from encodec.msstftd import MultiScaleSTFTDiscriminator
from torch import nn

from codec.discriminator import discriminator_loss, generator_losses


@pytest.fixture
def discriminator() -> MultiScaleSTFTDiscriminator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MultiScaleSTFTDiscriminator(
            filters=4, in_channels=2, n_ffts=[512, 256], hop_lengths=[128, 64], win_lengths=[512, 256]
        )


def _noise(seed: int) -> torch.Tensor:
    return torch.randn(2, 2, 2_000, generator=torch.Generator().manual_seed(seed)) * 0.1


class _MeanAndTwice(nn.Module):
    """A discriminator whose answers are known: two scales say the mean of the signal, and twice that."""

    def forward(self, waveform: torch.Tensor) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
        mean = waveform.mean(dim=(1, 2))
        return [mean, 2 * mean], [[waveform], [waveform, 3 * waveform]]


def _constant(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None].expand(-1, 2, 10)


def test_the_discriminators_hinge_in_closed_form() -> None:
    # real: means .25, 2 → hinges .75, 0 and .5, 0; fake: means −.25, .5 → .75, 1.5 and .5, 2.
    loss = discriminator_loss(_MeanAndTwice(), _constant(0.25, 2.0), _constant(-0.25, 0.5))
    expected = ((0.75 + 0) / 2 + (0.75 + 1.5) / 2 + (0.5 + 0) / 2 + (0.5 + 2) / 2) / 2
    assert float(loss) == pytest.approx(expected)


def test_the_generators_losses_in_closed_form() -> None:
    losses = generator_losses(_MeanAndTwice(), _constant(0.25, 2.0), _constant(-0.25, 0.5))
    # adversarial: 1.25, .5 and 1.5, 0; feature: (.5 + 1.5) / (.25 + 2) in every layer, whatever its scale.
    assert float(losses["adversarial"]) == pytest.approx((1.25 + 0.5) / 4 + (1.5 + 0) / 4)
    assert float(losses["feature"]) == pytest.approx(2 / 2.25)


def test_identical_signals_have_no_feature_loss(discriminator: MultiScaleSTFTDiscriminator) -> None:
    assert float(generator_losses(discriminator, _noise(1), _noise(1))["feature"]) == 0
    assert float(generator_losses(discriminator, _noise(1), _noise(2))["feature"]) > 0.1


def test_the_discriminators_gradient_stays_in_it(discriminator: MultiScaleSTFTDiscriminator) -> None:
    real, fake = _noise(1).requires_grad_(), _noise(2).requires_grad_()
    discriminator_loss(discriminator, real, fake).backward()
    # Not the last biases: as long as no hinge is met, what real and fake ask of them cancels.
    weights = [parameter for name, parameter in discriminator.named_parameters() if "weight" in name]
    assert all(float(weight.grad.abs().sum()) > 1e-6 for weight in weights)
    assert real.grad is None
    assert fake.grad is None


@pytest.mark.parametrize("loss", ["adversarial", "feature"])
def test_the_generators_gradient_reaches_the_fake_alone(discriminator: MultiScaleSTFTDiscriminator, loss: str) -> None:
    real, fake = _noise(1).requires_grad_(), _noise(2).requires_grad_()
    generator_losses(discriminator, real, fake)[loss].backward()
    assert float(fake.grad.abs().sum()) > 0
    assert real.grad is None
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    assert all(parameter.requires_grad for parameter in discriminator.parameters())


def test_each_side_gets_better_by_its_own_loss_at_the_others_cost(discriminator: MultiScaleSTFTDiscriminator) -> None:
    real, fake = _noise(1), (_noise(2) * 0.3).requires_grad_()
    untrained = discriminator_loss(discriminator, real, fake).item()
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        discriminator_loss(discriminator, real, fake).backward()
        optimizer.step()
    trained = discriminator_loss(discriminator, real, fake).item()
    assert trained < 0.6 * untrained

    adversarial = generator_losses(discriminator, real, fake)["adversarial"].item()
    optimizer = torch.optim.Adam([fake], lr=1e-2)
    for _ in range(10):
        optimizer.zero_grad()
        generator_losses(discriminator, real, fake)["adversarial"].backward()
        optimizer.step()
    assert generator_losses(discriminator, real, fake)["adversarial"].item() < 0.6 * adversarial
    assert discriminator_loss(discriminator, real, fake).item() > trained
