"""Whether a mix is still its take, stretch by stretch: pitch, voicing, envelope, onsets and time, in cheap measures.

A fault of a second must not hide in three good minutes, so that every stretch of about ten seconds is judged alone. The
bounds lie beyond what chains of real mixes and the codec do (docs/guards.md tells what was measured).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from audio.activity import active
from audio.errors import InputError
from audio.waveform import Waveform
from restyler.evaluate.content import GROSS_CENTS, levels_db, onset_shift_ms
from restyler.evaluate.pitch import HOP_S, pitch

STRETCH_S = 10.0
LEAST_SOUNDING_S = 1.0  # what sounds for less in a stretch can't be told by its measures
LEAST_VOICED_S = 0.5
STEADY_DB = 1.0  # a level that moves less has no course to follow
LAG_WINDOW_SAMPLES = 16_384  # 0.34 s at 48 kHz: lags up to half of it are found

MEASURES = ("pitch_cents", "pitch_gross_percent", "voicing_percent", "envelope", "onset_ms", "lag_ms")


@dataclass(frozen=True)
class Stretch:
    """Samples start … stop − 1 of a take. sounding, f0_hz: every 10 ms, [frames]."""

    start: int
    stop: int
    sounding: np.ndarray
    f0_hz: np.ndarray


def stretches(take: Waveform) -> list[Stretch]:
    """A take in equal parts of about ten seconds, those in which it sounds for long enough to be told by."""
    length = take.samples.shape[1]
    count = max(1, round(take.duration_s / STRETCH_S))
    edges = [number * length // count for number in range(count + 1)]
    found = []
    for start, stop in itertools.pairwise(edges):
        part = Waveform(take.samples[:, start:stop], take.sample_rate)
        levels = _levels_db(part)
        if levels is None:
            continue
        sounding = active(levels)
        if np.count_nonzero(sounding) * HOP_S >= LEAST_SOUNDING_S:
            found.append(Stretch(start, stop, sounding, pitch(part).f0_hz[: len(sounding)]))
    return found


def measured(take: Waveform, mix: Waveform, parts: list[Stretch]) -> Iterator[tuple[float, dict[str, float]]]:
    """Where each stretch starts, in seconds, and the MEASURES that can be told there; none but «silent» (1.0) where the
    mix has nothing to measure.

    pitch_cents: median difference of pitch where both are voiced, either way. pitch_gross_percent: share of these
    moments that is over 50 cents off it. voicing_percent: share of the take's sounding moments voiced in one of them
    only. envelope: correlation of the levels in dB while the take sounds. onset_ms: how far onsets are early or late.
    lag_ms: where the cross-correlation of the two signals, all frequencies alike (PHAT, Knapp & Carter 1976), is
    highest. take, mix: of one length and rate.
    """
    for part in parts:
        one, other = (Waveform(each.samples[:, part.start : part.stop], each.sample_rate) for each in (take, mix))
        levels = [_levels_db(each) for each in (one, other)]
        if levels[0] is None or levels[1] is None:
            yield part.start / take.sample_rate, {"silent": 1.0}
            continue
        found = _pitch_errors(part, pitch(other).f0_hz[: len(part.sounding)])
        first, second = (each[part.sounding] for each in levels if each is not None)
        if min(first.std(), second.std()) >= STEADY_DB:
            found["envelope"] = float(np.corrcoef(first, second)[0, 1])
            found["onset_ms"] = abs(onset_shift_ms(one, other))
        found["lag_ms"] = abs(lag_samples(one, other)) * 1000 / take.sample_rate
        yield part.start / take.sample_rate, found


def _pitch_errors(part: Stretch, mix_f0_hz: np.ndarray) -> dict[str, float]:
    take, mix = (f0_hz[part.sounding] for f0_hz in (part.f0_hz, mix_f0_hz))
    found = {"voicing_percent": 100 * float(np.mean(np.isfinite(take) != np.isfinite(mix)))}
    cents = 1200 * np.log2(mix / take)
    cents = cents[np.isfinite(cents)]
    if len(cents) * HOP_S >= LEAST_VOICED_S:
        found["pitch_cents"] = abs(float(np.median(cents)))
        found["pitch_gross_percent"] = 100 * float(np.mean(np.abs(cents) > GROSS_CENTS))
    return found


def lag_samples(take: Waveform, mix: Waveform) -> int:
    """By how many samples the mix comes after the take (below 0: before), within ±8192."""
    first, second = (each.samples.mean(dim=0).numpy(force=True).astype(np.float64) for each in (take, mix))
    size = min(LAG_WINDOW_SAMPLES, len(first))
    cross = np.zeros(size + 1, np.complex128)
    for start in range(0, len(first) - size + 1, size):
        spectra = [np.fft.rfft(each[start : start + size], 2 * size) for each in (first, second)]
        cross += spectra[1] * spectra[0].conj()
    strength = np.abs(cross)
    correlation = np.fft.irfft(cross / np.maximum(strength, 1e-12 * strength.max(initial=1e-300)))
    reach = size // 2
    window = np.concatenate([correlation[-reach:], correlation[: reach + 1]])
    return int(np.abs(window).argmax()) - reach


def _levels_db(waveform: Waveform) -> np.ndarray | None:
    """As `levels_db`; None where it is silent."""
    try:
        return levels_db(waveform)
    except InputError:
        return None
