"""The typed config of a training run. Every key is explained in configs/base.yaml, where the values are chosen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from audio.errors import InputError
from audio.features import FEATURES
from restyler.codec_config import CodecConfig
from restyler.config_mistakes import explain
from restyler.sections import (
    EmaSection,
    Loudness,
    NonNegative,
    NonNegativeFloat,
    OptimSection,
    Positive,
    PositiveFloat,
    Probability,
    Section,
    TrackingSection,
)
from restyler.student.config import StudentConfig
from restyler.yamltree import Tree, merge, override_tree, read_tree


class FolderData(Section):
    kind: Literal["folder"]
    path: str
    validation_fraction: Probability
    loudness_lufs: Loudness
    cache: str


class PreparedSetChoice(Section):
    path: str
    weight: Annotated[int, Field(gt=0, le=1000)]


class PreparedData(Section):
    kind: Literal["prepared"]
    sets: Annotated[list[PreparedSetChoice], Field(min_length=1)]

    @field_validator("sets", mode="before")
    @classmethod
    def _paths_alone(cls, sets: Any) -> Any:
        """A path alone weighs 1."""
        if not isinstance(sets, list):
            return sets
        return [{"path": item, "weight": 1} if isinstance(item, str) else item for item in sets]


class SyntheticData(Section):
    kind: Literal["synthetic"]
    takes: Annotated[int, Field(ge=8)]
    seconds: Annotated[float, Field(ge=1)]
    loudness_lufs: Loudness
    cache: str


class PocketCodecChoice(Section):
    kind: Literal["pocket"]
    path: str


class EncodecChoice(Section):
    kind: Literal["encodec_48khz"]
    weights: str


class ConditionerSection(Section):
    embed_dim: Positive
    reference_width: Positive
    controls: list[str]

    @field_validator("controls")
    @classmethod
    def _known(cls, controls: list[str]) -> list[str]:
        if not set(controls) <= set(FEATURES) or len(set(controls)) < len(controls):
            raise ValueError(f"{controls} are not different names out of {', '.join(FEATURES)}")
        return controls


class DenoiserSection(Section):
    width: Positive
    depth: Positive
    heads: Positive
    patch_frames: Positive
    mlp_ratio: PositiveFloat
    conv_kernel: Positive
    predicts: Literal["mix", "velocity"]
    raw_take: Literal["skip", "concatenation"]


class BridgePath(Section):
    kind: Literal["bridge"]
    sigma_min: NonNegativeFloat
    sigma_max: PositiveFloat

    @model_validator(mode="after")
    def _ordered(self) -> BridgePath:
        if self.sigma_min > self.sigma_max:
            raise ValueError(f"sigma_min ({self.sigma_min}) is above sigma_max ({self.sigma_max})")
        return self


class NoisePath(Section):
    kind: Literal["noise"]


class TimeSection(Section):
    mean: float
    std: PositiveFloat
    start_share: Probability


class LossSection(Section):
    weighting: Literal["velocity", "mix"]


class RandomStart(Section):
    kind: Literal["random"]


class ModelStart(Section):
    kind: Literal["model"]
    path: str


class SpectralSection(Section):
    excerpt_s: PositiveFloat
    convergence: NonNegativeFloat
    log_magnitude: NonNegativeFloat
    mel: NonNegativeFloat
    level: NonNegativeFloat = 0.0


class DropoutSection(Section):
    style: Probability
    reference: Probability
    controls: Probability
    all: Probability


class TrainingSection(Section):
    steps: Positive
    batch_size: Positive
    accumulation: Positive
    crop_s: PositiveFloat
    reference_s: PositiveFloat
    precision: Literal["auto", "no", "bf16", "fp16"]
    gradient_checkpointing: bool
    compile: bool
    save_every: Positive
    keep: Positive
    workers: NonNegative
    max_skipped: NonNegative

    @model_validator(mode="after")
    def _divisible(self) -> TrainingSection:
        if self.batch_size % self.accumulation:
            raise ValueError(f"batch_size ({self.batch_size}) is not a multiple of accumulation ({self.accumulation})")
        return self


class ValidationSection(Section):
    every: Positive
    examples: Positive
    buckets: Positive
    takes: NonNegative
    take_s: Annotated[float, Field(ge=1)]
    seeds: Annotated[int, Field(ge=2)]
    best: Literal["val_loss", "val_mss_lr", "val_mss_ms", "val_mldr"]

    @model_validator(mode="after")
    def _best_is_measured(self) -> ValidationSection:
        if self.best != "val_loss" and not self.takes:
            raise ValueError(f"best: {self.best} is measured on sampled takes, and takes is 0")
        return self


class SamplingSection(Section):
    scheduler: Literal["euler", "heun", "dpmpp"]
    steps: Positive
    guidance: NonNegativeFloat
    sigma: NonNegativeFloat | None
    window_s: PositiveFloat
    context_s: NonNegativeFloat


class DenoiserConfig(Section):
    """Config of `task: denoiser`."""

    task: Literal["denoiser"]
    seed: NonNegative
    data: PreparedData | FolderData | SyntheticData = Field(discriminator="kind")
    codec: PocketCodecChoice | EncodecChoice = Field(discriminator="kind")
    standardise: bool
    start: RandomStart | ModelStart = Field(discriminator="kind")
    conditioner: ConditionerSection
    denoiser: DenoiserSection
    path: BridgePath | NoisePath = Field(discriminator="kind")
    time: TimeSection
    loss: LossSection
    spectral: SpectralSection | None
    dropout: DropoutSection
    optim: OptimSection
    ema: EmaSection
    training: TrainingSection
    validation: ValidationSection
    sampling: SamplingSection
    tracking: TrackingSection

    @model_validator(mode="after")
    def _sampling_on_path(self) -> DenoiserConfig:
        highest = self.path.sigma_max if isinstance(self.path, BridgePath) else None
        sigma = self.sampling.sigma
        if highest is None and sigma is not None:
            raise ValueError("sampling.sigma: the path noise has none: null")
        if highest is not None and (sigma is None or sigma > highest):
            raise ValueError(f"sampling.sigma: 0 to path.sigma_max ({highest}), not {sigma}")
        return self


Config = DenoiserConfig | CodecConfig | StudentConfig
Checked = TypeVar("Checked", bound=Section)
TASKS: dict[str, type[Config]] = {"denoiser": DenoiserConfig, "codec": CodecConfig, "student": StudentConfig}


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """A YAML config with overrides `section.key=value` → the frozen config of its task.

    Raises InputError with one line for every mistake: dotted path, what was found, what is allowed.
    """
    tree = merge(read_tree(path), override_tree(overrides))
    task = tree.get("task")
    if not isinstance(task, str) or task not in TASKS:
        raise InputError(f"{path}: task: {task!r} is not one of {', '.join(sorted(TASKS))}")
    return validate(tree, TASKS[task], str(path))


def validate(tree: Tree, schema: type[Checked], source: str) -> Checked:
    """Validates in JSON mode, where strict types still let a list become a tuple."""
    try:
        return schema.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        lines = [f"{source}: {explain(schema, item)}" for item in error.errors()]
        raise InputError("\n".join(lines)) from None
