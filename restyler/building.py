"""From a config to the objects it describes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from audio.errors import InputError
from codec.base import LatentCodec
from codec.encodec48 import Encodec48Codec
from codec.pocket import PocketCodec
from conditioning.conditioner import StyleConditioner
from diffusion.denoiser import Denoiser
from diffusion.loss import flow_loss
from restyler.config import BridgePath, DenoiserConfig, EncodecChoice, PocketCodecChoice
from restyler.model_folder import BUNDLED
from restyler.seeds import seeded


class TrainingModel(nn.Module):
    """All that is trained, with the loss as its output: one module for one wrapper of Accelerate."""

    def __init__(self, conditioner: StyleConditioner, denoiser: Denoiser) -> None:
        super().__init__()
        self.conditioner, self.denoiser = conditioner, denoiser

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """A batch of examples with their draws (restyler.draws) → loss of each, [batch]."""
        told = {name: batch[name] for name in ("style", "reference", "reference_frames")}
        if self.conditioner.config.controls:
            told["controls"] = batch["controls"]
        conditions = self.conditioner(batch["raw"], **told).keep(batch["told"])
        return flow_loss(
            self.denoiser,
            batch["mix"],
            conditions,
            t=batch["t"],
            noise=batch["noise"],
            frame_mask=batch["frame_mask"],
            sigma=batch["sigma"] if self.denoiser.config.path == "bridge" else None,
        )


def build_codec(choice: PocketCodecChoice | EncodecChoice, *, seed: int) -> LatentCodec:
    """Raises InputError where the weights can't be had."""
    if isinstance(choice, EncodecChoice):
        if choice.weights == "random":
            return Encodec48Codec.from_seed(seed)
        return Encodec48Codec.from_official(None if choice.weights == "official" else Path(choice.weights))
    return read_pocket_codec(BUNDLED / "codec" if choice.path == "bundled" else Path(choice.path), "codec.path").eval()


def read_pocket_codec(folder: Path, key: str) -> PocketCodec:
    """The codec that lies in `folder`, as the config's `key` asks for. Raises InputError where there is none."""
    try:
        return PocketCodec.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{key}: no pocket codec can be read from {folder}: {reason}") from None


def build_model(config: DenoiserConfig, codec: LatentCodec, styles: list[str]) -> TrainingModel:
    """Conditioner and denoiser with initial weights from the seed. Raises InputError for sizes that don't fit."""
    bridge = config.path if isinstance(config.path, BridgePath) else None
    with seeded(config.seed, "weights"):
        conditioner = StyleConditioner(
            latent_dim=codec.latent_dim,
            styles=styles,
            controls=config.conditioner.controls,
            embed_dim=config.conditioner.embed_dim,
            reference_width=config.conditioner.reference_width,
        )
        try:
            denoiser = Denoiser(
                latent_dim=codec.latent_dim,
                embed_dim=config.conditioner.embed_dim,
                codec_fingerprint=codec.fingerprint(),
                path=config.path.kind,
                sigma_max=bridge.sigma_max if bridge else 1.0,
                **config.denoiser.model_dump(),
            )
        except ValueError as error:
            raise InputError(f"denoiser: {error}") from None
    if config.training.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    return TrainingModel(conditioner, denoiser)
