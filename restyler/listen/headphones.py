"""The level and headphone check: a noise as loud as the test, and tones that only headphones tell apart.

Which of three 200 Hz tones is quietest? One is 6 dB lower; another has its right channel in antiphase, so over
loudspeakers it cancels in the air and seems the quietest. Six questions, each order of the tones once; five correct
answers pass. Source: K. J. P. Woods, M. H. Siegel, J. Traer, J. H. McDermott, "Headphone screening to facilitate
web-based auditory experiments", Attention, Perception & Psychophysics 79 (2017) 2064–2072.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from audio.loudness import gain_to
from audio.waveform import Waveform

TONES = ("plain", "quiet", "antiphase")
TONE_HZ = 200.0
TONE_S = 1.0
RAMP_S = 0.1
PAUSE_S = 0.5
QUIET_DB = -6.0
QUESTIONS = 6
PASSED = 5
NOISE_S = 4.0
LOWEST_HZ = 50.0


def orders(seed: int, listener: int) -> Sequence[tuple[str, ...]]:
    """The tones of each question in order: all six permutations, shuffled for the listener."""
    every = list(itertools.permutations(TONES))
    rng = np.random.default_rng([seed, listener, 200])
    return [every[index] for index in rng.permutation(len(every))]


def correct_answer(order: Sequence[str]) -> int:
    """1, 2 or 3: the place of the quiet tone."""
    return order.index("quiet") + 1


def tones(order: Sequence[str], sample_rate_hz: int, lufs: float) -> np.ndarray:
    """The three tones of a question [samples 2] in ±1; the plain one has the loudness of the test's sounds."""
    time_s = np.arange(round(TONE_S * sample_rate_hz)) / sample_rate_hz
    edge_s = np.minimum(time_s, TONE_S - time_s)
    tone = np.sin(2 * np.pi * TONE_HZ * time_s) * (0.5 - 0.5 * np.cos(np.pi * np.minimum(edge_s / RAMP_S, 1)))
    tone = _at_loudness(np.stack([tone, tone], axis=1), sample_rate_hz, lufs)
    pause = np.zeros((round(PAUSE_S * sample_rate_hz), 2))
    made = {"plain": tone, "quiet": tone * 10 ** (QUIET_DB / 20), "antiphase": tone * np.array([1, -1])}
    return np.concatenate([made[order[0]], pause, made[order[1]], pause, made[order[2]]])


def level_noise(sample_rate_hz: int, lufs: float) -> np.ndarray:
    """Pink noise [samples 2] that loops without a seam, as loud as the test's sounds."""
    count = round(NOISE_S * sample_rate_hz)
    rng = np.random.default_rng(0)
    frequencies = np.fft.rfftfreq(count, 1 / sample_rate_hz)
    amplitudes = np.where(frequencies >= LOWEST_HZ, 1 / np.sqrt(np.maximum(frequencies, LOWEST_HZ)), 0)
    noise = np.fft.irfft(amplitudes * np.exp(2j * np.pi * rng.random(len(frequencies))), count)
    return _at_loudness(np.stack([noise, noise], axis=1), sample_rate_hz, lufs)


def _at_loudness(frames: np.ndarray, sample_rate_hz: int, lufs: float) -> np.ndarray:
    """frames [samples 2] by one gain, less where the peak would leave ±1."""
    frames = frames / np.abs(frames).max()
    waveform = Waveform(torch.from_numpy(frames.T.astype(np.float32)), sample_rate_hz)
    return frames * min(gain_to(waveform, lufs), 1.0)
