"""Whether a mix is still its take, stretch by stretch: pitch, voicing, envelope, onsets and time, in cheap measures.

A fault of a second must not hide in three good minutes, so that every stretch of about ten seconds is judged alone. The
bounds lie beyond what chains of real mixes and the codec do (docs/guards.md tells what was measured).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from audio import on_disk
from audio.activity import active
from audio.errors import InputError
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from restyler.evaluate.content import GROSS_CENTS, levels_db, onset_shift_ms
from restyler.evaluate.descriptors import BARK_EDGES_HZ, band_sums, power_spectrogram
from restyler.evaluate.pitch import HOP_S, pitch

STRETCH_S = 10.0
LEAST_SOUNDING_S = 1.0  # what sounds for less in a stretch can't be told by its measures
LEAST_VOICED_S = 0.5
LEAST_LOUDNESS_LU = -30.0  # against the loudest stretch: what lies lower is the room in a long pause, not the take
STEADY_DB = 1.0  # a level that moves less has no course to follow
BAND_WINDOW_SAMPLES = 2048
BAND_HOP_SAMPLES = BAND_WINDOW_SAMPLES // 4
BAND_RANGE_DB = 40.0  # under a band's loudest moment: what moves below it is noise
MOMENT_S = 1.0
LEAST_MOVEMENT_DB = 5.0  # standard deviation in a moment: of a steady sound a slow gain would be all that moves
LEAST_SOUNDING_SHARE = 0.6  # of a moment
LAG_WINDOW_SAMPLES = 16_384  # 0.34 s at 48 kHz: lags up to half of it are found

MEASURES = ("pitch_cents", "pitch_gross_percent", "voicing_percent", "envelope", "spectrum", "onset_ms", "lag_ms")


@dataclass(frozen=True)
class Stretch:
    """Samples start … stop − 1 of a take. sounding, f0_hz: every 10 ms, [frames]. bands_db: by `_bands_db`."""

    start: int
    stop: int
    sounding: np.ndarray
    f0_hz: np.ndarray
    bands_db: np.ndarray


def stretches(take: Waveform) -> list[Stretch]:
    """A take in equal parts of about ten seconds, those in which it sounds for long enough to be told by."""
    length = take.samples.shape[1]
    count = max(1, round(take.duration_s / STRETCH_S))
    edges = [number * length // count for number in range(count + 1)]
    parts = [(start, stop, _part(take, start, stop)) for start, stop in itertools.pairwise(edges)]
    loudness_lufs = [integrated_loudness_lufs(part) for _, _, part in parts]
    found = []
    for (start, stop, part), lufs in zip(parts, loudness_lufs, strict=True):
        if not lufs > max(loudness_lufs) + LEAST_LOUDNESS_LU:  # of silence −inf, also the highest
            continue
        sounding = active(levels_db(part))
        if np.count_nonzero(sounding) * HOP_S >= LEAST_SOUNDING_S:
            found.append(Stretch(start, stop, sounding, pitch(part).f0_hz[: len(sounding)], _bands_db(part)))
        on_disk.let_go(take.samples)
    return found


def _part(waveform: Waveform, start: int, stop: int) -> Waveform:
    return Waveform(waveform.samples[:, start:stop], waveform.sample_rate)


def measured(take: Waveform, mix: Waveform, parts: list[Stretch]) -> Iterator[tuple[float, dict[str, float]]]:
    """Where each stretch starts, in seconds, and the MEASURES that can be told there; none but «silent» (1.0) where the
    mix has nothing to measure.

    pitch_cents: median difference of pitch where both are voiced, either way. pitch_gross_percent: share of these
    moments that is over 50 cents off it. voicing_percent: share of the take's sounding moments voiced in one of them
    only. envelope: correlation of the levels in dB while the take sounds. spectrum: that of the courses of critical
    bands, each without its mean (an equaliser), in the second where it is lowest. onset_ms: how far onsets are early or
    late. lag_ms: where the cross-correlation of the two signals, all frequencies alike (PHAT, Knapp & Carter 1976), is
    highest. take, mix: of one length and rate.
    """
    for part in parts:
        one, other = (_part(each, part.start, part.stop) for each in (take, mix))
        try:
            levels = [levels_db(each) for each in (one, other)]
        except InputError:  # the mix is silent; of the take only what sounds is asked
            yield part.start / take.sample_rate, {"silent": 1.0}
            continue
        found = _pitch_errors(part, pitch(other).f0_hz[: len(part.sounding)])
        first, second = (each[part.sounding] for each in levels)
        if min(first.std(), second.std()) >= STEADY_DB:
            found["envelope"] = float(np.corrcoef(first, second)[0, 1])
            found["onset_ms"] = abs(onset_shift_ms(one, other))
        if (spectrum := _lowest_in_a_moment(part, _bands_db(other), take.sample_rate)) is not None:
            found["spectrum"] = spectrum
        found["lag_ms"] = abs(lag_samples(one, other)) * 1000 / take.sample_rate
        on_disk.let_go(take.samples, mix.samples)
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


def _bands_db(waveform: Waveform) -> np.ndarray:
    """Levels of critical bands over both channels, no lower than 40 dB under each one's loudest, [frames bands]."""
    spectra = power_spectrogram(waveform, BAND_WINDOW_SAMPLES)
    bands = band_sums(spectra, waveform.sample_rate, BARK_EDGES_HZ).sum(axis=0)
    floor = 10 ** (-BAND_RANGE_DB / 10) * bands.max(axis=0, keepdims=True)
    return np.asarray(10 * np.log10(np.maximum(bands, floor) + 1e-30))


