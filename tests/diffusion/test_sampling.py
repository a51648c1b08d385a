"""Samplers against closed forms and scipy's integrator; windows against one shot."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
)
from scipy.integrate import solve_ivp
from torch import nn

from audio.errors import InputError
from conditioning.conditions import Conditions
from diffusion.denoiser import Denoiser
from diffusion.sampling import count_estimates, make_scheduler, prepare, sample

SOLVERS = ["euler", "heun", "dpmpp"]


def run(denoiser, raw: torch.Tensor, noise: torch.Tensor, name: str = "euler", **options) -> torch.Tensor:
    settings = {
        "scheduler": make_scheduler(name),
        "steps": 8,
        "guidance": 1.0,
        "sigma": 1.0,
        "window_frames": 10**6,
        "context_frames": 0,
    }
    return sample(denoiser, Conditions(raw, torch.ones(raw.shape[0], 8)), noise=noise, **{**settings, **options})


@pytest.mark.parametrize(("name", "steps"), [("euler", 300), ("heun", 40), ("dpmpp", 40)])
def test_the_exact_predictor_draws_from_the_exact_distribution(gaussian_pairs, name, steps, generator) -> None:
    frames = 40_000
    raw = torch.randn(1, 3, 1, generator=generator).expand(1, 3, frames)
    sigma = 0.7 if gaussian_pairs.kind == "bridge" else None
    noise = torch.randn(raw.shape, generator=generator)
    drawn = run(gaussian_pairs, raw, noise, name, steps=steps, sigma=sigma)[0]
    torch.testing.assert_close(drawn.mean(dim=1), gaussian_pairs.mean(raw)[0, :, 0], rtol=0, atol=0.02)
    torch.testing.assert_close(torch.cov(drawn), gaussian_pairs.covariance, rtol=0, atol=0.02)


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("name", SOLVERS)
def test_without_noise_the_exact_predictor_lands_on_the_conditional_mean(bridge_pairs, name, steps, generator) -> None:
    raw = torch.randn(2, 3, 5, generator=generator)
    drawn = run(bridge_pairs, raw, torch.randn(raw.shape, generator=generator), name, steps=steps, sigma=0.0)
    torch.testing.assert_close(drawn, bridge_pairs.mean(raw), rtol=0, atol=1e-4)


class KnownField:
    """dz/dt = sin(3z) + cos(2t)·z², handed over as the data prediction z − t·dz/dt."""

    def start(self, raw, sigma, noise):
        return raw

    @staticmethod
    def field(z, t):
        return (torch if torch.is_tensor(z) else np).sin(3 * z) + math.cos(2 * t) * z**2

    def __call__(self, noisy, t, sigma, conditions, frame_mask=None):
        return noisy - t[:, None, None] * self.field(noisy, float(t[0]))


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    # DPM-Solver++ is of order 2 in log-SNR; on equal steps of t that costs a logarithm. A start at .999 would end at 0.
    [("euler", 0.95, 1.05), ("heun", 1.9, 2.1), ("dpmpp", 1.6, 2.1)],
)
def test_order_of_convergence_on_a_known_equation(name: str, lowest: float, highest: float) -> None:
    start = torch.linspace(-0.9, 0.9, 12)[None, None]
    exact = solve_ivp(lambda t, z: KnownField.field(z, t), (1, 0), start[0, 0].numpy(), rtol=1e-10, atol=1e-12).y[:, -1]
    errors = [
        np.abs(run(KnownField(), start, start, name, steps=steps)[0, 0].double().numpy() - exact).max()
        for steps in (64, 128, 256)
    ]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert errors[-1] < 1e-3
    assert (abs(orders - (lowest + highest) / 2) < (highest - lowest) / 2).all(), (errors, orders)


def test_euler_takes_equal_steps_from_one_to_zero(generator: torch.Generator) -> None:
    z = start = torch.randn(1, 1, 6, generator=generator)
    for i in range(5):
        z = z - 0.2 * KnownField.field(z, 1 - i / 5)
    torch.testing.assert_close(run(KnownField(), start, start, "euler", steps=5), z)


@pytest.mark.parametrize("name", SOLVERS)
def test_one_step_is_one_estimate_at_the_start(name: str, lively_denoiser: Callable[..., Denoiser], generator) -> None:
    denoiser = lively_denoiser()
    raw, noise = (torch.randn(1, 6, 9, generator=generator) for _ in range(2))
    start = denoiser.start(raw, torch.ones(1), noise)
    estimate = denoiser(start, torch.ones(1), torch.ones(1), Conditions(raw, torch.ones(1, 8)))
    torch.testing.assert_close(run(denoiser, raw, noise, name, steps=1), estimate)


@pytest.mark.parametrize(("name", "estimates"), [("euler", 4), ("heun", 7), ("dpmpp", 4)])
def test_guidance(name: str, estimates: int, lively_denoiser: Callable[..., Denoiser], generator) -> None:
    """1 is the plain conditional answer at one pass an estimate, 0 the unconditional one, between lies a line."""
    denoiser = lively_denoiser()
    raw, noise = (torch.randn(1, 6, 9, generator=generator) for _ in range(2))
    passes: list[bool] = []
    handle = denoiser.register_forward_pre_hook(lambda _, args: passes.append(bool(args[3].pooled.any())))

    def at(guidance: float, conditions: Conditions | None = None, steps: int = 1) -> torch.Tensor:
        return sample(
            denoiser,
            conditions or Conditions(raw, torch.ones(1, 8)),
            scheduler=make_scheduler(name),
            steps=steps,
            guidance=guidance,
            sigma=0.5,
            noise=noise,
            window_frames=50,
            context_frames=5,
        )

    at(1.0, steps=4)
    assert passes == [True] * estimates
    passes.clear()
    at(2.0, steps=4)
    assert sorted(passes) == [False] * estimates + [True] * estimates
    handle.remove()
    told, untold = at(1.0), at(1.0, Conditions(raw, torch.zeros(1, 8)))
    torch.testing.assert_close(at(0.0), untold)
    torch.testing.assert_close(at(2.5), untold + 2.5 * (told - untold))
    assert (told - untold).abs().max() > 0.01


class LocalNetwork(nn.Module):
    """A denoiser whose every output depends on 4 frames to both sides, and on nothing else."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv1d(12, 16, 5, padding=2), nn.Tanh(), nn.Conv1d(16, 6, 5, padding=2))

    def start(self, raw, sigma, noise):
        return raw + sigma[:, None, None] * noise

    def forward(self, noisy, t, sigma, conditions, frame_mask=None):
        return self.layers(torch.cat([noisy, conditions.aligned], dim=1)) + t[:, None, None]


