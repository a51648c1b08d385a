"""Where everything lies under DATA; names are the service's ids, never anything that a caller said.

takes/ID/ID.audio, overview.json    a take as it was uploaded, and its waveform at a glance
takes/ID/named/…                    the same by a name that mixes made after it may bear in their comment
jobs/ID/mix_00.wav …                mixes, with their chains beside them
uploads/, derived/, trash/          on the way in, in other formats, on the way out
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from audio.io import make_folder
from restyler.serving.storage import fresh_id

NAMED = "named"
LONGEST_NAME_BYTES = 40  # as JSON: eight of them fit a mix's comment with their weights
IN_USE_S = 60.0
FOLDERS = ("takes", "jobs", "uploads", "derived", "trash")


class Places:
    """Raises InputError where the folders can't be made."""

    def __init__(self, data: Path) -> None:
        self.data = make_folder(data)
        for name in FOLDERS:
            make_folder(data / name)

    def take(self, identity: str) -> Path:
        return self.data / "takes" / identity

    def audio(self, take: str) -> Path:
        return self.take(take) / f"{take}.audio"

    def named(self, take: str) -> Path:
        """The take's file by the name that `name_take` gave it."""
        folder = self.take(take) / NAMED
        return next(folder.iterdir() if folder.is_dir() else iter(()), self.audio(take))

    def overview(self, take: str) -> Path:
        return self.take(take) / "overview.json"

    def job(self, identity: str) -> Path:
        return self.data / "jobs" / identity

    def derived(self, name: str) -> Path:
        return self.data / "derived" / name

    def fresh_upload(self) -> Path:
        folder = self.data / "uploads" / fresh_id()
        folder.mkdir()
        return folder

    def throw_away(self, folder: Path) -> None:
        """Out of the way at once, as a whole; then its files."""
        try:
            gone = self.data / "trash" / fresh_id()
            folder.rename(gone)
        except FileNotFoundError:
            return
        shutil.rmtree(gone, ignore_errors=True)

    def forget_derived(self, identity: str) -> None:
        for file in (self.data / "derived").glob(f"{identity}*"):
            file.unlink(missing_ok=True)

    def empty(self, name: str) -> None:
        """Of temporary folders: everything in it."""
        for path in (self.data / name).iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def use_derived(self, name: str) -> Path | None:
        """A file of another format, if it is there; it then counts as just used."""
        path = self.derived(name)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def keep_derived_under(self, most_bytes: int, *, now_s: float) -> None:
        """The files of other formats that were used longest ago go; not those of the last minute, which may just be
        written or sent. now_s: seconds since 1970, as the file system counts them."""
        files = [(file.stat(), file) for file in (self.data / "derived").iterdir()]
        size = 0
        for facts, file in sorted(files, key=lambda each: each[0].st_mtime, reverse=True):
            size += facts.st_size
            if size > most_bytes and facts.st_mtime < now_s - IN_USE_S:
                file.unlink(missing_ok=True)

    def empty_temporaries(self) -> None:
        """What was half written when a service was killed."""
        self.empty("uploads")
        self.empty("trash")
        for folder in ("derived", "jobs/*"):
            for path in self.data.glob(f"{folder}/.*.tmp"):
                path.unlink(missing_ok=True)


def name_take(folder: Path, audio: str, name: str) -> None:
    """Gives a take's file a second name, made of what people call it; folder: of the take, audio: its file there."""
    while len(json.dumps(name)) - 2 > LONGEST_NAME_BYTES:
        name = name[:-1]
    (folder / NAMED).mkdir()
    (folder / NAMED / name).symlink_to(Path("..") / audio)


def sync_folder(folder: Path) -> None:
    """What was renamed into it is on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
