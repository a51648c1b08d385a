"""The loop that every training goes through: steps, signals, checkpoints, validation, and what is written down."""

from __future__ import annotations

import hashlib
import math
import shutil
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from tqdm import tqdm

from audio.errors import InputError
from audio.io import write
from audio.waveform import Waveform
from restyler.checkpoints import CHANGEABLE_ON_RESUME, RunFolder, replace_folder, step_of
from restyler.command import one_line
from restyler.config import Config
from restyler.draws import plainly
from restyler.export import exported_step
from restyler.optimisation import learning_rate
from restyler.processes import in_step, one_verdict, peak_memory_gib, tell
from restyler.sections import TrackingSection
from restyler.stopping import StopRequest
from restyler.tracking import Tracking

T = TypeVar("T")
BEST = "best"  # the folder of the best weights, beside that of the newest
LOSS, GRAD_NORM = "loss", "grad_norm"  # what every task measures in every step
Measured = dict[str, tuple[torch.Tensor, float]]  # by name: a sum over this process's examples, and its weight


@dataclass(frozen=True)
class Validated:
    """What a validation found. sounds and pictures: of fixed takes, by name. whole: nothing failed; else the values are
    of what was left, and no reason to call these weights the best."""

    values: dict[str, float]
    sounds: dict[str, Waveform] = field(default_factory=dict)
    pictures: dict[str, Any] = field(default_factory=dict)
    whole: bool = True


@dataclass(frozen=True)
class Computation:
    """What the network itself computes in a step, over all processes, and what their devices could at most, in FLOP and
    FLOP/s; None where that isn't known."""

    flops_per_step: float
    peak_flops: float | None


class Task(Protocol):
    """What is trained. All methods are called by every process, in the same order."""

    product: str  # the name of what is exported: a folder of the run

    def batches(self, first_step: int) -> Iterable[Any]:
        """This process's share of the data from step first_step on."""

    def backward(self, step: int, batches: Iterator[Any]) -> Measured:
        """Takes what one step needs from `batches` and leaves its gradient over the global batch; what was measured,
        LOSS and GRAD_NORM among it, always under the same names."""

    def update(self, lr: float, *, finite: bool) -> None:
        """Moves the weights by the gradient, or drops it."""

    def validate(self) -> Validated:
        """With the averaged weights."""

    def export(self, folder: Path, step: int) -> None:
        """Writes the averaged weights as what users load."""

    def state(self) -> dict[str, Any]:
        """All that a later run needs to go on bit by bit."""

    def load(self, state: dict[str, Any]) -> None: ...


@dataclass
class Progress:
    """Where a run stands; rides in every checkpoint."""

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    seconds: float = 0.0
    best: float = math.inf
    sums: dict[str, float] = field(default_factory=dict)  # since the last row of the log
    weights: dict[str, float] = field(default_factory=dict)


@dataclass
class Pace:
    """Wall-clock time since the last row of the log; no part of a run's state."""

    steps: int = 0
    training_s: float = 0.0
    waiting_s: float = 0.0


def claim(run: RunFolder, accelerator: Accelerator, config: dict[str, Any], data: dict[str, Any] | None = None) -> None:
    """Binds the run folder to the config, and to the data where what they are is known; tells what has changed."""
    with one_verdict():
        if accelerator.is_main_process:
            for change in run.claim("config", config, changeable=CHANGEABLE_ON_RESUME):
                print(f"changed since this run began: {change}")
            if data is not None:
                run.claim("data", data)


@contextmanager
def tracked(
    section: TrackingSection, run: RunFolder, facts: dict[str, Any], accelerator: Accelerator
) -> Iterator[Tracking | None]:
    """The record of a run while it lasts, on the main process. facts: config, data and environment."""
    with one_verdict():
        tracking = Tracking.begin(section, run, **facts) if accelerator.is_main_process else None
    with tracking or nullcontext():
        yield tracking


