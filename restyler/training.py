"""Training of the denoiser and its conditioner on pairs of latents, in one process or many (Accelerate)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch.utils.data import DataLoader, default_collate

from restyler.audition import Auditions
from restyler.building import TrainingModel, build_model, compile_blocks
from restyler.checkpoints import CHANGEABLE_ON_RESUME, RunFolder
from restyler.config import DenoiserConfig
from restyler.draws import ShareSampler, TrainingExamples, ValidationExamples
from restyler.environment import environment
from restyler.export import export_pipeline, make_pipeline
from restyler.flops import peak_flops, training_flops
from restyler.loop import GRAD_NORM, LOSS, Computation, Loop, Measured, Validated, claim, tracked
from restyler.material import Material, load_material
from restyler.optimisation import Optimisation, parameter_groups
from restyler.processes import (
    PRECISION_NAMES,
    in_step,
    make_accelerator,
    one_verdict,
    precision_on,
    tell,
    told_of_memory,
    training_device,
)
from restyler.stopping import leave_to_parent
from restyler.tracking import check_tracking


@told_of_memory
def train(config: DenoiserConfig, run_dir: Path) -> int:
    """Trains until config.training.steps, from the newest checkpoint of the run folder where there is one.

    Returns the exit code: 0 when done, 128 + signal (143 for SIGTERM, 130 for SIGINT) when stopped, with a checkpoint
    of the last finished step. Raises InputError for unusable data, another config's run folder, and a run that
    diverged. The run folder is bound to config and data only when both have proved usable.
    """
    config = settled(config)
    training = config.training
    accelerator = make_accelerator(
        precision=training.precision, batch_size=training.batch_size, parts=training.accumulation
    )
    computed = PRECISION_NAMES[accelerator.mixed_precision]
    tell(accelerator, f"processes: {accelerator.num_processes}, on {accelerator.device.type}, in {computed}")
    if accelerator.state.is_fsdp2:
        tell(
            accelerator, f"weights, moments and average are sharded over {accelerator.num_processes} processes (FSDP2)"
        )
    run, facts = RunFolder(run_dir), config.model_dump(mode="json")
    run.check("config", facts, changeable=CHANGEABLE_ON_RESUME)
    with one_verdict():
        if accelerator.is_main_process:
            check_tracking(config.tracking)
    material = load_material(config, accelerator)
    run.check("data", material.facts)
    material.codec.to(accelerator.device)
    model = build_model(config, material.codec, material.train.styles)
    if config.start.kind == "random":  # a saved model keeps the scale that its weights were trained in
        model.denoiser.set_residual_std(material.statistics.residual_std)
    claim(run, accelerator, facts, material.facts)
    if material.auditions:
        lengths_s = [take.raw.samples.shape[1] / take.raw.sample_rate for take in material.auditions]
        tell(accelerator, f"restyled at each validation: {len(lengths_s)} takes, {sum(lengths_s):.1f} s in all")
    computation = computation_of(config, material, model, accelerator)
    task = DenoiserTask(config, accelerator, material, model)
    facts = {"config": facts | {"data_facts": material.facts}, "environment": environment(accelerator.device)}
    with tracked(config.tracking, run, facts, accelerator) as tracking:
        return Loop(task, config, run, accelerator, tracking, computation).run_to_end()


def settled(config: DenoiserConfig) -> DenoiserConfig:
    """With the precision that `auto` means here, which a run keeps: resumed elsewhere, it is another config."""
    precision = precision_on(training_device(), config.training.precision)
    return config.model_copy(update={"training": config.training.model_copy(update={"precision": precision})})


def computation_of(
    config: DenoiserConfig, material: Material, model: TrainingModel, accelerator: Accelerator
) -> Computation:
    training = config.training
    card = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else "CPU"
    peak = peak_flops(card, accelerator.mixed_precision)
    # One example at any time but the start: the network's share, without the decoding of a spectral loss.
    example = default_collate([TrainingExamples(material.train, config)[0]]) | {"t": torch.tensor([0.5])}
    return Computation(
        training.batch_size * training_flops(model, example), peak * accelerator.num_processes if peak else None
    )


class DenoiserTask:
    """Denoiser and conditioner; see `restyler.loop.Task`."""

    product = "pipeline"

    def __init__(
        self, config: DenoiserConfig, accelerator: Accelerator, material: Material, model: TrainingModel
    ) -> None:
        self.config, self.accelerator, self.material, self.model = config, accelerator, material, model
        if config.training.compile:
            compile_blocks(model)
        groups = parameter_groups(model, config.optim.weight_decay)
        self.optimisation = Optimisation(model, groups, accelerator, config.optim, config.ema)
        self.auditions = None
        if accelerator.is_main_process and material.auditions:
            self.auditions = Auditions(material.auditions, material.codec, seeds=config.validation.seeds)

    def batches(self, first_step: int) -> Iterable[dict[str, torch.Tensor]]:
        training, accelerator = self.config.training, self.accelerator
        sampler = ShareSampler(
            first_step, training.steps, training.batch_size, accelerator.process_index, accelerator.num_processes
        )
        return DataLoader(
            TrainingExamples(self.material.train, self.config),
            sampler=sampler,
            num_workers=training.workers,
            worker_init_fn=leave_to_parent,
            batch_size=sampler.share // training.accumulation,
            pin_memory=accelerator.device.type == "cuda",
        )

    def backward(self, step: int, batches: Iterator[dict[str, torch.Tensor]]) -> Measured:
        accelerator, accumulation = self.accelerator, self.config.training.accumulation
        losses, times = [], []
        for part in range(accumulation):
            batch = send_to_device(next(batches), accelerator.device)
            last = part == accumulation - 1
            with nullcontext() if last else accelerator.no_sync(self.optimisation.wrapped):
                of_part = self.optimisation.wrapped(batch)
                self.optimisation.backward(of_part.mean() / accumulation)
            losses.append(of_part.detach().float())
            times.append(batch["t"])
        norm = self.optimisation.clip()
        return self._measured(torch.cat(losses), torch.cat(times)) | {GRAD_NORM: (norm, 1.0)}

    def _measured(self, losses: torch.Tensor, times: torch.Tensor) -> Measured:
        """The mean loss, and that of each bucket of t: `loss_t0.2` is of t from 0 to .2, the last one holds t = 1."""
        buckets = self.config.validation.buckets
        bucket = (times * buckets).ceil().long().clamp(1, buckets)
        found: Measured = {LOSS: (losses.sum(), float(len(losses)))}
        for number in range(1, buckets + 1):
            here = bucket == number
            found[f"loss_t{number / buckets:.2g}"] = (losses[here].sum(), float(here.sum()))
        return found

    def update(self, lr: float, *, finite: bool) -> None:
        self.optimisation.step(lr, finite=finite)

    def validate(self) -> Validated:
        """Loss on fixed crops, draws and times: `val_loss`, and `val_loss_t0.2` … per bucket; and what the main
        process hears of fixed takes."""
        with self.optimisation.averaged():
            values = self._validation_losses()
            weights = self.optimisation.weights() if self.material.auditions else {}
        if self.auditions is None:
            return Validated(values)
        heard = self.auditions.hear(self._pipeline(weights).to(self.accelerator.device))
        return Validated(values | heard.values, heard.sounds, heard.pictures, whole=not heard.values["val_failed"])

    @torch.no_grad()
    def _validation_losses(self) -> dict[str, float]:
        accelerator, settings, training = self.accelerator, self.config.validation, self.config.training
        examples = ValidationExamples(self.material.validation, self.config)
        share = training.batch_size // accelerator.num_processes // training.accumulation
        # Every process computes as many batches (shards are gathered in each); what comes twice is left out below.
        rounds = math.ceil(len(examples) / (share * accelerator.num_processes))
        first = rounds * share * accelerator.process_index
        mine = [number % len(examples) for number in range(first, first + rounds * share)]
        found: list[tuple[int, float]] = []
        for batch in in_step(DataLoader(examples, sampler=mine, batch_size=share), accelerator):
            losses = self.optimisation.model(send_to_device(batch, accelerator.device))
            found += zip(batch["number"].tolist(), losses.tolist(), strict=True)
        by_bucket: list[list[float]] = [[] for _ in range(settings.buckets)]
        for number, loss in sorted(dict(gather_object(found)).items()):
            by_bucket[number % settings.buckets].append(loss)
        means = [math.fsum(losses) / len(losses) for losses in by_bucket]
        row = {f"val_loss_t{(bucket + 1) / settings.buckets:.2g}": mean for bucket, mean in enumerate(means)}
        return {"val_loss": math.fsum(means) / len(means)} | row

    def _pipeline(self, weights: dict[str, torch.Tensor]) -> Any:
        material = self.material
        return make_pipeline(
            material.codec,
            self.model,
            weights,
            material.statistics,
            self.config,
            loudness_lufs=material.loudness_lufs,
        )

    def export(self, folder: Path, step: int) -> None:
        with self.optimisation.averaged():
            weights = self.optimisation.weights()
        if self.accelerator.is_main_process:
            export_pipeline(folder, self._pipeline(weights), step=step)

    def state(self) -> dict[str, Any]:
        return self.optimisation.state()

    def load(self, state: dict[str, Any]) -> None:
        self.optimisation.load(state)
