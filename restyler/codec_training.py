"""Training of the pocket codec: reconstruction under latent noise, started from principal components."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from codec.losses import reconstruction_losses
from codec.pocket import PocketCodec
from restyler.codec_data import ExcerptStream

WHITENING = 0.7  # share of a bin's level (in log) that the bin scale takes out before principal components


@torch.no_grad()
def start_from_principal_components(codec: PocketCodec, batches: list[torch.Tensor], *, components: int) -> None:
    """Set the bin scale and the linear path from data, so that training starts from the best linear code.

    batches: stereo excerpts [batch 2 samples]. The first `components` latent channels become whitened principal
    components of the scaled coefficients; the other channels are left to the networks.
    """
    shapes = []
    for batch in batches:
        coefficients, level = codec.analyse(batch)
        shapes.append(coefficients[level > math.log(1e-3)])
    shape = torch.cat(shapes)
    codec.bin_scale.copy_(shape.square().mean(0).sqrt().clamp_min(1e-5) ** WHITENING)
    y = (shape / codec.bin_scale).double()
    variance, vectors = torch.linalg.eigh(y.T @ y / len(y))
    vectors = vectors.flip(-1)[:, :components]
    std = variance.flip(-1)[:components].sqrt()
    codec.encoder_linear.weight.zero_()
    codec.decoder_linear.weight.zero_()
    codec.encoder_linear.weight[:components] = (vectors / std).T.float()
    codec.decoder_linear.weight[:, :components] = (vectors * std).float()
    nn.init.normal_(codec.encoder_out.weight[components:], std=0.05)


def noisy_reconstruction(
    codec: PocketCodec, audio: torch.Tensor, *, noise: torch.Tensor, noise_std: torch.Tensor, frozen_encoder: bool
) -> torch.Tensor:
    """Round trip [batch 2 samples] with Gaussian noise on the latents, in units of each channel's standard deviation.

    noise: [batch latent frames], standard normal; noise_std: [batch].
    """
    with torch.set_grad_enabled(not frozen_encoder):
        latents = codec.encode_frames(audio)
    std = latents.detach().std(dim=(0, 2), keepdim=True)
    return codec.decode_frames(latents + noise * std * noise_std[:, None, None])


@torch.no_grad()
def latent_statistics(codec: PocketCodec, batches: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Per-channel mean and standard deviation of the raw latents of active frames, each [latent]."""
    latents = torch.cat([codec.encode_frames(batch).transpose(1, 2).flatten(0, 1) for batch in batches])
    latents = latents[latents[:, 0] > math.log(1e-3)]
    return latents.mean(0), latents.std(0)


def learning_rate(step: int, *, peak: float, final: float, warmup_steps: int, steps: int) -> float:
    """Linear warm-up, then half a cosine from `peak` to `final`."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))


def save_checkpoint(path: Path, state: dict) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def train_codec(
    codec: PocketCodec,
    stream: ExcerptStream,
    run_dir: Path,
    *,
    steps: int,
    peak_lr: float,
    final_lr: float,
    warmup_steps: int,
    loss_weights: dict[str, float],
    noise_range: tuple[float, float],
    frozen_encoder: bool,
    save_every: int,
    log_every: int = 10,
) -> None:
    """Train until `steps`, resuming from the run folder's checkpoint where there is one."""
    run_dir.mkdir(parents=True, exist_ok=True)
    checkpoint = run_dir / "checkpoint.pt"
    trained = [p for n, p in codec.named_parameters() if not (frozen_encoder and n.startswith("encoder"))]
    optimiser = torch.optim.AdamW(trained, lr=peak_lr, betas=(0.8, 0.99), weight_decay=1e-3)
    average = {n: p.detach().clone() for n, p in codec.state_dict().items()}
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        codec.load_state_dict(state["codec"])
        optimiser.load_state_dict(state["optimiser"])
        average, step = state["average"], state["step"]
    stream.start_step = step
    batches = iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=8))
    started, since = time.monotonic(), step
    sums: dict[str, float] = {}
    with (run_dir / "metrics.jsonl").open("a") as log:
        while step < steps:
            audio = next(batches)
            generator = torch.Generator().manual_seed(stream.seed * 1_000_003 + step)
            noise = torch.randn(
                len(audio), codec.latent_dim, audio.shape[-1] // codec.hop_samples, generator=generator
            )
            low, high = noise_range
            noise_std = low + (high - low) * torch.rand(len(audio), generator=generator)
            output = noisy_reconstruction(
                codec, audio, noise=noise, noise_std=noise_std, frozen_encoder=frozen_encoder
            )
            terms = reconstruction_losses(audio, output, sample_rate=codec.sample_rate)
            loss = sum(weight * terms[name].mean() for name, weight in loss_weights.items())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(trained, 1.0)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(
                    step, peak=peak_lr, final=final_lr, warmup_steps=warmup_steps, steps=steps
                )
            if torch.isfinite(norm):
                optimiser.step()
            decay = min(0.998, (1 + step) / (10 + step))
            for name, value in codec.state_dict().items():
                average[name].lerp_(value, 1 - decay)
            step += 1
            with torch.no_grad():
                error = (audio - output).square().sum((1, 2))
                sdr_db = (10 * torch.log10(audio.square().sum((1, 2)) / error.clamp_min(1e-9))).median()
            for name, value in {"loss": loss, "grad_norm": norm, "sdr_db": sdr_db, **terms}.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach().mean())
            if step % log_every == 0:
                row = {"step": step, **{k: round(v / log_every, 4) for k, v in sums.items()}}
                row["lr"] = optimiser.param_groups[0]["lr"]
                row["steps_per_s"] = round((step - since) / (time.monotonic() - started), 3)
                log.write(json.dumps(row) + "\n")
                log.flush()
                sums = {}
            if step % save_every == 0 or step == steps:
                state = {"codec": codec.state_dict(), "optimiser": optimiser.state_dict(), "average": average}
                save_checkpoint(checkpoint, {**state, "step": step})
