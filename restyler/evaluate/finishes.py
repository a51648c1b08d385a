"""The ways of `sample.py --render`, and the chain fitted to a mix, as the rows of the benchmark need them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

from audio.loudness import brought_to
from audio.waveform import Waveform
from restyler.evaluate.model_rows import Finish
from restyler.evaluate.row import like
from restyler.pipeline import VocalRestylePipeline
from restyler.transfer.fit import HEARD_LUFS, LOWEST_RATE_HZ, fit_chain
from restyler.transfer.rendering import render_chain
from restyler.ways import WAYS, Way

LOW_RATE_FITTED_AT_HZ = 48_000  # what is sampled lower than chains can be fitted at is resampled for it


def finishes(pipeline: VocalRestylePipeline, *, strength: float) -> dict[str, Finish]:
    """Each way of `restyler.ways` by name: a take and a decoded mix of the model → the mix at that strength."""

    def finished(way: Callable[[Waveform], Way], take: Waveform, mix: Waveform) -> Waveform:
        prepared = way(take)
        return prepared.kept(prepared(mix, seed=0).waveform)

    # The draws of a take follow each other. Takes are told apart by their tensors, not by what is in these.
    return {
        name: partial(finished, lru_cache(maxsize=1)(partial(Way, name, pipeline, strength=strength))) for name in WAYS
    }


def fit(take: Waveform, mix: Waveform) -> Callable[[Waveform], Waveform]:
    """The chain that is fitted to a take and its mix, as what renders any take through it at that take's rate."""
    rate = take.sample_rate if take.sample_rate >= LOWEST_RATE_HZ else LOW_RATE_FITTED_AT_HZ
    steps = fit_chain(take.resampled(rate), mix.resampled(rate))
    return lambda other: like(other, render_chain(brought_to(other.resampled(rate), HEARD_LUFS), steps))
