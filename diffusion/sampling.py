"""From noise to a mix: flow-matching schedulers of diffusers, guidance, and windows for takes of any length."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler

from audio import on_disk
from audio.errors import InputError
from conditioning.conditions import Conditions
from diffusion.path import DataPredictor, velocity
from diffusion.windows import Window, plan_windows

Scheduler: TypeAlias = FlowMatchEulerDiscreteScheduler | FlowMatchHeunDiscreteScheduler | DPMSolverMultistepScheduler

FRAMES_AT_ONCE = 1024
WINDOWS_HELD = 4  # of latents on disk: neighbours lie on the same pages, and fetching a page takes time

_SCHEDULERS: dict[str, Callable[[], Scheduler]] = {
    "euler": FlowMatchEulerDiscreteScheduler,
    "heun": FlowMatchHeunDiscreteScheduler,
    "dpmpp": lambda: DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
}


def make_scheduler(name: str) -> Scheduler:
    """A scheduler for `sample`: "euler" (order 1), "heun" (order 2, two estimates a step) or "dpmpp" (DPM-Solver++,
    Lu et al. 2022: order 2 up to a logarithm, one estimate a step). Raises InputError for another name."""
    if name not in _SCHEDULERS:
        raise InputError(f"unknown sampler {name!r} (allowed: {', '.join(_SCHEDULERS)})")
    return _SCHEDULERS[name]()


def prepare(scheduler: Scheduler, steps: int) -> Scheduler:
    """A copy of the scheduler, its grid set to `steps` equal steps from t = 1 to 0 (bent by the scheduler's own shift).

    Raises InputError for fewer than one step, and for a scheduler that can't follow the path: one of another kind,
    one that adds fresh noise on the way (the noise of a bridge starts at the raw take and has another size in every
    channel, white noise is wrong), or one whose grid does not fall from 1 to 0.
    """
    if steps < 1:
        raise InputError(f"sampling takes at least 1 step, not {steps}")
    config = dict(scheduler.config)
    if config.get("stochastic_sampling") or str(config.get("algorithm_type")).startswith("sde-"):
        raise InputError(f"the sampler {type(scheduler).__name__} is set to add noise on the way: use an ODE solver")
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        fresh = FlowMatchEulerDiscreteScheduler.from_config(config)
        # Its own grid ends at 1/1000, which in effect wastes the last step.
        fresh.set_timesteps(sigmas=[1 - i / steps for i in range(steps)])
    elif isinstance(scheduler, FlowMatchHeunDiscreteScheduler):
        # Its grid ends at 1/num_train_timesteps, where the corrector would divide the network's error.
        fresh = FlowMatchHeunDiscreteScheduler.from_config(config, num_train_timesteps=steps)
        fresh.set_timesteps(steps)
    elif isinstance(scheduler, DPMSolverMultistepScheduler) and config["prediction_type"] == "flow_prediction":
        fresh = DPMSolverMultistepScheduler.from_config(config)
        fresh.set_timesteps(steps)
    else:
        raise InputError(f"the sampler {type(scheduler).__name__} follows no flow (allowed: {', '.join(_SCHEDULERS)})")
    grid = fresh.sigmas
    if abs(float(grid[0]) - 1) > 0.002 or float(grid[-1]) != 0 or bool((grid.diff() > 0).any()):
        raise InputError(f"the sampler's grid falls from 1 to 0, not {[round(float(t), 4) for t in grid]}")
    # DPM-Solver's grid starts at .999 (its log-SNR is infinite at 1), but the path starts at 1, and for a small σ the
    # same z means another mix at .999. The solver's formulas have the right limits there.
    fresh.sigmas[0] = 1.0
    fresh.set_begin_index(0)
    return fresh


@torch.no_grad()
def sample(
    denoiser: DataPredictor,
    conditions: Conditions,
    *,
    scheduler: Scheduler,
    steps: int,
    guidance: float,
    sigma: torch.Tensor | float | None,
    noise: torch.Tensor,
    window_frames: int,
    context_frames: int,
    progress: Callable[[], None] | None = None,
) -> torch.Tensor:
    """Mix latents [batch latent frames].

    noise: standard normal, [batch latent frames], one field for the whole take. sigma: [batch] or one number for all;
    None on the path "noise". guidance: 1 follows the style as trained (and costs half), more exaggerates it
    (classifier-free guidance, Ho & Salimans 2022), 0 ignores it.
    window_frames, context_frames: a longer take is estimated window by window, and the estimates are blended at every
    step (MultiDiffusion, Bar-Tal et al. 2023), so that memory is bounded; see `plan_windows`.
    progress: called after every estimate of a window; `count_estimates` says how many there are.

    The scheduler passed in is left untouched. Raises InputError for steps, guidance, σ or a scheduler that can't work.
    """
    if not (math.isfinite(guidance) and guidance >= 0):
        raise InputError(f"guidance is a number from 0 up, not {guidance}")
    solver = prepare(scheduler, steps)
    raw = conditions.aligned
    batch, _, frames = raw.shape
    if noise.shape != raw.shape:
        raise ValueError(f"the noise has the take's shape {list(raw.shape)}, not {list(noise.shape)}")
    levels = None if sigma is None else torch.as_tensor(sigma, dtype=raw.dtype, device=raw.device).expand(batch)
    windows = plan_windows(frames, window_frames, context_frames)
    z = on_disk.empty(*noise.shape, like=noise)
    for part in on_disk.parts(z, raw, noise, size=FRAMES_AT_ONCE):
        z[..., part] = denoiser.start(raw[..., part], levels, noise[..., part])
    del noise  # a whole field: long takes have none to spare
    solvers = [(part, copy.deepcopy(solver)) for part in on_disk.parts(z, size=FRAMES_AT_ONCE)]
    for i, timestep in enumerate(solver.timesteps):
        # The time comes from the solver's sigmas: some solvers round their timesteps to integers.
        t = solver.sigmas[i].to(raw.device).expand(batch)
        estimate = _blended_estimate(denoiser, z, t, levels, conditions, guidance, windows, progress)
        for part, own in solvers:  # in its own place: a long take has no memory to spare
            moved = velocity(z[..., part], estimate[..., part], t)
            # A copy, since some solvers keep what they are given until the next step.
            z[..., part] = own.step(moved, timestep, z[..., part].clone(), return_dict=False)[0]
            on_disk.let_go(z, estimate)
    return z


def count_estimates(scheduler: Scheduler, *, steps: int, frames: int, window_frames: int, context_frames: int) -> int:
    """How many estimates of a window `sample` makes for a take of `frames`."""
    return len(prepare(scheduler, steps).timesteps) * len(plan_windows(frames, window_frames, context_frames))


def _blended_estimate(
    denoiser: DataPredictor,
    z: torch.Tensor,
    t: torch.Tensor,
    sigma: torch.Tensor | None,
    conditions: Conditions,
    guidance: float,
    windows: list[Window],
    progress: Callable[[], None] | None,
) -> torch.Tensor:
    blended = on_disk.zeros(*z.shape, like=z)
    for number, window in enumerate(windows, start=1):
        part = conditions.frames(window.start, window.stop)
        noisy = z[..., window.start : window.stop]
        estimate = denoiser(noisy, t, sigma, part)
        if guidance != 1:
            without = denoiser(noisy, t, sigma, part.null())
            estimate = without + guidance * (estimate - without)
        blended[..., window.start : window.stop] += window.weight.to(z) * estimate
        if number % WINDOWS_HELD == 0:
            on_disk.let_go(blended, z, conditions.aligned)
        if progress is not None:
            progress()
    return blended
