"""Training of the denoiser and its conditioner on pairs of latents, in one process or many (Accelerate)."""

from __future__ import annotations

import math
import signal
import time
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from audio.errors import InputError
from restyler.building import TrainingModel, build_model
from restyler.checkpoints import RunFolder, step_of
from restyler.config import DenoiserConfig
from restyler.draws import ShareSampler, TrainingExamples, ValidationExamples, plainly
from restyler.export import export_pipeline, exported_step
from restyler.material import Material, load_material
from restyler.optimisation import learning_rate, parameter_groups
from restyler.processes import in_step, make_accelerator, one_verdict
from restyler.stopping import StopRequest
from restyler.tracking import check_tracking, start_tracking


@dataclass
class Progress:
    """Where a run stands; rides in every checkpoint."""

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    loss_sum: float = 0.0
    losses: int = 0
    seconds: float = 0.0


def train(config: DenoiserConfig, run_dir: Path) -> int:
    """Trains until config.training.steps, from the newest checkpoint of the run folder where there is one.

    Returns the exit code: 0 when done, 128 + signal (143 for SIGTERM, 130 for SIGINT) when stopped, with a checkpoint
    of the last finished step. Raises InputError for unusable data, another config's run folder, and a run that
    diverged. The run folder is bound to config and data only when both have proved usable.
    """
    accelerator = make_accelerator(config)
    accelerator.print(f"processes: {accelerator.num_processes}, on {accelerator.device.type}")
    run, facts = RunFolder(run_dir), config.model_dump(mode="json")
    run.check("config", facts)
    with one_verdict():
        if accelerator.is_main_process:
            check_tracking(config)
    material = load_material(config, accelerator)
    run.check("data", material.facts)
    material.codec.to(accelerator.device)
    model = build_model(config, material.codec, material.train.styles)
    if config.start.kind == "random":  # a saved model keeps the scale that its weights were trained in
        model.denoiser.set_residual_std(material.statistics.residual_std)
    with one_verdict():
        if accelerator.is_main_process:
            run.claim("config", facts)
            run.claim("data", material.facts)
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
        with one_verdict():
            if self.accelerator.is_main_process:
                start_tracking(self.accelerator, config, self.run)
                if progress.step and exported_step(self.run.pipeline) != progress.step:
                    self._export()  # it was deleted, or a kill came between checkpoint and export
        stop = StopRequest()
        started = time.monotonic() - progress.seconds
        batches = in_step(plainly(self._batches(progress.step)), self.accelerator)
        shown = self.accelerator.is_main_process
        with ExitStack() as ending:
            ending.callback(stop.restore)
            bar = ending.enter_context(
                tqdm(total=steps, initial=progress.step, unit="step", mininterval=1.0, disable=not shown)
            )
            if progress.step == 0:  # untrained, the estimate is the raw take: what later losses are to be compared with
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
        with one_verdict():
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
            self._export()
        self.accelerator.wait_for_everyone()

    def _export(self) -> None:
        material = self.material
        self._use_ema()
        export_pipeline(
            self.run.pipeline,
            material.codec,
            self.model,
            material.statistics,
            self.config,
            loudness_lufs=material.loudness_lufs,
            step=self.progress.step,
        )
        self._leave_ema()

    def _resume(self) -> None:
        checkpoint = self.run.newest()
        if self.accelerator.is_main_process:
            self.run.forget_after(step_of(checkpoint) if checkpoint else -1)
        if checkpoint is None:
            return
        state = self.run.load(checkpoint)
        try:
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.ema.load_state_dict(state["ema"])
            if [p.shape for p in self.ema.shadow_params] != [p.shape for p in self.model.parameters()]:
                raise ValueError("its averaged weights have other shapes")
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.progress = Progress(**state["progress"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{checkpoint}: not a checkpoint of this config's model: {reason}") from None
        self.ema.to(self.accelerator.device)
        self.accelerator.print(f"resuming after step {self.progress.step} from {checkpoint}")
