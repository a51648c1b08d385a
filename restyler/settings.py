"""How a model samples: the defaults saved with it, and what one call has chosen over them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audio.errors import InputError

HIGHEST_GUIDANCE = 20.0  # far beyond what any style survives
HIGHEST_STEPS = 1000
ANY_STYLE = "any"  # a style for each mix, drawn by its seed
NO_STYLE = "none"  # what commands say for «not told»
CONTROL_REACH = 4.0  # standard deviations around the mean of the training pairs


class SamplingDefaults(BaseModel):
    """What sampling needs beside the weights: chosen where the model is trained, saved with it, typed nowhere else.

    steps, guidance, sigma: used unless the caller says otherwise; sigma is None on the path "noise".
    window_frames, context_frames: how a long take is cut (`diffusion.windows.plan_windows`).
    loudness_lufs: what takes and references are brought to before they are encoded, as in training.
    controls: for each control of the conditioner its mean and standard deviation over the training pairs, in the
        control's own unit.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    steps: Annotated[int, Field(ge=1, le=HIGHEST_STEPS)]
    guidance: Annotated[float, Field(ge=0, le=HIGHEST_GUIDANCE)]
    sigma: Annotated[float, Field(ge=0)] | None
    window_frames: Annotated[int, Field(ge=4)]
    context_frames: Annotated[int, Field(ge=0)]
    loudness_lufs: Annotated[float, Field(ge=-70, le=0)]
    controls: dict[str, tuple[float, Annotated[float, Field(gt=0)]]]

    @classmethod
    def read(cls, fields: Mapping[str, Any] | None) -> SamplingDefaults:
        """From what JSON holds. Raises ValueError, in one line, for what is missing or can't be."""
        if fields is None:
            raise ValueError("the pipeline needs the fields of SamplingDefaults as `sampling`")
        try:
            return cls.model_validate_json(json.dumps(fields))
        except ValidationError as error:
            wrong = [f"sampling.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
            raise ValueError("; ".join(wrong)) from None


@dataclass(frozen=True)
class Settings:
    """How one call samples, every default filled in; made by `VocalRestylePipeline.settings`."""

    style: str | None
    controls: Mapping[str, float]
    steps: int
    guidance: float
    sigma: float | None

    @property
    def told(self) -> bool:
        """Whether style or controls say anything that guidance can exaggerate; a reference does too."""
        return self.style is not None or bool(self.controls)

    def check(self, defaults: SamplingDefaults) -> None:
        """Raises InputError for an unknown control, and for controls, steps or guidance out of range."""
        for name, value in self.controls.items():
            if name not in defaults.controls:
                raise InputError(f"unknown control {name!r} (allowed: {', '.join(defaults.controls) or 'none'})")
            mean, std = defaults.controls[name]
            if not abs(value - mean) <= CONTROL_REACH * std:
                lowest, highest = mean - CONTROL_REACH * std, mean + CONTROL_REACH * std
                raise InputError(
                    f"control {name}: {lowest:.3g} to {highest:.3g} is possible for this model, not {value:g}"
                )
        if not 1 <= self.steps <= HIGHEST_STEPS:
            raise InputError(f"steps: 1 to {HIGHEST_STEPS} are possible, not {self.steps}")
        if not 0 <= self.guidance <= HIGHEST_GUIDANCE:
            raise InputError(f"guidance: 0 to {HIGHEST_GUIDANCE:g} is possible, not {self.guidance}")
