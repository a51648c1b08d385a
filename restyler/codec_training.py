"""Training of the pocket codec: reconstruction under latent noise, and, if asked for, against a discriminator."""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from audio.errors import InputError
from codec.balancer import LossBalancer
from codec.discriminator import MultiScaleSTFTDiscriminator, discriminator_loss, generator_losses
from codec.losses import reconstruction_losses
from codec.pocket import PocketCodec
from restyler.building import read_pocket_codec
from restyler.checkpoints import RunFolder, replace_folder
from restyler.codec_config import CodecConfig, FineTuneSection
from restyler.codec_data import ExcerptStream, excerpt_streams
from restyler.codec_start import latent_statistics, start_from_principal_components
from restyler.optimisation import learning_rate
from restyler.seeds import generator, seeded
from restyler.stopping import StopRequest

STATISTICS_BATCHES = 50


class NoisyRoundTrip(nn.Module):
    """Encoder, Gaussian noise in units of each channel's standard deviation, decoder: what is trained.

    The noise makes the decoder forgiving towards a denoiser's small errors, and keeps the encoder from hiding
    information in digits that no denoiser will ever get right.
    """

    def __init__(self, codec: PocketCodec, *, frozen_encoder: bool) -> None:
        super().__init__()
        self.codec, self.frozen_encoder = codec, frozen_encoder

    def forward(self, audio: torch.Tensor, noise: torch.Tensor, noise_std: torch.Tensor) -> torch.Tensor:
        """audio [batch 2 samples], noise [batch latent frames], noise_std [batch] → audio [batch 2 samples]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_encoder):
            latents = self.codec.encode_frames(audio)
        std = latents.detach().std(dim=(0, 2), keepdim=True)
        return self.codec.decode_frames(latents + noise * std * noise_std[:, None, None])


def sdr_db(reference: torch.Tensor, estimate: torch.Tensor) -> torch.Tensor:
    """Signal-to-distortion ratio over all channels, [batch], in dB."""
    error = (reference - estimate).square().sum((1, 2))
    return 10 * torch.log10(reference.square().sum((1, 2)).clamp_min(1e-9) / error.clamp_min(1e-9))


def step_if_finite(optimiser: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], clip: float) -> float:
    """A step with the gradient's norm limited to `clip`, or none where it is not finite; the norm before that."""
    norm = float(nn.utils.clip_grad_norm_(parameters, clip))
    if math.isfinite(norm):
        optimiser.step()
    return norm


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


def train_codec(config: CodecConfig, run_dir: Path) -> int:
    """Trains until config.training.steps, from the newest checkpoint of the run folder where there is one; the codec
    is exported to RUN/codec with every checkpoint.

    Returns the exit code: 0 when done, 128 + signal when stopped. Raises InputError for unusable data or run folder.
    """
    accelerator = Accelerator()
    if accelerator.num_processes > 1:
        raise InputError(f"a codec is trained by one process, not {accelerator.num_processes}")
    run = RunFolder(run_dir)
    facts = config.model_dump(mode="json")
    run.check("config", facts)
    sizes = PocketCodec(**config.codec.model_dump())
    streams = excerpt_streams(
        config.data,
        sample_rate=sizes.sample_rate,
        hop_samples=sizes.hop_samples,
        seed=config.seed,
        batch_size=config.training.batch_size,
        crop_s=config.training.crop_s,
    )
    run.claim("config", facts)
    return CodecTrainer(config, run, accelerator, *streams).run_to_end()


