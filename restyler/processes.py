"""The processes of a run: how the work is shared by them, and how they come to one verdict about bad input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object

from audio.errors import InputError
from restyler.config import DenoiserConfig
from restyler.tracking import TRACKER

ENCODING_TIMEOUT = timedelta(hours=24)  # processes wait for each other while a large set is encoded for the first time


def make_accelerator(config: DenoiserConfig) -> Accelerator:
    """Raises InputError for a precision that the device lacks, and a batch that the processes can't share."""
    try:
        accelerator = Accelerator(
            mixed_precision=config.training.precision,
            log_with=None if config.tracking.wandb == "off" else TRACKER,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=ENCODING_TIMEOUT)],
        )
    except ValueError as error:
        raise InputError(f"training.precision: {error}") from None
    if config.training.precision == "fp16" and accelerator.device.type == "cpu":  # Accelerate would ignore it silently
        raise InputError("training.precision: fp16 needs a GPU; no and bf16 work on a CPU")
    shares = accelerator.num_processes * config.training.accumulation
    if config.training.batch_size % shares:
        raise InputError(
            f"training.batch_size: {config.training.batch_size} examples can't be shared evenly by"
            f" {accelerator.num_processes} processes × {config.training.accumulation} parts"
        )
    return accelerator


@contextmanager
def one_verdict() -> Iterator[None]:
    """Every process enters; an InputError that any of them meets inside is raised by all.

    Else the others would wait for the one that gave up, and end with a timeout's traceback instead of its line.
    """
    problems: list[str] = []
    try:
        yield
    except InputError as error:
        problems = [str(error)]
    problems = gather_object(problems)
    if problems:
        raise InputError(problems[0])
