"""Chunks of a raw take, each tried at its candidates in the mix until it is known where it lies, if anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audio.alignment_coarse import STEP_S, Candidate, Movements, candidates, movements
from audio.alignment_fine import Accord, Grid, accord, arrival, correlogram, drift, grid, spectra
from audio.proxy import Samples

CHUNK_S = 8.0  # of mix time; each begins half of it after the one before
CANDIDATES = 3
SEARCH_FRAME_S = 0.256  # long: sees delays as large as what features may be wrong by, and follows a reverb
SEARCH_REACH_S = 0.06
TRUST_FRAME_S = 0.032  # short, in short blocks: a mix may change its phase slowly and is still the take's mix
TRUST_BLOCK_S = 2.0
LEAST_SOUND_S = 0.5
LEAST_STRENGTH = 0.15
SURE_STRENGTH = 0.4  # so much no other place would have: the remaining candidates are not looked at
ROUGH_GAIN = 1.1  # by which a place from features alone must be stronger than the correlogram's
SCOUTS = 6  # chunks that are asked for the drift
SURE_COHERENCE, LEAST_COHERENCE = 0.2, 0.02
DRIFT_GAIN, DRIFT_RISE = 1.05, 0.02  # a drift is believed that raises the coherence by this factor and that much more
LEAST_PROBES, PROBED_SHARE = 12, 0.1  # chunks that are tried before a mix is given up: so many, or that share


@dataclass(frozen=True)
class Node:
    """A chunk of the raw take from start_s on, placed in the mix.

    offset_s: mix time − rate · raw time. strengths: 0 … 1, root of the coherence there in long and in short frames.
    height: signed peak of the correlogram of the long ones, 0 where that does not tell.
    """

    start_s: float
    offset_s: float
    strengths: tuple[float, float]
    height: float

    @property
    def strength(self) -> float:
        return max(self.strengths)


class Reader:
    """A pair of raw take and mix, cut into chunks of chunk_s seconds of raw time for a base rate."""

    def __init__(self, raw: Samples, mix: Samples, sample_rate: int, base_rate: float, chunk_steps: int) -> None:
        self.raw, self.mix, self.base_rate = raw, mix, base_rate
        self.chunk_s = chunk_steps * STEP_S / base_rate
        self.search = grid(sample_rate, base_rate, SEARCH_FRAME_S)
        self.trust = grid(sample_rate, base_rate, TRUST_FRAME_S)

    def _frames(self, cut: Grid) -> int:
        return max(1, int((self.chunk_s * cut.sample_rate - cut.raw_samples) // cut.hop_samples) + 1)

    def long(self, start_s: float, offset_s: float, rate: float) -> tuple[np.ndarray, np.ndarray]:
        frames = self._frames(self.search)
        return spectra(self.raw, self.mix, self.search, start_s, frames, rate=rate, offset_s=offset_s)

    def strength(self, start_s: float, offset_s: float, rate: float) -> float:
        frames = self._frames(self.trust)
        one, other = spectra(self.raw, self.mix, self.trust, start_s, frames, rate=rate, offset_s=offset_s)
        blocks = accord(one, other, min(frames, round(TRUST_BLOCK_S / self.trust.hop_s)))
        # The root weighs a quiet passage less than a loud one, but does not let the loudest decide alone.
        weights = np.sqrt(np.sqrt(blocks.raw_power.sum(axis=1) * blocks.mix_power.sum(axis=1)) + 1e-20)
        return _root(np.average(blocks.coherence(), weights=weights))

    def accord(self, start_s: float, offset_s: float, rate: float) -> Accord:
        one, other = self.long(start_s, offset_s, rate)
        whole = accord(one, other, len(one))
        return Accord(whole.cross[0], whole.raw_power[0], whole.mix_power[0], whole.chance[0])

    def node(self, start_s: float, offset_s: float, rate: float) -> Node:
        """The chunk placed at, or within the reach of search near offset_s, whichever fits better."""
        given = self.accord(start_s, offset_s, rate)
        lag_s, height = arrival(correlogram(given.transfer(), self.search), self.search, SEARCH_REACH_S)
        found_s = offset_s + lag_s
        found = self.accord(start_s, found_s, rate)
        precise, rough = (
            Node(start_s, at_s, (_root(there.coherence()), self.strength(start_s, at_s, rate)), high)
            for at_s, high, there in ((found_s, height, found), (offset_s, 0.0, given))
        )
        return rough if rough.strength > ROUGH_GAIN * precise.strength else precise


def _root(coherence: float | np.ndarray) -> float:
    return float(np.sqrt(max(0.0, float(coherence))))


@dataclass(frozen=True)
class Placed:
    """The nodes that each chunk may be, chunk by chunk; rate: mix seconds per raw second, at which they were read."""

    reader: Reader
    nodes: list[list[Node]]
    rate: float


def place(raw: Samples, mix: Samples, sample_rate: int, base_rate: float, moved: Movements) -> Placed | None:
    """Tries the chunks of the take in the mix, at base_rate and what drift the best of them show; moved: the mix's
    movements. None for signals too short to be looked at."""
    own = movements(raw, sample_rate, rate=base_rate)
    steps = min(round(CHUNK_S / STEP_S), len(own.bands))
    if steps < 2 or not len(moved.bands):
        return None
    firsts = np.arange(0, max(1, len(own.bands) - steps // 2), steps // 2)
    firsts = np.array(
        [first for first in firsts if own.sounding[first : first + steps].sum() * STEP_S >= LEAST_SOUND_S]
    )
    reader = Reader(raw, mix, sample_rate, base_rate, steps)
    starts_s = [float(first) * STEP_S / base_rate for first in firsts]
    places = list(candidates(own.bands, moved.bands, firsts, steps, count=CANDIDATES))
    liked = sorted(range(len(places)), key=lambda index: -max((one.likeness for one in places[index]), default=0.0))
    drifted, coherence = _scout(reader, [(starts_s[index], places[index]) for index in liked[:SCOUTS]])
    if base_rate != 1 and coherence < LEAST_COHERENCE:
        return None  # a wrong label is a rare thing: it has to show at once
    nodes = _tried(reader, starts_s, places, liked, drifted)
    _ask_neighbours(reader, starts_s, nodes, base_rate + drifted)
    return Placed(reader, nodes, base_rate + drifted)


def _scout(reader: Reader, chunks: Sequence[tuple[float, list[Candidate]]]) -> tuple[float, float]:
    """The drift against the base rate that chunks show, each with its start in s and its candidates; the coherence."""
    best = (0.0, 0.0, 0.0)
    for start_s, places in chunks:
        for one in places:
            found = drift(*reader.long(start_s, one.offset_s, reader.base_rate), reader.search)
            best = max(best, found, key=lambda each: each[1])
            if best[1] > SURE_COHERENCE:
                break
        if best[1] > SURE_COHERENCE:
            break
    drifted, with_it, without = best
    return (drifted, with_it) if with_it > DRIFT_GAIN * max(without, 0.0) + DRIFT_RISE else (0.0, without)


def _tried(
    reader: Reader, starts_s: list[float], places: list[list[Candidate]], liked: list[int], drifted: float
) -> list[list[Node]]:
    """Nodes of each chunk, until one is sure. The liked come first; where the first of these are all wrong, none."""
    nodes: list[list[Node]] = [[] for _ in places]
    probes = max(LEAST_PROBES, round(PROBED_SHARE * len(liked)))
    for count, index in enumerate(liked):
        if count == probes and all(node.strength < LEAST_STRENGTH for here in nodes for node in here):
            return [[] for _ in places]
        for one in places[index]:
            # Features see the middle of the chunk; the offset is that of the line at raw time 0.
            offset_s = one.offset_s - drifted * (starts_s[index] + reader.chunk_s / 2)
            nodes[index].append(reader.node(starts_s[index], offset_s, reader.base_rate + drifted))
            if nodes[index][-1].strength > SURE_STRENGTH:
                break
    return nodes


def _ask_neighbours(reader: Reader, starts_s: list[float], nodes: list[list[Node]], rate: float) -> None:
    """Adds to chunks that are less sure than a neighbour the place where that has its own."""
    best = [max(here, key=lambda node: node.strength, default=None) for here in nodes]
    for index, here in enumerate(nodes):
        own = max((node.strength for node in here), default=0.0)
        for neighbour in (best[other] for other in (index - 1, index + 1) if 0 <= other < len(best)):
            if neighbour is not None and neighbour.strength > max(LEAST_STRENGTH, 2 * own):
                here.append(reader.node(starts_s[index], neighbour.offset_s, rate))
