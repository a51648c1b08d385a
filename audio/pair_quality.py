"""Measures of a raw take and its mix that tell a usable pair from a faulty one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from audio.pair_bands import BANDS, RATE_HZ, band_powers, decibels, spectra
from audio.pair_bleed import HISTORY_FRAMES, unexplained_power
from audio.pair_decay import count_decays, reverberance_db
from audio.pair_phase import phase_measures

FINE_WINDOW_SAMPLES = 512
COARSE_WINDOW_SAMPLES = 1024
SECTION_SAMPLES = 60 * RATE_HZ
HISTORY_SAMPLES = HISTORY_FRAMES * COARSE_WINDOW_SAMPLES // 2
BLOCK_SAMPLES = 1 << 18

LOUD_PERCENTILE = 95
SINGING_DB = 30.0  # a frame is sung where it is at most this far below the loud ones
SIMILARITY_RANGE_DB = 40.0  # a band's dynamics that count, under its loud frames
LEAST_SUNG_FRAMES = 50  # 0.8 s
SILENT_SECTION_DB = 25.0  # a section so far below the loudest one has no singing in it
LEAST_BLEED = 1e-5


@dataclass(frozen=True)
class PairMeasures:
    """What an aligned pair of raw take and mix looks like. None: too little sound to say.

    A constant gain on either side changes nothing. All but `bleed_db` leave out minutes without singing.

    change_db: how far the mix's levels in bands, while the raw take sounds, lie from the raw ones': mean deviation
        from the median, dB from 0. An encoder, a gain, a delay or an inversion change them by less than half a dB.
    bleed_db: how much of the mix's power can't come from the raw take: 10 lg of the share, averaged over 24 bands;
        from −50 (nothing) to 0 (all of it). Found where the take pauses or stays quiet; hidden under loud singing.
    similarity: correlation of both sides' band levels in dB over sung frames, −1 … 1; near 0 for two other takes.
    phase_agreement: 0 … 1, how far a fixed filter of ±2 ms with magnitude 1 turns the raw take's phases into the
        mix's, see `audio.pair_phase`.
    phase_coherence: 0 … 1, the same for any fixed filter shorter than 64 ms; for short takes at least about 0.2.
    raw_reverberance_db, mix_reverberance_db: slow against fast decays, 10 lg, see `audio.pair_decay`. A raw take
        above its mix suggests that they were exchanged.
    """

    change_db: float | None
    bleed_db: float | None
    similarity: float | None
    phase_agreement: float | None
    phase_coherence: float | None
    raw_reverberance_db: float | None
    mix_reverberance_db: float | None


@dataclass(frozen=True)
class _Section:
    """Sums over a minute. level_db: of the raw take's loud frames; change: summed, in dB; the powers are per band."""

    level_db: float
    sung_frames: int
    cells: int
    change: float
    products: np.ndarray  # Σ raw², Σ raw · mix, Σ mix² of band levels
    decays: np.ndarray  # raw slow, raw fast, mix slow, mix fast
    phase: tuple[float, float]


