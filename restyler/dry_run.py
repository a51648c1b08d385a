"""What a config amounts to before anything is trained: sizes, memory, seconds of audio per step."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from torch import nn

from codec.pocket import PocketCodec
from restyler.building import TrainingModel, build_codec, build_model, example_frames
from restyler.codec_config import CodecConfig
from restyler.config import Config, DenoiserConfig, EncodecChoice, PreparedData
from restyler.export import check_exportable
from restyler.pairs import read_pairs, style_names
from restyler.prepared_sets import open_sets
from restyler.synthetic import CHAINS


def describe(config: Config) -> str:
    """The resolved config as YAML, parameters per module, estimated memory and audio per step; writes nothing.

    Raises InputError where training would for the same reason: no pairs, no codec, sizes that don't fit.
    """
    return describe_codec(config) if isinstance(config, CodecConfig) else describe_denoiser(config)


def describe_codec(config: CodecConfig) -> str:
    codec = PocketCodec(**config.codec.model_dump())
    parts = {"encoder": 0, "decoder": 0}
    for name, parameter in codec.named_parameters():
        parts[name[:7]] += parameter.numel()
    audio_s = config.training.batch_size * config.training.crop_s
    return "\n".join(
        [
            yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
            *(f"{name:<14} {size:>12,} parameters" for name, size in parts.items()),
            f"memory         {4 * 5 * count(codec) / 2**30:.2f} GiB for weights, gradients, optimiser and average",
            f"audio per step {audio_s:g} s ({config.training.batch_size} × {config.training.crop_s:g} s),"
            f" {audio_s * config.training.steps / 3600:.1f} h in all {config.training.steps} steps",
        ]
    )


def describe_denoiser(config: DenoiserConfig) -> str:
    # Official EnCodec weights are not fetched for this: any weights have their sizes.
    choice = config.codec
    unfetched = isinstance(choice, EncodecChoice) and choice.weights == "official"
    if unfetched:
        choice = choice.model_copy(update={"weights": "random"})
    codec = build_codec(choice, seed=config.seed)
    styles, loudness_lufs, material = describe_data(config, None if unfetched else codec.fingerprint())
    check_exportable(config, styles, frame_rate_hz=codec.frame_rate_hz, loudness_lufs=loudness_lufs)
    model = build_model(config, codec, styles)
    frames, reference_frames = example_frames(config, codec)
    trained = count(model)
    weights_bytes = 4 * (5 * trained + count(codec))  # weights, gradients, two moments, average; and the codec
    share = config.training.batch_size // config.training.accumulation
    per_example = saved_bytes(model, codec.latent_dim, frames, reference_frames, config)
    audio_s = config.training.batch_size * config.training.crop_s
    lines = [
        yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        f"data           {material}",
        f"styles         {len(styles)}: {', '.join(styles) or 'none'}",
        f"codec          {count(codec):>12,} parameters (not trained)",
        f"conditioner    {count(model.conditioner):>12,} parameters",
        f"denoiser       {count(model.denoiser):>12,} parameters",
        f"memory         {weights_bytes / 2**30:.2f} GiB for weights, gradients, optimiser and average,"
        f" {share * per_example / 2**30:.2f} GiB for activations of {share} examples (shared by all processes)",
        f"audio per step {audio_s:g} s ({config.training.batch_size} × {config.training.crop_s:g} s),"
        f" {audio_s * config.training.steps / 3600:.1f} h in all {config.training.steps} steps",
    ]
    return "\n".join(lines)


def describe_data(config: DenoiserConfig, codec_fingerprint: str | None) -> tuple[list[str], float, str]:
    """Styles, loudness in LUFS, and the size of what there is to train on, in words."""
    data = config.data
    if isinstance(data, PreparedData):
        sets = open_sets(data, codec_fingerprint=codec_fingerprint)
        hours = f"{sets.train_s / 3600:.2f} h in {sets.train.segments} segments of {len(sets.train.splits)} sets"
        return sets.styles, sets.loudness_lufs, f"{hours}, {sets.validation.segments} segments to validate on"
    if data.kind == "synthetic":
        return sorted(CHAINS), data.loudness_lufs, f"{data.takes} takes of {data.seconds:g} s"
    pairs = read_pairs(Path(data.path), validation_fraction=data.validation_fraction)
    return style_names(pairs), data.loudness_lufs, f"{len(pairs)} pairs"


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def saved_bytes(
    model: TrainingModel, latent_dim: int, frames: int, reference_frames: int, config: DenoiserConfig
) -> int:
    """Bytes that autograd keeps for the backward pass of one example, by really computing its loss on the CPU."""
    sizes = {parameter.untyped_storage()._cdata: 0 for parameter in model.parameters()}  # they are there anyway

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes.setdefault(tensor.untyped_storage()._cdata, tensor.untyped_storage().nbytes())
        kept.append(tensor)  # a freed address could be given to the next tensor
        return tensor

    kept: list[torch.Tensor] = []
    shapes = {
        "raw": (latent_dim, frames),
        "mix": (latent_dim, frames),
        "noise": (latent_dim, frames),
        "reference": (latent_dim, reference_frames),
        "controls": (len(config.conditioner.controls),),
        "sigma": (),
    }
    batch = {name: torch.zeros(1, *shape) for name, shape in shapes.items()} | {
        "frame_mask": torch.ones(1, frames, dtype=torch.bool),
        "told": torch.ones(1, dtype=torch.bool),
        "t": torch.ones(1),  # the dearest examples: with the spectral loss, where there is one
        "style": torch.tensor([-1]),
        "reference_frames": torch.tensor([reference_frames]),
    }
    half = torch.autocast("cpu", torch.bfloat16, enabled=config.training.precision != "no")
    with half, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(batch)
    return sum(sizes.values())
