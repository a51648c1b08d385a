"""How a decoded mix becomes the mix that is written: as it is, with what the codec lost, or by a fitted chain."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from audio import on_disk
from audio.errors import InputError
from audio.io import write_text_atomic
from audio.loudness import gain_to
from audio.parts import Step
from audio.parts_kinds import SEED_LIMIT
from audio.waveform import Waveform
from restyler.chain_files import require_utf8
from restyler.chain_settings import HEADER, Rendered, settings_text
from restyler.command import shown
from restyler.encoded import EncodedTake, levelled
from restyler.pipeline import VocalRestylePipeline
from restyler.render_residual import put_back
from restyler.stems import of_chain
from restyler.strength import at_strength
from restyler.transfer import fit
from restyler.transfer.fit import HEARD_LUFS, fit_chain
from restyler.transfer.rendering import render_chain
from restyler.transfer.text import heading, readable
from restyler.way_names import CODEC, RESIDUAL, TRANSFER, WAYS

CHAIN_SUFFIXES = (".yaml", ".txt")  # of the files beside a mix by a chain: its settings, and the same to read
FITTED = "fitted"  # the style in the settings of a fitted chain


@dataclass(frozen=True)
class Made:
    """steps: the fitted chain; none for the ways without. input_gain_db: from the take to what the chain heard.
    stems: of a chain's mix, what it adds up from, where that is asked for (`restyler.stems.of_chain`)."""

    waveform: Waveform
    steps: tuple[Step, ...] = ()
    input_gain_db: float = 0.0
    stems: Mapping[str, Waveform] = field(default_factory=dict)


class Way:
    """One way for one take: what it needs of the take is worked out once, for all mixes.

    codec: the decoded mix itself. residual: `restyler.render_residual`. transfer: a chain fitted to the decoded mix
    (`restyler.transfer`), from what the codec leaves of the take, so that both sides have its errors and the chain
    doesn't learn them; the take itself then goes through it. An encoded take is heard at the loudness of training, any
    other at its own and encoded here. stems: whether a chain's mix comes with what it adds up from. strength: how much
    of the mix is kept (`restyler.strength`). Raises ValueError for another name.
    """

    def __init__(
        self,
        name: str,
        pipeline: VocalRestylePipeline,
        take: Waveform | EncodedTake,
        *,
        stems: bool = False,
        strength: float = 1.0,
    ) -> None:
        if name not in WAYS:
            raise ValueError(f"a way of rendering is one of {', '.join(WAYS)}, not {name!r}")
        self.name, self.stems, self.strength = name, stems, strength
        self.encoded = isinstance(take, EncodedTake)
        if isinstance(take, EncodedTake):
            self.take, self.lift_db = take.waveform, 20 * math.log10(take.gain)  # from the take as it came
        else:
            self.take, self.lift_db = take.stereo().resampled(pipeline.codec.sample_rate), 0.0
        if name != CODEC:
            self.decoded = _decoded(pipeline, take) if isinstance(take, EncodedTake) else round_trip(pipeline, take)

    @property
    def pieces(self) -> int:
        """How often a call tells its `progress`."""
        return fit.STEPS if self.name == TRANSFER else 0

    def __call__(self, mix: Waveform, *, seed: int, progress: Callable[[], None] | None = None) -> Made:
        """The whole mix, of a decoded one, which is no longer what it was, at the level of `self.take`; what is kept of
        it, `kept` says. seed: of the noise of a chain's reverb. progress: called after every piece of the work,
        `pieces` times."""
        if self.name == CODEC:
            return Made(mix)
        if self.name == RESIDUAL:
            put_back(*(each.samples.numpy() for each in (mix, self.take, self.decoded)))
            return Made(mix)
        gain = gain_to(self.take, HEARD_LUFS)
        heard = levelled(self.take, gain, 0)
        # A chain is fitted to what is to be kept: it is all of the mix.
        dry, wet = self._dry(), at_strength(self.decoded, mix, self.strength)
        if not self.encoded:  # lifted before it is measured: in a quiet mix the gate at −70 LUFS would cut
            dry, wet = (levelled(each, gain, 0) for each in (dry, wet))
        steps = fit_chain(dry, wet, seed=seed % SEED_LIMIT, steps=fit.STEPS, progress=progress)
        on_disk.let_go(dry.samples, wet.samples)
        stems = of_chain(heard, steps) if self.stems else {}
        return Made(render_chain(heard, steps), steps, 20 * math.log10(gain) + self.lift_db, stems)

    def kept(self, whole: Waveform) -> Waveform:
        """What is to be written of a whole mix, at the level of `self.take`: at strength 0 that itself."""
        return whole if self.name == TRANSFER else at_strength(self.take, whole, self.strength)

    def _dry(self) -> Waveform:
        """What the codec leaves of the take; of a mono take in mono, or a width would be fitted to the codec's errors
        that does nothing to the take."""
        left, right = self.take.samples
        if not all(torch.equal(left[part], right[part]) for part in on_disk.parts(left)):
            return self.decoded
        decoded = self.decoded.samples
        middle = on_disk.empty(1, decoded.shape[1], like=decoded)
        for part in on_disk.parts(middle, decoded):
            torch.mean(decoded[:, part], dim=0, keepdim=True, out=middle[:, part])
        return Waveform(middle, self.take.sample_rate)


