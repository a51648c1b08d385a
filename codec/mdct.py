"""The modified discrete cosine transform as an orthogonal transform of whole blocks.

Princen, Johnson & Bradley (1987) in the lapped-transform form of Malvar (1990): neighbouring blocks are first
rotated into one another across their boundary (windowing and folding in one step), then each block goes through a
DCT-IV. At the two outer boundaries nothing is rotated, so a signal of F blocks has exactly F frames and comes back
without any padding.
"""

from __future__ import annotations

import math

import torch


def dct_iv(size: int) -> torch.Tensor:
    """Orthonormal DCT-IV matrix [size size]; symmetric and its own inverse."""
    n = torch.arange(size, dtype=torch.float64) + 0.5
    return (math.sqrt(2 / size) * torch.cos(math.pi / size * n[:, None] * n[None, :])).float()


def _rotate(blocks: torch.Tensor, direction: float) -> torch.Tensor:
    """Rotate the samples on either side of every inner boundary: +1 folds, −1 unfolds."""
    half = blocks.shape[-1] // 2
    angle = math.pi / 4 * (1 - (torch.arange(half, device=blocks.device, dtype=torch.float32) + 0.5) / half)
    cos, sin = torch.cos(angle).to(blocks.dtype), direction * torch.sin(angle).to(blocks.dtype)
    before = blocks[..., :-1, half:].flip(-1)  # mirrored: index 0 is the sample next to the boundary
    after = blocks[..., 1:, :half]
    folded_after = cos * after + sin * before
    folded_before = (cos * before - sin * after).flip(-1)
    first = torch.cat([blocks[..., :1, :half], folded_after], dim=-2)
    second = torch.cat([folded_before, blocks[..., -1:, half:]], dim=-2)
    return torch.cat([first, second], dim=-1)


def mdct(signal: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """[… samples] → coefficients [… frames bins], sine window, hop = bins; basis = dct_iv(bins).

    The number of samples must be a multiple of the number of bins. Orthonormal: energy is kept.
    """
    bins = basis.shape[0]
    if signal.shape[-1] % bins:
        raise ValueError(f"{signal.shape[-1]} samples are not a multiple of {bins}")
    return _rotate(signal.unflatten(-1, (-1, bins)), 1.0) @ basis


def inverse_mdct(coefficients: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Coefficients [… frames bins] → [… samples]: the exact inverse of `mdct`."""
    return _rotate(coefficients @ basis, -1.0).flatten(-2)