class CodecTrainer:
    """One run: codec, optional discriminator, their optimisers, EMA, and the loop over steps."""

    def __init__(
        self,
        config: CodecConfig,
        run: RunFolder,
        accelerator: Accelerator,
        training: ExcerptStream,
        validation: ExcerptStream,
    ) -> None:
        self.config, self.run, self.accelerator = config, run, accelerator
        self.training, self.validation = training, validation
        checkpoint = run.newest()
        self.codec = build_codec_to_train(config, None if checkpoint else training).to(accelerator.device)
        self.frozen = isinstance(config.start, FineTuneSection) and config.start.frozen_encoder
        self.model = NoisyRoundTrip(self.codec, frozen_encoder=self.frozen)
        self.trained = [p for n, p in self.codec.named_parameters() if not (self.frozen and n.startswith("encoder"))]
        self.optimiser = torch.optim.AdamW(
            self.trained, lr=config.optim.lr, betas=config.optim.betas, weight_decay=config.optim.weight_decay
        )
        self.ema = EMAModel(
            self.codec.parameters(), decay=config.ema.decay, use_ema_warmup=True, power=config.ema.warmup_power
        )
        self.parts: dict[str, object] = {"codec": self.codec, "optimiser": self.optimiser, "ema": self.ema}
        if config.adversarial is not None:
            self._add_discriminator()
        self.step = 0
        if checkpoint:
            state = run.load(checkpoint)
            for name, part in self.parts.items():
                part.load_state_dict(state[name])  # type: ignore[attr-defined]
            self.ema.to(accelerator.device)
            self.step = state["step"]
            accelerator.print(f"resuming after step {self.step} from {checkpoint}")
        run.forget_after(self.step)

    def _add_discriminator(self) -> None:
        chosen = self.config.adversarial
        assert chosen is not None
        # The package's three scales with both channels as one input; EnCodec's paper has five, and hears each alone.
        with seeded(self.config.seed, "discriminator"):
            self.discriminator = MultiScaleSTFTDiscriminator(filters=chosen.filters, in_channels=2, out_channels=1)
        self.discriminator.to(self.accelerator.device)
        self.discriminator_optimiser = torch.optim.AdamW(
            self.discriminator.parameters(), lr=chosen.lr, betas=self.config.optim.betas
        )
        weights = {name: weight for name, weight in self.config.losses.model_dump().items() if weight}
        self.balancer = LossBalancer(weights | {"adversarial": chosen.adversarial, "feature": chosen.feature})
        self.parts |= {
            "discriminator": self.discriminator,
            "discriminator_optimiser": self.discriminator_optimiser,
            "balancer": self.balancer,
        }

    def run_to_end(self) -> int:
        config = self.config
        steps = config.training.steps
        stop = StopRequest()
        self.training.start_step = self.step
        loader = DataLoader(self.training, batch_size=None, num_workers=config.training.workers)
        started, first = time.monotonic(), self.step
        logged = self.step
        sums: dict[str, float] = {}
        bar = tqdm(total=steps, initial=self.step, unit="step", mininterval=1.0)
        batches = iter(loader)
        while self.step < steps:
            for name, value in self.train_step(next(batches).to(self.accelerator.device)).items():
                sums[name] = sums.get(name, 0.0) + value
            self.step += 1
            bar.update()
            done = self.step == steps
            if done or self.step % config.training.log_every == 0:
                rate = (self.step - first) / (time.monotonic() - started)
                row = {name: value / (self.step - logged) for name, value in sums.items()}
                self.run.log({"step": self.step} | row | {"steps_per_s": rate})
                bar.set_postfix(loss=f"{row['loss']:.3f}")
                sums, logged = {}, self.step
            if done or self.step % config.validation.every == 0:
                self.run.log({"step": self.step} | self.validate())
            if done or stop.signal is not None or self.step % config.training.save_every == 0:
                self._save()
            if stop.signal is not None and not done:
                break
        bar.close()
        stop.restore()
        if self.step < steps:
            return 128 + (stop.signal or signal.SIGTERM)
        self.accelerator.print(f"trained codec: {self.run.path / 'codec'}")
        return 0

    def train_step(self, audio: torch.Tensor) -> dict[str, float]:
        """One step on [batch 2 samples]; what it measured, as numbers for the log."""
        config = self.config
        rate = learning_rate(self.step, config.training.steps, config.optim)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        frames = audio.shape[-1] // self.codec.hop_samples
        draws = generator(config.seed, "latent noise", self.step)
        noise = torch.randn(len(audio), self.codec.latent_dim, frames, generator=draws).to(audio.device)
        noise_std = (config.training.latent_noise * torch.rand(len(audio), generator=draws)).to(audio.device)
        output = self.model(audio, noise, noise_std)
        terms = reconstruction_losses(audio, output, sample_rate=self.codec.sample_rate)
        weights = {name: weight for name, weight in config.losses.model_dump().items() if weight}
        losses = {name: terms[name].mean() for name in weights}
        measured = {name: float(term.detach().mean()) for name, term in terms.items()}
        if config.adversarial is None:
            loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
            measured["loss"] = float(loss.detach())
        else:
            rivals = discriminator_loss(self.discriminator, audio, output)
            self.discriminator_optimiser.zero_grad(set_to_none=True)
            rivals.backward()
            rivals_norm = step_if_finite(self.discriminator_optimiser, self.discriminator.parameters(), math.inf)
            measured["discriminator_grad_norm"] = rivals_norm
            losses |= generator_losses(self.discriminator, audio, output)
            measured |= {name: float(value.detach()) for name, value in (losses | {"discriminator": rivals}).items()}
            measured["loss"] = math.fsum(weight * measured[name] for name, weight in self.balancer.weights.items())
            loss = self.balancer(losses, output)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = step_if_finite(self.optimiser, self.trained, config.optim.clip)
        if math.isfinite(norm):
            self.ema.step(self.codec.parameters())
        measured |= {"grad_norm": norm, "lr": rate, "skipped": float(not math.isfinite(norm))}
        return measured | {"sdr_db": float(sdr_db(audio, output.detach()).median())}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Noise-free round trip of the EMA weights on fixed excerpts of files never trained on."""
        self.ema.store(self.codec.parameters())
        self.ema.copy_to(self.codec.parameters())
        found: dict[str, list[float]] = {}
        for number in range(self.config.validation.batches):
            audio = self.validation.batch(number).to(self.accelerator.device)
            output = self.codec.decode_frames(self.codec.encode_frames(audio))
            terms = reconstruction_losses(audio, output, sample_rate=self.codec.sample_rate)
            for name, values in (terms | {"sdr_db": sdr_db(audio, output)}).items():
                found.setdefault(f"val_{name}", []).extend(values.tolist())
        self.ema.restore(self.codec.parameters())
        return {name: sum(values) / len(values) for name, values in found.items()}

    @torch.no_grad()
    def _save(self) -> None:
        state = {name: part.state_dict() for name, part in self.parts.items()}  # type: ignore[attr-defined]
        self.run.save(self.step, state | {"step": self.step}, keep=self.config.training.keep)
        exported = copy.deepcopy(self.codec)  # its statistics are no part of the training state
        self.ema.copy_to(exported.parameters())
        if not self.frozen:  # else they would become another codec's latents
            plain = self.training.without_augmentation()
            batches = [plain.batch(number).to(self.accelerator.device) for number in range(STATISTICS_BATCHES)]
            exported.set_statistics(*latent_statistics(exported, batches))
        replace_folder(self.run.path / "codec", exported.save_pretrained)