@pytest.mark.parametrize("frames", [41, 100, 163])
@pytest.mark.parametrize("name", SOLVERS)
def test_windows_of_a_local_network_equal_one_shot(name: str, frames: int, generator: torch.Generator) -> None:
    network = LocalNetwork()
    raw, noise = (torch.randn(2, 6, frames, generator=generator) for _ in range(2))
    whole = run(network, raw, noise, name)
    windowed = run(network, raw, noise, name, window_frames=40, context_frames=4)
    torch.testing.assert_close(windowed, whole, rtol=0, atol=1e-5)


def test_too_little_context_shows(generator: torch.Generator) -> None:
    """The counterpart of the equality above: it can fail."""
    network = LocalNetwork()
    raw, noise = (torch.randn(2, 6, 163, generator=generator) for _ in range(2))
    difference = run(network, raw, noise, window_frames=40, context_frames=0) - run(network, raw, noise)
    assert difference.abs().max() > 1e-3


def test_a_take_that_fits_into_a_window_is_sampled_plainly(lively_denoiser: Callable[..., Denoiser], generator) -> None:
    denoiser = lively_denoiser()
    raw, noise = (torch.randn(1, 6, 30, generator=generator) for _ in range(2))
    assert torch.equal(run(denoiser, raw, noise, window_frames=30, context_frames=5), run(denoiser, raw, noise))
    shorter = run(denoiser, raw, noise, window_frames=29, context_frames=5)
    assert not torch.allclose(shorter, run(denoiser, raw, noise), atol=1e-4)


def test_no_window_is_longer_than_asked_for(lively_denoiser: Callable[..., Denoiser], generator) -> None:
    denoiser = lively_denoiser()
    lengths: set[int] = set()
    denoiser.register_forward_pre_hook(lambda _, args: lengths.add(args[0].shape[2]))
    raw = torch.randn(1, 6, 500, generator=generator)
    run(denoiser, raw, raw, steps=1, window_frames=60, context_frames=10)
    assert lengths == {60}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("frames", [9, 163])
