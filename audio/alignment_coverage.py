"""Which part of a raw take each line of its course covers, judged every half second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from audio.alignment_fine import Accord, Grid, accord, grid, spectra
from audio.proxy import Samples

CELL_S = 0.5
CELLS_AT_ONCE = 128
LOUD_DB, SILENT_DB = -20.0, -40.0  # below the loudest cells: what is above counts fully, what is below not at all
LOUDEST_PERCENTILE = 95.0
LEAST_STRENGTH = 0.08
SHARE_OF_TYPICAL = 0.4  # a cell belongs to a line where its strength is above this share of what the line has elsewhere
SWITCH_COST = 0.6
TIE = 1e-6
QUIET_STEP_S = 0.02
QUIET_REACH_S = 1.0


@dataclass(frozen=True)
class Span:
    """start_s to stop_s of raw time are covered by the line with this number."""

    start_s: float
    stop_s: float
    line: int


@dataclass(frozen=True)
class Coverage:
    """spans: in order. strength: 0 … 1, root of the coherence over what they cover. share: of the sounding take."""

    spans: tuple[Span, ...]
    strength: float
    share: float


@dataclass(frozen=True)
class Piece:
    """A line that covers about start_s to stop_s of raw time, and lies at rate · t + offset_s in the mix."""

    start_s: float
    stop_s: float
    offset_s: float


def cover(
    raw: Samples, mix: Samples, sample_rate: int, pieces: Sequence[Piece], *, rate: float, frame_s: float
) -> Coverage:
    """How far each piece reaches; pieces in order of raw time and of mix time.

    Between two pieces, and beyond the outer ones, both sides are compared along every line that may hold there; the
    course that gathers most agreement wins, silence goes to its neighbours, what agrees with no line is not covered.
    """
    cut = grid(sample_rate, rate, frame_s)
    frames = round(CELL_S / cut.hop_s)
    cell_s = frames * cut.hop_s
    raw_s, mix_s = len(raw) / sample_rate, len(mix) / sample_rate
    cells = int(np.ceil(raw_s / cell_s))
    coherence = np.zeros((len(pieces), cells))
    possible = np.zeros((len(pieces), cells), dtype=bool)
    whole = np.zeros((len(pieces), cells), dtype=bool)
    level = np.zeros(cells)
    middle_s = (np.arange(cells) + 0.5) * cell_s
    for index, piece in enumerate(pieces):
        first_s = pieces[index - 1].stop_s - cell_s if index else 0.0
        last_s = pieces[index + 1].start_s + cell_s if index + 1 < len(pieces) else raw_s
        first = int(np.clip(min(first_s, piece.start_s) // cell_s, 0, cells - 1))
        stop = int(np.clip(np.ceil(max(last_s, piece.stop_s) / cell_s), first + 1, cells))
        part = slice(first, stop)
        coherence[index, part], level[part] = _cells(raw, mix, cut, frames, part, rate, piece.offset_s)
        in_mix_s = rate * middle_s[part] + piece.offset_s
        half_s = rate * cell_s / 2
        possible[index, part] = (in_mix_s > -half_s) & (in_mix_s < mix_s + half_s)
        whole[index, part] = (in_mix_s >= half_s) & (in_mix_s <= mix_s - half_s)
    strength = np.sqrt(np.maximum(coherence, 0))
    weight = _loudness(level)
    core = np.array([(middle_s >= piece.start_s) & (middle_s <= piece.stop_s) for piece in pieces])
    typical = float(np.average(np.max(strength * core, axis=0), weights=weight * core.any(axis=0) + TIE))
    least = max(LEAST_STRENGTH, SHARE_OF_TYPICAL * typical)
    # A cell that the mix holds in part says nothing, and goes with its neighbour.
    gain = np.where(possible, np.where(whole, weight * (strength - least), 0.0) + TIE, -np.inf)
    choice = _best_course(gain)
    covered = choice < len(pieces)
    spans = _spans(choice, whole, cell_s, raw_s)
    spans = _settled(raw, sample_rate, rate, pieces, spans, mix_s)
    chosen = coherence[np.minimum(choice, len(pieces) - 1), np.arange(cells)]
    power = np.sqrt(level) * covered
    total = float(np.average(chosen, weights=power)) if power.sum() > 0 else 0.0
    share = float((weight * covered).sum() / max(weight.sum(), TIE))
    return Coverage(tuple(spans), float(np.sqrt(max(0.0, total))), share)


def _cells(
    raw: Samples, mix: Samples, cut: Grid, frames: int, part: slice, rate: float, offset_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Coherence of each cell with its two neighbours, and the raw take's amplitude in it."""
    coherence, level = [], []
    for first in range(part.start, part.stop, CELLS_AT_ONCE):
        stop = min(first + CELLS_AT_ONCE, part.stop)
        start_s = (first - 1) * frames * cut.hop_s
        one, other = spectra(raw, mix, cut, start_s, (stop - first + 2) * frames, rate=rate, offset_s=offset_s)
        cells = accord(one, other, frames)
        three = Accord(
            *(
                each[:-2] + each[1:-1] + each[2:]
                for each in (cells.cross, cells.raw_power, cells.mix_power, cells.chance)
            )
        )
        coherence.append(three.coherence())
        level.append(np.sqrt(cells.raw_power[1:-1].sum(axis=1)))
    return np.concatenate(coherence), np.concatenate(level)


