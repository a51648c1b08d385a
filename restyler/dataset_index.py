"""What a prepared data set says about itself: dataset.json, with every shard's size and checksum."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from audio.errors import InputError
from audio.io import write_text_atomic
from restyler.sections import Loudness, Positive, PositiveFloat, Section, first_mistake

if TYPE_CHECKING:  # a codec brings diffusers with it, which those who only move files need not wait for
    from codec.base import LatentCodec

DATASET = "dataset.json"
FORMAT = 1  # of dataset.json and of the shards; a change of what is stored raises it
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.(tar|json)$")]  # plain: it can't lead out of the folder


class FileFacts(Section):
    """Name, size and checksum of one file."""

    name: FileName
    bytes: Positive
    sha256: Sha256


class ShardInfo(FileFacts):
    """One shard, the file of its byte offsets, and what it holds."""

    index: FileFacts
    segments: Positive
    seconds: PositiveFloat


class CodecFacts(Section):
    """The codec whose latents these are, and their form."""

    fingerprint: str
    sample_rate: Positive
    hop_samples: Positive
    latent_dim: Positive
    frame_rate_hz: PositiveFloat

    @classmethod
    def of(cls, codec: LatentCodec) -> CodecFacts:
        return cls(
            fingerprint=codec.fingerprint(),
            sample_rate=codec.sample_rate,
            hop_samples=codec.hop_samples,
            latent_dim=codec.latent_dim,
            frame_rate_hz=codec.frame_rate_hz,
        )


class Shards(Section):
    """The shards of each split, in the order that training counts their segments."""

    train: list[ShardInfo]
    validation: list[ShardInfo]
    test: list[ShardInfo]

    def of(self, split: str) -> list[ShardInfo]:
        shards: list[ShardInfo] = getattr(self, split)
        return shards

    def all(self) -> list[ShardInfo]:
        return [*self.train, *self.validation, *self.test]

    @model_validator(mode="after")
    def _each_once(self) -> Shards:
        ((name, times),) = Counter(shard.name for shard in self.all()).most_common(1) or [("", 0)]
        if times > 1:
            raise ValueError(f"{name} is named {times} times")
        return self


class DatasetIndex(Section):
    """dataset.json. loudness_lufs: what every recording was brought to before it was encoded. settings: how the set was
    made, for its makers; training does not read them."""

    format: Literal[1]
    codec: CodecFacts
    loudness_lufs: Loudness
    settings: dict[str, Any]
    shards: Shards


def write_index(folder: Path, index: DatasetIndex) -> None:
    """Writes FOLDER/dataset.json: the old one, the new one or none is there at every moment, never half of one.

    It comes last: what it names must lie there already. Raises InputError where it can't be written.
    """
    write_text_atomic(folder / DATASET, index.model_dump_json(indent=1) + "\n")


def parse_index(data: bytes, source: str) -> DatasetIndex:
    """The bytes of dataset.json. Raises InputError that names `source` for another format and for what it can't be."""
    try:
        return DatasetIndex.model_validate_json(data)
    except ValidationError as error:
        place, item = first_mistake(error)
        if place == "format" and item["type"] == "literal_error":
            raise InputError(f"{source}: format {item['input']!r}; this version reads format {FORMAT}") from None
        reason = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise InputError(f"{source}: not the index of a prepared data set: {place}: {reason}") from None
