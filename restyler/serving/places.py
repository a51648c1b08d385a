"""Where everything lies under DATA; names are the service's ids, never anything that a caller said.

takes/ID/ID.audio, overview.json    a take as it was uploaded, and its waveform at a glance
jobs/ID/mix_00.wav …                mixes, with their chains beside them
uploads/, derived/, trash/          on the way in, in other formats, on the way out
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from audio.io import make_folder
from restyler.serving.storage import fresh_id

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

    def keep_derived_under(self, most_bytes: int) -> None:
        """The files of other formats that were used longest ago go."""
        files = sorted((self.data / "derived").iterdir(), key=lambda file: file.stat().st_atime, reverse=True)
        size = 0
        for file in files:
            size += file.stat().st_size
            if size > most_bytes:
                file.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """What was renamed into it is on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
