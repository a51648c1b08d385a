"""Training of the denoiser and its conditioner on pairs of latents, in one process or many (Accelerate)."""

from __future__ import annotations

import math
import signal
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object, send_to_device
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from audio.errors import InputError
from restyler.building import TrainingModel, build_model
from restyler.checkpoints import RunFolder
from restyler.config import DenoiserConfig
from restyler.draws import ShareSampler, TrainingExamples, ValidationExamples
from restyler.export import export_pipeline
from restyler.material import Material, load_material
from restyler.optimisation import learning_rate, parameter_groups
from restyler.stopping import StopRequest

TRACKER = "wandb"
ENCODING_TIMEOUT = timedelta(hours=24)  # processes wait for each other while a large set is encoded for the first time


@dataclass
class Progress:
    """Where a run stands; rides in every checkpoint."""

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    loss_sum: float = 0.0
    losses: int = 0
    seconds: float = 0.0


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


def train(config: DenoiserConfig, run_dir: Path) -> int:
    """Trains until config.training.steps, from the newest checkpoint of the run folder where there is one.

    Returns the exit code: 0 when done, 128 + signal (143 for SIGTERM, 130 for SIGINT) when stopped, with a checkpoint
    of the last finished step. Raises InputError for unusable data, another config's run folder, and a run that
    diverged.
    """
    accelerator = make_accelerator(config)
    run = RunFolder(run_dir)
    with accelerator.main_process_first():
        run.claim("config", config.model_dump(mode="json"))
    material = load_material(config, accelerator)
    with accelerator.main_process_first():
        run.claim("data", material.facts)
    model = build_model(config, material.codec, material.train.styles)
    model.denoiser.set_residual_std(material.statistics.residual_std)
    trainer = Trainer(config, run, accelerator, material, model)
    try:
        return trainer.run_to_end()
    finally:
        accelerator.end_training()


