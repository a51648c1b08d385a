"""Rows of the benchmark made by effect chains that were fitted to other songs, or to this one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch

from audio.effects import EffectChain, render
from audio.errors import InputError
from audio.loudness import brought_to
from audio.presets import read_presets, training_names
from audio.waveform import Waveform
from restyler.evaluate.evaluation_set import Song
from restyler.evaluate.mean_preset import mean_preset
from restyler.evaluate.row import REFERENCE_S, Row, as_loud, first, on_second_half, remembered
from restyler.seeds import generator
from restyler.synthesize import FED_LUFS

Fit: TypeAlias = Callable[[Waveform, Waveform], Callable[[Waveform], Waveform]]
"""A take and its mix, of one rate and length → what renders any take through the chain that was fitted to them."""


def preset_rows(table: Path, *, draws: int, seed: int) -> list[Row]:
    """The mean preset and the random preset of a `decoded.csv`, rendered by this project's own chain.

    Both know the training presets alone (`train_index.npy`), the mean preset as in `mean_preset`. The random draws of
    a song are different presets, chosen by the seed and the song's key. Raises InputError as `read_presets` and
    `mean_preset` do, and where there are fewer training presets than draws.
    """
    chains = read_presets(table)
    trained = [chains[name] for name in training_names(table, list(chains))]
    if len(trained) < draws:
        raise InputError(f"{table}: {draws} draws need as many presets to train on, not {len(trained)}")
    mean = mean_preset(table, chains)

    def random(song: Song) -> list[Waveform]:
        drawn = drawn_presets(len(trained), draws, seed=seed, key=song.key)
        return [through(trained[index], song.take, seed=draw) for draw, index in enumerate(drawn)]

    return [
        Row(
            "mean preset",
            f"the mean of {len(trained)} chains fitted to other songs, in the space of their raw parameters",
            lambda song: [through(mean, song.take, seed=0)],
        ),
        Row("random preset", f"{draws} of these chains, drawn for each song", remembered(random)),
    ]


def drawn_presets(count: int, draws: int, *, seed: int, key: str) -> list[int]:
    """So many different ones of `count`, that follow from the seed and the key of a song."""
    order = torch.randperm(count, generator=generator("random presets", seed, key))
    return order[:draws].tolist()


def through(chain: EffectChain, take: Waveform, *, seed: int) -> Waveform:
    """A take through the chain of a preset, fed at the level that presets are made for; as loud as the take.

    seed: of the reverb. Raises InputError for a silent take or render.
    """
    return as_loud(render(chain, brought_to(take, FED_LUFS), seed=seed), take)


def fitted_rows(fit: Fit) -> list[Row]:
    """The chain fitted to the mix itself, scored on all of it and on its second half; and the chain fitted to the first
    6 s of take and mix, scored on the second half: what a reference can tell a chain."""

    def to_all(song: Song) -> list[Waveform]:
        return [as_loud(fit(song.take, song.mix)(song.take), song.take)]

    def to_start(song: Song) -> list[Waveform]:
        return [as_loud(fit(first(song.take, REFERENCE_S), first(song.mix, REFERENCE_S))(song.take), song.take)]

    what = "the take through an effect chain fitted to this very mix (ceiling of effect chains)"
    fitted = Row("chain fitted to the mix", what, remembered(to_all))
    at_start = "the take through an effect chain fitted to the first 6 s of take and mix"
    return [fitted, on_second_half(fitted), on_second_half(Row("chain fitted to the first half", at_start, to_start))]
