"""How much of a mix is kept: a crossfade from the take to it."""

from __future__ import annotations

import torch

from audio import on_disk
from audio.loudness import gain_to
from audio.waveform import Waveform


def at_strength(take: Waveform, mix: Waveform, strength: float) -> Waveform:
    """(1 − strength)·take + strength·mix, both at the loudness of the take, in time and of one length.

    take: stereo, at the mix's rate. strength: 0 is the take itself, 1 the mix itself.

    That is the dry/wet knob of a console, and it needs the mix to keep the take's phase, or the middle would sound
    like a comb. A residual rendering does: on real takes no third of an octave came out quieter in the middle than at
    the quieter end, and the features moved one way. The same way in latents, decoded anew, was no smoother,
    and ends at what the codec leaves of the take (docs/controls.md).

    Raises ValueError for another strength and for signals that differ in form, InputError where one is silent.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"a strength from 0 to 1, not {strength}")
    if take.samples.shape != mix.samples.shape or take.sample_rate != mix.sample_rate:
        raise ValueError(f"take and mix are of one form, not {take.samples.shape} and {mix.samples.shape}")
    if strength == 1:
        return mix
    if strength == 0:
        return take
    level = gain_to(mix, 0.0) / gain_to(take, 0.0)  # that makes the mix as loud as the take
    blended = on_disk.empty(*mix.samples.shape, like=mix.samples)
    for part in on_disk.parts(blended, take.samples, mix.samples):
        wet = (strength * level) * mix.samples[:, part]
        torch.add((1 - strength) * take.samples[:, part], wet, out=blended[:, part])
    return Waveform(blended, mix.sample_rate)
