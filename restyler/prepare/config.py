"""The typed settings of `restyler prepare`. Every key is explained in prepare.yaml, where the values are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from restyler.config import EncodecChoice, PocketCodecChoice, validate
from restyler.prepare.segments import SegmentRules
from restyler.sections import Loudness, NonNegative, NonNegativeFloat, PositiveFloat, Probability, Section
from restyler.yamltree import merge, override_tree, read_tree

DEFAULTS = Path(__file__).with_name("prepare.yaml")
Action = Literal["reject", "flag", "off"]
Word = Annotated[str, Field(pattern=r"^[^\W_]+$")]


class MatchingSection(Section):
    raw_words: list[Word]
    mix_words: list[Word]
    singer_folders: bool

    @model_validator(mode="after")
    def _apart(self) -> MatchingSection:
        for words in (self.raw_words, self.mix_words):
            if not words or any(word != word.casefold() for word in words):
                raise ValueError(f"{words}: at least one word, in small letters")
        both = set(self.raw_words) & set(self.mix_words)
        if both:
            raise ValueError(f"words for both sides: {', '.join(sorted(both))}")
        return self


class LevelsSection(Section):
    loudness_lufs: Loudness
    peak_db: Annotated[float, Field(le=0)]


class SegmentsSection(Section):
    longest_s: Annotated[float, Field(ge=0.5)]
    shortest_s: Annotated[float, Field(ge=0.05)]
    gap_s: NonNegativeFloat
    lead_s: NonNegativeFloat
    tail_s: NonNegativeFloat

    @model_validator(mode="after")
    def _possible(self) -> SegmentsSection:
        if self.shortest_s > self.longest_s:
            raise ValueError(f"shortest_s ({self.shortest_s}) is above longest_s ({self.longest_s})")
        return self

    def rules(self) -> SegmentRules:
        return SegmentRules(**self.model_dump())


class SplitsSection(Section):
    by: list[Literal["song", "singer"]]
    validation: Probability
    test: Probability

    @model_validator(mode="after")
    def _leaves_some(self) -> SplitsSection:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation ({self.validation}) and test ({self.test}) leave nothing to train on")
        return self


class ShardsSection(Section):
    seconds: PositiveFloat


class ListeningSection(Section):
    takes: NonNegative


class LimitsSection(Section):
    quietest_lufs: Loudness
    clipped_samples_per_s: NonNegativeFloat
    clipped_samples: NonNegative
    dropouts: NonNegative
    dc_to_rms_db: float
    bandwidth_hz: NonNegativeFloat
    quiet_channel_db: float
    raw_side_db: float
    score: Probability
    similarity: Annotated[float, Field(ge=-1, le=1)]
    clock_ppm: NonNegativeFloat
    drift_ppm: NonNegativeFloat
    settled_phase: Probability
    coverage: Probability
    change_db: NonNegativeFloat
    phase_agreement: Probability
    bleed_db: float
    raw_reverberance_db: float
    swapped_db: NonNegativeFloat


class ActionsSection(Section):
    silent_raw: Action
    silent_mix: Action
    clipped_raw: Action
    clipped_mix: Action
    dropouts_raw: Action
    dropouts_mix: Action
    dc_raw: Action
    dc_mix: Action
    narrow_raw: Action
    narrow_mix: Action
    one_channel_raw: Action
    one_channel_mix: Action
    stereo_raw: Action
    wrong_pair: Action
    inverted: Action
    clock: Action
    drift: Action
    edited: Action
    partial: Action
    unprocessed: Action
    rephased: Action
    bleed: Action
    wet_raw: Action
    swapped: Action
    duplicate: Action
    duplicate_raw: Action
    duplicate_mix: Action

    def of(self, code: str) -> Action:
        action: Action = getattr(self, code)
        return action


class PrepareConfig(Section):
    codec: PocketCodecChoice | EncodecChoice = Field(discriminator="kind")
    matching: MatchingSection
    levels: LevelsSection
    segments: SegmentsSection
    splits: SplitsSection
    shards: ShardsSection
    listening: ListeningSection
    limits: LimitsSection
    actions: ActionsSection


def load_prepare_config(path: Path | None, overrides: Sequence[str]) -> PrepareConfig:
    """prepare.yaml, what the file at `path` changes of it, and overrides `section.key=value`, in this order.

    Raises InputError with one line for every mistake.
    """
    tree = read_tree(DEFAULTS)
    if path is not None:
        tree = merge(tree, read_tree(path))
    source = str(path) if path is not None else DEFAULTS.name
    return validate(merge(tree, override_tree(overrides)), PrepareConfig, source)
