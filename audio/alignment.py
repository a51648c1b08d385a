"""How a mix lies to its raw take: offset, clock, polarity, and which parts of the take it covers.

Three steps. Features over the whole mix propose places for every stretch of the take (`alignment_coarse`). Phase tells
which of them are true, and gives offset, polarity and clock to a fraction of a sample (`alignment_fine`, `_chunks`,
`_lines`). Then take and mix are compared along these lines, half second by half second (`alignment_coverage`).

Two performances of one song, however alike, have no phase in common, so they are not mistaken for each other; and
a part that the mix repeats is placed where the course of the whole puts it.
"""

from __future__ import annotations

from dataclasses import dataclass

from audio.alignment_chunks import place
from audio.alignment_coarse import movements
from audio.alignment_coverage import Piece, cover
from audio.alignment_lines import Course, course
from audio.proxy import Samples

CLOCK_RATES = (1.0, 48 / 44.1, 44.1 / 48)  # the latter two: played at the other common rate
MIN_SAMPLE_RATE_HZ = 8_000


@dataclass(frozen=True)
class Region:
    """start_s to stop_s of the raw take's time, over which one offset holds: raw t is mix rate · t + offset_s."""

    start_s: float
    stop_s: float
    offset_s: float


@dataclass(frozen=True)
class Alignment:
    """How a mix lies to its raw take.

    regions: in order, without overlap; together the part of the raw take that the mix covers. Their ends are good to
        about half a second where the mix goes on with something else, and lie in the quietest place near a cut.
    rate: mix seconds per raw second: 1 for one common clock, 1.0001 for a drift of 0.01 %, 48 / 44.1 for a wrong label.
    polarity: +1, or −1 where the mix is inverted.
    score: 0 … 1, how surely this is the take's mix: how much of it is the raw take under a filter that stays the same
        for a second or two (root of the mean magnitude-squared coherence, freed of chance). 1 for a copy, above 0.3
        for mixes with much reverb, noise or modulation; other performances of the same notes stay below 0.2, and are
        mostly not found at all.
    phase_agreement: 0 … 1, how much of that filter is delay and polarity alone. 1 for a copy, around 0.9 for an
        equalised and compressed mix, below 0.6 where the phase was turned; below 0.5 offset and polarity are a matter
        of definition.
    coverage: 0 … 1, the share of the take's sound that lies in the regions.
    residual_ms: root mean square distance of 8 s stretches from the lines of the regions.
    """

    regions: tuple[Region, ...]
    rate: float
    polarity: int
    score: float
    phase_agreement: float
    coverage: float
    residual_ms: float


def align(raw: Samples, mix: Samples, sample_rate: int) -> Alignment | None:
    """How mix [samples] lies to raw [samples], both mono at sample_rate (Hz); None where no part of it is the take's.

    Finds offsets of any size, drifts up to 0.15 %, the wrong one of the rates 44.1 and 48 kHz, cuts and inserted
    pauses. The signals are read in blocks and may stay in their files; what is kept of them is far smaller. At least
    about a second of sound is needed.

    Raises ValueError for other shapes and for rates below 8 kHz.
    """
    if len(raw.shape) != 1 or len(mix.shape) != 1 or sample_rate < MIN_SAMPLE_RATE_HZ:
        raise ValueError(
            f"two mono signals [samples] at {MIN_SAMPLE_RATE_HZ} Hz or more are aligned, "
            f"not shapes {list(raw.shape)} and {list(mix.shape)} at {sample_rate} Hz"
        )
    moved = movements(mix, sample_rate)
    for clock_rate in CLOCK_RATES:
        placed = place(raw, mix, sample_rate, clock_rate, moved)
        followed = course(placed) if placed is not None else None
        found = _alignment(raw, mix, sample_rate, followed) if followed is not None else None
        if found is not None:
            return found
    return None


def _alignment(raw: Samples, mix: Samples, sample_rate: int, followed: Course) -> Alignment | None:
    pieces = [Piece(line.start_s, line.stop_s, line.offset_s) for line in followed.lines]
    covered = cover(raw, mix, sample_rate, pieces, rate=followed.rate, frame_s=followed.frame_s)
    if not covered.spans:
        return None
    return Alignment(
        regions=tuple(Region(span.start_s, span.stop_s, pieces[span.line].offset_s) for span in covered.spans),
        rate=followed.rate,
        polarity=followed.polarity,
        score=covered.strength,
        phase_agreement=followed.phase_agreement,
        coverage=covered.share,
        residual_ms=1000 * followed.residual_s,
    )
