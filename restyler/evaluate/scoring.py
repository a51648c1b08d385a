"""One pair, one row → a record: rendered, laid beside mix and take, measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from scipy.signal import oaconvolve

from audio.alignment import align
from audio.interpolation import fractional_delay
from audio.waveform import Waveform
from restyler.evaluate.content import content
from restyler.evaluate.effects_space import effect_vector
from restyler.evaluate.evaluation_set import Song
from restyler.evaluate.fidelity import fidelity
from restyler.evaluate.records import Draw, Offset, Record, rounded

LEAST_AGREEMENT = 0.5  # of phases: below it an offset is a matter of definition (audio.alignment)
HALF_WIDTH = 64  # samples of the interpolator on either side

Renderer = Callable[[Song], Sequence[Waveform]]


def score(
    song: Song, name: str, render: Renderer, *, scored_s: tuple[float, float] | None, aligned: bool
) -> tuple[Record, Sequence[Waveform]]:
    """The record of a row called `name` for one song, and the renders as they came; none where the row has none for it.

    scored_s: the part that is compared, from … to; None: all. aligned: bring each render onto the mix by the offset of
    the first one before its fidelity is measured; content is always that of the render as it came, beside the take.
    Raises ValueError where a render is not like the mix in shape and rate.
    """
    renders = render(song)
    for one in renders:
        if one.samples.shape != song.mix.samples.shape or one.sample_rate != song.mix.sample_rate:
            raise ValueError(f"«{name}» rendered {list(one.samples.shape)} at {one.sample_rate} Hz for «{song.key}»")
    offset = measured_offset(song.mix, renders[0]) if renders else None
    shift_s = offset.milliseconds / 1000 if aligned and offset is not None else 0.0
    take, mix = cut(song.take, scored_s), cut(song.mix, scored_s)
    draws = []
    for one in renders:
        onto_mix, as_came = cut(earlier(one, shift_s), scored_s), cut(one, scored_s)
        draws.append(
            Draw(
                fidelity=_finite(fidelity(mix, onto_mix)),
                content=_finite(content(take, as_came)),
                effects=_vector(as_came),
            )
        )
    record = Record(
        row=name,
        key=song.key,
        song=song.song,
        draws=tuple(draws),
        mix_effects=_vector(mix) if renders else (),
        offset=offset,
    )
    return record, renders


def measured_offset(mix: Waveform, render: Waveform) -> Offset | None:
    """How far a render lies behind the mix, by phase; None where they have too little phase in common to tell."""
    found = align(_mono(mix), _mono(render), mix.sample_rate)
    if found is None or found.phase_agreement < LEAST_AGREEMENT:
        return None
    longest = max(found.regions, key=lambda region: region.stop_s - region.start_s)
    return Offset(round(1000 * longest.offset_s, 4), found.polarity, round(found.phase_agreement, 3))


def earlier(waveform: Waveform, shift_s: float) -> Waveform:
    """The waveform moved ahead by so many seconds (or back, below 0), silence where it has nothing; the same length.

    What is less than a sample by a Kaiser-windowed sinc.
    """
    shift = shift_s * waveform.sample_rate
    whole = round(shift)
    samples = waveform.samples.numpy().astype(np.float64)
    if shift != whole:
        samples = oaconvolve(samples, fractional_delay(whole - shift, HALF_WIDTH)[None], mode="same", axes=1)
    moved = np.zeros_like(samples)
    count = max(0, samples.shape[1] - abs(whole))
    moved[:, max(0, -whole) :][:, :count] = samples[:, max(0, whole) :][:, :count]
    return Waveform(torch.from_numpy(moved.astype(np.float32)), waveform.sample_rate)


def cut(waveform: Waveform, part_s: tuple[float, float] | None) -> Waveform:
    """From … to in seconds; all of it for None."""
    if part_s is None:
        return waveform
    start, stop = (round(time_s * waveform.sample_rate) for time_s in part_s)
    return Waveform(waveform.samples[:, start:stop], waveform.sample_rate)


def _mono(waveform: Waveform) -> np.ndarray:
    mono: np.ndarray = waveform.samples.mean(0).numpy()
    return mono


def _vector(waveform: Waveform) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in effect_vector(waveform))


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: rounded(value) for name, value in values.items()}
