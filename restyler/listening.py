"""Audio that a prepared data set keeps for listening: listening.json, and the files that it names.

Training reads latents alone, and nothing of this; a run restyles these takes now and then to be heard and measured.
"""

from __future__ import annotations

import hashlib
import io
from typing import Annotated, Literal

import soundfile
import torch
from pydantic import Field, ValidationError, model_validator

from audio.errors import InputError
from audio.waveform import Waveform
from restyler.dataset_index import Sha256
from restyler.sections import Loudness, Positive, Section, first_mistake
from restyler.storage import Storage

LISTENING = "listening.json"
FOLDER = "listening"
FORMAT = 1  # of listening.json and its files; a change of what is stored raises it


class ListenedFile(Section):
    """One FLAC file, by its name below the set."""

    name: Annotated[str, Field(pattern=rf"^{FOLDER}/[A-Za-z0-9_-]+\.(raw|mix)\.flac$")]
    bytes: Positive
    sha256: Sha256


class ListenedTake(Section):
    """A stretch of a take and of one of its mixes.

    name: printable, and of no other take of the set. key, style: of the mix, as in the set. digest: a hash of all that
    its audio depends on.
    """

    name: str
    key: str
    style: str | None
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    raw: ListenedFile
    mix: ListenedFile


class ListeningIndex(Section):
    """listening.json. loudness_lufs: what whole recordings were brought to; a stretch of one may be louder."""

    format: Literal[1]
    sample_rate: Positive
    loudness_lufs: Loudness
    takes: list[ListenedTake]

    @model_validator(mode="after")
    def _each_once(self) -> ListeningIndex:
        if len({take.name for take in self.takes}) < len(self.takes):
            raise ValueError("two takes have one name")
        return self


def parse_listening(data: bytes, source: str) -> ListeningIndex:
    """The bytes of listening.json. Raises InputError that names `source` for what it can't be."""
    try:
        return ListeningIndex.model_validate_json(data)
    except ValidationError as error:
        place, _ = first_mistake(error)
        raise InputError(f"{source}: no list of takes for listening that this version reads: {place}") from None


def read_listening(storage: Storage) -> ListeningIndex:
    """Raises InputError for a set that has none."""
    try:
        data = storage.read(LISTENING)
    except InputError as error:
        raise InputError(
            f"{error}; the set keeps no audio for listening: prepare it again, or set validation.takes=0"
        ) from None
    return parse_listening(data, f"{storage.url}/{LISTENING}")


def read_listened(storage: Storage, file: ListenedFile) -> Waveform:
    """The audio of one file. Raises InputError where it is gone, or not as it was written."""
    data = storage.read(file.name)
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise InputError(
            f"{storage.url}/{file.name}: damaged: its SHA-256 is not the one in {LISTENING}; prepare again"
        )
    samples, sample_rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return Waveform(torch.from_numpy(samples.T.copy()), sample_rate)
