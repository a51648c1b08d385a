"""What is known of one pair in one row, kept in a file of its own so that a stopped evaluation goes on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from audio.io import write_text_atomic
from restyler.evaluate import speaker

FORMAT = 1  # counts up when a record holds something else
DECIMALS = 6  # far below what any quantity can mean
MEASURING = (
    *("content.py", "descriptors.py", "effects_space.py", "fidelity.py", "pitch.py", "scoring.py", "speaker.py"),
    *("../metrics.py", "../../codec/losses.py"),
)
RENDERING = ("audio", "codec", "conditioning", "diffusion", "restyler")  # packages


@dataclass(frozen=True)
class Offset:
    """How a render lies to the mix: `milliseconds` later, inverted where polarity is −1.

    phase_agreement: 0 … 1, see `audio.alignment.Alignment`.
    """

    milliseconds: float
    polarity: int
    phase_agreement: float


@dataclass(frozen=True)
class Draw:
    """One render, scored. Each quantity by name; None where it is not defined for the signal.

    effects: its effect vector.
    """

    fidelity: Mapping[str, float | None]
    content: Mapping[str, float | None]
    effects: tuple[float, ...]


@dataclass(frozen=True)
class Record:
    """All draws of one row for one pair.

    key, song: of the pair. mix_effects: effect vector of the mix, over the scored part. offset: of the first draw, None
    where there is none to be found. code: `code_digest` at the time it was made.
    """

    row: str
    key: str
    song: str
    draws: tuple[Draw, ...]
    mix_effects: tuple[float, ...]
    offset: Offset | None
    code: str = ""


def rounded(value: float) -> float | None:
    """None for what is not finite: JSON has no NaN."""
    return round(float(value), DECIMALS) + 0.0 if math.isfinite(value) else None


def read_record(path: Path) -> Record | None:
    """A record, or None where there is none, or none that this version wrote whole."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        draws = tuple(Draw(**{**draw, "effects": tuple(draw["effects"])}) for draw in tree.pop("draws"))
        offset = Offset(**found) if (found := tree.pop("offset")) is not None else None
        return Record(**{**tree, "mix_effects": tuple(tree["mix_effects"])}, draws=draws, offset=offset)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_record(path: Path, record: Record) -> None:
    """Atomically. Raises InputError where it can't be written."""
    write_text_atomic(path, json.dumps(asdict(record), indent=1, allow_nan=False) + "\n")


def digest(*parts: Any) -> str:
    """Of everything that a record depends on, with the code that measures: another digest is another record."""
    text = json.dumps([FORMAT, _measuring(), speaker.available(), *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


@cache
def code_digest() -> str:
    """Of all modules that can move a render: a record of another one may be of another sound.

    Such a record is kept, for most changes move nothing and an evaluation takes hours; the report counts them.
    """
    here = Path(__file__).parent
    files = [path for name in RENDERING for path in sorted((here.parents[1] / name).rglob("*.py"))]
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]


@cache
def _measuring() -> str:
    here = Path(__file__).parent
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in MEASURING)).hexdigest()


@cache
def file_digest(path: Path) -> str:
    """SHA-256 of a file that could be read before."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
