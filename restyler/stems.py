"""The parts of a mix as files beside it, which add up to it: `restyler sample --stems`."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from audio import on_disk
from audio.bwf import TimeStamp
from audio.errors import InputError
from audio.io import read_tags, write
from audio.parts import Step
from audio.waveform import Waveform
from restyler.command import shown
from restyler.transfer.rendering import render_chain

TAG = "stem"  # in a stem's comment: which it is
DRY = "dry"
CHAIN_STEMS = {"ping_pong_delay": "delay", "reverb": "reverb"}  # what a fitted chain ends with, and how it is called


def of_chain(heard: Waveform, steps: Sequence[Step]) -> dict[str, Waveform]:
    """What the mix of a fitted chain adds up from: the dry character, and what its delay and its reverb, which hears
    the delay too, add. heard: the take as the chain hears it.

    Raises ValueError for a chain that goes on after them.
    """
    last = next((at for at, step in enumerate(steps) if step.name in CHAIN_STEMS), len(steps))
    if any(step.name not in CHAIN_STEMS for step in steps[last:]):
        raise ValueError(f"a chain that ends with delay and reverb, not {[step.name for step in steps]}")
    whole = render_chain(heard, steps[:last]).stereo()
    found = {DRY: whole}
    for at, step in enumerate(steps[last:], start=last + 1):
        louder = render_chain(heard, steps[:at])
        added = on_disk.empty(*louder.samples.shape, like=louder.samples)
        for part in on_disk.parts(added, louder.samples, whole.samples):
            torch.sub(louder.samples[:, part], whole.samples[:, part], out=added[:, part])
        found[CHAIN_STEMS[step.name]] = Waveform(added, heard.sample_rate)
        whole = louder
    return found


def stem_path(mix: Path, name: str) -> Path:
    """`mix_00.wav` → `mix_00.dry.wav`."""
    return mix.with_suffix(f".{name}{mix.suffix}")


def suffixes(names: Iterable[str]) -> tuple[str, ...]:
    """Of the files beside each mix, as `restyler.takes.plan` wants them."""
    return tuple(f".{name}.wav" for name in names)


def require_no_stems(mixes: Iterable[Path]) -> None:
    """Raises InputError where stems of an earlier mix of the name lie: they would go with the new mix."""
    for mix in mixes:
        for file in _stems_of(mix):
            raise InputError(f"{shown(file)}: a stem of an earlier mix; use another --out, or --overwrite")


@contextmanager
def stems_beside(
    mix: Path,
    stems: Mapping[str, Waveform],
    *,
    gain_db: float,
    tags: Mapping[str, str],
    stamp: TimeStamp | None = None,
) -> Iterator[None]:
    """Around the writing of the file `mix`: its stems lie beside it, each with the gain that the mix got.

    A mix without stems has none beside it: those of an earlier mix of this name go, as do stems whose mix could not be
    written. Raises InputError where a file can't be written, and for a stem beyond full scale.
    """
    _forget(mix)
    try:
        for name, stem in stems.items():
            path = stem_path(mix, name)
            write(path, _amplified(stem, gain_db, path), tags={**tags, TAG: name}, stamp=stamp)
        yield
    except BaseException:
        _forget(mix)
        raise


def _amplified(stem: Waveform, gain_db: float, path: Path) -> Waveform:
    factor, peak = 10 ** (gain_db / 20), 0.0
    found = on_disk.empty(*stem.samples.shape, like=stem.samples)
    for part in on_disk.parts(found, stem.samples):
        torch.mul(stem.samples[:, part], factor, out=found[:, part])
        peak = max(peak, float(found[:, part].abs().max()))
    if peak > 1:
        over_db = 20 * float(torch.tensor(peak).log10())
        raise InputError(
            f"{shown(path)}: would peak at {over_db:+.1f} dBFS, above its mix; use a lower --lufs or --peak"
        )
    return Waveform(found, stem.sample_rate)


def _forget(mix: Path) -> None:
    for file in _stems_of(mix):
        try:
            file.unlink()
        except OSError as error:
            raise InputError(f"{shown(file)}: a stem of an earlier mix can't be removed: {error.strerror}") from None


def _stems_of(mix: Path) -> list[Path]:
    """The files that `stems_beside` wrote beside a mix, and no other of such a name."""
    found = []
    for name in sorted(glob.glob(f"{glob.escape(mix.stem)}.*{mix.suffix}", root_dir=mix.parent)):  # noqa: PTH207  (Path's has no escape)
        file = mix.parent / name
        try:
            is_stem = os.path.isfile(file) and TAG in read_tags(file)  # noqa: PTH113 - see takes.py
        except InputError:  # not ours
            is_stem = False
        if is_stem:
            found.append(file)
    return found