class Loop:
    """One run of one task, from the newest checkpoint of its folder where there is one."""

    def __init__(
        self,
        task: Task,
        config: Config,
        run: RunFolder,
        accelerator: Accelerator,
        tracking: Tracking | None,
        computation: Computation | None = None,
    ) -> None:
        """tracking: on the main process alone."""
        self.task, self.config, self.computation = task, config, computation
        self.run, self.accelerator, self.tracking = run, accelerator, tracking
        self.main = accelerator.is_main_process
        self.progress, self.pace = Progress(), Pace()
        self._told: dict[str, str] = {}  # digests of the sounds that the trackers know, by name
        self._resume()

    def run_to_end(self) -> int:
        """The exit code: 0 when done, 128 + signal when stopped, with a checkpoint of the last finished step.

        Raises InputError for data that can't be read, a run that diverges, and a full disk.
        """
        progress, config = self.progress, self.config
        steps = config.training.steps
        stop = StopRequest()
        started = time.monotonic() - progress.seconds
        batches = in_step(self._timed(plainly(self.task.batches(progress.step))), self.accelerator)
        with ExitStack() as ending:
            ending.callback(stop.restore)
            bar = ending.enter_context(
                tqdm(total=steps, initial=progress.step, unit="step", mininterval=1.0, disable=not self.main)
            )
            if not self.resumed:  # what later values are to be compared with, and may never be surpassed
                self._save(self._validate())
            while progress.step < steps:
                stopped = self._step(batches, stop)
                progress.seconds = time.monotonic() - started
                bar.update()
                done = progress.step == steps
                if done or progress.step % config.tracking.log_every == 0:
                    bar.set_postfix(loss=f"{self._log_training():.4f}")
                score = None
                if done or progress.step % config.validation.every == 0:
                    score = self._validate()
                    stopped = stopped or self._is_asked(stop)  # hearing takes may take a while
                if done or stopped or progress.step % config.training.save_every == 0 or self._is_best(score):
                    self._save(score)
                if stopped and not done:
                    return 128 + (stop.signal or signal.SIGTERM)
        if self.tracking is not None:
            self.tracking.model(self.run.path / self.task.product, progress.step)
        tell(self.accelerator, f"trained {self.task.product}: {self.run.path / self.task.product}")
        return 0

    def _timed(self, batches: Iterable[T]) -> Iterator[T]:
        iterator = iter(batches)
        while True:
            asked = time.monotonic()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.pace.waiting_s += time.monotonic() - asked
            yield batch

    def _step(self, batches: Iterator[Any], stop: StopRequest) -> bool:
        """One step over the global batch; whether any process was asked to stop."""
        progress, began = self.progress, time.monotonic()
        lr = learning_rate(progress.step, self.config.training.steps, self.config.optim)
        measured = self.task.backward(progress.step, batches)
        values, stopped = self._shared(measured, stop)
        finite = all(math.isfinite(values[name]) for name in (LOSS, GRAD_NORM))
        self.task.update(lr, finite=finite)
        progress.step += 1
        self.pace.steps += 1
        self.pace.training_s += time.monotonic() - began
        self._count(values, measured, lr=lr, finite=finite)
        return stopped

    def _shared(self, measured: Measured, stop: StopRequest) -> tuple[dict[str, float], bool]:
        """Means over all processes, which all of them must know to come to the same decisions, and any stop request."""
        device = self.accelerator.device
        sums = [value.detach().to(device, torch.float64) for value, _ in measured.values()]
        weights = torch.tensor([weight for _, weight in measured.values()], dtype=torch.float64, device=device)
        request = torch.tensor([float(stop.signal is not None)], dtype=torch.float64, device=device)
        row = self.accelerator.reduce(torch.cat([torch.stack(sums), weights, request]), reduction="sum").tolist()
        self._weights = dict(zip(measured, row[len(sums) : -1], strict=True))
        means = {
            name: total / weight if weight else math.nan
            for name, total, weight in zip(measured, row, self._weights.values(), strict=False)
        }
        return means, row[-1] > 0

    def _count(self, values: dict[str, float], measured: Measured, *, lr: float, finite: bool) -> None:
        progress = self.progress
        progress.sums["lr"], progress.weights["lr"] = lr, 1.0  # of the last step; all else is averaged
        if finite:
            progress.skipped_in_a_row = 0
            for name in measured:
                if math.isfinite(values[name]):
                    weight = self._weights[name]
                    progress.sums[name] = progress.sums.get(name, 0.0) + weight * values[name]
                    progress.weights[name] = progress.weights.get(name, 0.0) + weight
            return
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        if progress.skipped_in_a_row > self.config.training.max_skipped:
            newest = self.run.newest()
            raise InputError(
                f"{self.run.path}: loss or gradient was not finite for {progress.skipped_in_a_row} steps"
                f" in a row, up to step {progress.step}; lower optim.lr or look at the data; the newest"
                f" checkpoint is {newest or 'none'}"
            )

    def _log_training(self) -> float:
        """A row of means since the last one, with how fast it went; the mean loss."""
        progress, pace, training = self.progress, self.pace, self.config.training
        row = {LOSS: math.nan, GRAD_NORM: math.nan}  # where every step was skipped
        row |= {name: total / progress.weights[name] for name, total in progress.sums.items()}
        row |= {"skipped": progress.skipped, "seconds": progress.seconds}
        row |= {"audio_s_per_s": pace.steps * training.batch_size * training.crop_s / pace.training_s}
        row |= {"data_wait": pace.waiting_s / pace.training_s, "memory_gib": peak_memory_gib(self.accelerator.device)}
        if self.computation is not None:
            flops_per_s = pace.steps * self.computation.flops_per_step / pace.training_s
            row["tflops_per_s"] = flops_per_s / 1e12
            if self.computation.peak_flops is not None:
                row["mfu"] = flops_per_s / self.computation.peak_flops
        self._log(row)
        progress.sums, progress.weights, self.pace = {}, {}, Pace()
        return row[LOSS]

    def _validate(self) -> float | None:
        """Writes down what validation finds; the value that the best weights are chosen by."""
        found = self.task.validate()
        self._log(found.values)
        with one_verdict():
            if self.main and (found.sounds or found.pictures):
                self._show(found)
        # What is heard, the main process hears alone.
        (score,) = broadcast_object_list([found.values.get(self.config.validation.best) if found.whole else None])
        return score

    def _show(self, found: Validated) -> None:
        """Keeps the newest sounds and pictures, and tells the trackers of those that they don't know yet."""
        heard, step = self.run.path / "heard", self.progress.step
        try:
            replace_folder(heard, lambda folder: _keep(found, folder, step))
        except OSError as error:
            raise InputError(f"{heard}: can't be written: {error.strerror or error}") from None
        if self.tracking is None:
            return
        known = self._told
        new = {name: sound for name, sound in found.sounds.items() if known.get(name) != _digest(sound)}
        self._told = known | {name: _digest(sound) for name, sound in new.items()}
        self.tracking.sounds(new, step)
        self.tracking.pictures(found.pictures, step)

    def _is_asked(self, stop: StopRequest) -> bool:
        """Whether any process was asked to stop."""
        request = torch.tensor(float(stop.signal is not None), device=self.accelerator.device)
        return bool(self.accelerator.reduce(request, reduction="sum") > 0)

    def _is_best(self, score: float | None) -> bool:
        return score is not None and math.isfinite(score) and score < self.progress.best

    def _log(self, values: dict[str, float]) -> None:
        if not self.main:
            return
        # JSON has no NaN: what is not a number is not there.
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.run.log({"step": self.progress.step} | finite)
        if self.tracking is not None:
            self.tracking.scalars(finite, self.progress.step)

    def _save(self, score: float | None) -> None:
        best = self._is_best(score)
        if best:
            assert score is not None
            self.progress.best = score
        state = {"task": self.task.state(), "progress": asdict(self.progress)}
        with one_verdict():
            if self.main:
                usable = score if score is not None and math.isfinite(score) else None
                self.run.save(self.progress.step, state, keep=self.config.training.keep, score=usable)
        self._export(self.task.product)
        if best:
            with one_verdict(), self._writing(BEST) as folder:
                if self.main:
                    replace_folder(folder, self._copy_product)

    def _copy_product(self, folder: Path) -> None:
        shutil.copytree(self.run.path / self.task.product, folder)

    @contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        folder = self.run.path / name
        try:
            yield folder
        except (OSError, SafetensorError) as error:
            raise InputError(f"{folder}: can't be written; the checkpoint is safe: {one_line(error)[:200]}") from None

    def _export(self, name: str) -> None:
        with one_verdict(), self._writing(name) as folder:
            self.task.export(folder, self.progress.step)

    def _resume(self) -> None:
        """Goes on from the newest intact checkpoint. What it and the best one were exported to is made anew where it is
        missing, damaged or of another step: deleted, or a kill came between checkpoint and export."""
        places: list[Path | None] = [None, None]
        stale = [False, False]
        with one_verdict():
            if self.main:
                places[1], _, remarks = self.run.newest_intact(set_aside=True)
                for remark in remarks:
                    print(remark)
                best = self.run.best()
                places[0] = best[0] if best else None
                for index, name in enumerate((BEST, self.task.product)):
                    place, there = places[index], exported_step(self.run.path / name)
                    stale[index] = place is not None and there != step_of(place)
                self.run.forget_after(step_of(places[1]) if places[1] else -1)
        places, stale = broadcast_object_list([places, stale])
        self.resumed = places[1] is not None
        if places[0] is not None and stale[0]:
            self._load(places[0])
            self._export(BEST)
        if places[1] is not None:
            self._load(places[1])
        if stale[1]:
            self._export(self.task.product)
        if self.resumed:
            tell(self.accelerator, f"resuming after step {self.progress.step} from {places[1]}")

    def _load(self, place: Path) -> None:
        with one_verdict():
            state = self.run.load(place)
            try:
                self.task.load(state["task"])
                self.progress = Progress(**state["progress"])
            except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{place}: not a checkpoint of this config's model: {one_line(error)[:200]}") from None


def _digest(sound: Waveform) -> str:
    return hashlib.sha256(sound.samples.cpu().numpy().tobytes()).hexdigest()


def _keep(found: Validated, folder: Path, step: int) -> None:
    """Sounds as FLAC and pictures as PNG; a name may hold a folder. One gain for all keeps them within full scale."""
    peak = max((float(sound.samples.abs().max()) for sound in found.sounds.values()), default=1.0)
    for name, sound in found.sounds.items():
        path = folder / f"{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, Waveform(sound.samples / max(1.0, peak), sound.sample_rate), tags={"step": str(step)})
    for name, picture in found.pictures.items():
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
