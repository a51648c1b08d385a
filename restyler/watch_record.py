"""What `restyler watch` has done, on disk: so that each take is restyled once, whatever ends the command meanwhile."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from audio.errors import InputError
from audio.io import write_text_atomic
from restyler.command import shown

NAME = ".restyler-watch.json"


@dataclass(frozen=True)
class Entry:
    """One take. signature: size in bytes and time of the last change in ns. sha256: of its content. asked: what its
    mixes were made with. made: their numbers, as far as they are written. done: all of them are."""

    signature: tuple[int, int]
    sha256: str
    asked: str
    made: tuple[int, ...] = ()
    done: bool = False


class Record:
    """The entries of one watched folder by file name, in OUT. Raises InputError for a record that can't be read, and
    for one of another folder."""

    def __init__(self, out: Path, folder: Path) -> None:
        self._file, self._folder = out / NAME, os.path.realpath(folder)
        self.entries: dict[str, Entry] = {}
        if os.path.lexists(self._file):
            self._read()

    def keep(self, name: str, entry: Entry) -> None:
        """From now on, and on disk. Raises InputError where it can't be written."""
        self.entries[name] = entry
        takes = {name: asdict(entry) for name, entry in self.entries.items()}
        write_text_atomic(self._file, json.dumps({"folder": self._folder, "takes": takes}, indent=1) + "\n")

    def _read(self) -> None:
        try:
            tree = json.loads(self._file.read_text(encoding="utf-8"))
            folder = str(tree["folder"])
            for name, fields in tree["takes"].items():
                (size, changed_ns), made = fields.pop("signature"), tuple(map(int, fields.pop("made")))
                self.entries[name] = Entry((int(size), int(changed_ns)), made=made, **fields)
        except OSError as error:
            raise InputError(f"{shown(self._file)}: cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{shown(self._file)}: not as `restyler watch` writes it ({error}); remove it") from None
        if folder != self._folder:
            raise InputError(f"{shown(self._file)}: tells of {shown(folder)}; watch that one, or use another --out")
