"""Is it the same voice: cosine of two speaker embeddings, by the network that the package Resemblyzer carries.

The package is optional, and only its file of weights is used: its own code needs packages that a current setuptools
and scipy no longer serve. `pip install --no-deps Resemblyzer==0.1.4` brings the file (17 MB, Apache-2.0).
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import torch
from torchaudio.functional import melscale_fbanks

from audio.errors import InputError
from audio.waveform import Waveform

RATE_HZ = 16_000
WINDOW_SAMPLES, HOP_SAMPLES, MEL_BANDS = 400, 160, 40
PART_FRAMES, PART_STEP_FRAMES = 160, 77
WIDTH, LAYERS = 256, 3
LEVEL_DBFS = -30.0


def available() -> bool:
    """Whether the weights are installed."""
    return _weights() is not None


def similarity(first: Waveform, second: Waveform) -> float:
    """Cosine of two recordings' embeddings, 0 to 1; 1 for the same voice. Raises InputError as `embedding` does."""
    return float(embedding(first) @ embedding(second))


def embedding(waveform: Waveform) -> torch.Tensor:
    """[256], length 1, of a mono or stereo recording of one voice of any length.

    The d-vector of Wan et al. 2018 (GE2E): of every 1.6 s the last state of an LSTM over 40 mel powers, the mean of
    all these. Mixed to mono, at 16 kHz and −30 dBFS; pauses count as little as their level. Raises InputError where
    Resemblyzer is not installed, ValueError for silence.
    """
    mono = waveform.resampled(RATE_HZ).samples.float().mean(0)
    rms = mono.square().mean().sqrt()
    if not rms > 0:
        raise ValueError("silence has no voice")
    frames = _mel_powers(mono * (10 ** (LEVEL_DBFS / 20) / rms))
    parts = max(1, 1 + -(-(len(frames) - PART_FRAMES) // PART_STEP_FRAMES))
    frames = torch.nn.functional.pad(frames, (0, 0, 0, (parts - 1) * PART_STEP_FRAMES + PART_FRAMES - len(frames)))
    with torch.no_grad():
        lstm, linear = _network()
        _, (hidden, _) = lstm(frames.unfold(0, PART_FRAMES, PART_STEP_FRAMES).transpose(1, 2))
        vectors = torch.nn.functional.normalize(linear(hidden[-1]).relu())
    return torch.nn.functional.normalize(vectors.mean(0), dim=0)


def _mel_powers(samples: torch.Tensor) -> torch.Tensor:
    """[samples] → [frames 40]."""
    window = torch.hann_window(WINDOW_SAMPLES)
    spectrum = torch.stft(
        samples, WINDOW_SAMPLES, HOP_SAMPLES, window=window, center=True, pad_mode="constant", return_complex=True
    )
    bands = melscale_fbanks(
        WINDOW_SAMPLES // 2 + 1, 0.0, RATE_HZ / 2, MEL_BANDS, RATE_HZ, norm="slaney", mel_scale="slaney"
    )
    return spectrum.abs().square().T @ bands


def _weights() -> Path | None:
    package = importlib.util.find_spec("resemblyzer")  # finds the folder, imports nothing
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).with_name("pretrained.pt")
    return path if path.is_file() else None


@functools.cache
def _network() -> tuple[torch.nn.LSTM, torch.nn.Linear]:
    path = _weights()
    if path is None:
        raise InputError(
            "speaker similarity needs the weights in Resemblyzer: pip install --no-deps Resemblyzer==0.1.4"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    lstm, linear = torch.nn.LSTM(MEL_BANDS, WIDTH, LAYERS, batch_first=True), torch.nn.Linear(WIDTH, WIDTH)
    for name, module in (("lstm.", lstm), ("linear.", linear)):
        module.load_state_dict({key.removeprefix(name): value for key, value in state.items() if key.startswith(name)})
    return lstm.eval(), linear.eval()
