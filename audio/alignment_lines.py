"""From chunks to the straight lines that a mix's time follows along its raw take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from audio.alignment_chunks import LEAST_STRENGTH, SEARCH_FRAME_S, SEARCH_REACH_S, TRUST_FRAME_S, Node, Placed, Reader
from audio.alignment_fine import TINY, Accord, arrival, correlogram, peak, summed

SHARP_HEIGHT = 0.15  # of a correlogram's peak that stands for a delay
SAME_SHARP_S, SAME_DULL_S = 0.001, 0.03  # offsets no further apart are of one line
ECHO_SHARE = 0.4  # of its peak that a correlogram has at the neighbour's offset, where that is direct sound or echo
JUMP_COST = 0.3
FIT_REACH_S = 0.0015
FIT_ROUNDS = 4
LEAST_DRIFT_S = 5e-5  # over the whole of a take: less is no drift
SURE_DEVIATIONS = 4.0


@dataclass(frozen=True)
class Heard(Node):
    """A node on the course. accord: of its long frames. Nodes beside it go without: 30 kB each, several a chunk."""

    accord: Accord


@dataclass(frozen=True)
class Line:
    """A straight piece: raw times from start_s to stop_s (of its chunks) lie at rate · t + offset_s in the mix.

    height: signed peak of the correlogram of all of it; its sign is the polarity.
    """

    start_s: float
    stop_s: float
    offset_s: float
    height: float


@dataclass(frozen=True)
class Course:
    """Lines in order, with what they have in common.

    rate: mix seconds per raw second. polarity: ±1. phase_agreement: 0 … 1, how much of the filter between the two sides
    is delay and polarity. residual_s: RMS distance of single chunks from the lines. frame_s: the length of frames that
    sees most of the take in the mix: long ones follow a reverb, short ones a phase that changes.
    """

    lines: tuple[Line, ...]
    rate: float
    polarity: int
    phase_agreement: float
    residual_s: float
    frame_s: float


def course(placed: Placed) -> Course | None:
    """The lines on which most chunks lie; None where none is strong enough anywhere."""
    path = _path(placed.nodes, placed.rate)
    if not path:
        return None
    runs = [[path[0]]]
    for before, node in pairwise(path):
        if _same_line(before, node):
            runs[-1].append(node)
        else:
            runs.append([node])
    reader, rate = placed.reader, placed.rate
    span_s = path[-1].start_s + reader.chunk_s - path[0].start_s

    def believed(change: float) -> float:
        """What can't be told from the base rate is the base rate."""
        return reader.base_rate - rate if abs(rate + change - reader.base_rate) * span_s < LEAST_DRIFT_S else change

    # One chunk's drift is not exact enough to add up the delays of a long take: first comes what the places say.
    change = believed(_slope([[(node.start_s, node.offset_s, abs(node.height)) for node in run] for run in runs])[0])
    heard, rate = _heard(reader, runs, rate, change)
    heard = _without_echoes(heard, reader)
    for _ in range(FIT_ROUNDS):
        delays = [[_delay(node, line, reader) for node in run] for run in heard for line in [_line(run, reader)]]
        change, residual_s = _slope(delays)
        change = believed(change)
        if abs(change) * span_s < LEAST_DRIFT_S / 100:
            break
        heard, rate = _heard(reader, heard, rate, change)
    return _summary(reader, heard, rate, residual_s)


def _same_line(one: Node, other: Node) -> bool:
    sharp = min(abs(one.height), abs(other.height)) > SHARP_HEIGHT
    return abs(one.offset_s - other.offset_s) <= (SAME_SHARP_S if sharp else SAME_DULL_S)


def _path(nodes: list[list[Node]], rate: float) -> list[Node]:
    """The nodes, one a chunk at most, ever later in both, that are strongest together; a jump between lines costs."""
    chunks = [(index, node) for index, here in enumerate(nodes) for node in here if node.strength > LEAST_STRENGTH]
    if not chunks:
        return []
    index = np.array([place for place, _ in chunks])
    offset_s = np.array([node.offset_s for _, node in chunks])
    height = np.abs([node.height for _, node in chunks])
    start_s = np.array([node.start_s for _, node in chunks])
    total = np.array([node.strength - LEAST_STRENGTH for _, node in chunks])
    back = np.full(len(chunks), -1)
    for at in range(1, len(chunks)):
        apart_s = offset_s[at] - offset_s[:at]
        follows = (index[:at] < index[at]) & (rate * (start_s[at] - start_s[:at]) + apart_s > 0)
        sharp = np.minimum(height[at], height[:at]) > SHARP_HEIGHT
        jumps = np.abs(apart_s) > np.where(sharp, SAME_SHARP_S, SAME_DULL_S)
        value = np.where(follows, total[:at] - JUMP_COST * jumps, 0.0)
        before = int(value.argmax())
        if value[before] > 0:
            total[at] += value[before]
            back[at] = before
    at = int(total.argmax())
    path = []
    while at >= 0:
        path.append(chunks[at][1])
        at = int(back[at])
    return path[::-1]


