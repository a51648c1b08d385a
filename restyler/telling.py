"""What each mix is told besides a reference: style and controls, by the caller or drawn by the mix's seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from audio.waveform import Waveform
from restyler.control_draws import draw, take_features
from restyler.seeds import generator
from restyler.settings import ANY_STYLE, NO_STYLE, SamplingDefaults, Settings


@dataclass(frozen=True)
class Told:
    """What one mix is told.

    styles: names with their shares, which add up to 1; empty where no style is told. controls: values by name. drawn:
    names of those that its seed drew.
    """

    styles: Mapping[str, float]
    controls: Mapping[str, float]
    drawn: frozenset[str] = frozenset()

    @property
    def style(self) -> str | None:
        """The style's name, or names and shares as a JSON object; None for none."""
        names = list(self.styles)
        return names[0] if len(names) == 1 else json.dumps(dict(self.styles)) if names else None

    def shares(self) -> list[tuple[str | None, float]]:
        """Names with their shares, [(None, 1.0)] where no style is told."""
        return [*self.styles.items()] or [(None, 1.0)]


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
        return [Told(_alone(style), settings.controls) for style in by_seed]
    known = take_features(take) | dict(settings.controls)
    limits = {name: defaults.reach(name) for name in defaults.controls}
    found = []
    for style, seed in zip(by_seed, seeds, strict=True):
        # A style that no pair was told, as a new one before its training, is drawn for as all pairs are.
        joint = defaults.draws.get(style or NO_STYLE, defaults.draws[NO_STYLE])
        drawn = draw(joint, known, limits, spread=settings.spread, generator=generator("controls", seed))
        found.append(Told(_alone(style), dict(settings.controls) | drawn, frozenset(drawn)))
    return found


def _alone(style: str | None) -> dict[str, float]:
    return {} if style is None else {style: 1.0}


def between(one: Told, other: Told, part: float) -> Told:
    """A part of the way, 0 … 1, from one to the other, whose ends are just these: controls and the styles' shares.

    Raises ValueError where they are not told about the same controls, or only one of them about a style.
    """
    about, of_other = ((each.controls.keys(), each.drawn, bool(each.styles)) for each in (one, other))
    if about != of_other:
        raise ValueError(f"nothing lies between what is told and what is not: {one}, {other}")
    controls = _blend(one.controls, other.controls, part)
    if one.styles == other.styles:
        return Told(one.styles, controls, one.drawn)
    shares = _blend(one.styles, other.styles, part)
    return Told({name: share for name, share in shares.items() if share}, controls, one.drawn)


def _blend(one: Mapping[str, float], other: Mapping[str, float], part: float) -> dict[str, float]:
    """Of numbers by name; 0 where one has none."""
    names = dict.fromkeys([*one, *other])
    return {name: (1 - part) * one.get(name, 0.0) + part * other.get(name, 0.0) for name in names}


def style_of(style: str | None, styles: Sequence[str], seed: int) -> str | None:
    """The style that the mix of this seed is told. "any" deals the styles out in a random order: as many seeds in a
    row as there are styles (from a multiple of their number on) get each of them once."""
    if style != ANY_STYLE:
        return style
    deal, place = divmod(seed, len(styles))
    order = torch.randperm(len(styles), generator=generator("styles", deal))
    return styles[int(order[place])]
