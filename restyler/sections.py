"""What the configs of all tasks are made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Loudness = Annotated[float, Field(ge=-70, le=0)]


class Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


def first_mistake(error: ValidationError) -> tuple[str, dict[str, Any]]:
    """Where the first mistake of a JSON document is, dotted («it» for the whole), and what pydantic says of it."""
    item: dict[str, Any] = {**error.errors()[0]}
    return ".".join(map(str, item["loc"])) or "it", item


class OptimSection(Section):
    lr: PositiveFloat
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]
    weight_decay: NonNegativeFloat
    warmup_steps: NonNegative
    schedule: Literal["cosine", "constant"]
    clip: PositiveFloat


class TrackingSection(Section):
    wandb: Literal["online", "offline", "off"]
    project: str
    tensorboard: bool
    log_every: Positive


class EmaSection(Section):
    decay: Annotated[float, Field(ge=0, lt=1)]
    warmup_power: PositiveFloat