def _without_echoes(runs: list[list[Heard]], reader: Reader) -> list[list[Heard]]:
    """Neighbouring runs made one where each is heard at the other's offset too: then they took different arrivals of
    one sound, direct and echo, for theirs."""
    merged = [runs[0]]
    for run in runs[1:]:
        if _echoes(merged[-1], run, reader):
            merged[-1] = merged[-1] + run
        else:
            merged.append(run)
    return merged


def _echoes(one: list[Heard], other: list[Heard], reader: Reader) -> bool:
    cut = reader.search
    lines = _line(one, reader), _line(other, reader)
    apart_s = lines[1].offset_s - lines[0].offset_s
    if abs(apart_s) > SEARCH_REACH_S:
        return False
    shares = []
    for run, line, there_s in ((one, lines[0], apart_s), (other, lines[1], -apart_s)):
        both = summed(node.accord.turned(cut, line.offset_s + there_s - node.offset_s) for node in run)
        height = peak(correlogram(both.transfer(), cut), cut, SAME_SHARP_S)[1]
        shares.append(abs(height) / (abs(line.height) + TINY))
    return min(shares) > ECHO_SHARE


def _heard(
    reader: Reader, runs: Sequence[Sequence[Node]], rate: float, change: float
) -> tuple[list[list[Heard]], float]:
    """The runs read at rate + change, each turned about its middle, and that rate."""
    rate += change

    def read(node: Node, middle_s: float) -> Heard:
        offset_s = node.offset_s - change * middle_s
        accord = reader.accord(node.start_s, offset_s, rate)
        return Heard(node.start_s, offset_s, node.strengths, node.height, accord)

    return [[read(node, (run[0].start_s + run[-1].start_s + reader.chunk_s) / 2) for node in run] for run in runs], rate


def _summary(reader: Reader, runs: list[list[Heard]], rate: float, residual_s: float) -> Course:
    lines = [_line(run, reader) for run in runs]
    polarity = 1 if sum(line.height * (line.stop_s - line.start_s) for line in lines) >= 0 else -1
    straight = (
        node.accord.turned(reader.search, line.offset_s - node.offset_s)
        for run, line in zip(runs, lines, strict=True)
        for node in run
    )
    transfer = summed(straight).transfer()
    # Weighted with the coherence: bins that hold noise say nothing about phase.
    agreement = float(np.sum(np.abs(transfer) * transfer.real) / (np.sum(np.abs(transfer) ** 2) + TINY))
    long, short = np.sum([node.strengths for run in runs for node in run], axis=0)
    frame_s = SEARCH_FRAME_S if long > short else TRUST_FRAME_S
    return Course(tuple(lines), rate, polarity, max(0.0, polarity * agreement), residual_s, frame_s)


def _line(run: list[Heard], reader: Reader) -> Line:
    cut = reader.search
    base = max(run, key=lambda node: node.strength)
    whole = summed(node.accord.turned(cut, base.offset_s - node.offset_s) for node in run)
    lag_s, height = arrival(correlogram(whole.transfer(), cut), cut, SEARCH_REACH_S)
    return Line(run[0].start_s, run[-1].start_s + reader.chunk_s, base.offset_s + lag_s, height)


def _delay(node: Heard, line: Line, reader: Reader) -> tuple[float, float, float]:
    """Start of a chunk, its delay against its line (both in s), and how far it is to be trusted."""
    turned = node.accord.turned(reader.search, line.offset_s - node.offset_s)
    upright = float(np.sign(line.height)) * correlogram(turned.transfer(), reader.search)
    lag_s, height = peak(np.maximum(upright, 0), reader.search, FIT_REACH_S)
    return node.start_s, lag_s, height


def _slope(runs: list[list[tuple[float, float, float]]]) -> tuple[float, float]:
    """Slope and RMS distance of points (time, delay, trust) from parallel lines, one through each run.

    Least squares, weighted with the square of the trust; points beyond three deviations are left out and the rest
    fitted again. The slope is 0 where it could be chance, or there are too few points to tell.
    """
    time, delay, trust = (np.array(column) for column in zip(*(point for run in runs for point in run), strict=True))
    run_of = np.repeat(np.arange(len(runs)), [len(run) for run in runs])
    weight = trust**2
    design = np.column_stack([time, np.eye(len(runs))[run_of]])
    if np.count_nonzero(weight) < len(runs) + 2:
        design[:, 0] = 0.0
    kept = weight > 0
    deviation, slope = 0.0, 0.0
    for _ in range(FIT_ROUNDS):
        if not kept.any():
            return 0.0, 0.0
        scale = np.sqrt(weight * kept)
        solution = np.linalg.lstsq(design * scale[:, None], delay * scale, rcond=None)[0]
        rest = delay - design @ solution
        deviation = float(np.sqrt(np.average(rest**2, weights=weight * kept)))
        slope = float(solution[0])
        kept = (weight > 0) & (np.abs(rest) <= 3 * deviation + 1e-6)
    count = int(np.count_nonzero(kept))
    means = np.array(
        [np.average(time[run_of == run], weights=weight[run_of == run] + TINY) for run in range(len(runs))]
    )
    spread = float(np.sqrt(np.sum(kept * (time - means[run_of]) ** 2)))
    error = deviation * np.sqrt(count / max(count - len(runs) - 1, 1)) / (spread + TINY)
    return (slope if abs(slope) > SURE_DEVIATIONS * error else 0.0), deviation
