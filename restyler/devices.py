"""Where a model runs."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from audio.errors import InputError


def pick_device(name: str) -> torch.device:
    """auto: the first GPU, or the CPU where there is none; else the device of that name: cpu, cuda or cuda:N.

    Raises InputError for a device that is unknown or absent.
    """
    gpus = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    there = ["cpu"] + ["cuda"] * bool(gpus) + [f"cuda:{i}" for i in range(gpus)]
    if name not in there:
        raise InputError(f"device {name!r} is not there (allowed here: auto, {', '.join(there)})")
    return torch.device(name)


def finished_work(device: torch.device) -> Callable[[], None]:
    """What waits until all that was asked of a device is done, for a `Stopwatch`; a CPU is done when it is asked."""
    return functools.partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
