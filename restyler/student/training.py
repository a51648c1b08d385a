"""Training of the live student on the sampler's mixes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from audio.errors import InputError
from audio.waveform import Waveform
from codec.losses import matched_level, spectral_losses
from restyler.checkpoints import CHANGEABLE_ON_RESUME, RunFolder, replace_folder
from restyler.environment import environment
from restyler.export import STEP
from restyler.loop import GRAD_NORM, LOSS, Loop, Measured, Validated, claim, tracked
from restyler.metrics import spectral_distance
from restyler.optimisation import Optimisation, parameter_groups
from restyler.pictures import stacked
from restyler.processes import make_accelerator, one_verdict, told_of_memory
from restyler.seeds import seeded
from restyler.stopping import leave_to_parent
from restyler.student.config import StudentConfig
from restyler.student.data import Batch, Crops, Distilled, StudentPair, read_distilled
from restyler.student.files import Student, build_student, save_student
from restyler.student.spectra import HOP_SAMPLES, SAMPLE_RATE_HZ
from restyler.tracking import check_tracking

FFT_SIZES = (512, 2048)  # of the loss; shorter windows than a frame of the network show what it can't change


@told_of_memory
def train_student(config: StudentConfig, run_dir: Path) -> int:
    """Trains until config.training.steps, from the newest checkpoint of the run folder where there is one; the student
    is exported to RUN/student with every checkpoint.

    Returns the exit code: 0 when done, 128 + signal when stopped. Raises InputError for unusable data or run folder.
    """
    accelerator = make_accelerator(precision="no", batch_size=config.training.batch_size, parts=1)
    if accelerator.state.is_fsdp2:
        raise InputError("a student is small: it is trained by DDP, without FSDP")
    run, facts = RunFolder(run_dir), config.model_dump(mode="json")
    run.check("config", facts, changeable=CHANGEABLE_ON_RESUME)
    with one_verdict():
        if accelerator.is_main_process:
            check_tracking(config.tracking)
    with one_verdict():
        data = read_distilled(Path(config.data.path))
    claim(run, accelerator, facts, {"pairs": data.digest, "styles": data.styles, "teacher": data.model})
    task = StudentTask(config, accelerator, data)
    about = {"config": facts, "environment": environment(accelerator.device)}
    with tracked(config.tracking, run, about, accelerator) as tracking:
        return Loop(task, config, run, accelerator, tracking).run_to_end()


class StudentTask:
    """A student; see `restyler.loop.Task`."""

    product = "student"

    def __init__(self, config: StudentConfig, accelerator: Accelerator, data: Distilled) -> None:
        self.config, self.accelerator, self.data = config, accelerator, data
        with seeded(config.seed, "weights"):
            self.network = build_student(config.student.model_dump(), data.styles)
        groups = parameter_groups(self.network, config.optim.weight_decay)
        self.optimisation = Optimisation(self.network, groups, accelerator, config.optim, config.ema)
        self.weights = {name: weight for name, weight in config.losses.model_dump().items() if weight}
        training = config.training
        self.run_up = round(training.run_up_s * SAMPLE_RATE_HZ)
        samples = self.run_up + max(1, round(training.crop_s * SAMPLE_RATE_HZ / HOP_SAMPLES)) * HOP_SAMPLES
        self.crops = Crops(data.train, samples=samples, batch_size=training.batch_size, seed=config.seed)
        share = training.batch_size // accelerator.num_processes
        self.crops.share = range(accelerator.process_index * share, (accelerator.process_index + 1) * share)

    def batches(self, first_step: int) -> Iterable[Batch]:
        self.crops.start_step = first_step
        workers = self.config.training.workers
        return DataLoader(self.crops, batch_size=None, num_workers=workers, worker_init_fn=leave_to_parent)

    def backward(self, step: int, batches: Iterator[Batch]) -> Measured:
        takes, mixes, knobs = (each.to(self.accelerator.device) for each in next(batches))
        loss, found = self._loss(mixes, self.optimisation.wrapped(takes, knobs))
        self.optimisation.backward(loss)
        found |= {LOSS: loss.detach(), GRAD_NORM: self.optimisation.clip()}
        return {name: (value, 1.0) for name, value in found.items()}

    def _loss(self, mixes: torch.Tensor, ours: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Over what comes after the run-up, in which network and room come to what they would be in a whole take."""
        sides = matched_level(mixes[..., self.run_up :], ours[..., self.run_up :])
        terms = spectral_losses(*sides, sample_rate=SAMPLE_RATE_HZ, fft_sizes=FFT_SIZES)
        loss = torch.stack([weight * terms[name].mean() for name, weight in self.weights.items()]).sum()
        return loss, {name: term.detach().mean() for name, term in terms.items()}

    def update(self, lr: float, *, finite: bool) -> None:
        self.optimisation.step(lr, finite=finite)

    @torch.no_grad()
    def validate(self) -> Validated:
        """The averaged weights on whole takes of voices never trained on: distance to the sampler's mixes, and, as
        `val_raw_…`, that of the takes as they are."""
        found: dict[str, list[float]] = {}
        sounds: dict[str, Waveform] = {}
        with self.optimisation.averaged():
            for pair in self.data.validation[: self.config.validation.pairs]:
                take, mix, knobs = self._whole(pair)
                ours = self.network(take, knobs)
                run_up, self.run_up = self.run_up, 0
                loss, _ = self._loss(mix, ours)
                self.run_up = run_up
                found.setdefault("val_loss", []).append(float(loss))
                for name, side in (("", ours), ("raw_", take[:, None].expand(-1, 2, -1))):
                    distance = spectral_distance(*(Waveform(each[0].cpu(), SAMPLE_RATE_HZ) for each in (mix, side)))
                    found.setdefault(f"val_{name}mss_lr", []).append(distance.lr)
                    found.setdefault(f"val_{name}mss_ms", []).append(distance.ms)
                if not sounds:
                    sounds = {"raw": Waveform(take.cpu(), SAMPLE_RATE_HZ)}
                    sounds |= {"sampler": Waveform(mix[0].cpu(), SAMPLE_RATE_HZ)}
                    sounds |= {"student": Waveform(ours[0].cpu(), SAMPLE_RATE_HZ)}
        means = {name: sum(column) / len(column) for name, column in found.items()}
        picture = stacked([sounds["sampler"]], [sounds["student"]])
        return Validated(means, sounds, {"sampler over student": picture})

    def _whole(self, pair: StudentPair) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        whole = (torch.from_numpy(each)[None].to(self.accelerator.device) for each in (pair.take, pair.mix, pair.knobs))
        take, mix, knobs = whole
        return take.float() / 32767, mix.float() / 32767, knobs

    def export(self, folder: Path, step: int) -> None:
        if not self.accelerator.is_main_process:
            return

        def write(fresh: Path) -> None:
            sizes = self.config.student.model_dump()
            save_student(fresh, Student(self.network, sizes, self.data.styles, self.data.model))
            (fresh / STEP).write_text(str(step))

        with self.optimisation.averaged():
            replace_folder(folder, write)

    def state(self) -> dict[str, Any]:
        return {"student": self.optimisation.state()}

    def load(self, state: dict[str, Any]) -> None:
        self.optimisation.load(state["student"])
