"""`python -m restyler.bench_arithmetic`: what cheaper arithmetic gains in the denoiser, and its error.

One window of 10 s, estimated by the model as it is, in bfloat16, with matrix products of 8-bit integers, and compiled.
"""

from __future__ import annotations

import copy
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic

from restyler.command import Parser, command, integer, shown
from restyler.model_folder import BUNDLED
from restyler.noise import noise_fields
from restyler.pipeline import VocalRestylePipeline
from restyler.rendering import load_model
from restyler.saying import conditions
from restyler.settings import ANY_STYLE
from restyler.sing import random_take

Estimate = Callable[..., torch.Tensor]


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m restyler.bench_arithmetic", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=BUNDLED, metavar="DIR", help="of the model; the bundled one")
    parser.add_argument("--seconds", type=integer(1, 60), default=10, metavar="S", help="length of the window; 10")
    parser.add_argument("--times", type=integer(1, 1000), default=20, metavar="N", help="the quickest of N counts; 20")
    options = parser.parse_args(argv)
    pipeline = load_model(options.model, "cpu")
    threads = torch.get_num_threads()
    print(f"model {shown(options.model.name)}, a window of {options.seconds} s, {threads} threads, seconds:")
    print(f"  {'':28} an estimate  made ready in  error, of mix - take")
    for one in measured(pipeline, options.seconds, options.times):
        print(f"  {one.name:28} {one.seconds:11.3f} {one.ready_s:14.2f} {one.error:21.2%}", flush=True)
    return 0


@dataclass(frozen=True)
class Arithmetic:
    """One way of computing. seconds: of an estimate, the quickest. ready_s: how much longer the first one took, with
    all that had to be prepared.

    error: RMS of what it changes in the estimate over RMS of what the estimate changes in the take, in latents.
    """

    name: str
    seconds: float
    ready_s: float
    error: float


class BFloat16Linear(nn.Module):
    """A layer's matrix product alone in bfloat16."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = copy.deepcopy(layer).bfloat16()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(x.bfloat16())
        return found.to(x.dtype)


def ways(denoiser: nn.Module) -> dict[str, Callable[[], Estimate]]:
    """By name, what makes each way ready."""

    def autocast() -> Estimate:
        def estimate(*told: object) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                found: torch.Tensor = denoiser(*told)
            return found.float()

        return estimate

    def integers() -> Estimate:
        with warnings.catch_warnings():  # that it will move to another package
            warnings.simplefilter("ignore")
            quantised: nn.Module = quantize_dynamic(copy.deepcopy(denoiser), {nn.Linear}, torch.qint8)
        return quantised

    return {
        "float32": lambda: denoiser,
        "bfloat16, autocast": autocast,
        "bfloat16, matrix products": lambda: with_linear_layers(denoiser, BFloat16Linear),
        "int8, matrix products": integers,
        "float32, torch.compile": lambda: torch.compile(copy.deepcopy(denoiser)),
    }


def with_linear_layers(model: nn.Module, other: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """A copy whose linear layers are replaced."""
    made = copy.deepcopy(model)
    for module in list(made.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, other(child))
    return made


@torch.no_grad()
def measured(
    pipeline: VocalRestylePipeline,
    seconds: int,
    times: int,
    names: Sequence[str] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Arithmetic]:
    """The first of `ways` and the others, or those of these names, on a sung take; each row as soon as it is known."""
    take = random_take(seconds, sample_rate=pipeline.codec.sample_rate, generator=np.random.default_rng(0))
    settings = pipeline.settings(style=ANY_STYLE if pipeline.styles else None)
    raw = pipeline.encoded(take).latents[..., : pipeline.codec.frames(seconds * pipeline.codec.sample_rate)]
    told = conditions(pipeline.conditioner, pipeline.defaults, raw, pipeline.told(take, settings, [0]), None)
    sigma = None if settings.sigma is None else torch.tensor([settings.sigma])
    start = pipeline.denoiser.start(raw, sigma, noise_fields([0], raw.shape[1:]))
    wanted: torch.Tensor | None = None
    for name, made in ways(pipeline.denoiser).items():
        if wanted is not None and names is not None and name not in names:
            continue
        began = clock()
        estimate = made()
        found = estimate(start, torch.ones(1), sigma, told)
        first_s, spent = clock() - began, []
        for _ in range(times):
            began = clock()
            estimate(start, torch.ones(1), sigma, told)
            spent.append(clock() - began)
        wanted = found if wanted is None else wanted
        error = (found - wanted).square().mean().sqrt() / (wanted - raw).square().mean().sqrt()
        yield Arithmetic(name, min(spent), max(0.0, first_s - min(spent)), float(error))


if __name__ == "__main__":
    sys.exit(main())
