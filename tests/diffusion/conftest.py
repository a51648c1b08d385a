"""Raw takes and mixes whose conditional distribution is known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from conditioning.conditions import Conditions
from diffusion import path as paths
from diffusion.denoiser import Denoiser


class GaussianPairs:
    """Frames are independent; raw ~ N(0, I) and mix | raw ~ N(A·raw + b, S) over three channels.

    Called as a denoiser, it is the exact conditional mean E[mix | z_t, raw] of linear-Gaussian theory.
    """

    def __init__(self, kind: paths.PathKind) -> None:
        self.kind = kind
        self.gain = torch.tensor([[1.2, 0.3, 0.0], [-0.2, 0.7, 0.1], [0.0, 0.2, 1.0]])
        self.offset = torch.tensor([0.5, -0.3, 0.1])
        root = torch.tensor([[0.8, 0.0, 0.0], [0.3, 0.5, 0.0], [-0.1, 0.2, 0.3]])
        self.covariance = root @ root.T
        self.root = root
        self.residual_std = torch.tensor([0.9, 0.6, 0.4])

    def mean(self, raw: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ij,bjf->bif", self.gain, raw) + self.offset[:, None]

    def draw(self, raw: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noise = torch.randn(raw.shape, generator=generator)
        return self.mean(raw) + torch.einsum("ij,bjf->bif", self.root, noise)

    def start(self, raw: torch.Tensor, sigma: torch.Tensor | None, noise: torch.Tensor) -> torch.Tensor:
        return noise if sigma is None else paths.bridge_start(raw, sigma, noise, self.residual_std)

    def gain_and_variance(self, t: float, sigma: float | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Gain K [3 3] on z − E[z | raw], and the variance of mix given z and raw, averaged over channels."""
        noise = torch.eye(3) if sigma is None else torch.diag(sigma**2 * self.residual_std**2)
        total = (1 - t) ** 2 * self.covariance + t**2 * noise
        kalman = (1 - t) * self.covariance @ torch.linalg.pinv(total)
        left = self.covariance - (1 - t) * kalman @ self.covariance
        return kalman, left.diagonal().mean()

    def __call__(
        self,
        noisy: torch.Tensor,
        t: torch.Tensor,
        sigma: torch.Tensor | None,
        conditions: Conditions,
        frame_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        raw, mean = conditions.aligned, self.mean(conditions.aligned)
        source = raw if self.kind == "bridge" else torch.zeros_like(raw)
        when = t[:, None, None]
        surprise = noisy - (1 - when) * mean - when * source
        levels = [None] * len(t) if sigma is None else sigma.tolist()
        gains = torch.stack([self.gain_and_variance(*item)[0] for item in zip(t.tolist(), levels, strict=True)])
        return mean + torch.einsum("bij,bjf->bif", gains, surprise)


@pytest.fixture(params=["bridge", "noise"])
def gaussian_pairs(request: pytest.FixtureRequest) -> GaussianPairs:
    return GaussianPairs(request.param)


@pytest.fixture
def bridge_pairs() -> GaussianPairs:
    return GaussianPairs("bridge")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.fixture
def lively_denoiser(generator: torch.Generator) -> Callable[..., Denoiser]:
    """A denoiser with no zero left in it: what an untrained one ignores, this one shows."""

    def build(**settings: object) -> Denoiser:
        torch.manual_seed(3)  # the layers' own initialisation knows no generator
        sizes = {
            "latent_dim": 6,
            "embed_dim": 8,
            "codec_fingerprint": "f",
            "width": 32,
            "depth": 2,
            "heads": 2,
            "conv_kernel": 3,
        }
        denoiser = Denoiser(**{**sizes, **settings})  # type: ignore[arg-type]
        for parameter in denoiser.parameters():
            if not parameter.any():
                parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        denoiser.set_residual_std(torch.linspace(0.5, 2.0, sizes["latent_dim"]))
        return denoiser.eval()

    return build