def test_progress_is_told_after_every_estimate_of_a_window(name: str, frames: int, generator: torch.Generator) -> None:
    network = LocalNetwork()
    passes, seen = [], []
    network.register_forward_hook(lambda *_: passes.append(1))
    raw = torch.randn(2, 6, frames, generator=generator)
    cut = {"window_frames": 40, "context_frames": 4}
    run(network, raw, raw, name, steps=3, progress=lambda: seen.append(len(passes)), **cut)
    estimates = count_estimates(make_scheduler(name), steps=3, frames=frames, **cut)
    assert seen == list(range(1, estimates + 1))
    assert len(passes) == estimates


def test_each_item_of_a_batch_is_what_it_is_alone(lively_denoiser: Callable[..., Denoiser], generator) -> None:
    denoiser = lively_denoiser()
    raw, noise = (torch.randn(3, 6, 21, generator=generator) for _ in range(2))
    sigma = torch.tensor([0.0, 0.4, 1.0])
    together = run(denoiser, raw, noise, sigma=sigma)
    for i in range(3):
        alone = run(denoiser, raw[i : i + 1], noise[i : i + 1], sigma=float(sigma[i]))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-4)


def test_sampling_leaves_the_scheduler_alone(generator: torch.Generator) -> None:
    raw = torch.randn(1, 1, 6, generator=generator)
    for name in SOLVERS:
        scheduler = make_scheduler(name)
        before = scheduler.timesteps.clone()
        first = run(KnownField(), raw, raw, scheduler=scheduler, steps=3)
        assert torch.equal(first, run(KnownField(), raw, raw, scheduler=scheduler, steps=3))
        assert torch.equal(scheduler.timesteps, before)
        assert scheduler.step_index is None


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("name", SOLVERS)
def test_every_grid_has_equal_steps_from_one_to_zero(name: str, steps: int) -> None:
    """Their own grids end at 1/1000, which wastes Euler's last step and multiplies Heun's errors."""
    grid = torch.unique_consecutive(prepare(make_scheduler(name), steps).sigmas)
    torch.testing.assert_close(
        grid, torch.linspace(1, 0, steps + 1), rtol=0, atol=1.001e-3 if name == "dpmpp" else 1e-6
    )


def test_a_schedulers_own_shift_bends_the_grid() -> None:
    shifted = prepare(FlowMatchEulerDiscreteScheduler(shift=3.0), 4).sigmas
    linear = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    torch.testing.assert_close(shifted, 3 * linear / (1 + 2 * linear))


FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


@pytest.mark.parametrize(
    ("scheduler", "complaint"),
    [
        (FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), "noise on the way"),
        (DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **FLOW), "noise on the way"),
        (DPMSolverMultistepScheduler(), "follows no flow"),
        (DDIMScheduler(), "follows no flow"),
        (FlowMatchEulerDiscreteScheduler(invert_sigmas=True), "from 1 to 0"),
        (DPMSolverMultistepScheduler(prediction_type="flow_prediction"), "from 1 to 0"),
        (DPMSolverMultistepScheduler(final_sigmas_type="sigma_min", **FLOW), "from 1 to 0"),
    ],
)
def test_schedulers_that_are_wrong_for_the_path_are_refused(scheduler, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        prepare(scheduler, 4)


def test_bad_settings_are_named(lively_denoiser: Callable[..., Denoiser]) -> None:
    denoiser, raw = lively_denoiser(), torch.zeros(1, 6, 8)
    with pytest.raises(InputError, match=r"unknown sampler 'eular'.*euler, heun, dpmpp"):
        make_scheduler("eular")
    for options, complaint in (
        ({"steps": 0}, "at least 1 step, not 0"),
        ({"guidance": -1.0}, "guidance"),
        ({"guidance": math.nan}, "guidance"),
        ({"sigma": 1.5}, "sigma is from 0 to 1"),
        ({"sigma": math.nan}, "sigma is from 0 to 1"),
    ):
        with pytest.raises(InputError, match=complaint):
            run(denoiser, raw, raw, **options)
    with pytest.raises(ValueError, match="noise"):
        run(denoiser, raw, raw[..., 1:])


def test_every_solver_is_made_under_its_name() -> None:
    kinds = [FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler, DPMSolverMultistepScheduler]
    assert [type(make_scheduler(name)) for name in SOLVERS] == kinds
