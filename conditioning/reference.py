"""Reads the style of a reference recording: one vector from latents of any length."""

from __future__ import annotations

import torch
from torch import nn


class ReferenceEncoder(nn.Module):
    """Convolutions over latent frames, then mean and standard deviation over the real frames.

    Statistics pooling as in x-vectors (Snyder et al. 2018): what is sung when is averaged away, what tone, space and
    dynamics have in common over the recording stays. There is no norm over time, and padded frames are silenced
    before every convolution, so that they act exactly as the end of a recording does.
    """

    def __init__(self, latent_dim: int, width: int, embed_dim: int, kernel: int = 5) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, width, kernel, padding="same") for channels in (latent_dim, width)
        )
        self.project = nn.Sequential(nn.Linear(2 * width, embed_dim), nn.SiLU(), nn.Linear(embed_dim, embed_dim))

    def forward(self, latents: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """latents [batch latent frames], frames [batch] real ones of each → [batch embed], zero where there is none."""
        longest = latents.shape[2]
        if frames.shape != latents.shape[:1] or (
            not torch.compiler.is_exporting() and bool(((frames < 0) | (frames > longest)).any())
        ):
            raise ValueError(f"reference_frames is [batch] counts from 0 to {longest}, not {frames.tolist()}")
        padding = (torch.arange(longest, device=latents.device) >= frames[:, None])[:, None]
        hidden = latents.masked_fill(padding, 0.0)
        for convolution in self.convolutions:
            hidden = nn.functional.silu(convolution(hidden)).float().masked_fill(padding, 0.0)
        count = frames.clamp(min=1)[:, None]
        mean = hidden.sum(dim=2) / count
        variance = (hidden - mean[:, :, None]).square().masked_fill(padding, 0.0).sum(dim=2) / count
        # The small constant keeps the gradient of the root finite for one frame, or for silence.
        statistics = torch.cat([mean, (variance + 1e-5).sqrt()], dim=1)
        return torch.where((frames > 0)[:, None], self.project(statistics), 0.0)
