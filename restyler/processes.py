"""The processes of a run: how the work is shared by them, and how they come to one verdict about bad input."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    DistributedType,
    DynamoBackend,
    FullyShardedDataParallelPlugin,
    InitProcessGroupKwargs,
    gather_object,
    parse_flag_from_env,
)
from accelerate.utils.memory import should_reduce_batch_size

from audio.errors import InputError

P = ParamSpec("P")
T = TypeVar("T")
FIRST_TO_TELL_S = 20.0
ENCODING_TIMEOUT = timedelta(hours=24)  # processes wait for each other while a large set is encoded for the first time


PRECISION_NAMES = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}
FAST_BF16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")  # instructions of CPUs, as torch names them


def precision_on(device: torch.device, precision: str) -> str:
    """What `training.precision` means on a device: `auto` is bf16 where the device has bf16 arithmetic, else no.

    Emulated, bf16 is right but slow: a CPU without it took twelve times as long for a convolution as in float32
    (docs/log.md).
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and any(torch.cpu.get_capabilities().get(name) for name in FAST_BF16)
    return "bf16" if fast else "no"


def training_device() -> torch.device:
    """Where Accelerate computes, for this process. Raises InputError where the launcher's settings can't be read."""
    try:
        return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=ENCODING_TIMEOUT).device
    except ValueError as error:
        raise InputError(f"ACCELERATE_USE_CPU: {error}") from None


def make_accelerator(*, precision: str, batch_size: int, parts: int) -> Accelerator:
    """Its mixed_precision is what `precision_on` makes of the precision.

    Raises InputError for a precision that the device lacks, and a batch that the processes can't share.
    """
    precision = precision_on(training_device(), precision)
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=ENCODING_TIMEOUT)],
        )
    except ValueError as error:
        raise InputError(f"training.precision: {error}") from None
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != launched:  # each would train alone, into the same folder
        raise InputError(
            f"{launched} processes were launched, and Accelerate runs {accelerator.num_processes}: without a GPU"
            " it needs ACCELERATE_USE_CPU=true"
        )
    if accelerator.gradient_accumulation_steps != 1 or accelerator.state.dynamo_plugin.backend != DynamoBackend.NO:
        raise InputError(
            "the launcher's own config asks for gradient accumulation or compilation: leave both to"
            " training.accumulation and training.compile"
        )
    on_gpu = accelerator.device.type == "cuda"  # where Accelerate is content with emulation
    if precision == "bf16" and on_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError(f"training.precision: {torch.cuda.get_device_name()} has no bf16; fp16 works")
    _shard_if_asked(accelerator)
    if precision == "fp16" and accelerator.device.type == "cpu":  # Accelerate would ignore it silently
        raise InputError("training.precision: fp16 needs a GPU; no and bf16 work on a CPU")
    if batch_size % (accelerator.num_processes * parts):
        raise InputError(
            f"training.batch_size: {batch_size} examples can't be shared evenly by"
            f" {accelerator.num_processes} processes × {parts} parts"
        )
    return accelerator


def _shard_if_asked(accelerator: Accelerator) -> None:
    """FSDP2 as the launcher's config asks for it, on CPUs too, of which Accelerate thinks that they can't.

    Computation keeps to autocast, as without shards: FSDP's own policy would compute the loss in half precision.
    """
    state = accelerator.state
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true" and state.num_processes > 1:
        if state.distributed_type == DistributedType.MULTI_CPU:
            state.fsdp_plugin = FullyShardedDataParallelPlugin()
            state.distributed_type = DistributedType.FSDP
        if not state.is_fsdp2:
            raise InputError("fsdp_config.fsdp_version: only 2 is supported, as in configs/accelerate/fsdp2.yaml")
        state.fsdp_plugin.mixed_precision_policy = None


def peak_memory_gib(device: torch.device) -> float:
    """The most that this process has held: tensors on a GPU, else all its memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of what the system counts in
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def told_of_memory(work: Callable[P, T]) -> Callable[P, T]:
    """Around a whole training: running out of memory raises InputError, with what to change."""

    @wraps(work)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return work(*args, **kwargs)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or should_reduce_batch_size(error):
                raise InputError(
                    "out of memory; raise training.accumulation (the same batch in more parts), set"
                    " training.gradient_checkpointing=true, or shard the weights over processes"
                    " (configs/accelerate/fsdp2.yaml); restyler train CONFIG --find-batch-size tells what fits"
                ) from None
            raise

    return checked


def tell(accelerator: Accelerator, line: str) -> None:
    """Prints a line once: `Accelerator.print` does on every machine."""
    if accelerator.is_main_process:
        print(line, flush=True)


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


def in_step(batches: Iterable[T], accelerator: Accelerator) -> Iterator[T]:
    """The batches of this process, of which every process has as many; an InputError that any of them meets is raised
    by all at the same batch, so that none is left waiting for another's gradient."""
    if accelerator.num_processes == 1:
        yield from batches
        return
    iterator = iter(batches)
    while True:
        problem, batch = "", None
        try:
            batch = next(iterator, None)
        except InputError as error:
            problem = str(error)
        flag = torch.tensor(float(bool(problem)), device=accelerator.device)
        if accelerator.reduce(flag, reduction="sum") > 0:  # one number for each batch: a line of text costs far more
            with one_verdict():
                if problem:
                    raise InputError(problem)
        if batch is None:
            return
        yield batch


@contextmanager
def told_once() -> Iterator[None]:
    """Around all that a launcher's process does: an InputError that all of them come to is told by the first alone.

    It ends, and the launcher ends the others while they wait here; only one that is alone with its verdict gets to tell
    it too.
    """
    try:
        yield
    except InputError:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(FIRST_TO_TELL_S)
        raise
