"""A voice at another pitch, as long as before and with its own vowels."""

from __future__ import annotations

import pedalboard
import torch

from audio.waveform import Waveform

MAX_SEMITONES = 12.0


def shift_pitch(waveform: Waveform, semitones: float) -> Waveform:
    """The same length, pitch moved by −12 … 12 semitones; formants stay. 0 returns the same object.

    By Rubber Band in its finer (R3), offline form, through Pedalboard. It moves onsets by some milliseconds, so take
    and mix must come from one shifted sound. Raises ValueError for a wider shift, and for some milliseconds of sound,
    which it can't keep as long as they are.
    """
    if not -MAX_SEMITONES <= semitones <= MAX_SEMITONES:
        raise ValueError(f"a pitch is shifted by at most ±{MAX_SEMITONES:g} semitones, not {semitones}")
    if semitones == 0:
        return waveform
    shifted = pedalboard.time_stretch(
        waveform.samples.numpy(force=True), waveform.sample_rate, pitch_shift_in_semitones=semitones
    )
    if shifted.shape != tuple(waveform.samples.shape):
        raise ValueError(f"{waveform.samples.shape[1]} samples are too few to shift their pitch")
    return Waveform(torch.from_numpy(shifted), waveform.sample_rate)
