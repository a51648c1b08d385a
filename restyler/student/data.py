"""Crops of takes and the sampler's mixes of them, as `restyler distil` left them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info
from tqdm import tqdm

from audio.errors import InputError
from audio.io import read
from restyler.command import shown
from restyler.student.distilling import DISTILLATION, read_rows
from restyler.student.knobs import KNOBS
from restyler.student.spectra import SAMPLE_RATE_HZ

LOUDEST_TRIES = 4  # a crop without sound teaches nothing: so many are drawn before one is taken as it is
SILENT_PEAK = 1e-3


@dataclass(frozen=True)
class StudentPair:
    """take [samples], mix [2 samples], int16; knobs [3], float32."""

    key: str
    take: np.ndarray
    mix: np.ndarray
    knobs: np.ndarray


@dataclass(frozen=True)
class Distilled:
    """styles: in the order of the style knob. model: whose mixes they are. digest: of the manifest."""

    train: Sequence[StudentPair]
    validation: Sequence[StudentPair]
    styles: list[str]
    model: str
    digest: str


def read_distilled(folder: Path) -> Distilled:
    """Raises InputError for a folder that `restyler distil` didn't make, for files that can't be read or are not in
    time, and where training or validation would have nothing."""
    rows = read_rows(folder)
    styles, model = _facts(folder)
    split: dict[str, list[StudentPair]] = {"train": [], "validation": []}
    for row in tqdm(rows, f"reading {folder.name}", unit="pair"):
        if row["split"] in split:
            split[row["split"]].append(_pair(folder, row))
    for name, pairs in split.items():
        if not pairs:
            raise InputError(f"{shown(folder)}: no pair for {name} among {len(rows)}")
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]
    return Distilled(split["train"], split["validation"], styles, model, digest)


def read_held_out(folder: Path, styles: Sequence[str]) -> list[StudentPair]:
    """Pairs of validation and test. Raises InputError as `read_distilled`, and where the styles are not these."""
    theirs, _ = _facts(folder)
    if theirs != list(styles):
        raise InputError(f"{shown(folder)}: of other styles, {', '.join(theirs)}")
    pairs = [_pair(folder, row) for row in read_rows(folder) if row["split"] != "train"]
    if not pairs:
        raise InputError(f"{shown(folder)}: no pair that was held out")
    return pairs


def _facts(folder: Path) -> tuple[list[str], str]:
    """Styles and model."""
    try:
        facts = json.loads((folder / DISTILLATION).read_text(encoding="utf-8"))
        return list(facts["styles"]), str(facts["model"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{shown(folder)}: no {DISTILLATION} as `restyler distil` writes it") from None


def _pair(folder: Path, row: dict) -> StudentPair:
    take, mix = read(folder / row["raw"]), read(folder / row["mix"])
    knobs = np.array([row["knobs"][name] for name in KNOBS], np.float32)
    wrong = take.sample_rate != SAMPLE_RATE_HZ or mix.sample_rate != SAMPLE_RATE_HZ
    if wrong or take.samples.shape[1] != mix.samples.shape[1] or mix.samples.shape[0] != 2:
        raise InputError(f"{shown(folder / row['mix'])}: not a stereo mix at 48 kHz in time with its take")
    return StudentPair(row["key"], _int16(take.samples.mean(0)), _int16(mix.samples), knobs)


def _int16(samples: torch.Tensor) -> np.ndarray:
    return (samples.clamp(-1, 1) * 32767).round().to(torch.int16).numpy()


Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Crops(IterableDataset[Batch]):
    """Batches of crops: takes [batch samples], mixes [batch 2 samples], knobs [batch 3]; from `start_step` on without
    end. A crop is a function of (seed, step, its number); every second of the pairs is equally likely."""

    def __init__(self, pairs: Sequence[StudentPair], *, samples: int, batch_size: int, seed: int) -> None:
        self.pairs, self.samples, self.batch_size, self.seed = list(pairs), samples, batch_size, seed
        self.ends = np.cumsum([pair.take.shape[0] for pair in self.pairs])
        self.start_step, self.share = 0, range(batch_size)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()  # DataLoader takes from its workers in turn
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in itertools.count(self.start_step + first, stride):
            yield self.batch(step)

    def batch(self, step: int) -> Batch:
        crops = [self._crop(np.random.default_rng([self.seed, step, number])) for number in self.share]
        takes, mixes, knobs = zip(*crops, strict=True)
        return tuple(torch.from_numpy(np.stack(each)) for each in (takes, mixes, knobs))  # type: ignore[return-value]

    def _crop(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        for _ in range(LOUDEST_TRIES):
            pair = self.pairs[int(np.searchsorted(self.ends, random.integers(self.ends[-1]), side="right"))]
            start = int(random.integers(max(1, pair.take.shape[0] - self.samples + 1)))
            mix = _cut(pair.mix, start, self.samples)
            if np.abs(mix).max() >= SILENT_PEAK:
                break
        return _cut(pair.take, start, self.samples), mix, pair.knobs


def _cut(sound: np.ndarray, start: int, samples: int) -> np.ndarray:
    """int16 […, whole] → float32 […, samples], silence after its end."""
    piece = sound[..., start : start + samples].astype(np.float32) / 32767
    behind = samples - piece.shape[-1]
    return np.pad(piece, [(0, 0)] * (piece.ndim - 1) + [(0, behind)])
