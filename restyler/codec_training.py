"""Training of the pocket codec: reconstruction under latent noise, and, if asked for, against a discriminator."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from audio.errors import InputError
from audio.waveform import Waveform
from codec.balancer import LossBalancer
from codec.discriminator import MultiScaleSTFTDiscriminator, discriminator_loss, generator_losses
from codec.losses import reconstruction_losses
from codec.pocket import PocketCodec
from restyler.building import read_pocket_codec
from restyler.checkpoints import CHANGEABLE_ON_RESUME, RunFolder, replace_folder
from restyler.codec_config import CodecConfig, FineTuneSection
from restyler.codec_data import ExcerptStream, excerpt_streams
from restyler.codec_levels import lacking_gains
from restyler.codec_start import latent_statistics, start_from_principal_components
from restyler.environment import environment
from restyler.export import STEP
from restyler.loop import GRAD_NORM, LOSS, Loop, Measured, Validated, claim, tracked
from restyler.model_folder import write_manifest
from restyler.optimisation import Optimisation
from restyler.pictures import stacked
from restyler.processes import make_accelerator, one_verdict, told_of_memory
from restyler.seeds import generator, seeded
from restyler.stopping import leave_to_parent
from restyler.tracking import check_tracking

STATISTICS_BATCHES = 50


class NoisyRoundTrip(nn.Module):
    """Encoder, Gaussian noise in units of each channel's standard deviation, decoder: what is trained.

    The noise makes the decoder forgiving towards a denoiser's small errors, and keeps the encoder from hiding
    information in digits that no denoiser will ever get right.
    """

    def __init__(
        self,
        codec: PocketCodec,
        *,
        frozen_encoder: bool,
        over_all: Callable[[torch.Tensor], torch.Tensor] = lambda mean: mean,
    ) -> None:
        """over_all: from means over this process's share of the batch to those over the whole batch."""
        super().__init__()
        self.codec, self.frozen_encoder, self.over_all = codec, frozen_encoder, over_all

    def forward(self, audio: torch.Tensor, noise: torch.Tensor, noise_std: torch.Tensor) -> torch.Tensor:
        """audio [batch 2 samples], noise [batch latent frames], noise_std [batch] → audio [batch 2 samples]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_encoder):
            latents = self.codec.encode_frames(audio)
        fixed = latents.detach()
        mean, mean_square = self.over_all(torch.stack([fixed.mean((0, 2)), fixed.square().mean((0, 2))]))
        std = (mean_square - mean.square()).clamp_min(0).sqrt()[:, None]
        return self.codec.decode_frames(latents + noise * std * noise_std[:, None, None])


def sdr_db(reference: torch.Tensor, estimate: torch.Tensor) -> torch.Tensor:
    """Signal-to-distortion ratio over all channels, [batch], in dB."""
    error = (reference - estimate).square().sum((1, 2))
    return 10 * torch.log10(reference.square().sum((1, 2)).clamp_min(1e-9) / error.clamp_min(1e-9))


def build_codec_to_train(config: CodecConfig, stream: ExcerptStream | None) -> PocketCodec:
    """A codec at its start: principal components of the stream's excerpts (random without a stream), or a saved one."""
    sizes = config.codec.model_dump()
    if isinstance(config.start, FineTuneSection):
        codec = read_pocket_codec(Path(config.start.path), "start.path")
        different = [f"{key} is {codec.config[key]}" for key in sizes if codec.config[key] != sizes[key]]
        if different:
            raise InputError(f"start.path: the codec of {config.start.path} has other sizes: {', '.join(different)}")
        return codec.train()
    with seeded(config.seed, "weights"):
        codec = PocketCodec(**sizes)
        if stream is not None:
            batches = [stream.batch(number) for number in range(config.start.batches)]
            start_from_principal_components(codec, batches, components=config.start.components)
    return codec


