"""The typed config of codec training (`task: codec`). Every key is explained in configs/codec.yaml."""

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
    Probability,
    Section,
    TrackingSection,
)


class SourceSection(Section):
    path: str
    weight: PositiveFloat


class CodecDataSection(Section):
    sources: Annotated[list[SourceSection], Field(min_length=1)]
    impulse_responses: str | None
    validation_fraction: Probability
    augment: bool


class PocketCodecSection(Section):
    latent_dim: Annotated[int, Field(ge=2)]
    width: Positive
    kernel: Positive
    expansion: Positive
    encoder_blocks: Positive
    decoder_blocks: Positive


class StartSection(Section):
    kind: Literal["principal_components"]
    components: Positive
    batches: Positive


class FineTuneSection(Section):
    kind: Literal["codec"]
    path: str
    frozen_encoder: bool


class ReconstructionSection(Section):
    waveform: NonNegativeFloat
    convergence: NonNegativeFloat
    log_magnitude: NonNegativeFloat
    mel: NonNegativeFloat
    level: NonNegativeFloat = 0.0


class AdversarialSection(Section):
    adversarial: PositiveFloat
    feature: PositiveFloat
    filters: Positive
    lr: PositiveFloat


class CodecTrainingSection(Section):
    steps: Positive
    batch_size: Positive
    crop_s: PositiveFloat
    latent_noise: NonNegativeFloat
    level_share: Probability = 0.0
    save_every: Positive
    keep: Positive
    workers: NonNegative
    max_skipped: NonNegative


class CodecValidationSection(Section):
    every: Positive
    batches: Positive
    best: Literal["val_waveform", "val_convergence", "val_log_magnitude", "val_mel", "val_level"]


class CodecConfig(Section):
    """Config of `task: codec`."""

    task: Literal["codec"]
    seed: NonNegative
    data: CodecDataSection
    codec: PocketCodecSection
    start: StartSection | FineTuneSection = Field(discriminator="kind")
    losses: ReconstructionSection
    adversarial: AdversarialSection | None
    optim: OptimSection
    ema: EmaSection
    training: CodecTrainingSection
    validation: CodecValidationSection
    tracking: TrackingSection

    @model_validator(mode="after")
    def _parts_fit(self) -> CodecConfig:
        if isinstance(self.start, StartSection) and self.start.components >= self.codec.latent_dim:
            raise ValueError(
                f"start.components: below codec.latent_dim ({self.codec.latent_dim}), not {self.start.components}"
            )
        if self.codec.kernel % 2 == 0:
            raise ValueError(f"codec.kernel: odd, not {self.codec.kernel}")
        if self.adversarial is None and not any(self.losses.model_dump().values()):
            raise ValueError("losses: at least one weight above 0, where there is no discriminator either")
        return self
