"""How large a batch a device takes: what `restyler train CONFIG --find-batch-size` tries and tells."""

from __future__ import annotations

import torch
from accelerate.utils import find_executable_batch_size
from torch.utils.data import default_collate

from audio.errors import InputError
from restyler.building import build_model
from restyler.config import DenoiserConfig
from restyler.draws import TrainingExamples
from restyler.loop import Task
from restyler.material import load_material
from restyler.processes import make_accelerator
from restyler.training import DenoiserTask

PROCESSES = (1, 2, 4, 8, 16)


def batch_that_fits(config: DenoiserConfig) -> str:
    """Tries whole steps of ever smaller parts of the batch, and says which training.accumulation makes parts that fit,
    for one process and for several on devices like this one.

    Raises InputError where training would, for several processes, and where not even one example fits.
    """
    whole = config.model_copy(update={"training": config.training.model_copy(update={"accumulation": 1})})
    batch_size = config.training.batch_size
    accelerator = make_accelerator(precision=config.training.precision, batch_size=batch_size, parts=1)
    if accelerator.num_processes > 1:
        raise InputError("--find-batch-size: for one process; it tells what several need")
    material = load_material(config, accelerator)
    material.codec.to(accelerator.device)
    model = build_model(config, material.codec, material.train.styles)
    task = DenoiserTask(whole, accelerator, material, model)
    examples = TrainingExamples(material.train, config)
    fits = largest_executable(task, examples, batch_size)
    lines = [f"on {accelerator.device}, {fits} of {batch_size} examples of {config.training.crop_s:g} s fit at once:"]
    for processes in PROCESSES:
        if batch_size % processes == 0:
            share = batch_size // processes
            parts = next(parts for parts in divisors(share) if share // parts <= fits)
            lines.append(f"  training.accumulation={parts} for {processes} process{'es' if processes > 1 else ''}")
    return "\n".join(lines)


def largest_executable(task: Task, examples: TrainingExamples, batch_size: int) -> int:
    """How many examples one step can hold, of the sizes that divide batch_size."""
    sizes = iter([batch_size // parts for parts in divisors(batch_size)][1:])

    def attempt(size: int) -> int:
        for step in range(3):  # the second one finds the optimiser's moments in memory
            batch = default_collate([examples[number] for number in range(size)])
            task.backward(step, iter([batch | {"t": torch.ones(size)}]))  # with the spectral loss, where there is one
            task.update(0.0, finite=True)
        return size

    search = find_executable_batch_size(attempt, batch_size, lambda: next(sizes, 0))
    try:
        return int(search())
    except RuntimeError as error:
        if "reached zero" not in str(error):
            raise
        message = "out of memory with a single example: shorten training.crop_s or make the denoiser smaller"
        raise InputError(message) from None


def divisors(number: int) -> list[int]:
    return [candidate for candidate in range(1, number + 1) if number % candidate == 0]
