"""The knobs of the live student, 0 … 1 each, and what the sampler is told for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from restyler.settings import NO_STYLE, SamplingDefaults
from restyler.telling import Told

REACH_STD = 2.0  # standard deviations of the training pairs from the middle of a knob to its end
CONTROLS = ("brightness_db", "space_db")
KNOBS = ("brightness", "space", "style")  # in the order in which the network is given them


@dataclass(frozen=True)
class Knobs:
    """One setting of what the sampler is told; strength is no part of it (see `restyler.student.network`).

    brightness, space: 0 … 1, in the middle what is usual for the style. style: 0 … 1 over the styles in their order.
    """

    brightness: float
    space: float
    style: float

    @classmethod
    def drawn(cls, styles: int, draws: torch.Generator) -> Knobs:
        """Brightness and space evenly; two thirds of the styles are one style, the others lie between neighbours."""
        brightness, space, place, between = torch.rand(4, generator=draws).tolist()
        if between < 2 / 3:
            place = min(int(place * styles), styles - 1) / max(1, styles - 1)
        return cls(brightness, space, place)

    def told(self, styles: Sequence[str], defaults: SamplingDefaults) -> Told:
        """What the sampler is told: the style, or the shares of two neighbours, and both controls around the mean that
        the training pairs of that style have."""
        shares = style_shares(self.style, styles)
        controls = {}
        for name, knob in zip(CONTROLS, (self.brightness, self.space), strict=True):
            usual = sum(share * style_mean(defaults, style, name) for style, share in shares.items())
            lowest, highest = defaults.reach(name)
            value = usual + (2 * knob - 1) * REACH_STD * defaults.controls[name][1]
            controls[name] = min(max(value, lowest), highest)
        return Told(shares, controls)


def style_shares(place: float, styles: Sequence[str]) -> dict[str, float]:
    """At a place 0 … 1 of the style knob: the style there, or two neighbours with their shares."""
    if not styles:
        return {}
    position = place * (len(styles) - 1)
    lower = min(int(position), len(styles) - 1)
    share = position - lower
    if share < 1e-9:
        return {styles[lower]: 1.0}
    return {styles[lower]: 1 - share, styles[lower + 1]: share}


def style_mean(defaults: SamplingDefaults, style: str, control: str) -> float:
    """The mean of a control over the training pairs of a style; over all where the model doesn't say."""
    joint = defaults.draws.get(style) or defaults.draws.get(NO_STYLE)
    if joint is None:
        return defaults.controls[control][0]
    return joint.mean[joint.names.index(control)]


def ordered_styles(styles: Sequence[str], defaults: SamplingDefaults) -> list[str]:
    """From the darkest to the brightest, so that neighbours on the knob are alike."""
    return sorted(styles, key=lambda style: (style_mean(defaults, style, CONTROLS[0]), style))


def as_row(knobs: Knobs) -> Mapping[str, float]:
    """For a manifest."""
    return {name: getattr(knobs, name) for name in KNOBS}
