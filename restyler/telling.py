"""What each mix is told besides a reference: style and controls, by the caller or drawn by the mix's seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from audio.waveform import Waveform
from restyler.control_draws import draw, take_features
from restyler.seeds import generator
from restyler.settings import ANY_STYLE, NO_STYLE, SamplingDefaults, Settings


@dataclass(frozen=True)
class Told:
    """What the mix of one seed is told; the values of controls by their names."""

    style: str | None
    controls: Mapping[str, float]


def told(
    take: Waveform, settings: Settings, defaults: SamplingDefaults, styles: Sequence[str], seeds: Sequence[int]
) -> list[Told]:
    """What the mix of each seed is told: its style, and the controls that the settings tell or, with a spread, the
    seed draws: within their reach, given the style, the features of the take and the controls that are told.

    Each seed has generators of its own, so what it draws does not depend on the others; and told the same by the
    settings, without a spread, it gives the same mix. Raises ValueError, where controls are drawn, for a silent take
    and for one of less than 50 ms.
    """
    by_seed = [style_of(settings.style, styles, seed) for seed in seeds]
    if not settings.spread or settings.controls.keys() == defaults.controls.keys():
        return [Told(style, settings.controls) for style in by_seed]
    known = take_features(take) | dict(settings.controls)
    limits = {name: defaults.reach(name) for name in defaults.controls}
    found = []
    for style, seed in zip(by_seed, seeds, strict=True):
        # A style that no pair was told, as a new one before its training, is drawn for as all pairs are.
        joint = defaults.draws.get(style or NO_STYLE, defaults.draws[NO_STYLE])
        drawn = draw(joint, known, limits, spread=settings.spread, generator=generator("controls", seed))
        found.append(Told(style, dict(settings.controls) | drawn))
    return found


def style_of(style: str | None, styles: Sequence[str], seed: int) -> str | None:
    """The style that the mix of this seed is told. "any" deals the styles out in a random order: as many seeds in a
    row as there are styles (from a multiple of their number on) get each of them once."""
    if style != ANY_STYLE:
        return style
    deal, place = divmod(seed, len(styles))
    order = torch.randperm(len(styles), generator=generator("styles", deal))
    return styles[int(order[place])]