@torch.no_grad()
def round_trip(pipeline: VocalRestylePipeline, take: Waveform) -> Waveform:
    """What the codec leaves of a take, stereo and at its rate, encoded at the loudness of training as for a mix.

    Raises InputError for silence.
    """
    encoded = pipeline.encoded(take)
    decoded = _decoded(pipeline, encoded)
    return Waveform(decoded.samples.div_(encoded.gain), decoded.sample_rate)


@torch.no_grad()
def _decoded(pipeline: VocalRestylePipeline, take: EncodedTake) -> Waveform:
    """What the codec leaves of a take, at the loudness of training."""
    decoded = pipeline.codec.decode(take.latents, samples=take.waveform.samples.shape[1])
    return Waveform(decoded[0].cpu(), take.waveform.sample_rate)


def companions(way: str) -> tuple[str, ...]:
    """Suffixes of the files that are written beside each mix."""
    return CHAIN_SUFFIXES if way == TRANSFER else ()


def require_raw_names(way: str, takes: Sequence[Path]) -> None:
    """Raises InputError for takes whose names the settings of a chain could not hold."""
    for take in takes if way == TRANSFER else ():
        require_utf8(take, os.path.realpath(take))  # Path.resolve raises for a link to itself


def require_no_chain(mixes: Iterable[Path]) -> None:
    """Raises InputError where the chain of an earlier mix of the name lies: it would go with the new mix."""
    for mix in mixes:
        for file in _chain_of(mix):
            raise InputError(f"{shown(file)}: the chain of an earlier mix; use another --out, or --overwrite")


@contextmanager
def chain_beside(mix: Path, made: Made, *, raw: Path | None, output_gain_db: float) -> Iterator[None]:
    """Around the writing of the file `mix`: its chain lies beside it, as YAML (`restyler.chain_settings`) and to read.

    A mix without a chain has none beside it: that of an earlier mix of this name goes, as does a chain whose mix could
    not be written. raw: the file of the take; output_gain_db: from what came out of the chain to the mix. Raises
    InputError where a file can't be written, ValueError for a chain without `raw`.
    """
    if not made.steps:
        yield
        _forget_chain(mix)
        return
    if raw is None:
        raise ValueError("a chain names the file of its take: raw is missing")
    gains = {"input_gain_db": made.input_gain_db, "output_gain_db": output_gain_db}
    rendered = Rendered(_from(mix.parent, raw), **gains, sample_rate_hz=made.waveform.sample_rate)
    settings = settings_text(FITTED, made.steps, rendered, folder=mix.parent)
    to_read = readable(made.steps, mix=mix.name, heard_lufs=HEARD_LUFS, **gains)
    try:
        for suffix, text in zip(CHAIN_SUFFIXES, (settings, to_read), strict=True):
            write_text_atomic(mix.with_suffix(suffix), text)
        yield
    except BaseException:
        _forget_chain(mix)
        raise


def _forget_chain(mix: Path) -> None:
    """Removes what `chain_beside` wrote beside a mix, and nothing else of the same name."""
    for file in _chain_of(mix):
        try:
            file.unlink()
        except OSError as error:
            raise InputError(f"{shown(file)}: the chain of an earlier mix can't be removed: {error.strerror}") from None


def _chain_of(mix: Path) -> list[Path]:
    """The files that `chain_beside` wrote beside a mix, as far as they are there."""
    found = []
    for suffix, start in zip(CHAIN_SUFFIXES, (HEADER, heading(mix.name)), strict=True):
        file = mix.with_suffix(suffix)
        try:
            if os.path.isfile(file) and file.read_bytes().startswith(start.encode()):  # noqa: PTH113 - see takes.py
                found.append(file)
        except OSError as error:
            raise InputError(f"{shown(file)}: cannot be read: {error.strerror}") from None
    return found


def _from(folder: Path, file: Path) -> str:
    try:
        return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
    except (OSError, ValueError) as error:  # on another drive
        raise InputError(f"{shown(file)}: no path leads there from {shown(folder)}: {error}") from None
