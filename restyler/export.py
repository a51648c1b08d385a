"""A trained model as a folder that sample.py reads."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError

from audio.errors import InputError
from codec.base import LatentCodec
from diffusion.sampling import make_scheduler, prepare
from diffusion.windows import plan_windows
from restyler.building import TrainingModel
from restyler.checkpoints import replace_folder
from restyler.config import DenoiserConfig
from restyler.control_draws import JointNormal
from restyler.data import Statistics
from restyler.model_folder import check_manifest
from restyler.pipeline import VocalRestylePipeline
from restyler.settings import ANY_STYLE, DEFAULT_SPREAD, NO_STYLE, SamplingDefaults

STEP = ".step"  # hidden: a mark of the run, no part of the model


def check_exportable(
    config: DenoiserConfig, styles: Sequence[str], *, frame_rate_hz: float, loudness_lufs: float
) -> None:
    """What would be refused at the first export, or by the first to sample from it, is refused before training.

    Raises InputError.
    """
    reserved = sorted({ANY_STYLE, NO_STYLE} & set(styles))
    if reserved:
        raise InputError(f"a style can't be called {reserved[0]!r}: that word says something else to commands")
    window_frames, context_frames = window_and_context(config, frame_rate_hz)
    try:
        plan_windows(1, window_frames, context_frames)
    except ValueError as error:
        raise InputError(f"sampling.window_s, sampling.context_s: {error}") from None
    try:
        defaults = sampling_defaults(config, {}, {}, frame_rate_hz=frame_rate_hz, loudness_lufs=loudness_lufs)
    except ValidationError as error:
        (item, *_) = error.errors()
        allowed = item["msg"].removeprefix("Input ")
        raise InputError(f"sampling.{item['loc'][0]}: {allowed}, not {item['input']!r}") from None
    prepare(make_scheduler(config.sampling.scheduler), defaults.steps)


def window_and_context(config: DenoiserConfig, frame_rate_hz: float) -> tuple[int, int]:
    """sampling.window_s and sampling.context_s in frames."""
    return round(config.sampling.window_s * frame_rate_hz), round(config.sampling.context_s * frame_rate_hz)


def sampling_defaults(
    config: DenoiserConfig,
    controls: Mapping[str, tuple[float, float]],
    draws: Mapping[str, JointNormal],
    *,
    frame_rate_hz: float,
    loudness_lufs: float,
) -> SamplingDefaults:
    """What the config says about sampling, the loudness of the data, and mean, deviation and joint distributions of
    the controls as measured."""
    window_frames, context_frames = window_and_context(config, frame_rate_hz)
    return SamplingDefaults(
        steps=config.sampling.steps,
        guidance=config.sampling.guidance,
        sigma=config.sampling.sigma,
        window_frames=window_frames,
        context_frames=context_frames,
        loudness_lufs=loudness_lufs,
        controls=dict(controls),
        draws=dict(draws),
        spread=DEFAULT_SPREAD if draws else 0.0,
    )


def make_pipeline(
    codec: LatentCodec,
    model: TrainingModel,
    weights: Mapping[str, torch.Tensor],
    statistics: Statistics,
    config: DenoiserConfig,
    *,
    loudness_lufs: float,
) -> VocalRestylePipeline:
    """A pipeline of its own, on the CPU: `model` says of which sizes, `weights` with what in it.

    loudness_lufs: of the recordings that were encoded.
    """
    parts = {}
    for name, module in (("conditioner", model.conditioner), ("denoiser", model.denoiser)):
        parts[name] = type(module).from_config(module.config)
        own = {key: tensor for key, tensor in weights.items() if key.startswith(f"{name}.")}
        parts[name].load_state_dict({key.removeprefix(f"{name}."): tensor for key, tensor in own.items()})
    spreads = zip(statistics.control_mean.tolist(), statistics.control_std.tolist(), strict=True)
    controls = dict(zip(config.conditioner.controls, spreads, strict=True))
    return VocalRestylePipeline(
        codec=copy.deepcopy(codec).cpu(),  # the pipeline freezes what it is given
        **parts,
        scheduler=make_scheduler(config.sampling.scheduler),
        sampling=sampling_defaults(
            config, controls, statistics.draws, frame_rate_hz=codec.frame_rate_hz, loudness_lufs=loudness_lufs
        ).model_dump(mode="json"),
        training=config.model_dump(mode="json"),
    )


def export_pipeline(folder: Path, pipeline: VocalRestylePipeline, *, step: int) -> None:
    """Writes `folder` anew; at every moment it is a complete model or absent.

    step: of which training step the weights are; `exported_step` tells it.
    """

    def write(fresh: Path) -> None:
        pipeline.save_pretrained(fresh)
        (fresh / STEP).write_text(str(step))

    replace_folder(folder, write)


def exported_step(folder: Path) -> int | None:
    """The training step whose weights lie in `folder`; None where there is no complete model of a known step."""
    try:
        check_manifest(folder)
        return int((folder / STEP).read_text())
    except (OSError, ValueError):  # InputError is a ValueError
        return None
