"""Tables that chains are drawn from by rows: presets, and columns of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audio.effects import EffectChain
from audio.errors import InputError
from audio.parts_kinds import Value
from audio.parts_vocal_chain import VOCAL_CHAIN, values_of
from audio.presets import read_presets, read_rows, training_names

INDEX = "train_index.npy"  # beside a table: which of its rows are to train on; the others are held out


@dataclass(frozen=True)
class Table:
    """Rows of values, all with the same columns.

    rows: one mapping a row. trained: the rows for takes to train on and to validate with; held_out: those for tests.
    """

    path: Path
    rows: tuple[dict[str, Value], ...]
    trained: tuple[int, ...]
    held_out: tuple[int, ...]

    def row(self, share: float, *, is_test: bool) -> dict[str, Value]:
        """The row at a share 0 ≤ u < 1 of those for the split. Raises InputError where there is none."""
        pool = self.held_out if is_test else self.trained
        if not pool:
            split = "test takes: all are to train on" if is_test else "takes to train on: all are held out"
            raise InputError(f"{self.path}: no row for {split} (see {INDEX} beside it)")
        return self.rows[pool[int(share * len(pool))]]


def read_preset_table(path: Path) -> Table:
    """The presets of a decoded.csv as values of the part `vocal_chain`, seed 0. Raises InputError where `read_presets`
    and `preset_values` do."""
    chains = read_presets(path)
    rows = [preset_values(path, name, chain, seed=0) for name, chain in chains.items()]
    return _divided(path, rows, training_names(path, list(chains)), list(chains))


def preset_values(path: Path, name: str, chain: EffectChain, *, seed: int) -> dict[str, Value]:
    """One preset as values of the part `vocal_chain`. Raises InputError for values beyond what the part allows."""
    try:
        return VOCAL_CHAIN.checked(values_of(chain, seed=seed))
    except ValueError as error:
        raise InputError(f"{path}, preset {name}: {error}") from None


def read_number_table(path: Path) -> Table:
    """Any CSV table with a header; its columns of finite numbers, the others left out.

    Where `train_index.npy` lies beside it, it divides the rows; else every row is for every split. Raises InputError
    for a file that is no such table.
    """
    read = read_rows(path, what="a table", rows="rows")
    names = [name for name in read[0] if name is not None and all(_is_number(row.get(name)) for row in read)]
    rows: list[dict[str, Value]] = [{name: float(row[name]) for name in names} for row in read]
    numbers = [str(number) for number in range(len(rows))]
    if not path.with_name(INDEX).exists():
        every = tuple(range(len(rows)))
        return Table(path, tuple(rows), every, every)
    return _divided(path, rows, training_names(path, numbers), numbers)


def _divided(path: Path, rows: Sequence[dict[str, Value]], trained: Sequence[str], names: Sequence[str]) -> Table:
    chosen = set(trained)
    return Table(
        path,
        tuple(rows),
        tuple(index for index, name in enumerate(names) if name in chosen),
        tuple(index for index, name in enumerate(names) if name not in chosen),
    )


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and math.isfinite(float(text))
    except (ValueError, TypeError):
        return False
