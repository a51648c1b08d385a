import numpy as np
import pytest
import torch

from codec.mdct import dct_iv, inverse_mdct, mdct


def windowed_sum(signal: np.ndarray, frame: int, bins: int) -> np.ndarray:
    """The textbook sum of one frame: sine window over two hops, folded about the two block edges."""
    n, k = np.arange(2 * bins), np.arange(bins)
    window = np.sin(np.pi * (n + 0.5) / (2 * bins))
    cut = signal[frame * bins - bins // 2 :][: 2 * bins] * window
    phase = np.pi / bins * (n[:, None] + 0.5 - bins / 2) * (k[None] + 0.5)
    return np.sqrt(2 / bins) * (cut[:, None] * np.cos(phase)).sum(0)


@pytest.mark.parametrize("bins", [4, 32, 320])
def test_inner_frames_equal_the_windowed_cosine_sum(bins):
    signal = np.random.default_rng(0).standard_normal(6 * bins)
    frames = mdct(torch.from_numpy(signal).float(), dct_iv(bins)).numpy()
    for frame in range(1, 5):
        np.testing.assert_allclose(frames[frame], windowed_sum(signal, frame, bins), atol=2e-5)


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_orthogonal_up_to_both_ends(frames):
    signal = torch.randn(3, 2, frames * 320, generator=torch.Generator().manual_seed(1))
    basis = dct_iv(320)
    coefficients = mdct(signal, basis)
    assert coefficients.shape == (3, 2, frames, 320)
    torch.testing.assert_close(inverse_mdct(coefficients, basis), signal, atol=1e-5, rtol=0)
    torch.testing.assert_close(coefficients.square().sum(), signal.square().sum(), rtol=1e-5, atol=0)


def test_a_tone_stays_in_its_bins():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(320 * 50) / 48000)
    energy = mdct(tone, dct_iv(320))[5:-5].square().mean(0)
    assert energy[12:15].sum() / energy.sum() > 0.99  # 1 kHz lies in bin 13 of 75 Hz each


def test_refuses_a_partial_block():
    with pytest.raises(ValueError, match="multiple of 320"):
        mdct(torch.zeros(321), dct_iv(320))
