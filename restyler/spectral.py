"""How a one-step mix sounds: a spectral loss on decoded estimates, beside the loss on latents."""

from __future__ import annotations

import torch

from codec.base import LatentCodec
from codec.losses import matched_level, spectral_losses
from restyler.config import SpectralSection


class SpectralLoss:
    """Spectral distance between what an estimate and the mix's own latents decode to.

    The least square error wants the mean of all mixes that fit the take, and the mean of reverb tails is silence. The
    logarithm of a magnitude asks for the right energy and leaves the phases open, so that the noise at the start of the
    path may become the tail: what sampling in one step needs (as in the fine-tuning of VoiceBridge, 2025).

    Not a module: its codec is neither trained nor saved with the model.
    """

    def __init__(self, codec: LatentCodec, weights: SpectralSection) -> None:
        self.codec = codec.requires_grad_(False)
        self.weights = weights.model_dump(exclude={"excerpt_s"})
        self.excerpt_frames = max(1, round(weights.excerpt_s * codec.frame_rate_hz))

    def __call__(self, estimate: torch.Tensor, mix: torch.Tensor) -> torch.Tensor:
        """Weighted sum of the terms of `codec.losses.spectral_losses`, [batch]; both arguments [batch latent frames].

        Of the excerpt in the middle, where the network saw what comes before and after; decoding costs more than
        denoising. In float32 also under autocast: decoders were trained so.
        """
        first = max(0, mix.shape[-1] - self.excerpt_frames) // 2
        estimate, mix = (x[..., first : first + self.excerpt_frames] for x in (estimate, mix))
        samples = mix.shape[-1] * self.codec.hop_samples
        with torch.autocast(mix.device.type, enabled=False):
            with torch.no_grad():
                reference = self.codec.decode(mix.float(), samples=samples)
            heard = self.codec.decode(estimate.float(), samples=samples)
            terms = spectral_losses(*matched_level(reference, heard), sample_rate=self.codec.sample_rate)
        return torch.stack([weight * terms[name] for name, weight in self.weights.items()]).sum(dim=0)