def _lowest_in_a_moment(part: Stretch, mix_db: np.ndarray, sample_rate: int) -> float | None:
    """None where the take sounds and moves enough in no second."""
    frames = np.arange(len(mix_db)) * BAND_HOP_SAMPLES / sample_rate
    sounding = part.sounding[np.minimum((frames / HOP_S).round().astype(int), len(part.sounding) - 1)]
    take, mix = (each - each[sounding].mean(axis=0) for each in (part.bands_db, mix_db))
    length = round(MOMENT_S * sample_rate / BAND_HOP_SAMPLES)
    lowest = None
    for start in range(0, len(frames) - length + 1, length // 4):
        heard = np.flatnonzero(sounding[start : start + length]) + start
        if len(heard) >= LEAST_SOUNDING_SHARE * length and take[heard].std() >= LEAST_MOVEMENT_DB:
            one, other = take[heard], mix[heard]
            agreement = float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum() + 1e-30))
            lowest = agreement if lowest is None else min(lowest, agreement)
    return lowest


def lag_samples(take: Waveform, mix: Waveform) -> int:
    """By how many samples the mix comes after the take (below 0: before), within ±8192. Heard in the middle, or in the
    side of a take that has more there: with its channels in opposite phase the middle is empty."""
    (first, sides), (second, also) = (_middle_and_side(each) for each in (take, mix))
    if np.square(sides).sum() > np.square(first).sum():
        first, second = sides, also
    size = min(LAG_WINDOW_SAMPLES, len(first))
    cross = np.zeros(size + 1, np.complex128)
    for start in range(0, len(first) - size + 1, size):
        spectra = [np.fft.rfft(each[start : start + size], 2 * size) for each in (first, second)]
        cross += spectra[1] * spectra[0].conj()
    strength = np.abs(cross)
    correlation = np.fft.irfft(cross / np.maximum(strength, 1e-12 * strength.max(initial=1e-200)))
    reach = size // 2
    window = np.concatenate([correlation[-reach:], correlation[: reach + 1]])
    return int(np.abs(window).argmax()) - reach


def _middle_and_side(waveform: Waveform) -> tuple[np.ndarray, np.ndarray]:
    sides = waveform.stereo().samples.numpy(force=True).astype(np.float64)
    return sides[0] + sides[1], sides[0] - sides[1]