class Trainer:
    """One run: model, optimiser, EMA, progress, and the loop over steps."""

    def __init__(
        self, config: DenoiserConfig, run: RunFolder, accelerator: Accelerator, material: Material, model: TrainingModel
    ) -> None:
        self.config, self.run, self.accelerator, self.material, self.model = config, run, accelerator, material, model
        self.progress = Progress()
        optimiser = torch.optim.AdamW(
            parameter_groups(model, config.optim.weight_decay), lr=config.optim.lr, betas=config.optim.betas
        )
        model.to(accelerator.device)
        self.ema = EMAModel(
            model.parameters(), decay=config.ema.decay, use_ema_warmup=True, power=config.ema.warmup_power, foreach=True
        )
        self.wrapped, self.optimiser = accelerator.prepare(model, optimiser)
        self._resume()

    def run_to_end(self) -> int:
        config, progress = self.config, self.progress
        steps = config.training.steps
        self._start_tracking()
        stop = StopRequest()
        started = time.monotonic() - progress.seconds
        batches = iter(self._batches(progress.step))
        bar = tqdm(
            total=steps,
            initial=progress.step,
            unit="step",
            mininterval=1.0,
            disable=not self.accelerator.is_main_process,
        )
        if progress.step == 0:  # untrained, the estimate is the raw take: what all later losses are to be compared with
            self._log(self.validate())
        while progress.step < steps:
            lr = learning_rate(progress.step, steps, config.optim)
            loss, grad_norm, stopped = self._step(batches, lr, stop)
            progress.step += 1
            progress.seconds = time.monotonic() - started
            bar.update()
            self._count(loss, grad_norm)
            done = progress.step == steps
            if done or progress.step % config.tracking.log_every == 0:
                bar.set_postfix(loss=f"{self._log_training(lr, grad_norm):.4f}")
            if done or progress.step % config.validation.every == 0:
                self._log(self.validate())
            if done or stopped or progress.step % config.training.save_every == 0:
                self._save()
            if stopped and not done:
                break
        bar.close()
        stop.restore()
        if progress.step < steps:
            return 128 + (stop.signal or signal.SIGTERM)
        self.accelerator.print(f"trained pipeline: {self.run.pipeline}")
        return 0

    def _step(self, batches: Any, lr: float, stop: StopRequest) -> tuple[float, float, bool]:
        """One optimiser step over the global batch: mean loss, gradient norm, and whether any process was stopped."""
        accelerator, accumulation = self.accelerator, self.config.training.accumulation
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=accelerator.device)
        for part in range(accumulation):
            batch = send_to_device(next(batches), accelerator.device)
            last = part == accumulation - 1
            with nullcontext() if last else accelerator.no_sync(self.wrapped):
                part_loss = self.wrapped(batch).mean() / accumulation
                accelerator.backward(part_loss)
            loss += part_loss.detach().float()
        grad_norm = accelerator.clip_grad_norm_(self.model.parameters(), self.config.optim.clip)
        # Every process must come to the same decisions, so they share loss and stop request.
        shared = torch.stack([loss, torch.tensor(float(stop.signal is not None), device=loss.device)])
        mean_loss, stopped = accelerator.reduce(shared, reduction="mean").tolist()
        finite = math.isfinite(mean_loss) and math.isfinite(float(grad_norm))
        if finite or accelerator.scaler is not None:  # the scaler of fp16 skips by itself, and must see it to adapt
            self.optimiser.step()
        if finite:
            self.ema.step(self.model.parameters())
        return mean_loss, float(grad_norm), stopped > 0

    def _count(self, loss: float, grad_norm: float) -> None:
        progress = self.progress
        if math.isfinite(loss) and math.isfinite(grad_norm):
            progress.loss_sum += loss
            progress.losses += 1
            progress.skipped_in_a_row = 0
            return
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        if progress.skipped_in_a_row > self.config.training.max_skipped:
            raise InputError(
                f"{self.run.path}: loss or gradient was not finite for {progress.skipped_in_a_row} steps"
                f" in a row, up to step {progress.step}; lower optim.lr or look at the data; the newest"
                f" checkpoint is {self.run.newest() or 'none'}"
            )

    def _batches(self, first: int) -> DataLoader:
        training, accelerator = self.config.training, self.accelerator
        sampler = ShareSampler(
            first, training.steps, training.batch_size, accelerator.process_index, accelerator.num_processes
        )
        return DataLoader(
            TrainingExamples(self.material.train, self.config),
            sampler=sampler,
            num_workers=training.workers,
            batch_size=sampler.share // training.accumulation,
            pin_memory=accelerator.device.type == "cuda",
        )

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss of the EMA weights on fixed crops, draws and times: `val_loss`, and `val_loss_t0.2` … per bucket."""
        accelerator, settings = self.accelerator, self.config.validation
        examples = ValidationExamples(self.material.validation, self.config)
        mine = list(range(len(examples)))[accelerator.process_index :: accelerator.num_processes]
        share = self.config.training.batch_size // accelerator.num_processes // self.config.training.accumulation
        loader = DataLoader(examples, sampler=mine, batch_size=share)
        self._use_ema()
        found: list[tuple[int, float]] = []
        for batch in loader:
            losses = self.model(send_to_device(batch, accelerator.device))
            found += zip(batch["bucket"].tolist(), losses.tolist(), strict=True)
        self._leave_ema()
        by_bucket: list[list[float]] = [[] for _ in range(settings.buckets)]
        for bucket, loss in sorted(gather_object(found)):
            by_bucket[bucket].append(loss)
        means = [math.fsum(losses) / len(losses) for losses in by_bucket]
        row = {f"val_loss_t{(bucket + 1) / settings.buckets:.2g}": mean for bucket, mean in enumerate(means)}
        return {"val_loss": math.fsum(means) / len(means)} | row

    def _use_ema(self) -> None:
        self.ema.store(self.model.parameters())
        self.ema.copy_to(self.model.parameters())

    def _leave_ema(self) -> None:
        self.ema.restore(self.model.parameters())

    def _log_training(self, lr: float, grad_norm: float) -> float:
        progress, training = self.progress, self.config.training
        loss = progress.loss_sum / progress.losses if progress.losses else math.nan
        seen_s = progress.step * training.batch_size * training.crop_s
        self._log(
            {
                "loss": loss,
                "lr": lr,
                "grad_norm": grad_norm,
                "skipped": progress.skipped,
                "seconds": progress.seconds,
                "audio_s_per_s": seen_s / progress.seconds,
            }
        )
        progress.loss_sum, progress.losses = 0.0, 0
        return loss

    def _log(self, values: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            # JSON has no NaN: what is not a number is not there.
            self.run.log({"step": self.progress.step} | {k: v if math.isfinite(v) else None for k, v in values.items()})
        self.accelerator.log(values, step=self.progress.step)

    def _start_tracking(self) -> None:
        tracking = self.config.tracking
        if tracking.wandb == "off" or not self.accelerator.is_main_process:
            return
        options = {
            "mode": tracking.wandb,
            "dir": str(self.run.path),
            "name": self.run.path.name,
            "id": self.run.identity(),
            "resume": "allow",
        }
        self.accelerator.init_trackers(tracking.project, self.config.model_dump(mode="json"), {TRACKER: options})

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            self.run.save(
                self.progress.step,
                {
                    "model": self.model.state_dict(),
                    "ema": self.ema.state_dict(),
                    "progress": asdict(self.progress),
                    "optimiser": self.optimiser.state_dict(),
                    "scaler": scaler.state_dict() if scaler else None,
                },
                keep=self.config.training.keep,
            )
            self._use_ema()
            export_pipeline(self.run.pipeline, self.material.codec, self.model, self.material.statistics, self.config)
            self._leave_ema()
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        checkpoint = self.run.newest()
        if self.accelerator.is_main_process:
            self.run.forget_after(int(checkpoint.name.removeprefix("step_")) if checkpoint else -1)
        if checkpoint is None:
            return
        state = self.run.load(checkpoint)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.ema.load_state_dict(state["ema"])
        self.ema.to(self.accelerator.device)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])
        self.accelerator.print(f"resuming after step {self.progress.step} from {checkpoint}")
