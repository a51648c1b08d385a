import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion.path import bridge_start, deviation, interpolate, velocity


def batch(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_the_path_ends_exactly_at_the_mix_and_at_its_start() -> None:
    mix, start = batch(2, 3, 5), 1e3 * batch(2, 3, 6)[..., 1:]
    assert torch.equal(interpolate(mix, start, torch.zeros(2)), mix)
    assert torch.equal(interpolate(mix, start, torch.ones(2)), start)


def test_a_bridge_without_noise_starts_at_the_raw_take() -> None:
    raw = batch(2, 3, 5)
    assert torch.equal(bridge_start(raw, torch.zeros(2), batch(2, 3, 6)[..., 1:], batch(3).abs()), raw)


def test_sigma_is_in_units_of_the_residual_of_each_channel() -> None:
    raw, residual_std, sigma = batch(2, 3, 40_000), torch.tensor([0.1, 1.0, 7.0]), torch.tensor([0.5, 2.0])
    noise = torch.randn(raw.shape, generator=torch.Generator().manual_seed(0))
    added = (bridge_start(raw, sigma, noise, residual_std) - raw).std(dim=2)
    torch.testing.assert_close(added, sigma[:, None] * residual_std, rtol=0.02, atol=0)


@settings(deadline=None)  # a busy machine is no bug
@given(t=st.floats(0.01, 1.0))
def test_the_velocity_is_the_derivative_of_the_path(t: float) -> None:
    mix, start = batch(1, 2, 3).double(), batch(1, 2, 4)[..., 1:].double()
    time = torch.tensor([t], dtype=torch.float64)
    by_autograd = torch.autograd.functional.jvp(lambda s: interpolate(mix, start, s), time, torch.ones_like(time))[1]
    torch.testing.assert_close(velocity(interpolate(mix, start, time), mix, time), by_autograd)


def test_the_deviation_is_zero_on_average_when_nothing_was_changed() -> None:
    raw, t = batch(1, 3, 4).expand(50_000, 3, 4), torch.full((50_000,), 0.4)
    noise = torch.randn(raw.shape, generator=torch.Generator().manual_seed(0))
    bridge = interpolate(raw, bridge_start(raw, torch.ones(50_000), noise, torch.ones(3)), t)
    for z, kind in ((bridge, "bridge"), (interpolate(raw, noise, t), "noise")):
        assert deviation(z, raw, t, kind).mean(dim=0).abs().max() < 0.01  # standard error .4/√50,000 = .002
