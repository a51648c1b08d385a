"""The model as the service itself needs it: to check jobs before they are accepted, and to say what it can do."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from restyler.command import DEFAULT_PEAK_DBTP
from restyler.rendering import load_model, model_name
from restyler.sample_choice import Choice
from restyler.sample_plan import DEFAULT_AROUND, DEFAULT_VARIATIONS, KNOBS
from restyler.serving.chains import options_of, read_job_chains
from restyler.takes import read_take
from restyler.way_names import DEFAULT_WAY, WAYS


class ServedModel:
    """Styles, controls and limits of a saved model; its weights are the workers'.

    Raises InputError for a folder that is no intact model.
    """

    def __init__(self, folder: Path) -> None:
        self._pipeline = load_model(folder, "cpu")
        self.name = model_name(folder)
        for part in self._pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                torch.nn.Module.to(part, "meta")  # shapes stay, memory goes
        self._one_at_a_time = threading.Lock()

    @property
    def sample_rate_hz(self) -> int:
        return int(self._pipeline.codec.sample_rate)

    def checked(
        self, arguments: Sequence[str], chains: Mapping[str, Mapping[str, str]], *, parts: Sequence[str]
    ) -> Choice:
        """What these arguments of `restyler sample` choose, everything checked as there. chains, parts: as in a
        `JobOrder`.

        Raises InputError for what that command refuses.
        """
        options = options_of(arguments, chains)
        read = read_job_chains(chains, allowed=parts, sample_rate=self.sample_rate_hz)
        make = partial(Choice, options, self._pipeline, options.takes, model=self.name, chains=read)
        choice = make() if not options.like else None
        if choice is None:
            with self._one_at_a_time:  # takes are read whole
                choice = make()
                choice.mixes(read_take(options.takes[0], self.sample_rate_hz))  # whether one more step is kept
        return choice

    def answer(self) -> dict[str, Any]:
        """What /v1/model tells, but for the limits."""
        defaults = self._pipeline.defaults
        reaches = {name: defaults.reach(name) for name in defaults.controls}
        knobs = {}
        for knob, (control, sign) in KNOBS.items():
            if control in reaches:
                lowest, highest = sorted(sign * end for end in reaches[control])
                knobs[knob] = {"control": control, "sign": sign, "lowest": lowest, "highest": highest}
        settings = {
            name: getattr(defaults, name) for name in ("guidance", "reverb", "sigma", "spread", "steps", "strength")
        }
        return {
            "name": self.name,
            "sample_rate_hz": self.sample_rate_hz,
            "styles": self._pipeline.styles,
            "controls": {name: {"lowest": a, "highest": b, "unit": "dB"} for name, (a, b) in reaches.items()},
            "knobs": knobs,
            "ways": list(WAYS),
            "defaults": settings
            | {"variations": DEFAULT_VARIATIONS, "around": DEFAULT_AROUND, "render": DEFAULT_WAY}
            | {"peak_dbtp": DEFAULT_PEAK_DBTP},
        }
