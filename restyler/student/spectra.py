"""Short spectra with a low delay: a long window to hear with, a short one to speak with.

Mauler and Martin, «A low delay, variable resolution, perfect reconstruction spectral analysis-synthesis system for
speech enhancement» (EUSIPCO 2007): both windows end together, and their product is a Hann window of twice the hop. So
the spectra have the resolution of the long window, and the sound comes out as late as the short one lasts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

SAMPLE_RATE_HZ = 48_000
WINDOW_SAMPLES = 2048
HOP_SAMPLES = 480
LATENCY_SAMPLES = 2 * HOP_SAMPLES  # 20 ms: what the synthesis window covers
BINS = WINDOW_SAMPLES // 2 + 1
FRAMES_PER_S = SAMPLE_RATE_HZ / HOP_SAMPLES


def analysis_window() -> torch.Tensor:
    """Rises over all but the last hop, falls over that, [WINDOW_SAMPLES]."""
    rise = torch.hann_window(2 * (WINDOW_SAMPLES - HOP_SAMPLES), dtype=torch.float64)
    fall = torch.hann_window(2 * HOP_SAMPLES, dtype=torch.float64)
    window = torch.cat([rise[: WINDOW_SAMPLES - HOP_SAMPLES], fall[HOP_SAMPLES:]]).sqrt()
    return window.float()


def synthesis_window() -> torch.Tensor:
    """Of the last two hops, [LATENCY_SAMPLES]: the product with the analysis window is a Hann window."""
    hann = torch.hann_window(2 * HOP_SAMPLES, dtype=torch.float64)
    return (hann / analysis_window()[-LATENCY_SAMPLES:].double()).float()


def spectra(takes: torch.Tensor, analysis: torch.Tensor) -> torch.Tensor:
    """Takes [batch samples] → complex spectra [batch frames BINS]; frame t ends with sample (t + 1)·HOP_SAMPLES, and as
    many frames as are needed to give all samples back."""
    frames = -(-(takes.shape[1] + HOP_SAMPLES) // HOP_SAMPLES)
    behind = frames * HOP_SAMPLES - takes.shape[1]
    padded = F.pad(takes, (WINDOW_SAMPLES - HOP_SAMPLES, behind))
    return torch.fft.rfft(padded.unfold(1, WINDOW_SAMPLES, HOP_SAMPLES) * analysis)


def overlapped(whole: torch.Tensor, synthesis: torch.Tensor, samples: int) -> torch.Tensor:
    """Spectra [batch channels frames BINS] → sound [batch channels samples], in time with what `spectra` was given."""
    pieces = torch.fft.irfft(whole, WINDOW_SAMPLES)[..., -LATENCY_SAMPLES:] * synthesis
    early, late = pieces[..., :HOP_SAMPLES], pieces[..., HOP_SAMPLES:]
    # The first half of frame t lies where the second half of frame t − 1 does; the first of all lies before the start.
    joined = early[..., 1:, :] + late[..., :-1, :]
    return joined.flatten(-2)[..., :samples]


def bands_to_bins(bands: int, *, lowest_hz: float = 60.0, highest_hz: float = 18_000.0) -> torch.Tensor:
    """Weights [bands BINS] that draw a line through values at band centres, evenly on the mel scale (O'Shaughnessy
    1987), and go on level beyond the outermost. Each column adds up to 1."""
    mel = _mel(torch.linspace(0, SAMPLE_RATE_HZ / 2, BINS, dtype=torch.float64))
    ends = _mel(torch.tensor([lowest_hz, highest_hz], dtype=torch.float64))
    place = ((mel - ends[0]) / (ends[1] - ends[0]) * (bands - 1)).clamp(0, bands - 1)
    return (1 - (place - torch.arange(bands)[:, None]).abs()).clamp_min(0).float()


def _mel(frequency_hz: torch.Tensor) -> torch.Tensor:
    return 1127 * torch.log1p(frequency_hz / 700)