@told_of_memory
def train_codec(config: CodecConfig, run_dir: Path) -> int:
    """Trains until config.training.steps, from the newest checkpoint of the run folder where there is one; the codec
    is exported to RUN/codec with every checkpoint.

    Returns the exit code: 0 when done, 128 + signal when stopped. Raises InputError for unusable data or run folder.
    """
    training = config.training
    accelerator = make_accelerator(precision="no", batch_size=training.batch_size, parts=1)
    if accelerator.state.is_fsdp2:
        raise InputError("a codec is small: it is trained by DDP, without FSDP")
    run, facts = RunFolder(run_dir), config.model_dump(mode="json")
    run.check("config", facts, changeable=CHANGEABLE_ON_RESUME)
    with one_verdict():
        if accelerator.is_main_process:
            check_tracking(config.tracking)
    sizes = PocketCodec(**config.codec.model_dump())
    with one_verdict():
        streams = excerpt_streams(
            config.data,
            sample_rate=sizes.sample_rate,
            hop_samples=sizes.hop_samples,
            seed=config.seed,
            batch_size=training.batch_size,
            crop_s=training.crop_s,
        )
        codec = build_codec_to_train(config, None if run.newest() else streams[0])
    claim(run, accelerator, facts)
    task = CodecTask(config, accelerator, codec, *streams)
    about = {"config": facts, "environment": environment(accelerator.device)}
    with tracked(config.tracking, run, about, accelerator) as tracking:
        return Loop(task, config, run, accelerator, tracking).run_to_end()


