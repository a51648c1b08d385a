from collections.abc import Callable

import pytest
import torch
from scipy import stats

from conditioning.conditions import Conditions
from diffusion.denoiser import Denoiser
from diffusion.loss import estimate_error, estimate_on_path, sample_times
from diffusion.path import interpolate, velocity


def flow_loss(denoiser, mix: torch.Tensor, conditions: Conditions, **draws: torch.Tensor | None) -> torch.Tensor:
    """The error of the velocity at the points on the path that are drawn."""
    estimate = estimate_on_path(denoiser, mix, conditions, **draws)
    return estimate_error(estimate, mix, t=draws["t"], frame_mask=draws["frame_mask"])


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.5, 0.5)])
def test_times_are_logit_normal(mean: float, std: float, generator: torch.Generator) -> None:
    times = sample_times(20_000, generator=generator, mean=mean, std=std)
    assert times.min() > 0
    assert times.max() < 1
    assert stats.kstest(times.double().logit().numpy(), stats.norm(mean, std).cdf).pvalue > 0.01


def test_a_share_of_the_times_is_the_start_itself(generator: torch.Generator) -> None:
    """And the others are what they would have been without it."""
    times = sample_times(20_000, generator=generator, start_share=0.2)
    plain = sample_times(20_000, generator=torch.Generator().manual_seed(7))
    at_start = times == 1
    assert abs(at_start.float().mean() - 0.2) < 0.01  # standard error .003
    assert torch.equal(times[~at_start], plain[~at_start])


def test_the_same_generator_state_gives_the_same_times() -> None:
    first, second = (sample_times(5, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("t", [0.02, 0.1, 0.5, 0.9, 1.0])
def test_the_best_predictor_leaves_the_conditional_variance(gaussian_pairs, t: float, generator) -> None:
    """Of the mix, over t²: that of the velocity. Below t = .05 the weight stays what it is there."""
    raw = torch.randn(2, 3, 50_000, generator=generator)
    mix = gaussian_pairs.draw(raw, generator)
    noise = torch.randn(raw.shape, generator=generator)
    levels = [0.3, 1.0] if gaussian_pairs.kind == "bridge" else [None, None]
    loss = flow_loss(
        gaussian_pairs,
        mix,
        Conditions(raw, torch.zeros(2, 1)),
        t=torch.full((2,), t),
        sigma=None if levels[0] is None else torch.tensor(levels),
        noise=noise,
        frame_mask=None,
    )
    expected = torch.stack([gaussian_pairs.gain_and_variance(t, sigma)[1] for sigma in levels])
    torch.testing.assert_close(loss, expected / max(t, 0.05) ** 2, rtol=0.02, atol=0)


def test_it_is_the_error_of_the_velocity_that_sampling_follows(gaussian_pairs, generator) -> None:
    raw, noise = torch.randn(2, 2, 3, 40, generator=generator)
    mix = gaussian_pairs.draw(raw, generator)
    t, sigma = torch.tensor([0.3, 0.8]), torch.tensor([0.4, 1.0]) if gaussian_pairs.kind == "bridge" else None
    conditions = Conditions(raw, torch.zeros(2, 1))
    loss = flow_loss(gaussian_pairs, mix, conditions, t=t, sigma=sigma, noise=noise, frame_mask=None)
    start = gaussian_pairs.start(raw, sigma, noise)
    z = interpolate(mix, start, t)
    followed = velocity(z, gaussian_pairs(z, t, sigma, conditions), t)
    torch.testing.assert_close(loss, (followed - (start - mix)).square().mean(dim=(1, 2)))


def test_evenly_weighed_it_is_the_error_of_the_mix_itself(generator: torch.Generator) -> None:
    estimate, mix = torch.randn(2, 3, 4, 9, generator=generator)
    t, mask = torch.tensor([0.01, 0.5, 1.0]), torch.rand(3, 9, generator=generator) < 0.7
    error = estimate_error(estimate, mix, t=t, frame_mask=mask, weighting="mix")
    for item in range(3):
        expected = torch.nn.functional.mse_loss(estimate[item][:, mask[item]], mix[item][:, mask[item]])
        torch.testing.assert_close(error[item], expected)


def test_padding_changes_neither_the_loss_nor_its_gradient(lively_denoiser: Callable[..., Denoiser], generator) -> None:
    denoiser = lively_denoiser()
    raw, mix, noise = (torch.randn(2, 6, 9, generator=generator) for _ in range(3))
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 5:] = False

    def loss_and_gradient(filling: float) -> tuple[torch.Tensor, torch.Tensor]:
        filled = [x.masked_fill(~mask[:, None], filling) for x in (raw, mix, noise)]
        conditions = Conditions(filled[0], torch.ones(2, 8))
        loss = flow_loss(
            denoiser,
            filled[1],
            conditions,
            t=torch.tensor([0.3, 0.7]),
            sigma=torch.tensor([0.5, 0.2]),
            noise=filled[2],
            frame_mask=mask,
        )
        (gradient,) = torch.autograd.grad(loss.sum(), [denoiser.embed_frames.weight])
        return loss.detach(), gradient

    loss, gradient = loss_and_gradient(0.0)
    other_loss, other_gradient = loss_and_gradient(torch.nan)
    assert torch.equal(loss, other_loss)
    assert torch.equal(gradient, other_gradient)

    alone = flow_loss(
        denoiser,
        mix[1:, :, :5],
        Conditions(raw[1:, :, :5], torch.ones(1, 8)),
        t=torch.tensor([0.7]),
        sigma=torch.tensor([0.2]),
        noise=noise[1:, :, :5],
        frame_mask=None,
    )
    torch.testing.assert_close(loss[1:], alone)


def test_a_small_denoiser_learns_a_style_and_beats_copying(generator: torch.Generator) -> None:
    """Mix = raw through a gain per channel that the style chooses, plus an echo: in 150 steps, below a quarter."""
    torch.manual_seed(0)
    styles = torch.randn(3, 4, generator=generator)
    gains = torch.tensor([[2.0, 0.5, 1.0, 1.5], [0.3, 1.8, 1.2, 0.6], [1.0, 1.0, 0.2, 2.0]])

    def pairs(count: int) -> tuple[torch.Tensor, Conditions]:
        raw = torch.randn(count, 4, 24, generator=generator)
        which = torch.randint(0, 3, (count,), generator=generator)
        wet = gains[which][:, :, None] * raw
        wet[..., 3:] += 0.5 * raw[..., :-3]
        return wet, Conditions(raw, styles[which])

    denoiser = Denoiser(latent_dim=4, embed_dim=4, codec_fingerprint="toy", width=32, depth=2, heads=2)
    mix, conditions = pairs(256)
    denoiser.set_residual_std((conditions.aligned - mix).std(dim=(0, 2)))
    optimiser = torch.optim.AdamW(denoiser.parameters(), lr=5e-3)

    def loss_on(mix: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        count = mix.shape[0]
        return flow_loss(
            denoiser,
            mix,
            conditions,
            t=sample_times(count, generator=generator, mean=1.0),
            sigma=torch.rand(count, generator=generator),
            noise=torch.randn(mix.shape, generator=generator),
            frame_mask=None,
        ).mean()

    with torch.no_grad():
        copying = loss_on(mix, conditions)  # untrained, the estimate is the raw take
    for _ in range(150):
        optimiser.zero_grad()
        loss_on(*pairs(16)).backward()
        optimiser.step()
    with torch.no_grad():
        assert loss_on(mix, conditions) < 0.25 * copying
