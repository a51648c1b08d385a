"""What training draws for every example, and the order of examples: functions of (seed, step, example) alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch.utils.data import Dataset, Sampler

from audio.errors import InputError
from diffusion.loss import sample_times
from restyler.config import BridgePath, DenoiserConfig
from restyler.data import Example, Examples
from restyler.seeds import generator

T = TypeVar("T")


class TrainingExamples(Dataset[Example]):
    """Example number n of a run: crop, time, σ, noise and guidance dropout, each from its own generator."""

    def __init__(self, pairs: Examples, config: DenoiserConfig) -> None:
        self.pairs, self.config = pairs, config

    def __getitem__(self, number: int) -> Example:
        config = self.config
        example = self.pairs.numbered(number, seed=config.seed, purpose="crop")
        draws = generator(config.seed, "time", number)
        t = sample_times(1, generator=draws, **config.time.model_dump())
        return drop(example, config, generator(config.seed, "dropout", number)) | {
            "t": t[0],
            "sigma": draw_sigma(config, generator(config.seed, "sigma", number)),
            "noise": torch.randn(example["mix"].shape, generator=generator(config.seed, "noise", number)),
        }


class ValidationExamples(Dataset[Example]):
    """Fixed crops of the validation split, each at the end of every time bucket, with the same noise.

    The last bucket ends at t = 1: there the estimate is made from the raw take, the style and noise alone, as in the
    first step of sampling; at smaller t, z_t shows a part of the mix.
    """

    def __init__(self, pairs: Examples, config: DenoiserConfig) -> None:
        self.pairs, self.config = pairs, config

    def __len__(self) -> int:
        return self.config.validation.examples * self.config.validation.buckets

    def __getitem__(self, number: int) -> Example:
        take, bucket = divmod(number, self.config.validation.buckets)
        example = self.pairs.numbered(take, seed=self.config.seed, purpose="validation crop")
        return example | {
            "told": torch.tensor(True),
            "number": torch.tensor(number),
            "t": torch.tensor((bucket + 1) / self.config.validation.buckets),
            "sigma": draw_sigma(self.config, generator(self.config.seed, "validation sigma", take)),
            "noise": torch.randn(example["mix"].shape, generator=generator(self.config.seed, "validation noise", take)),
        }


def draw_sigma(config: DenoiserConfig, generator: torch.Generator) -> torch.Tensor:
    """σ of one example, uniform: it is a dial of the user, so every setting deserves the same share of training.

    (Log-uniform would spend most of it on small σ, where the seed hardly changes anything.) Path `noise` starts from
    pure noise, its σ is 1.
    """
    if not isinstance(config.path, BridgePath):
        return torch.tensor(1.0)
    low, high = config.path.sigma_min, config.path.sigma_max
    return low + (high - low) * torch.rand((), generator=generator)


def drop(example: Example, config: DenoiserConfig, generator: torch.Generator) -> Example:
    """Guidance dropout: label, reference and controls each with its own probability, and all of them together.

    Where controls are told, each is with probability one half: users set one or two of them and leave the rest open.
    `told` is False where nothing at all is told; the raw take always stays.
    """
    style, reference, controls, everything = torch.rand(4, generator=generator).tolist()
    changed = dict(example) | {"told": torch.tensor(everything >= config.dropout.all)}
    if style < config.dropout.style:
        changed["style"] = torch.full_like(example["style"], -1)
    if reference < config.dropout.reference:
        changed["reference"] = torch.zeros_like(example["reference"])
        changed["reference_frames"] = torch.zeros_like(example["reference_frames"])
    silent = torch.rand(len(example["controls"]), generator=generator) < 0.5
    changed["controls"] = example["controls"].masked_fill(silent | (controls < config.dropout.controls), torch.nan)
    return changed


class ShareSampler(Sampler[int]):
    """The example numbers that one process sees from step `first` to `steps`.

    Step s holds the examples s·B … s·B + B − 1 whatever the number of processes: each takes one contiguous share.
    """

    def __init__(self, first: int, steps: int, batch_size: int, process: int, processes: int) -> None:
        self.first, self.steps, self.batch_size = first, steps, batch_size
        self.process, self.share = process, batch_size // processes

    def __iter__(self) -> Iterator[int]:
        for step in range(self.first, self.steps):
            start = step * self.batch_size + self.process * self.share
            yield from range(start, start + self.share)

    def __len__(self) -> int:
        return (self.steps - self.first) * self.share


def plainly(batches: Iterable[T]) -> Iterator[T]:
    """The batches of a loader; an InputError that one of its worker processes met comes out as the line it was.

    PyTorch raises it here again, with the traceback of the worker as its text.
    """
    problem = ""
    try:
        yield from batches
    except InputError as error:
        problem = str(error).rpartition(f"{InputError.__module__}.{InputError.__qualname__}: ")[2].rstrip("\n")
        error.__traceback__ = None  # it holds the loader in a cycle: its processes would stay until a collection
    if problem:
        raise InputError(problem)
