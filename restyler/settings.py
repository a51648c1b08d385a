"""How a model samples: the defaults saved with it, and what one call has chosen over them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from audio.errors import InputError
from restyler.control_draws import TAKE, JointNormal

HIGHEST_GUIDANCE = 20.0  # far beyond what any style survives
HIGHEST_STEPS = 1000
ANY_STYLE = "any"  # a style for each mix, drawn by its seed
NO_STYLE = "none"  # what commands say for «not told»
SPACE = "space_db"  # the control that the model is told where a reverb by hand comes after it
CONTROL_REACH = 4.0  # standard deviations around the mean of the training pairs
DEFAULT_SPREAD = 0.5  # of newly trained models: at 1 what is told outweighs the styles, and widths lie closer together
HIGHEST_SPREAD = 2.0  # beyond it most draws would be cut off by the reach


class SamplingDefaults(BaseModel):
    """What sampling needs beside the weights: chosen where the model is trained, saved with it, typed nowhere else.

    steps, guidance, sigma: used unless the caller says otherwise; sigma is None on the path "noise".
    window_frames, context_frames: how a long take is cut (`diffusion.windows.plan_windows`).
    loudness_lufs: what takes and references are brought to before they are encoded, as in training.
    controls: for each control of the conditioner its mean and standard deviation over the training pairs, in the
        control's own unit.
    draws: how the controls are distributed over the training pairs of each style, and under NO_STYLE over all of them,
        jointly with features of their takes; empty where a model doesn't say.
    spread: how far, by default, controls that are not told are spread over the mixes; 0: they stay untold.
    reference_guidance: the default where a reference is given; None: `guidance`, as without one.
    strength: how much of the mix is kept, the rest being the take (`restyler.strength`).
    reverb: "bundled": where nothing else is told, `restyler sample` and the service put every second mix into a room by
        hand (`restyler.sends.ROOMS`); the pipeline itself never does.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    steps: Annotated[int, Field(ge=1, le=HIGHEST_STEPS)]
    guidance: Annotated[float, Field(ge=0, le=HIGHEST_GUIDANCE)]
    sigma: Annotated[float, Field(ge=0)] | None
    window_frames: Annotated[int, Field(ge=4)]
    context_frames: Annotated[int, Field(ge=0)]
    loudness_lufs: Annotated[float, Field(ge=-70, le=0)]
    controls: dict[str, tuple[float, Annotated[float, Field(gt=0)]]]
    draws: dict[str, JointNormal] = {}
    spread: Annotated[float, Field(ge=0, le=HIGHEST_SPREAD)] = 0.0
    reference_guidance: Annotated[float, Field(ge=0, le=HIGHEST_GUIDANCE)] | None = None
    strength: Annotated[float, Field(ge=0, le=1)] = 1.0
    reverb: Literal["bundled", "none"] = "none"

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.draws and NO_STYLE not in self.draws:
            raise ValueError(f"draws has an entry {NO_STYLE!r}, for all pairs together")
        for joint in self.draws.values():
            if {name for name in joint.names if not name.startswith(TAKE)} != set(self.controls):
                raise ValueError(f"draws describes the controls {list(self.controls)}, no others")
        if self.spread and not self.draws:
            raise ValueError("a spread needs draws")
        if self.reverb != "none" and SPACE not in self.controls:
            raise ValueError(f"a reverb needs the control {SPACE}, to be told how little of it to make")
        return self

    def guidance_for(self, *, referred: bool) -> float:
        """The default guidance. referred: whether a reference is given."""
        return self.reference_guidance if referred and self.reference_guidance is not None else self.guidance

    def reach(self, control: str) -> tuple[float, float]:
        """Lowest and highest value of a control, in its own unit."""
        mean, std = self.controls[control]
        return mean - CONTROL_REACH * std, mean + CONTROL_REACH * std

    def scaled(self, control: str, values: Mapping[str, float]) -> float:
        """The value of a control as the conditioner is told it, in standard deviations; NaN where it has none."""
        mean, std = self.controls[control]
        return (values.get(control, float("nan")) - mean) / std

    @classmethod
    def read(cls, fields: Mapping[str, Any] | None) -> SamplingDefaults:
        """From what JSON holds. Raises ValueError, in one line, for what is missing or can't be."""
        if fields is None:
            raise ValueError("the pipeline needs the fields of SamplingDefaults as `sampling`")
        try:
            return cls.model_validate_json(json.dumps(fields))
        except ValidationError as error:
            wrong = [f"{'.'.join(['sampling', *map(str, item['loc'])])}: {item['msg']}" for item in error.errors()]
            raise ValueError("; ".join(wrong)) from None


@dataclass(frozen=True)
class Settings:
    """How one call samples, every default filled in; made by `VocalRestylePipeline.settings`."""

    style: str | None
    controls: Mapping[str, float]
    steps: int
    guidance: float
    sigma: float | None
    spread: float

    @property
    def told(self) -> bool:
        """Whether style or controls say anything that guidance can exaggerate; a reference does too."""
        return self.style is not None or bool(self.controls) or self.spread > 0

    def check(self, defaults: SamplingDefaults) -> None:
        """Raises InputError for an unknown control, for controls, steps, guidance or spread out of range, and for a
        spread where the model has no draws."""
        for name, value in self.controls.items():
            if name not in defaults.controls:
                raise InputError(f"unknown control {name!r} (allowed: {', '.join(defaults.controls) or 'none'})")
            lowest, highest = defaults.reach(name)
            if not lowest <= value <= highest:
                raise InputError(
                    f"control {name}: {lowest:.3g} to {highest:.3g} is possible for this model, not {value:g}"
                )
        if not 1 <= self.steps <= HIGHEST_STEPS:
            raise InputError(f"steps: 1 to {HIGHEST_STEPS} are possible, not {self.steps}")
        if not 0 <= self.guidance <= HIGHEST_GUIDANCE:
            raise InputError(f"guidance: 0 to {HIGHEST_GUIDANCE:g} is possible, not {self.guidance}")
        if not 0 <= self.spread <= HIGHEST_SPREAD:
            raise InputError(f"spread: 0 to {HIGHEST_SPREAD:g} is possible, not {self.spread}")
        if self.spread and not defaults.draws:
            raise InputError("spread: this model doesn't say how the controls of its training pairs are spread")
