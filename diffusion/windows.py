"""Cuts a take into overlapping windows whose estimates are blended into one."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Window:
    """Frames start … stop − 1 of a take, and the weight [stop − start] of each in the blend."""

    start: int
    stop: int
    weight: torch.Tensor


def plan_windows(frames: int, window_frames: int, context_frames: int) -> list[Window]:
    """Windows of `window_frames` that cover a take of `frames`; a single one, with weight 1, if it fits.

    Except at the take's ends, the outer `context_frames` of a window have weight 0: the network sees them, and what
    it says there is thrown away. What is kept overlaps its neighbour by at least a quarter of its length, and in the
    middle of that overlap one window fades into the next. The weights of all windows sum to one in every frame.

    Raises ValueError where the context leaves fewer than four frames of a window.
    """
    kept = window_frames - 2 * context_frames
    if context_frames < 0 or kept < 4:
        raise ValueError(
            f"a window keeps at least 4 frames between its contexts, not {kept} "
            f"(window_frames {window_frames}, context_frames {context_frames})"
        )
    if frames <= window_frames:
        return [Window(0, frames, torch.ones(frames))]
    fade = kept // 4
    last = frames - window_frames
    gaps = -(-last // (kept - fade))
    starts = [i * last // gaps for i in range(gaps + 1)]
    # A rise from 0 to 1 at every join; what a window weighs is the rise before it minus the rise after it, so the sum
    # over all windows telescopes to one.
    centres = [-math.inf, *((a + b + window_frames) / 2 for a, b in itertools.pairwise(starts)), math.inf]
    return [
        Window(
            start,
            start + window_frames,
            _rise(start, window_frames, before, fade) - _rise(start, window_frames, after, fade),
        )
        for start, (before, after) in zip(starts, itertools.pairwise(centres), strict=True)
    ]


def _rise(start: int, frames: int, centre: float, fade: int) -> torch.Tensor:
    """From 0 to 1 around a join, over `fade` frames, as far as it lies in frames start … start + frames − 1."""
    positions = torch.arange(start, start + frames) + 0.5
    return ((positions - centre) / fade + 0.5).clamp(0.0, 1.0)