class PairMeter:
    """Takes an aligned pair block by block, in bounded memory; the result doesn't depend on how it was cut."""

    def __init__(self) -> None:
        self._waiting: list[np.ndarray] = []
        self._waiting_samples = 0
        self._history_samples = 0
        self._sections: list[_Section] = []
        self._unexplained = np.zeros(BANDS)
        self._power = np.zeros(BANDS)

    def update(self, raw: np.ndarray, mix: np.ndarray) -> None:
        """The next samples of both sides: mono at 16 kHz, aligned to the sample, polarity removed.

        `phase_agreement` needs 2 ms, `change_db` 1 ms; a mix 10 ms ahead of its raw take looks as if it bled.

        Raises ValueError where they are not two vectors of one length.
        """
        if raw.ndim != 1 or raw.shape != mix.shape:
            raise ValueError(f"a block is two vectors of one length, not {raw.shape} and {mix.shape}")
        self._waiting.append(np.stack([raw, mix]).astype(np.float32))
        self._waiting_samples += len(raw)
        # What is left at the end is measured as one section: at least half of one, so that it has something to say.
        while self._waiting_samples >= self._history_samples + SECTION_SAMPLES * 3 // 2:
            waiting = np.concatenate(self._waiting, axis=1)
            stop = self._history_samples + SECTION_SAMPLES
            self._measure(waiting[:, :stop])
            self._history_samples = HISTORY_SAMPLES
            self._waiting = [waiting[:, stop - HISTORY_SAMPLES :]]
            self._waiting_samples = self._waiting[0].shape[1]

    def result(self) -> PairMeasures:
        """The measures of all that was taken. Call it once, at the end."""
        if self._waiting:
            self._measure(np.concatenate(self._waiting, axis=1))
            self._waiting = []
        loudest_db = max((section.level_db for section in self._sections), default=0.0)
        sung = [section for section in self._sections if section.level_db >= loudest_db - SILENT_SECTION_DB]
        bleed_db = None
        sounding = self._power > 1e-9 * self._power.max(initial=0)
        if sounding.any():
            share = np.maximum(self._unexplained[sounding] / self._power[sounding], LEAST_BLEED)
            bleed_db = float(np.mean(10 * np.log10(share)))
        frames = np.array([section.sung_frames for section in sung])
        if frames.sum() < LEAST_SUNG_FRAMES:
            return PairMeasures(None, bleed_db, None, None, None, None, None)
        raw_raw, raw_mix, mix_mix = np.sum([section.products for section in sung], axis=0)
        raw_slow, raw_fast, mix_slow, mix_fast = np.sum([section.decays for section in sung], axis=0)
        agreement, coherence = np.average([section.phase for section in sung], axis=0, weights=frames)
        return PairMeasures(
            change_db=float(sum(section.change for section in sung) / sum(section.cells for section in sung)),
            bleed_db=bleed_db,
            similarity=float(raw_mix / np.sqrt(raw_raw * mix_mix)) if raw_raw * mix_mix > 0 else None,
            phase_agreement=float(agreement),
            phase_coherence=float(coherence),
            raw_reverberance_db=reverberance_db(raw_slow, raw_fast),
            mix_reverberance_db=reverberance_db(mix_slow, mix_fast),
        )

    def _measure(self, pair: np.ndarray) -> None:
        coarse = [spectra(side, COARSE_WINDOW_SAMPLES) for side in pair]
        history_frames = self._history_samples // (COARSE_WINDOW_SAMPLES // 2)
        if len(coarse[0]) > history_frames:
            unexplained, power = unexplained_power(band_powers(coarse[0]), band_powers(coarse[1]), history_frames)
            self._unexplained += unexplained
            self._power += power
        section = _section(pair[:, self._history_samples :], coarse[0][history_frames:], coarse[1][history_frames:])
        if section:
            self._sections.append(section)


def measure_pair(raw: np.ndarray, mix: np.ndarray) -> PairMeasures:
    """`PairMeter` over two whole takes [samples], which may be memory maps longer than memory."""
    meter = PairMeter()
    for start in range(0, len(raw), BLOCK_SAMPLES):
        meter.update(raw[start : start + BLOCK_SAMPLES], mix[start : start + BLOCK_SAMPLES])
    return meter.result()


def _section(pair: np.ndarray, raw_spectra: np.ndarray, mix_spectra: np.ndarray) -> _Section | None:
    """Sums of one section [2 samples]; None where a side is silent."""
    phase = phase_measures(raw_spectra, mix_spectra)
    if phase is None:
        return None
    raw, mix = (band_powers(spectra(side, FINE_WINDOW_SAMPLES)) for side in pair)
    raw_level = raw.sum(axis=1)
    loud = float(np.percentile(raw_level, LOUD_PERCENTILE))
    if loud <= 0:
        return None
    raw_db, mix_db = decibels(raw), decibels(mix)
    sung = raw_level > loud * 10 ** (-SINGING_DB / 10)
    raw_sung, mix_sung = raw_db[sung], mix_db[sung]
    raw_loud, mix_loud = (np.percentile(side, LOUD_PERCENTILE, axis=0) for side in (raw_sung, mix_sung))
    difference = (mix_sung - raw_sung)[raw_sung > raw_loud - SINGING_DB]
    centred = []
    for side, top in ((raw_sung, raw_loud), (mix_sung, mix_loud)):
        held = np.maximum(side, top - SIMILARITY_RANGE_DB)
        centred.append(held - held.mean(axis=0))
    return _Section(
        level_db=10 * np.log10(loud),
        sung_frames=int(sung.sum()),
        cells=len(difference),
        change=float(np.abs(difference - np.median(difference)).sum()),
        products=np.array([(a * b).sum() for a, b in combinations_with_replacement(centred, 2)]),
        decays=np.array([*count_decays(raw_db), *count_decays(mix_db)]),
        phase=phase,
    )
