"""How far apart the mixes of one take lie in what can be heard: tone, width, dynamics and space."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from audio.features import FEATURES, measure
from audio.io import read
from audio.waveform import Waveform
from restyler.pipeline import VocalRestylePipeline
from restyler.settings import ANY_STYLE

Spread = Mapping[str, float]  # of every feature, in dB


def print_diversity(pipeline: VocalRestylePipeline, takes: Sequence[Path], seeds: Sequence[int]) -> None:
    """A table of the spread over `seeds` (highest minus lowest) of every feature, mean over takes, in dB: as the mixes
    come by default, with a style drawn by each seed, and with one style for all seeds, another for the next take.

    A model without styles has one row, where nothing is told.
    """
    rows: dict[str, list[Spread]] = {}
    for number, path in enumerate(takes):
        print(f"\r  take {number + 1} of {len(takes)}", end="", file=sys.stderr, flush=True)
        take = read(path)
        styles = pipeline.styles
        told: dict[str, str | None] = {"nothing told": None}
        if styles:
            told = {"a style drawn by each seed": ANY_STYLE, "one style": styles[number % len(styles)]}
        for name, style in told.items():
            rows.setdefault(name, []).append(spread_db(pipeline, take, style, seeds))
    print("\r", end="", file=sys.stderr)
    print(f"\n{'spread of the mixes of one take, dB':36}" + "".join(f"{name:>15}" for name in FEATURES))
    for name, spreads in rows.items():
        means = [statistics.fmean(spread[feature] for spread in spreads) for feature in FEATURES]
        print(f"  {name:34}" + "".join(f"{mean:15.2f}" for mean in means))
    print(f"  ({len(takes)} takes, {len(seeds)} seeds)")


def spread_db(pipeline: VocalRestylePipeline, take: Waveform, style: str | None, seeds: Sequence[int]) -> Spread:
    """`spread_of` the mixes of `seeds`."""
    return spread_of([Waveform(mix, pipeline.codec.sample_rate) for mix in pipeline(take, seeds=seeds, style=style)])


def spread_of(mixes: Sequence[Waveform]) -> Spread:
    """Highest minus lowest of every feature over the mixes of one take. Raises ValueError for a silent mix."""
    measured = [measure(mix) for mix in mixes]
    return {name: max(m[name] for m in measured) - min(m[name] for m in measured) for name in FEATURES}
