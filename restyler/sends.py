"""Reverb and delay beside a dry mix, as on the buses of a console: `restyler sample --reverb`.

Each style of a file of chains is a bus: it hears the dry mix, gives what its parts make of it without the dry sound
that some leave beside (`audio.parts_stages.DRY`), and is added. So an equaliser or a compressor in it works on the wet
alone, and what there is of each can be written apart. What the file leaves to chance, the seed of each mix draws. With
`every: 2` in the file one of two mixes hears the buses, and the other keeps the space that the model gives it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audio import on_disk
from audio.errors import InputError
from audio.parts import Step
from audio.waveform import Waveform
from restyler.chains import Chains, read_chains
from restyler.command import shown
from restyler.noise import TRIES_APART
from restyler.rack_chain import fits_comments, latency_lines, played, require_short_name, tag_of
from restyler.settings import SPACE, SamplingDefaults
from restyler.stems import DRY

MOST_BUSES = 8
WHOLE_CHAIN = "vocal_chain"  # a part that is a whole mix: there is no wet alone
ROOMS = Path(__file__).with_name("bundled") / "rooms.yaml"
TOLD_APART_BY = 16  # draws: files that differ in a single choice of two are told apart in all but one case of 65,536
DEVIATIONS_BELOW = 3.0  # of it under the mean of the training pairs: the driest that docs/controls.md has measured


@dataclass(frozen=True)
class Sends:
    """chains: each style of them is a bus. tag: for a file's comment, as of a `Rack`."""

    tag: str
    chains: Chains

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.chains.styles)

    def drawn(self, seed: int) -> dict[str, tuple[Step, ...]]:
        """Steps by bus, every value fixed: what the file leaves to chance, noise included, follows from the seed. Empty
        where the mix of this seed hears none."""
        names = self.names if self.heard_by(seed) else ()
        return {name: self.chains.draw(name, 0, key="", seed=seed, is_test=False) for name in names}

    def heard_by(self, seed: int) -> bool:
        """Whether the mix of this seed hears the buses; a seed that is tried in its place (`restyler.noise.another`)
        says the same."""
        return seed % TRIES_APART % self.chains.every == 0


def read_sends(path: Path, *, sample_rate: int) -> Sends:
    """Every style of the file as a bus; its programs are tried at this rate.

    Raises InputError where `read_chains` does, for a name or part that no bus can have, and for too many of them.
    """
    return sends_of(read_chains(path, buses=True), sample_rate=sample_rate)


def sends_of(chains: Chains, *, sample_rate: int) -> Sends:
    """The same for a file that is read already."""
    path = chains.path
    if len(chains.styles) > MOST_BUSES:
        raise InputError(f"{shown(path)}: up to {MOST_BUSES} styles, each a bus, not {len(chains.styles)}")
    require_short_name(path)
    sends = Sends("", chains)
    for name, steps in sends.drawn(0).items():
        if name.casefold() == DRY:
            raise InputError(f"{shown(path)}: no bus is called {name}: that is the mix without them")
        if not fits_comments(name):
            raise InputError(f"{shown(path)}: style «{name}»: its name as a bus takes at most 40 bytes of a comment")
        if any(step.name == WHOLE_CHAIN for step in steps):
            raise InputError(f"{shown(path)}: style «{name}»: {WHOLE_CHAIN} is a whole mix, no bus has one")
        latency_lines(steps, sample_rate)
    heard = range(0, TOLD_APART_BY * chains.every, chains.every)
    drawn = [step for seed in heard for steps in sends.drawn(seed).values() for step in steps]
    return Sends(tag_of(path, drawn, chains.files, every=chains.every), chains)


def wet(dry: Waveform, buses: Mapping[str, Sequence[Step]]) -> dict[str, Waveform]:
    """What each bus adds to the dry mix, as long as it. Raises InputError for numbers that are not finite."""
    return {name: played(steps, dry, wet_only=True) for name, steps in buses.items()}


def summed(dry: Waveform, added: Mapping[str, Waveform]) -> Waveform:
    """A new sound: the dry mix and what is added."""
    samples = on_disk.empty(*dry.samples.shape, like=dry.samples)
    for part in on_disk.parts(samples, dry.samples, *(each.samples for each in added.values())):
        samples[:, part] = dry.samples[:, part]
        for each in added.values():
            samples[:, part] += each.samples[:, part]
    return Waveform(samples, dry.sample_rate)


def dry_space_db(defaults: SamplingDefaults) -> float:
    """How little space a model is told where the reverb is set by hand. Raises InputError where it knows no space."""
    if SPACE not in defaults.controls:
        raise InputError(f"--reverb needs a model that knows the control {SPACE}, to be told how little of its own")
    mean, deviation = defaults.controls[SPACE]
    return mean - DEVIATIONS_BELOW * deviation
