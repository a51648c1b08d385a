"""Building blocks of the denoiser: transformer blocks over tokens [batch tokens width], steered by adaptive norm."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional


def fourier_features(x: torch.Tensor, count: int, slowest: float = 0.25, fastest: float = 16.0) -> torch.Tensor:
    """x [batch], about 0 … 1 → [batch 2·count]: sine and cosine at `count` geometrically spaced frequencies.

    Frequencies are cycles over 0 … 1: far fewer than the usual 1000 training steps would need, since t and σ are
    continuous here and the network is to be smooth in them.
    """
    frequencies = torch.logspace(math.log10(slowest), math.log10(fastest), count, device=x.device)
    angles = 2 * math.pi * frequencies * x.float()[:, None]
    return math.sqrt(2) * torch.cat([angles.sin(), angles.cos()], dim=1)


def rotary_table(tokens: int, head_dim: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines [tokens 1 head_dim/2] of the rotary position embedding (Su et al. 2021, eq. 34)."""
    rates = 10000.0 ** (-torch.arange(0, head_dim, 2, device=device) / head_dim)
    angles = (torch.arange(tokens, device=device)[:, None] * rates)[:, None]
    return angles.cos(), angles.sin()


def rotate(x: torch.Tensor, table: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary position embedding of x [… tokens heads head_dim]; channel i turns together with i + head_dim/2."""
    cosine, sine = table
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions and normalised queries and keys (Dehghani et al. 2023)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.norm_q = nn.LayerNorm(width // heads, bias=False)
        self.norm_k = nn.LayerNorm(width // heads, bias=False)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: torch.Tensor, table: tuple[torch.Tensor, torch.Tensor], token_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """x [batch tokens width]; token_mask [batch tokens], True where a token may be attended to."""
        projected = self.qkv(x)
        q, k, v = projected.unflatten(-1, (3, self.heads, -1)).unbind(dim=2)
        q = rotate(self.norm_q(q.float()), table).to(v.dtype)
        k = rotate(self.norm_k(k.float()), table).to(v.dtype)
        attended = functional.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=None if token_mask is None else token_mask[:, None, None],
        )
        return self.out(attended.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Depthwise convolution along time, then a pointwise two-layer network: the order of ConvNeXt (Liu et al. 2022)."""

    def __init__(self, width: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, (1, kernel), padding="same", groups=width)
        self.pointwise = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width))

    def forward(self, x: torch.Tensor, token_mask: torch.Tensor | None) -> torch.Tensor:
        if token_mask is not None:
            x = x.masked_fill(~token_mask[:, :, None], 0.0)
        # As an image of height 1 in channels-last order: no copy, and several times faster on CPU than Conv1d.
        image = x.transpose(1, 2)[:, :, None]
        return self.pointwise(self.depthwise(image)[:, :, 0].transpose(1, 2))


class Block(nn.Module):
    """Attention and feed-forward, each with adaptive norm whose gates start at zero (adaLN-Zero, Peebles & Xie 2023).

    The residual stream, the norms and the modulation stay in float32 under autocast.
    """

    def __init__(self, width: int, heads: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, heads)
        self.feed_forward = FeedForward(width, hidden, kernel)
        self.modulation = zero_linear(width, 6 * width)

    def forward(
        self,
        x: torch.Tensor,
        condition: torch.Tensor,
        table: tuple[torch.Tensor, torch.Tensor],
        token_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """x [batch tokens width], condition [batch width] → [batch tokens width]."""
        with torch.autocast(x.device.type, enabled=False):
            steering = self.modulation(condition)[:, None].chunk(6, dim=-1)
        shift, scale, gate = steering[:3]
        x = x + gate * self.attention(modulate(self.norm(x), shift, scale), table, token_mask)
        shift, scale, gate = steering[3:]
        return x + gate * self.feed_forward(modulate(self.norm(x), shift, scale), token_mask)


def modulate(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(shift, x, 1 + scale)


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that starts by saying nothing."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