class CodecTask:
    """A codec and, if asked for, the discriminator that it is trained against; see `restyler.loop.Task`."""

    product = "codec"

    def __init__(
        self,
        config: CodecConfig,
        accelerator: Accelerator,
        codec: PocketCodec,
        training: ExcerptStream,
        validation: ExcerptStream,
    ) -> None:
        self.config, self.accelerator, self.codec = config, accelerator, codec
        self.training, self.validation = training, validation
        share = config.training.batch_size // accelerator.num_processes
        self.share = range(accelerator.process_index * share, (accelerator.process_index + 1) * share)
        self.frozen = isinstance(config.start, FineTuneSection) and config.start.frozen_encoder
        for name, parameter in codec.named_parameters():
            parameter.requires_grad_(not (self.frozen and name.startswith("encoder")))
        trained = [parameter for parameter in codec.parameters() if parameter.requires_grad]
        groups = [{"params": trained, "weight_decay": config.optim.weight_decay}]
        model = NoisyRoundTrip(codec, frozen_encoder=self.frozen, over_all=self._mean_over_all)
        self.optimisation = Optimisation(model, groups, accelerator, config.optim, config.ema)
        self.weights = {name: weight for name, weight in config.losses.model_dump().items() if weight}
        self.rival: Optimisation | None = None
        if config.adversarial is not None:
            self.rival = self._discriminator()

    def _discriminator(self) -> Optimisation:
        chosen = self.config.adversarial
        assert chosen is not None
        # The package's three scales with both channels as one input; EnCodec's paper has five, and hears each alone.
        with seeded(self.config.seed, "discriminator"):
            self.discriminator = MultiScaleSTFTDiscriminator(filters=chosen.filters, in_channels=2, out_channels=1)
        self.balancer = LossBalancer(self.weights | {"adversarial": chosen.adversarial, "feature": chosen.feature})
        groups = [{"params": list(self.discriminator.parameters())}]
        return Optimisation(self.discriminator, groups, self.accelerator, self.config.optim, None, lr=chosen.lr)

    def batches(self, first_step: int) -> Iterable[torch.Tensor]:
        self.training.start_step, self.training.share = first_step, self.share
        workers = self.config.training.workers
        return DataLoader(self.training, batch_size=None, num_workers=workers, worker_init_fn=leave_to_parent)

    def backward(self, step: int, batches: Iterator[torch.Tensor]) -> Measured:
        """With a discriminator, its own step comes first: the codec is told what the discriminator has just learnt."""
        audio = next(batches).to(self.accelerator.device)
        noise, noise_std = self._noise(step, audio.shape[-1] // self.codec.hop_samples)
        output = self.optimisation.wrapped(audio, noise, noise_std)
        terms = reconstruction_losses(audio, output, sample_rate=self.codec.sample_rate)
        found = {name: term.detach().mean() for name, term in terms.items()}
        losses = {name: terms[name].mean() for name in self.weights}
        if self.rival is None:
            loss = torch.stack([self.weights[name] * value for name, value in losses.items()]).sum()
            found[LOSS] = loss.detach()
        else:
            found |= self._rival_step(audio, output)
            losses |= generator_losses(self.discriminator, audio, output, over_all=self._mean_over_all)
            found |= {name: value.detach() for name, value in losses.items()}
            found[LOSS] = torch.stack([w * found[name] for name, w in self.balancer.weights.items()]).sum()
            loss = self.balancer(losses, output, over_all=self._squares_over_all)
        self.optimisation.backward(loss)
        found[GRAD_NORM] = self.optimisation.clip()
        found["sdr_db"] = sdr_db(audio, output.detach()).mean()
        return {name: (value, 1.0) for name, value in found.items()}

    def _noise(self, step: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise for this process's share of the batch, and how much of it, as one process would draw them for all."""
        training, share, device = self.config.training, self.share, self.accelerator.device
        draws = generator(self.config.seed, "latent noise", step)
        noise = torch.randn(training.batch_size, self.codec.latent_dim, frames, generator=draws)
        noise_std = training.latent_noise * torch.rand(training.batch_size, generator=draws)
        return noise[share.start : share.stop].to(device), noise_std[share.start : share.stop].to(device)

    def _rival_step(self, audio: torch.Tensor, output: torch.Tensor) -> dict[str, torch.Tensor]:
        chosen, rival = self.config.adversarial, self.rival
        assert chosen is not None and rival is not None
        loss = discriminator_loss(rival.wrapped, audio, output)
        rival.backward(loss)
        norm = rival.clip(math.inf)
        rival.step(chosen.lr, finite=bool(norm.isfinite()))
        return {"discriminator": loss.detach(), "discriminator_grad_norm": norm}

    def _mean_over_all(self, mean: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(mean, reduction="mean")

    def _squares_over_all(self, squares: torch.Tensor) -> torch.Tensor:
        """The loss of the whole batch is the mean of the processes' losses, and so is its gradient."""
        return self._mean_over_all(squares) / self.accelerator.num_processes

    def update(self, lr: float, *, finite: bool) -> None:
        self.optimisation.step(lr, finite=finite)

    @torch.no_grad()
    def validate(self) -> Validated:
        """Noise-free round trip of the averaged weights on fixed excerpts of files never trained on."""
        found: dict[str, list[float]] = {}
        sounds: dict[str, Waveform] = {}
        with self.optimisation.averaged():
            for number in range(self.config.validation.batches):
                audio = self.validation.batch(number).to(self.accelerator.device)
                output = self.codec.decode_frames(self.codec.encode_frames(audio))
                terms = reconstruction_losses(audio, output, sample_rate=self.codec.sample_rate)
                for name, values in (terms | {"sdr_db": sdr_db(audio, output)}).items():
                    found.setdefault(f"val_{name}", []).extend(values.tolist())
                for name, side in (("original", audio), ("decoded", output)) if number == 0 else ():
                    sounds[name] = Waveform(torch.cat(list(side.cpu()), dim=-1), self.codec.sample_rate)
        means = {name: sum(column) / len(column) for name, column in found.items()}
        return Validated(means, sounds, {"original over decoded": stacked([sounds["original"]], [sounds["decoded"]])})

    @torch.no_grad()
    def export(self, folder: Path, step: int) -> None:
        if not self.accelerator.is_main_process:
            return
        with self.optimisation.averaged():
            exported = copy.deepcopy(self.codec)  # its statistics are no part of the training state
        share = self.config.training.level_share
        if not self.frozen or share:
            plain = self.training.without_augmentation()
            batches = [plain.batch(number).to(self.accelerator.device) for number in range(STATISTICS_BATCHES)]
        if not self.frozen:  # else they would become another codec's latents
            exported.set_statistics(*latent_statistics(exported, batches))
        if share:
            exported.raise_bins(lacking_gains(exported, batches) ** share)

        def write(fresh: Path) -> None:
            exported.save_pretrained(fresh)
            write_manifest(fresh)
            (fresh / STEP).write_text(str(step))

        replace_folder(folder, write)

    def state(self) -> dict[str, Any]:
        state = {"codec": self.optimisation.state()}
        if self.rival is not None:
            state |= {"discriminator": self.rival.state(), "balancer": self.balancer.state_dict()}
        return state

    def load(self, state: dict[str, Any]) -> None:
        self.optimisation.load(state["codec"])
        if self.rival is not None:
            self.rival.load(state["discriminator"])
            self.balancer.load_state_dict(state["balancer"])
