"""Rows of the benchmark that come out of a codec or a model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

from audio.waveform import Waveform
from restyler.evaluate.evaluation_set import Song
from restyler.evaluate.row import REFERENCE_S, Row, as_loud, first, like, on_second_half, remembered
from restyler.pipeline import VocalRestylePipeline
from restyler.settings import ANY_STYLE
from restyler.way_names import TRANSFER
from restyler.ways import round_trip

FITTED_DRAWS = 2  # a chain takes about as long to fit as the audio lasts: so many of the samples stand for all

Finish: TypeAlias = Callable[[Waveform, Waveform], Waveform]
"""The take and a decoded mix, both at the codec's rate and equally long → the finished mix."""


def codec_rows(pipeline: VocalRestylePipeline) -> list[Row]:
    """What the codec alone does to the take, and to the mix."""
    return [
        Row(
            "raw take through the codec",
            "the raw take, encoded and decoded",
            lambda song: [_round_trip(pipeline, song.take)],
        ),
        Row(
            "mix through the codec",
            "the mix itself, encoded and decoded (ceiling of whatever is decoded)",
            lambda song: [_round_trip(pipeline, song.mix)],
        ),
    ]


def _round_trip(pipeline: VocalRestylePipeline, waveform: Waveform) -> Waveform:
    """`restyler.ways.round_trip` at any rate; rate and length stay."""
    return like(waveform, round_trip(pipeline, waveform.resampled(pipeline.codec.sample_rate)))


def average_row(
    pipeline: VocalRestylePipeline,
    name: str,
    what: str,
    finish: Finish,
    controls: Mapping[str, float] = MappingProxyType({}),
) -> Row:
    """The answer without chance: nothing told but `controls`, one step, and σ 0 where the path has a σ.

    The network estimates the mix under a mean square error; in one step, with no noise, that is the mean over all mixes
    it thinks possible, the answer of a regression.
    """
    sigma = 0.0 if pipeline.denoiser.config.path == "bridge" else None

    def sample(song: Song) -> Sequence[Waveform]:
        plain: dict[str, Any] = {"style": None, "guidance": 1.0, "spread": 0.0}
        mixes = pipeline(song.take, seeds=[0], steps=1, sigma=sigma, controls=controls, **plain)
        return [Waveform(mix, pipeline.codec.sample_rate) for mix in mixes]

    return Row(name, what, remembered(functools.partial(_finished, sample, finish, 1)))


def sampled_rows(pipeline: VocalRestylePipeline, finishes: Mapping[str, Finish], *, draws: int, seed: int) -> list[Row]:
    """The model's samples as its defaults draw them, once for each way of finishing a decoded mix.

    A style drawn by each seed (nothing told to a model without styles); the style that the set tells, where the model
    knows it; and a reference, the first 6 s of the mix, scored on its second half. `draws` seeds from `seed` on, the
    same for all songs. What is decoded is sampled once for all ways; a chain is fitted to the first two samples.
    """

    def sampled(name: str, what: str, told: Callable[[Song], Mapping[str, Any] | None]) -> list[Row]:
        """told: what the pipeline is told for a song beside seeds; None: the row does not exist for it."""

        def sample(song: Song) -> Sequence[Waveform]:
            arguments = told(song)
            if arguments is None:
                return ()
            mixes = pipeline(song.take, seeds=range(seed, seed + draws), **arguments)
            return [Waveform(mix, pipeline.codec.sample_rate) for mix in mixes]

        once = remembered(sample)
        rows = []
        for way, finish in finishes.items():
            count = min(draws, FITTED_DRAWS) if way == TRANSFER else draws
            render = remembered(functools.partial(_finished, once, finish, count))
            rows.append(Row(f"{name}, {way}", f"{count} samples, {what}", render))
        return rows

    def style_told(song: Song) -> Mapping[str, Any] | None:
        return {"style": song.style} if song.style in pipeline.styles else None

    def referred(song: Song) -> Mapping[str, Any]:
        return {"reference": first(song.mix, REFERENCE_S)}

    any_style = {"style": ANY_STYLE} if pipeline.styles else {}
    any_what = "a style drawn by each seed" if pipeline.styles else "nothing told"
    rows = sampled("ours", any_what, lambda _: any_style)
    if pipeline.styles:
        rows += sampled("ours, style told", "told the style of the mix", style_told)
    rows += map(on_second_half, sampled("ours, with reference", "told the first 6 s of the mix", referred))
    return rows


def _finished(sample: Callable[[Song], Sequence[Waveform]], finish: Finish, draws: int, song: Song) -> list[Waveform]:
    decoded = sample(song)[:draws]
    take = song.take.resampled(decoded[0].sample_rate) if decoded else song.take
    return [as_loud(like(song.mix, finish(take, one)), song.take) for one in decoded]
