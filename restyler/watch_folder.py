"""Takes as they appear in a folder: which of them are whole, and their mixes, each made once."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from audio.errors import InputError
from audio.io import read_tags
from restyler.command import shown
from restyler.digests import sha256
from restyler.takes import AUDIO_SUFFIXES, Take
from restyler.watch_record import Entry, Record

SETTLED_S = 2.0  # so long a file must have stayed as it is
GIVEN_UP_S = 30.0  # and so long one that can't be read: some programs pause before they close a header

Signature = tuple[int, int]


@dataclass
class Seen:
    """A file that waits. since_s: by the clock, when it began to be as it is."""

    signature: Signature
    since_s: float


class Watcher:
    """Looks through a folder for takes and has each of them restyled, in the order of their names.

    check: reads a take and raises InputError where it can't be restyled. plan: where its mixes go, and whether they may
    replace what is there. restyle: makes the mixes of these numbers, and calls back with each that is written. asked:
    what they are made with; an interrupted take goes on only with the same. say: one line for people. clock: seconds.
    """

    def __init__(
        self,
        folder: Path,
        record: Record,
        *,
        asked: str,
        check: Callable[[Path], object],
        plan: Callable[[Path, bool], Take],
        restyle: Callable[[Take, list[int], Callable[[int], None]], None],
        say: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._folder, self._record, self._asked = folder, record, asked
        self._check, self._plan, self._restyle, self._say, self._clock = check, plan, restyle, say, clock
        self._waiting: dict[str, Seen] = {}
        self._told: dict[str, Signature] = {}  # of files about which something was said: not again before they change

    def look(self) -> bool:
        """Once through the folder; whether files still wait to be whole. Raises InputError where it can't be read."""
        found = self._files()
        for name in self._waiting.keys() - found.keys():
            del self._waiting[name]
        for name, signature in found.items():
            if self._is_done(name, signature) or self._told.get(name) == signature:
                self._waiting.pop(name, None)
            elif self._is_ready(name, signature):
                self._take(name, signature)
        return bool(self._waiting)

    def _files(self) -> dict[str, Signature]:
        found = {}
        try:
            for entry in sorted(os.scandir(self._folder), key=lambda entry: entry.name):
                if entry.name.startswith(".") or Path(entry.name).suffix.lower() not in AUDIO_SUFFIXES:
                    continue
                try:
                    if entry.is_file():
                        found[entry.name] = (entry.stat().st_size, entry.stat().st_mtime_ns)
                except OSError:  # gone meanwhile
                    continue
        except OSError as error:
            raise InputError(f"{shown(self._folder)}: cannot be read: {error.strerror}") from error
        return found

    def _is_done(self, name: str, signature: Signature) -> bool:
        entry = self._record.entries.get(name)
        return entry is not None and entry.done and entry.signature == signature

    def _is_ready(self, name: str, signature: Signature) -> bool:
        now_s, seen = self._clock(), self._waiting.get(name)
        if seen is None or seen.signature != signature:
            self._waiting[name] = Seen(signature, now_s)
            return False
        return now_s - seen.since_s >= SETTLED_S

    def _take(self, name: str, signature: Signature) -> None:
        path = self._folder / name
        try:
            if is_mix(path):
                raise InputError(f"{shown(path)}: a mix that this project made; no take")
            self._check(path)
        except InputError as error:
            if self._clock() - self._waiting[name].since_s >= GIVEN_UP_S or is_mix(path):
                self._tell(name, signature, error)
            return
        try:
            self._require_own_folder(name)
            self._make(name, signature)
        except InputError as error:
            self._tell(name, signature, error)
        self._waiting.pop(name, None)

    def _tell(self, name: str, signature: Signature, error: InputError) -> None:
        self._say(f"passed over: {' '.join(str(error).split())}")
        self._told[name] = signature
        self._waiting.pop(name, None)

    def _require_own_folder(self, name: str) -> None:
        for other in self._record.entries:
            same = Path(other).stem.casefold() == Path(name).stem.casefold()
            if other != name and same and (self._folder / other).exists():
                raise InputError(f"{shown(name)}: its mixes would go where those of {shown(other)} are; rename it")

    def _make(self, name: str, signature: Signature) -> None:
        path = self._folder / name
        old, digest = self._record.entries.get(name), sha256(path)
        if old is not None and old.done and old.sha256 == digest:  # touched, or copied anew
            self._record.keep(name, replace(old, signature=signature))
            return
        take = self._plan(path, old is not None)
        going_on = old is not None and not old.done and (old.sha256, old.asked) == (digest, self._asked)
        made = tuple(number for number in old.made if take.mixes[number].is_file()) if old and going_on else ()
        entry = Entry(signature, digest, self._asked, made)
        self._record.keep(name, entry)

        def written(number: int) -> None:
            nonlocal entry
            entry = replace(entry, made=(*entry.made, number))
            self._record.keep(name, entry)

        missing = [number for number in range(len(take.mixes)) if number not in made]
        self._restyle(take, missing, written)
        self._record.keep(name, replace(entry, done=True))


def is_mix(path: Path) -> bool:
    """Whether a file says that it is a mix, or a stem of one."""
    try:
        return {"seed", "take", "model"} <= read_tags(path).keys()
    except InputError:
        return False
