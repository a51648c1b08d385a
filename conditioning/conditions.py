"""What the denoiser is told, as one object."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class Conditions:
    """Conditions of one batch.

    aligned: the raw take's standardised latents, [batch latent frames]; always present.
    pooled: style (label, reference) and controls as one vector, [batch embed]; zero means «not told».
    """

    aligned: torch.Tensor
    pooled: torch.Tensor

    def __post_init__(self) -> None:
        if self.aligned.ndim != 3 or self.pooled.ndim != 2 or self.aligned.shape[0] != self.pooled.shape[0]:
            raise ValueError(
                "conditions are aligned [batch latent frames] and pooled [batch embed], "
                f"not {list(self.aligned.shape)} and {list(self.pooled.shape)}"
            )

    def null(self) -> Conditions:
        """The same takes with nothing said about style: the unconditional side of guidance."""
        return replace(self, pooled=torch.zeros_like(self.pooled))

    def keep(self, mask: torch.Tensor) -> Conditions:
        """Guidance dropout: where mask [batch] is False the style is dropped; the raw take never is."""
        return replace(self, pooled=torch.where(mask[:, None], self.pooled, torch.zeros_like(self.pooled)))

    def frames(self, start: int, stop: int) -> Conditions:
        """The same conditions for frames start … stop − 1 of the take."""
        return replace(self, aligned=self.aligned[..., start:stop])
