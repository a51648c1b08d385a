"""All mixes of a job as one ZIP file, made while it is sent: stored, since noise-like sound doesn't deflate."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from restyler.chain_settings import with_raw
from restyler.serving.refusals import not_found
from restyler.serving.work import mix_path

FORMS = ("yaml", "txt")  # of a chain
PIECE_BYTES = 1 << 18
LONGEST_STEM = 80
NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')  # what some file system refuses, or takes for a way elsewhere
DEVICES = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\.|$)")  # what Windows keeps for itself


def safe_stem(name: str) -> str:
    """A name as people gave it, as one that every file system takes: a file's, without suffix."""
    stem = NOT_IN_NAMES.sub("_", name)[:LONGEST_STEM].strip(" .") or "mix"
    return f"_{stem}" if DEVICES.match(stem) else stem


def mix_stem(job: Mapping[str, Any], mix: Mapping[str, Any]) -> str:
    """How the file of a mix is called when it is downloaded: unique in its job by the number."""
    named = f" {safe_stem(mix['name'])}" if mix["name"] else ""
    return f"{safe_stem(job['name'])} mix {mix['number']:02d}{named}"


def members(job: Mapping[str, Any], folder: Path) -> list[tuple[str, Path | str]]:
    """Names of what is made so far, chains beside their mixes, with their files or their text."""
    found = list[tuple[str, Path | str]]()
    for mix in job["mixes"]:
        stem = mix_stem(job, mix)
        found.append((f"{stem}.wav", mix_path(folder, mix["number"])))
        for form in FORMS if mix["has_chain"] else ():
            found.append((f"{stem}.{form}", chain_text(job, folder, mix["number"], form)))
    return found


def chain_text(job: Mapping[str, Any], folder: Path, number: int, form: str) -> str:
    """The chain of a mix (form: yaml or txt), whose take bears the job's name: where it lies here is nobody's business.

    Raises RefusedError (404) where it has gone.
    """
    try:
        text = mix_path(folder, number).with_suffix(f".{form}").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise not_found("chain any more") from None
    return with_raw(text, safe_stem(job["name"])) if form == "yaml" else text


class _Sink(io.RawIOBase):
    """What a ZipFile writes, to be taken away piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces = bytearray()

    def write(self, data: Any) -> int:
        self._pieces += data
        return memoryview(data).nbytes

    def take(self) -> bytes:
        piece = bytes(self._pieces)
        self._pieces.clear()
        return piece


def zipped(files: Iterable[tuple[str, Path | str]]) -> Iterator[bytes]:
    """Bytes of a ZIP file, in bounded memory."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files:
            if isinstance(path, str):
                archive.writestr(name, path)
                yield sink.take()
                continue
            info = zipfile.ZipInfo.from_file(path, name)
            with path.open("rb") as source, archive.open(info, "w") as member:
                while piece := source.read(PIECE_BYTES):
                    member.write(piece)
                    yield sink.take()
            yield sink.take()
    yield sink.take()
