"""What `restyler remote` remembers beside the mixes of a take: enough to go on where it was interrupted, and to ask for
more like one of them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from audio.errors import InputError
from audio.io import write_text_atomic
from restyler.command import shown
from restyler.digests import sha256

NAME = ".restyler-remote.json"
FORMAT = 1


@dataclass(frozen=True)
class Record:
    """One job. server: its URL. take_sha256: of the take's file. asked: the wishes and the other files that the job
    was asked for with. uploads: ids there of what has been sent, by SHA-256. job: its id there, None until there is
    one. idempotency_key: asks for this job and no other. files: the names of mixes that are here, with their SHA-256,
    empty while one is fetched. done: nothing is missing.
    """

    server: str
    take_sha256: str
    asked: dict[str, Any]
    idempotency_key: str
    uploads: dict[str, str] = field(default_factory=dict)
    job: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    done: bool = False

    def with_file(self, path: Path) -> Record:
        """The record after a mix has arrived."""
        return replace(self, files={**self.files, path.name: sha256(path)})


def write_record(folder: Path, record: Record) -> None:
    """Raises InputError where it can't be written."""
    write_text_atomic(folder / NAME, json.dumps({"format": FORMAT, **asdict(record)}, indent=1) + "\n")


def read_record(folder: Path) -> Record | None:
    """The record in a folder; None where there is none, or nothing that this version wrote."""
    try:
        facts = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or facts.pop("format", None) != FORMAT:
            return None
        record = Record(**facts)
    except (OSError, ValueError, TypeError):
        return None
    texts = (record.server, record.take_sha256, record.idempotency_key, record.job or "")
    tables = (record.asked, record.uploads, record.files)
    whole = all(isinstance(text, str) for text in texts) and all(isinstance(table, dict) for table in tables)
    return record if whole else None


def liked_mix(mix: Path, server: str) -> tuple[str, int]:
    """The job and the number of a mix that `restyler remote` fetched from this server.

    Raises InputError for any other file, also where it has been changed since.
    """
    record = read_record(mix.parent)
    if record is None or record.job is None or mix.name not in record.files:
        raise InputError(f"{shown(mix)}: not a mix that `restyler remote` fetched; --like needs one")
    if record.server != server:
        raise InputError(f"{shown(mix)}: fetched from {record.server}, not from {server}")
    if not os.path.isfile(mix) or record.files[mix.name] != sha256(mix):  # noqa: PTH113 - see takes.py
        raise InputError(f"{shown(mix)}: no longer the file that was fetched; --like needs one")
    return record.job, int(mix.stem.rpartition("_")[2])
