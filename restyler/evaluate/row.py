"""What a row of the benchmark is, and what several kinds of rows need."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audio.loudness import brought_to, integrated_loudness_lufs
from audio.waveform import Waveform
from restyler.evaluate.evaluation_set import Song
from restyler.evaluate.scoring import cut

REFERENCE_S = 6.0  # the start of the mix, which rows with a reference may hear
SECOND_HALF_S = (REFERENCE_S, 12.0)  # what these are scored on, and whatever stands beside them
LEAST_SCORED_S = 2.0
SECOND_HALF = ", second half"  # ends the names of rows that are scored on it


@dataclass(frozen=True)
class Row:
    """One system of the benchmark.

    name: in tables, unique. what: one sentence on how it is made. render: a song → its draws, each at the rate and
    length of `song.mix`; one for a row without chance; none where the row does not exist for this song, which then
    counts for nothing in it. The same song gives the same draws, whatever was rendered before.
    scored_s: the part that is compared, from … to; None: all.
    """

    name: str
    what: str
    render: Callable[[Song], Sequence[Waveform]]
    scored_s: tuple[float, float] | None = None


def on_second_half(row: Row, *, name: str | None = None) -> Row:
    """The same renders, compared on the second half alone: what a row with a reference can be laid beside.

    A song with less than 2 s after the first 6, or with silence in one of the halves, has no draws.
    """

    def render(song: Song) -> Sequence[Waveform]:
        return row.render(song) if has_second_half(song) else ()

    return Row(name or row.name + SECOND_HALF, row.what, render, SECOND_HALF_S)


def remembered(render: Callable[[Song], Sequence[Waveform]]) -> Callable[[Song], Sequence[Waveform]]:
    """The same draws; those of the last song are kept, so that several rows can be made of what is rendered once."""
    last: tuple[Song, Sequence[Waveform]] | None = None

    def again(song: Song) -> Sequence[Waveform]:
        nonlocal last
        if last is None or last[0] is not song:
            last = (song, render(song))
        return last[1]

    return again


def has_second_half(song: Song) -> bool:
    if song.mix.duration_s < REFERENCE_S + LEAST_SCORED_S:
        return False
    halves = [half for side in (song.take, song.mix) for half in (first(side, REFERENCE_S), cut(side, SECOND_HALF_S))]
    return all(integrated_loudness_lufs(half) > -math.inf for half in halves)


def first(waveform: Waveform, seconds: float) -> Waveform:
    """Its start, `seconds` long."""
    return Waveform(waveform.samples[:, : round(seconds * waveform.sample_rate)], waveform.sample_rate)


def as_loud(render: Waveform, take: Waveform) -> Waveform:
    """As loud as the take, which is how mixes leave `sample.py`: chains and models say nothing about level."""
    return brought_to(render, integrated_loudness_lufs(take))


def like(model: Waveform, waveform: Waveform) -> Waveform:
    """At the rate and length of `model`, of the same stretch of time: resampled, the part sample after it cut off.

    Raises ValueError where it is shorter.
    """
    resampled = waveform.resampled(model.sample_rate)
    wanted, there = model.samples.shape[1], resampled.samples.shape[1]
    if there < wanted:
        raise ValueError(f"{there} samples at {model.sample_rate} Hz can't stand for {wanted}")
    return Waveform(resampled.samples[:, :wanted], model.sample_rate)
