"""What a config amounts to before anything is trained: sizes, memory, computation, time."""

from __future__ import annotations

import time
from pathlib import Path

import torch
import yaml
from torch import nn

from audio.io import duration_s
from codec.pocket import PocketCodec
from restyler.building import TrainingModel, build_codec, build_model, example_frames
from restyler.codec_config import CodecConfig
from restyler.config import Config, DenoiserConfig, EncodecChoice, PreparedData
from restyler.devices import pick_device
from restyler.export import check_exportable
from restyler.flops import training_flops
from restyler.pairs import read_pairs, style_names
from restyler.prepared_sets import open_sets
from restyler.processes import PRECISION_NAMES, precision_on
from restyler.student.config import StudentConfig
from restyler.student.data import read_distilled
from restyler.student.files import build_student
from restyler.synthetic import CHAINS, VALIDATION_EVERY


def describe(config: Config) -> str:
    """The resolved config as YAML, parameters per module, estimated memory, audio per step, and the time of an epoch;
    writes nothing.

    Raises InputError where training would for the same reason: no pairs, no codec, sizes that don't fit.
    """
    if isinstance(config, CodecConfig):
        return describe_codec(config)
    return describe_student(config) if isinstance(config, StudentConfig) else describe_denoiser(config)


def describe_student(config: StudentConfig) -> str:
    data = read_distilled(Path(config.data.path))
    network, training = build_student(config.student.model_dump(), data.styles), config.training
    audio_s = training.batch_size * training.crop_s
    return "\n".join(
        [
            yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
            f"student        {count(network):>12,} parameters",
            f"pairs          {len(data.train)} to train on, {len(data.validation)} to validate;"
            f" styles: {', '.join(data.styles)}",
            f"audio per step {audio_s:g} s ({training.batch_size} × {training.crop_s:g} s),"
            f" {audio_s * training.steps / 3600:.1f} h in all {training.steps} steps",
        ]
    )


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
    styles, loudness_lufs, epoch_examples, material = describe_data(config, None if unfetched else codec.fingerprint())
    check_exportable(config, styles, frame_rate_hz=codec.frame_rate_hz, loudness_lufs=loudness_lufs)
    model = build_model(config, codec, styles)
    frames, reference_frames = example_frames(config, codec)
    trained = count(model)
    weights_bytes = 4 * (5 * trained + count(codec))  # weights, gradients, two moments, average; and the codec
    share = config.training.batch_size // config.training.accumulation
    batch = dearest_batch(config, codec.latent_dim, frames, reference_frames)
    device = pick_device("auto")
    precision = precision_on(device, config.training.precision)
    if precision == "fp16" and device.type == "cpu":
        precision = "bf16"  # what a CPU can rehearse it in
    per_example = saved_bytes(model, batch, precision)
    example_flops = training_flops(model, batch | {"t": torch.tensor([0.5])})  # without the spectral loss
    example_s = step_s(model.to(device), batch, precision, device)
    epoch_steps = epoch_examples / config.training.batch_size
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
        f"computation    {config.training.batch_size * example_flops / 1e12:.3g} TFLOP per step",
        f"epoch          {epoch_steps:.1f} steps of {config.training.batch_size} examples; on one {device_name(device)}"
        f" in {PRECISION_NAMES[precision]}"
        f" {duration(epoch_steps * config.training.batch_size * example_s)}, and"
        f" {duration(config.training.steps * config.training.batch_size * example_s)} for all steps"
        f" (from one step with one example, {example_s:.3g} s; a GPU is faster with more of them)",
    ]
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """In words, with two digits at the least."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU with {torch.get_num_threads()} threads"


def describe_data(config: DenoiserConfig, codec_fingerprint: str | None) -> tuple[list[str], float, float, str]:
    """Styles, loudness in LUFS, examples of an epoch, and what there is to train on in words.

    An epoch: of prepared sets every segment once, with one of its mixes; of pairs as many crops as fill their length.
    """
    data = config.data
    if isinstance(data, PreparedData):
        sets = open_sets(data, codec_fingerprint=codec_fingerprint)
        words = f"{sets.train_s / 3600:.2f} h in {sets.train.segments} segments of {len(sets.train.splits)} sets"
        words += f", {sets.validation.segments} segments to validate on"
        return sets.styles, sets.loudness_lufs, sets.train.segments, words
    if data.kind == "synthetic":
        words = f"{data.takes} takes of {data.seconds:g} s"
        trained = (data.takes - data.takes // VALIDATION_EVERY) * len(CHAINS)
        return sorted(CHAINS), data.loudness_lufs, trained * data.seconds / config.training.crop_s, words
    pairs = read_pairs(Path(data.path), validation_fraction=data.validation_fraction)
    lengths_s = {path: duration_s(path) for path in {pair.raw for pair in pairs}}
    train_s = sum(lengths_s[pair.raw] for pair in pairs if pair.split == "train")
    return style_names(pairs), data.loudness_lufs, train_s / config.training.crop_s, f"{len(pairs)} pairs"


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def dearest_batch(
    config: DenoiserConfig, latent_dim: int, frames: int, reference_frames: int
) -> dict[str, torch.Tensor]:
    """One example of silence at t = 1: with the spectral loss, where there is one."""
    shapes = {
        "raw": (latent_dim, frames),
        "mix": (latent_dim, frames),
        "noise": (latent_dim, frames),
        "reference": (latent_dim, reference_frames),
        "controls": (len(config.conditioner.controls),),
        "sigma": (),
    }
    return {name: torch.zeros(1, *shape) for name, shape in shapes.items()} | {
        "frame_mask": torch.ones(1, frames, dtype=torch.bool),
        "told": torch.ones(1, dtype=torch.bool),
        "t": torch.ones(1),
        "style": torch.tensor([-1]),
        "reference_frames": torch.tensor([reference_frames]),
    }


def saved_bytes(model: TrainingModel, batch: dict[str, torch.Tensor], precision: str) -> int:
    """Bytes that autograd keeps for the backward pass of one example, by really computing its loss on the CPU.

    precision: no, bf16 or fp16, which takes as much as bf16.
    """
    sizes = {parameter.untyped_storage()._cdata: 0 for parameter in model.parameters()}  # they are there anyway

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes.setdefault(tensor.untyped_storage()._cdata, tensor.untyped_storage().nbytes())
        kept.append(tensor)  # a freed address could be given to the next tensor
        return tensor

    kept: list[torch.Tensor] = []
    half = torch.autocast("cpu", torch.bfloat16, enabled=precision != "no")
    with half, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(batch)
    return sum(sizes.values())


def step_s(model: TrainingModel, batch: dict[str, torch.Tensor], precision: str, device: torch.device) -> float:
    """Seconds of the second of two steps, forward and backward. precision: no, bf16 or, on a GPU, fp16."""
    half = torch.float16 if precision == "fp16" else torch.bfloat16
    batch = {name: value.to(device) for name, value in batch.items()}
    for _ in range(2):
        started = time.perf_counter()
        with torch.autocast(device.type, half, enabled=precision != "no"):
            loss = model(batch).mean()
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return time.perf_counter() - started
