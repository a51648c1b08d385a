"""What a program needs to know beside the graphs: rates, sizes, windows, the path's constants, what inputs mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler

from diffusion.sampling import Scheduler, prepare
from restyler.exporting.graphs import Graph, Port, pocket_codec
from restyler.exporting.onnx_graphs import OPSET, Difference
from restyler.pipeline import VocalRestylePipeline

FACTS = "facts.json"
FORMAT = 1  # counts up when programs that read an older one would go wrong
STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 50)


def facts(
    pipeline: VocalRestylePipeline,
    found: Sequence[tuple[Graph, Difference]],
    *,
    model: str,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """model: its name and hash. found: the graphs, and how far they are from PyTorch."""
    codec, defaults = pocket_codec(pipeline.codec), pipeline.defaults
    denoiser, conditioner = pipeline.denoiser, pipeline.conditioner
    bridge = denoiser.config.path == "bridge"
    path: dict[str, Any] = {"kind": denoiser.config.path}
    if bridge:  # start = raw + sigma · residual_std · noise
        path |= {"sigma_max": denoiser.config.sigma_max, "residual_std": denoiser.residual_std.tolist()}
    return {
        "format": FORMAT,
        "model": model,
        "exported_by": dict(versions),
        "opset": OPSET,
        "sample_rate_hz": codec.sample_rate,
        "channels": codec.channels,
        "hop_samples": codec.hop_samples,
        "latent_channels": codec.latent_dim,
        "loudness_lufs": defaults.loudness_lufs,
        "codec": {"window_frames": codec.window_frames, "context_frames": codec.context_frames},
        "denoiser": {"window_frames": defaults.window_frames, "context_frames": defaults.context_frames},
        "path": path,
        "solver": solver(pipeline.scheduler),
        "grids": grids(pipeline.scheduler, defaults.steps),
        "steps": defaults.steps,
        "sigma": defaults.sigma,
        "guidance": defaults.guidance,
        "reference_guidance": defaults.guidance_for(referred=True),
        "styles": list(conditioner.config.styles),
        "controls": [_control(pipeline, name) for name in conditioner.config.controls],
        "graphs": {graph.name: _graph(graph, difference) for graph, difference in found},
    }


def solver(scheduler: Scheduler) -> str:
    """The name that `make_scheduler` gives it."""
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return "euler"
    return "heun" if isinstance(scheduler, FlowMatchHeunDiscreteScheduler) else "dpmpp"


def grids(scheduler: Scheduler, default_steps: int) -> dict[str, list[float]]:
    """Times on the path, from 1 to 0, by the number of steps; each time once, though a solver of order 2 sees some
    twice."""
    return {
        str(steps): [time for time, _ in groupby(prepare(scheduler, steps).sigmas.tolist())]
        for steps in sorted({*STEPS, default_steps})
    }


def _control(pipeline: VocalRestylePipeline, name: str) -> dict[str, Any]:
    mean, std = pipeline.defaults.controls[name]
    lowest, highest = pipeline.defaults.reach(name)
    return {"name": name, "mean": mean, "std": std, "lowest": lowest, "highest": highest}


def _graph(graph: Graph, difference: Difference) -> dict[str, Any]:
    return {
        "file": f"{graph.name}.onnx",
        "inputs": {port.name: _port(port) for port in graph.inputs},
        "output": {graph.output.name: _port(graph.output)},
        "largest_difference_from_pytorch": difference.largest,
        "of_values_up_to": difference.of,
    }


def _port(port: Port) -> dict[str, Any]:
    return {"axes": list(port.axes), "meaning": port.meaning}
