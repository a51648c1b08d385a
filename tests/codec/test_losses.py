import auraloss
import pytest
import torch

from codec.losses import a_weighting, matched_level, reconstruction_losses, spectral_losses, stereo_views


def noise(seed, batch=2, samples=24_000):
    return 0.1 * torch.randn(batch, 2, samples, generator=torch.Generator().manual_seed(seed))


def test_log_magnitude_equals_auraloss():
    x, y = noise(0), noise(1)
    oracle = auraloss.freq.MultiResolutionSTFTLoss(
        [128, 512, 2048], [32, 128, 512], [128, 512, 2048], w_sc=0.0, w_log_mag=1.0
    )
    expected = oracle(stereo_views(y).flatten(0, 1)[:, None], stereo_views(x).flatten(0, 1)[:, None])
    measured = spectral_losses(x, y, sample_rate=48_000)["log_magnitude"].mean()
    torch.testing.assert_close(measured, expected, rtol=1e-3, atol=0)


def test_a_gain_is_read_off_exactly():
    x = noise(2)
    losses = reconstruction_losses(x, 2 * x, sample_rate=48_000)
    ln2 = torch.full((2,), 2.0).log()
    torch.testing.assert_close(losses["log_magnitude"], ln2, rtol=1e-3, atol=0)
    torch.testing.assert_close(losses["mel"], 2 * ln2, rtol=1e-3, atol=0)
    torch.testing.assert_close(losses["level"], 2 * ln2, rtol=1e-3, atol=0)
    torch.testing.assert_close(losses["convergence"], torch.ones(2), rtol=0.05, atol=0)
    torch.testing.assert_close(losses["waveform"], torch.full((2,), (2 / torch.pi) ** 0.5), rtol=0.02, atol=0)


def test_independent_of_the_common_level():
    x, y = noise(3), noise(4)
    for name, value in reconstruction_losses(x, y, sample_rate=48_000).items():
        other = reconstruction_losses(0.03 * x, 0.03 * y, sample_rate=48_000)[name]
        torch.testing.assert_close(value, other, rtol=1e-3, atol=1e-4)


def test_silence_gives_finite_losses_and_gradients():
    silence = torch.zeros(1, 2, 24_000)
    estimate = (1e-5 * noise(5, batch=1)).requires_grad_()
    losses = reconstruction_losses(silence, estimate, sample_rate=48_000)
    sum(v.sum() for v in losses.values()).backward()
    assert estimate.grad.isfinite().all()
    assert losses["convergence"] < 1  # −120 dBFS against nothing is no error worth a step


def test_a_lost_side_signal_is_seen():
    """Mono in place of stereo leaves the mid alone: only a loss that looks at the side can tell."""
    x = noise(6)
    mono = x.mean(1, keepdim=True).repeat(1, 2, 1)
    assert spectral_losses(x, mono, sample_rate=48_000)["log_magnitude"].min() > 1.0


def test_the_level_wants_the_right_energy_of_noise_and_convergence_less():
    """Noise in place of another noise."""
    x, y = noise(9, samples=96_000), noise(10, samples=96_000)
    gains_db = torch.arange(-6.0, 3.0)
    losses = [spectral_losses(x, y * 10 ** (float(gain) / 20), sample_rate=48_000) for gain in gains_db]
    best = {
        name: float(gains_db[torch.stack([one[name].mean() for one in losses]).argmin()])
        for name in ("level", "convergence")
    }
    assert best["level"] == 0.0
    assert best["convergence"] < -1.5


def test_matched_level_is_one_gain():
    x, y = noise(7), noise(8)
    a, b = matched_level(x, y)
    torch.testing.assert_close(a.square().mean((1, 2)).sqrt(), torch.full((2,), 0.1), rtol=1e-5, atol=0)
    torch.testing.assert_close(b / y, (a / x).mean((1, 2), keepdim=True).expand_as(y), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("frequency_hz", "level_db"), [(100, -19.1), (1000, 0.0), (3981, 1.0), (15849, -6.6)])
def test_a_weighting_table(frequency_hz, level_db):
    """Rounded levels of IEC 61672-1, table 3."""
    assert 20 * a_weighting(torch.tensor([float(frequency_hz)])).log10().item() == pytest.approx(level_db, abs=0.1)