def _loudness(level: np.ndarray) -> np.ndarray:
    """0 … 1 for silent to loud cells."""
    level_db = 20 * np.log10(level / (np.percentile(level, LOUDEST_PERCENTILE) + 1e-20) + 1e-9)
    return np.clip((level_db - SILENT_DB) / (LOUD_DB - SILENT_DB), 0, 1)


def _best_course(gain: np.ndarray) -> np.ndarray:
    """[lines cells] → the line of each cell, or `lines` for none of them, with the highest sum of gains (Viterbi).

    Going from one to another costs. Lines follow each other in their order; no line may stand before, after or between
    any of them, and within one. To keep the order, «no line» remembers the last line: a state for each.
    """
    lines, cells = gain.shape
    order = np.arange(2 * lines) % lines
    absent = np.arange(2 * lines) >= lines
    allowed = np.where(absent, order[:, None] == order[None], order[:, None] <= order[None])  # from, to
    move = np.where(allowed, -SWITCH_COST * ~np.eye(2 * lines, dtype=bool), -np.inf)
    gains = np.vstack([gain, np.zeros_like(gain)])
    total = gains[:, 0]
    back = np.zeros((cells, 2 * lines), dtype=np.int64)
    for cell in range(1, cells):
        ways = total[:, None] + move
        back[cell] = ways.argmax(axis=0)
        total = ways.max(axis=0) + gains[:, cell]
    choice = np.empty(cells, dtype=np.int64)
    choice[-1] = total.argmax()
    for cell in range(cells - 1, 0, -1):
        choice[cell - 1] = back[cell, choice[cell]]
    return np.minimum(choice, lines)


def _spans(choice: np.ndarray, whole: np.ndarray, cell_s: float, raw_s: float) -> list[Span]:
    none = len(whole)
    edges = np.flatnonzero(np.diff(choice)) + 1
    bounds = [0, *edges.tolist(), len(choice)]
    spans = []
    for first, stop in pairwise(bounds):
        if choice[first] == none:
            continue
        # A cell is judged with its neighbours: where a line ends in a foreign sound, its last cell may be half foreign.
        line = int(choice[first])
        start = first + (first > 0 and choice[first - 1] == none and whole[line, first - 1])
        end = stop - (stop < len(choice) and choice[stop] == none and whole[line, stop])
        if start < end:
            spans.append(Span(start * cell_s, min(end * cell_s, raw_s), line))
    return spans


def _settled(
    raw: Samples, sample_rate: int, rate: float, pieces: Sequence[Piece], spans: list[Span], mix_s: float
) -> list[Span]:
    """Spans within the mix, whose changes from line to line lie where the take is quietest, and that never overlap in
    the mix: where a mix lacks something, its stretch of the take is left out."""
    settled: list[Span] = []
    for span in spans:
        offset_s = pieces[span.line].offset_s
        start_s = max(span.start_s, -offset_s / rate)
        stop_s = min(span.stop_s, (mix_s - offset_s) / rate)
        missing_s = max(0.0, (pieces[settled[-1].line].offset_s - offset_s) / rate) if settled else 0.0
        if settled and start_s - settled[-1].stop_s < missing_s + QUIET_STEP_S:
            before = settled.pop()
            reach_s = QUIET_REACH_S + max(0.0, missing_s - (start_s - before.stop_s))
            low_s, high_s = max(before.start_s, before.stop_s - reach_s), min(stop_s, start_s + reach_s)
            change_s = _quietest_s(raw, sample_rate, low_s, high_s, missing_s)
            settled.append(Span(before.start_s, change_s, before.line))
            start_s = change_s + missing_s
        settled.append(Span(start_s, stop_s, span.line))
    return [Span(float(one.start_s), float(one.stop_s), one.line) for one in settled if one.start_s < one.stop_s]


def _quietest_s(raw: Samples, sample_rate: int, low_s: float, high_s: float, length_s: float) -> float:
    """Where between low_s and high_s so long a stretch (at least one step) starts that has the least energy."""
    step = round(QUIET_STEP_S * sample_rate)
    piece = np.asarray(raw[round(low_s * sample_rate) : round(high_s * sample_rate)], dtype=np.float64)
    steps = len(piece) // step
    if steps == 0:
        return low_s
    energy = np.square(piece[: steps * step]).reshape(steps, step).sum(axis=1)
    span = min(steps, max(1, int(np.ceil(length_s / QUIET_STEP_S))))
    sums = np.convolve(energy, np.ones(span), mode="valid")
    least = np.flatnonzero(sums <= sums.min() + 1e-9 * energy.sum())
    return low_s + float(least[len(least) // 2]) * QUIET_STEP_S + (0.5 * QUIET_STEP_S if length_s == 0 else 0.0)
