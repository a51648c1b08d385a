"""The training objective: the path's velocity, through an estimate of the mix from a point on the path."""

from __future__ import annotations

from typing import Literal

import torch
from diffusers.training_utils import compute_density_for_timestep_sampling

from conditioning.conditions import Conditions
from diffusion.path import DataPredictor, interpolate

# Below it an error of the estimate weighs as if at it, 400-fold: 1/t² has no bound, and one example drawn at t = 0.001
# would outweigh all others of its batch. A grid of up to 20 equal steps never asks below it.
SMALLEST_T = 0.05

Weighting = Literal["velocity", "mix"]


def sample_times(
    batch: int, *, generator: torch.Generator, mean: float = 0.0, std: float = 1.0, start_share: float = 0.0
) -> torch.Tensor:
    """t [batch] in (0, 1] with logit(t) ~ N(mean, std²): logit-normal, Esser et al. 2024, eq. 19.

    A larger mean trains more at the start of the path. start_share (0 … 1) of the draws are t = 1 itself: every
    sampling begins there, and on a bridge with a small σ nothing nearby teaches it, since for t < 1 the difference
    between z_t and the raw take already shows the mix. On the generator's device.
    """
    times = compute_density_for_timestep_sampling(
        "logit_normal", batch, logit_mean=mean, logit_std=std, device=generator.device, generator=generator
    )
    at_start = torch.rand(batch, generator=generator, device=generator.device) < start_share
    return times.masked_fill(at_start, 1.0)


def estimate_on_path(
    denoiser: DataPredictor,
    mix: torch.Tensor,
    conditions: Conditions,
    *,
    t: torch.Tensor,
    sigma: torch.Tensor | None,
    noise: torch.Tensor,
    frame_mask: torch.Tensor | None,
) -> torch.Tensor:
    """What the denoiser makes of the point at t on the path from take and noise to `mix`; all but t and sigma, which
    are [batch], are [batch latent frames]."""
    start = denoiser.start(conditions.aligned, sigma, noise)
    return denoiser(interpolate(mix, start, t), t, sigma, conditions, frame_mask)


def estimate_error(
    estimate: torch.Tensor,
    mix: torch.Tensor,
    *,
    t: torch.Tensor,
    frame_mask: torch.Tensor | None,
    weighting: Weighting = "velocity",
) -> torch.Tensor:
    """Mean square error of an estimate of the mix, or of the velocity that it stands for, one number per item [batch].

    The denoiser estimates the mix, and the velocity is (z_t − estimate)/t, so the velocity's error is the estimate's
    over t² (Li & He 2025: predict the data, weigh the velocity). Near the mix the estimate's own error is a hundredth
    of what it is at the start; weighed evenly ("mix"), the last steps of sampling would hardly be trained, and would
    leave noise behind.

    estimate, mix: [batch latent frames]. t: [batch]. frame_mask: bool [batch frames], False in padding. The
    content of padded frames, NaN included, changes neither the loss nor its gradients.
    """
    error = estimate - mix
    if weighting == "velocity":
        error = error / t.clamp(min=SMALLEST_T)[:, None, None]
    if frame_mask is None:
        return error.square().mean(dim=(1, 2))
    squares = error.masked_fill(~frame_mask[:, None], 0.0).square().sum(dim=(1, 2))
    return squares / (frame_mask.sum(dim=1) * mix.shape[1])
