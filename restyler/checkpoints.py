"""The run folder: whose run it is, its metrics, and checkpoints that are complete or not there."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from audio.errors import InputError
from audio.io import make_folder, write_text_atomic

UNFINISHED = ".unfinished"


class RunFolder:
    """RUN/config.json, metrics.jsonl, checkpoints/step_000123/ and pipeline/."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.pipeline = path / "pipeline"
        self._metrics = path / "metrics.jsonl"

    def check(self, what: str, facts: dict[str, Any]) -> None:
        """Checks that `facts` may be claimed, and writes nothing: a mistake found later must not bind the folder.

        Raises InputError for a folder that can't be used, and for facts that differ from those of RUN/<what>.json, with
        every difference.
        """
        kept = self.path / f"{what}.json"
        # os.path.exists: that of Path raises for a name that is too long.
        there = next(place for place in (self.path, *self.path.parents) if os.path.exists(place))  # noqa: PTH110
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            raise InputError(f"{self.path}: not usable as a run folder: nothing can be written into {there}")
        if not os.path.exists(kept):  # noqa: PTH110
            return
        try:
            before = flatten(json.loads(kept.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError) as error:  # the last: JSON, but no object
            raise InputError(f"{self.path}: not usable as a run folder: {kept.name} can't be read: {error}") from None
        now = flatten(facts)
        changes = [
            f"{key}: {before.get(key)!r} → {now.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
        if changes:
            raise InputError(
                f"{self.path}: this run was started with another {what};"
                f" choose another --run-dir or undo {'; '.join(changes)}"
            )

    def claim(self, what: str, facts: dict[str, Any]) -> None:
        """`check`, and from now on the folder is bound to `facts`: they are kept in RUN/<what>.json."""
        self.check(what, facts)
        kept = self.path / f"{what}.json"
        if not kept.exists():
            make_folder(self.checkpoints)
            write_text_atomic(kept, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")

    def identity(self) -> str:
        """A name of this run that stays the same when it is resumed, for trackers."""
        kept = self.path / "identity"
        if not kept.exists():
            write_text_atomic(kept, secrets.token_hex(4))
        return kept.read_text()

    def newest(self) -> Path | None:
        """The newest complete checkpoint."""
        return next(reversed(self._complete()), None)

    def _complete(self) -> list[Path]:
        """By step, not by name: step_1000000 comes after step_990000."""
        return sorted((p for p in self.checkpoints.glob("step_*") if re.fullmatch(r"step_\d+", p.name)), key=step_of)

    def save(self, step: int, state: dict[str, Any], *, keep: int) -> None:
        """Writes checkpoints/step_…: under another name first, so a name without suffix is always complete."""
        for leftover in self.checkpoints.glob(f"*{UNFINISHED}"):
            shutil.rmtree(leftover)
        final = self.checkpoints / f"step_{step:06d}"
        unfinished = final.with_name(final.name + UNFINISHED)
        unfinished.mkdir(parents=True)
        with (unfinished / "state.pt").open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(final)
        for old in self._complete()[:-keep]:
            shutil.rmtree(old)

    def load(self, checkpoint: Path) -> dict[str, Any]:
        """Raises InputError for a damaged checkpoint. Only tensors and plain values are unpickled."""
        try:
            state: dict[str, Any] = torch.load(checkpoint / "state.pt", map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many types for damaged archives
            raise InputError(f"{checkpoint}: the checkpoint can't be read: {error}".splitlines()[0]) from None
        return state

    def log(self, row: dict[str, Any]) -> None:
        with self._metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def forget_after(self, step: int) -> None:
        """Drops metrics of steps that are trained again after a resume, and a row cut off by a crash."""
        if not self._metrics.exists():
            return
        kept = []
        for line in self._metrics.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break
            if row["step"] <= step:
                kept.append(line + "\n")
        write_text_atomic(self._metrics, "".join(kept))


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint's name tells."""
    return int(checkpoint.name.removeprefix("step_"))


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Has `write` make a folder beside `folder`, then puts it in its place: what stands there is always complete."""
    fresh, old = folder.with_name(f".{folder.name}.fresh"), folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():  # a kill between the two renames below: what was there comes back
        old.rename(folder)
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    write(fresh)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optim": {"lr": 1}} → {"optim.lr": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
