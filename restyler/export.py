"""A trained model as a folder that sample.py reads."""

from __future__ import annotations

import copy
from pathlib import Path

from codec.base import LatentCodec
from diffusion.sampling import make_scheduler
from restyler.building import TrainingModel
from restyler.checkpoints import replace_folder
from restyler.config import DenoiserConfig
from restyler.data import Statistics
from restyler.pipeline import VocalRestylePipeline


def export_pipeline(
    folder: Path, codec: LatentCodec, model: TrainingModel, statistics: Statistics, config: DenoiserConfig
) -> None:
    """Writes `folder` anew from the model's present weights; at every moment it is a complete model or absent."""
    sampling = config.sampling
    spreads = zip(statistics.control_mean.tolist(), statistics.control_std.tolist(), strict=True)
    pipeline = VocalRestylePipeline(  # copies: the pipeline freezes what it is given
        codec=copy.deepcopy(codec),
        conditioner=copy.deepcopy(model.conditioner),
        denoiser=copy.deepcopy(model.denoiser),
        scheduler=make_scheduler(sampling.scheduler),
        sampling={
            "steps": sampling.steps,
            "guidance": sampling.guidance,
            "sigma": sampling.sigma,
            "window_frames": round(sampling.window_s * codec.frame_rate_hz),
            "context_frames": round(sampling.context_s * codec.frame_rate_hz),
            "loudness_lufs": config.data.loudness_lufs,
            "controls": dict(zip(config.conditioner.controls, spreads, strict=True)),
        },
        training=config.model_dump(mode="json"),
    )
    replace_folder(folder, pipeline.save_pretrained)
