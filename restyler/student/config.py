"""The typed config of student training (`task: student`). Every key is explained in configs/student.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from restyler.sections import (
    EmaSection,
    NonNegative,
    NonNegativeFloat,
    OptimSection,
    Positive,
    PositiveFloat,
    Section,
    TrackingSection,
)


class StudentDataSection(Section):
    path: str


class StudentSection(Section):
    heard_bands: Positive
    gain_bands: Annotated[int, Field(ge=2)]
    room_bands: Annotated[int, Field(ge=2)]
    width: Positive
    told_width: Positive
    room_frames: Positive


class StudentLossSection(Section):
    convergence: NonNegativeFloat
    log_magnitude: NonNegativeFloat
    mel: NonNegativeFloat
    level: NonNegativeFloat


class StudentTrainingSection(Section):
    steps: Positive
    batch_size: Positive
    crop_s: PositiveFloat
    run_up_s: NonNegativeFloat
    save_every: Positive
    keep: Positive
    workers: NonNegative
    max_skipped: NonNegative


class StudentValidationSection(Section):
    every: Positive
    pairs: Positive
    best: Literal["val_mss_lr", "val_mss_ms", "val_loss"]


class StudentConfig(Section):
    """Config of `task: student`."""

    task: Literal["student"]
    seed: NonNegative
    data: StudentDataSection
    student: StudentSection
    losses: StudentLossSection
    optim: OptimSection
    ema: EmaSection
    training: StudentTrainingSection
    validation: StudentValidationSection
    tracking: TrackingSection

    @model_validator(mode="after")
    def _parts_fit(self) -> StudentConfig:
        if not any(self.losses.model_dump().values()):
            raise ValueError("losses: at least one weight above 0")
        return self
