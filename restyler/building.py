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
from diffusion.loss import Weighting, estimate_error, estimate_on_path
from restyler.config import BridgePath, DenoiserConfig, EncodecChoice, ModelStart, PocketCodecChoice
from restyler.model_folder import BUNDLED
from restyler.pipeline import VocalRestylePipeline
from restyler.seeds import seeded
from restyler.spectral import SpectralLoss


class TrainingModel(nn.Module):
    """All that is trained, with the loss as its output: one module for one wrapper of Accelerate."""

    def __init__(
        self,
        conditioner: StyleConditioner,
        denoiser: Denoiser,
        spectral: SpectralLoss | None = None,
        weighting: Weighting = "velocity",
    ) -> None:
        super().__init__()
        self.conditioner, self.denoiser, self.spectral, self.weighting = conditioner, denoiser, spectral, weighting

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """A batch of examples with their draws (restyler.draws) → loss of each, [batch]."""
        told = {name: batch[name] for name in ("style", "reference", "reference_frames")}
        if self.conditioner.config.controls:
            told["controls"] = batch["controls"]
        conditions = self.conditioner(batch["raw"], **told).keep(batch["told"])
        mix, t, frame_mask = batch["mix"], batch["t"], batch["frame_mask"]
        sigma = batch["sigma"] if self.denoiser.config.path == "bridge" else None
        estimate = estimate_on_path(
            self.denoiser, mix, conditions, t=t, sigma=sigma, noise=batch["noise"], frame_mask=frame_mask
        )
        losses = estimate_error(estimate, mix, t=t, frame_mask=frame_mask, weighting=self.weighting)
        at_start = (t == 1).nonzero()[:, 0]  # there the estimate is a whole mix: the one that one step gives
        if self.spectral is None or not len(at_start):
            return losses
        return losses.index_add(0, at_start, self.spectral(estimate[at_start], mix[at_start]))


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
        codec, found = PocketCodec.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{key}: no pocket codec can be read from {folder}: {reason}") from None
    if found["missing_keys"] or found["unexpected_keys"]:  # diffusers would draw what is missing, with a warning
        names = ", ".join(sorted({*found["missing_keys"], *found["unexpected_keys"]})[:3])
        raise InputError(f"{key}: no pocket codec can be read from {folder}: weights are missing or too many ({names})")
    return codec


def example_frames(config: DenoiserConfig, codec: LatentCodec) -> tuple[int, int]:
    """training.crop_s and training.reference_s in frames of the codec. Raises InputError for less than one frame."""
    frames = []
    for key, seconds in (("crop_s", config.training.crop_s), ("reference_s", config.training.reference_s)):
        frames.append(round(seconds * codec.frame_rate_hz))
        if frames[-1] < 1:
            raise InputError(
                f"training.{key}: at least one frame of the codec ({1 / codec.frame_rate_hz:.4f} s), not {seconds:g} s"
            )
    return frames[0], frames[1]


def build_model(config: DenoiserConfig, codec: LatentCodec, styles: list[str]) -> TrainingModel:
    """Conditioner and denoiser at their start: random weights from the seed, or those of a saved model.

    Raises InputError for sizes and a model that don't fit.
    """
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
    if isinstance(config.start, ModelStart):
        _take_weights(conditioner, denoiser, config.start.path)
    spectral = SpectralLoss(codec, config.spectral) if config.spectral else None
    return TrainingModel(conditioner, denoiser, spectral, config.loss.weighting)


def compile_blocks(model: TrainingModel) -> None:
    """The denoiser's blocks by torch.compile; one compilation serves all of them."""
    for block in model.denoiser.blocks:
        block.compile()


def _take_weights(conditioner: StyleConditioner, denoiser: Denoiser, path: str) -> None:
    """Weights of the model at `path`; a style that it does not know keeps its own random embedding."""
    model = VocalRestylePipeline.from_pretrained(BUNDLED if path == "bundled" else Path(path))
    for ours, theirs in ((denoiser, model.denoiser), (conditioner, model.conditioner)):
        different = [
            f"{key} is {theirs.config[key]} there and {value} here"
            for key, value in ours.config.items()
            if key != "styles" and not key.startswith("_") and theirs.config[key] != value
        ]
        if different:
            raise InputError(f"start.path: the model of {path} doesn't fit: {', '.join(different)}")
    denoiser.load_state_dict(model.denoiser.state_dict())
    weights = model.conditioner.state_dict()
    known = list(model.conditioner.config.styles)
    embeddings = weights.pop("style_embedding.weight", None)
    conditioner.load_state_dict(weights, strict=False)
    for index, style in enumerate(conditioner.config.styles):
        if style in known:
            conditioner.style_embedding.weight.data[index] = embeddings[known.index(style)]
