"""Demucs as a function from a song to its vocal (Rouard, Massa & Défossez 2023). Everything that knows the package."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from audio.errors import InputError
from audio.waveform import Waveform
from restyler.command import shown

VOCALS = "vocals"
SEED = 0


class VocalsOnly(nn.Module):
    """A model of Demucs that gives its vocals alone: a quarter of the memory that all its stems would take.

    It has what `demucs.apply.apply_model` asks of a model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.sources = [VOCALS]
        self.samplerate, self.audio_channels, self.segment = model.samplerate, model.audio_channels, model.segment
        self._place = model.sources.index(VOCALS)

    def valid_length(self, length: int) -> int:
        return int(self.model.valid_length(length)) if hasattr(self.model, "valid_length") else length

    def forward(self, mix: torch.Tensor) -> torch.Tensor:
        return self.model(mix)[:, self._place : self._place + 1]


@dataclass(frozen=True)
class Separator:
    """A loaded model.

    bag: `demucs.apply.BagOfModels` of `VocalsOnly`. sample_rate: of the vocals, in Hz. fingerprint: of all weights
    that have a say in the vocals. shifts: how many estimates are averaged.
    """

    name: str
    bag: Any
    sample_rate: int
    fingerprint: str
    shifts: int
    device: torch.device

    def vocal(self, song: Waveform, tell: Callable[[float], None] | None = None) -> Waveform:
        """The vocal of a song at the model's rate: stereo, as long as the song, aligned with it; the same each time.

        tell: told the share of the work that is done, 0 … 1.

        Raises ValueError for another sample rate than the model's or for mono; InputError where the model gives
        numbers that are not finite.
        """
        from demucs.apply import apply_model

        if song.sample_rate != self.sample_rate or song.channels != 2:
            raise ValueError(f"a stereo song at {self.sample_rate} Hz is needed")
        length = song.samples.shape[1]
        passes = len(self.bag.models) * self.shifts

        def heard(state: dict[str, Any]) -> None:
            if tell is not None and state["state"] == "start":
                whole_passes = state["model_idx_in_bag"] * self.shifts + state["shift_idx"]
                tell((whole_passes + min(1.0, state["segment_offset"] / length)) / passes)

        # Level and offset as the package's own `Separator` normalises them; the offset belongs to no voice.
        middle = song.samples.mean(0)
        offset, scale = middle.mean(), middle.std() + 1e-8
        before = random.getstate()  # the shifts come from Python's one global generator
        random.seed(SEED)
        try:
            stems = apply_model(
                self.bag,
                ((song.samples - offset) / scale)[None],
                shifts=self.shifts,
                device=self.device,
                callback=heard,
            )
        finally:
            random.setstate(before)
        vocal = stems[0, 0] * scale
        if not bool(vocal.isfinite().all()):
            raise InputError(f"model {self.name!r} gives samples that are not finite: its weights are of no use")
        if tell is not None:
            tell(1.0)
        return Waveform(vocal, self.sample_rate)


def require_demucs() -> None:
    """Raises InputError where the optional package is not installed."""
    if find_spec("demucs") is None:
        raise InputError("separating songs needs the package demucs: pip install 'vocal-restyler[separate]'")


def load_separator(name: str, *, weights: Path | None, shifts: int, device: torch.device) -> Separator:
    """The model `name`, by the package's own loader: from the folder `weights`, or else from where it is published.

    weights: holds SIGNATURE-CHECKSUM.th, or NAME.yaml that lists signatures, as `demucs --repo` reads them. Such a file
    is a pickle: whatever stands in it is run.

    Raises InputError for an unknown name, a folder without it, damaged or unreachable weights, and for a model that has
    no stereo vocals to give.
    """
    require_demucs()
    from demucs.apply import BagOfModels
    from demucs.pretrained import get_model

    if weights is not None and not weights.is_dir():
        raise InputError(f"{shown(weights)}: not a folder; --weights names one that holds models of demucs")
    place = f"{shown(weights)}: " if weights else ""
    try:
        known = _known(weights)
        if name in known:
            model = get_model(name, repo=weights)
    # Whatever a download or a pickle may raise; SystemExit is how demucs says that a package of its own is missing.
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        hint = "" if weights else "; --weights reads it from a folder"
        raise InputError(f"{place}model {name!r} cannot be loaded: {reason}{hint}") from error
    if name not in known:
        raise InputError(f"{place}there is no model {name!r} (there are: {', '.join(known) or 'none'})")
    if VOCALS not in model.sources or model.audio_channels != 2:
        raise InputError(
            f"{place}model {name!r} has no stereo vocals: it gives {', '.join(model.sources)} in "
            f"{model.audio_channels} channels"
        )
    bag = model if isinstance(model, BagOfModels) else BagOfModels([model])
    column = [float(row[bag.sources.index(VOCALS)]) for row in bag.weights]
    # In a bag with one model per stem, the others have no say in the vocals: they are left out.
    heard = [(VocalsOnly(one), weight) for one, weight in zip(bag.models, column, strict=True) if weight]
    vocals = BagOfModels([one for one, _ in heard], [[weight] for _, weight in heard])
    return Separator(name, vocals.eval(), model.samplerate, _fingerprint(vocals), shifts, device)


def _known(weights: Path | None) -> list[str]:
    from demucs.pretrained import REMOTE_ROOT
    from demucs.repo import AnyModelRepo, BagOnlyRepo, LocalRepo

    if weights is None:  # the quantised ones need one more package
        return sorted(file.stem for file in REMOTE_ROOT.glob("*.yaml") if not file.stem.endswith("_q"))
    models = LocalRepo(weights)
    return sorted(AnyModelRepo(models, BagOnlyRepo(weights, models)).list_model())


def _fingerprint(bag: Any) -> str:
    digest = hashlib.sha256(repr(bag.weights).encode())
    for name, tensor in sorted(bag.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
