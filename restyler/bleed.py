"""How much of the accompaniment is left in a separated vocal, measured without knowing either of the two."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from audio.waveform import Waveform

FRAME_SAMPLES = 2048
HOP_SAMPLES = 1024
BLOCK_FRAMES = 8  # a block is 0.19 s at 44.1 kHz: longer than a note's attack, shorter than a syllable
STRETCH_BLOCKS = 32  # analysed at once: memory does not grow with the song
BANDS = 24
LOWEST_HZ = 60.0
HIGHEST_HZ = 16_000.0
MIN_BLOCKS = 24  # twelve to a group, for two unknowns
MIN_RATIO_DB = -60.0  # a vocal, or an accompaniment, that far under the other is none
LOWEST_DB = -80.0  # below, rounding errors are measured
FLOOR = 1e-6  # of a band's mean power, added to both sides: a pause is no division by zero

Cells = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Bleed:
    """What is left of the accompaniment in a vocal.

    level_db: power of the accompaniment in the vocal, relative to the vocal's own; where it can't be told from chance,
        `floor_db`. None where it can't be measured: see `why`.
    floor_db: what the measure would read, by chance, where there is no bleed; at least −80.
    why: "" or one of no_voice (the vocal is more than 60 dB under the rest), no_accompaniment (the rest is so far under
        the vocal), too_short.
    """

    level_db: float | None
    floor_db: float | None
    why: str = ""


def measure_bleed(vocal: Waveform, song: Waveform) -> Bleed:
    """The accompaniment in `vocal` [channels samples], as separated from `song`: same shape and rate, same level.

    What was taken out, rest = song − vocal, serves as the reference. Where v = voice + g·accompaniment, then
    rest = (1 − g)·accompaniment + h·voice, h being the voice that was left behind. Since voice and accompaniment are
    two recordings, the real cross power of vocal and rest in a band is, at every moment, nearly

        P_vr = a·P_rr + b·P_vv        a = g / (1 − g),  b = h

    and as the two powers rise and fall differently, least squares over blocks of 0.2 s tells a from b: a voice left
    in the rest does not count as bleed. Blocks are weighed by 1 / (P_vv·P_rr), the inverse of the cross power's
    variance by chance (Bendat & Piersol, Random Data, ch. 9); neither a nor b is negative. The bleed is Σ a²·P_rr over
    the bands, less its expectation by chance, which is a's variance times P_rr.

    A separator may let more through while there is a voice than in pauses, so this is done twice: with one a and b for
    all blocks of a band, and with a pair each for the half of its blocks where the vocal stands out more and for the
    other half. The larger counts; that of the halves only where it exceeds what chance would give.

    An instrument that went over to the vocal altogether has left nothing in the rest to compare with: it is not seen.

    Raises ValueError where shapes or rates differ.
    """
    if vocal.samples.shape != song.samples.shape or vocal.sample_rate != song.sample_rate:
        raise ValueError("vocal and song must have one shape and one sample rate")
    cross, rest, voice = _cells(vocal, song)
    total_voice, total_rest = float(voice.sum()), float(rest.sum())
    if _db(total_voice) <= _db(total_rest) + MIN_RATIO_DB:
        return Bleed(None, None, "no_voice")
    if _db(total_rest) <= _db(total_voice) + MIN_RATIO_DB:
        return Bleed(None, None, "no_accompaniment")
    if cross.shape[1] < MIN_BLOCKS:
        return Bleed(None, None, "too_short")
    rest += FLOOR * rest.mean(1, keepdims=True) + FLOOR**2 * rest.mean()
    voice += FLOOR * voice.mean(1, keepdims=True) + FLOOR**2 * voice.mean()
    everywhere, chance = _bled(cross, rest, voice)
    chance = max(chance, total_voice * 10 ** (LOWEST_DB / 10))
    halves = np.array_split(np.argsort(voice / rest, axis=1), 2, axis=1)
    parts = [_bled(*(np.take_along_axis(cells, half, 1) for cells in (cross, rest, voice))) for half in halves]
    apart, chance_apart = (sum(values) for values in zip(*parts, strict=True))
    found = max(everywhere, apart if apart > chance_apart else 0.0, chance)
    return Bleed(_db(found / total_voice), _db(chance / total_voice))


def _cells(vocal: Waveform, song: Waveform) -> Cells:
    """Real cross power of vocal and rest, power of the rest, power of the vocal: [bands blocks], channels summed."""
    v, s = (waveform.samples.numpy(force=True) for waveform in (vocal, song))
    window = np.hanning(FRAME_SAMPLES + 1)[:-1].astype(np.float32)
    edges = _band_edges(vocal.sample_rate)
    frames = (v.shape[1] - FRAME_SAMPLES) // HOP_SAMPLES + 1
    blocks = max(0, frames // BLOCK_FRAMES)
    found: list[list[np.ndarray]] = []
    for first in range(0, blocks, STRETCH_BLOCKS):
        count = min(STRETCH_BLOCKS, blocks - first) * BLOCK_FRAMES
        start = first * BLOCK_FRAMES * HOP_SAMPLES
        stretch = slice(start, start + (count - 1) * HOP_SAMPLES + FRAME_SAMPLES)
        spectra = []
        for signal in (v[:, stretch], s[:, stretch] - v[:, stretch]):
            cut = np.lib.stride_tricks.sliding_window_view(signal, FRAME_SAMPLES, axis=1)[:, ::HOP_SAMPLES]
            spectra.append(np.fft.rfft(cut * window, axis=2)[:, :, : edges[-1]])
        of_voice, of_rest = spectra
        powers = ((of_voice * of_rest.conj()).real, np.abs(of_rest) ** 2, np.abs(of_voice) ** 2)
        found.append([_summed(power.sum(0), edges[:-1]) for power in powers])
    cross, rest, voice = (
        np.concatenate([row[i] for row in found], 1) if found else np.zeros((len(edges) - 1, 0)) for i in range(3)
    )
    return cross, rest, voice


def _summed(power: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """[frames bins] → [bands blocks] in float64."""
    bands = np.add.reduceat(power.astype(np.float64), starts, axis=1)
    return bands.reshape(-1, BLOCK_FRAMES, len(starts)).sum(1).T


def _band_edges(sample_rate: int) -> np.ndarray:
    """Bins that border the bands, BANDS + 1 of them, equally wide in mel (O'Shaughnessy 1987)."""
    mel = np.linspace(_mel(LOWEST_HZ), _mel(min(HIGHEST_HZ, 0.45 * sample_rate)), BANDS + 1)
    edges_hz = 700 * (10 ** (mel / 2595) - 1)
    edges = np.round(edges_hz * FRAME_SAMPLES / sample_rate).astype(int)
    for i in range(1, len(edges)):
        edges[i] = max(edges[i], edges[i - 1] + 2)
    return edges


def _mel(frequency_hz: float) -> float:
    return 2595 * math.log10(1 + frequency_hz / 700)


def _bled(cross: np.ndarray, rest: np.ndarray, voice: np.ndarray) -> tuple[float, float]:
    """Power of the accompaniment in the vocal, summed over the bands of cells [bands blocks], less what chance gives on
    average; and what chance gives."""
    weight = 1 / (voice * rest)

    def dot(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (weight * one * other).sum(1)

    rr, rv, vv, cr, cv = dot(rest, rest), dot(rest, voice), dot(voice, voice), dot(cross, rest), dot(cross, voice)
    determinant = np.maximum(rr * vv - rv**2, 1e-12 * rr * vv)
    a, b = (cr * vv - cv * rv) / determinant, (cv * rr - cr * rv) / determinant
    # The best pair without a negative one lies on the border where the free pair is outside.
    alone = b < 0
    variance = np.where(alone, 1 / rr, vv / determinant)
    a, b = np.where(alone, cr / rr, a), np.where(alone, 0, b)
    b = np.where(a < 0, np.maximum(cv / vv, 0), b)
    a = np.maximum(a, 0)
    left = cross - a[:, None] * rest - b[:, None] * voice
    variance = variance * dot(left, left) / (cross.shape[1] - 2)
    power = rest.sum(1)
    return float(((a**2 - variance) * power).sum()), float((variance * power).sum())


def _db(power: float) -> float:
    return 10 * math.log10(power) if power > 0 else -math.inf
