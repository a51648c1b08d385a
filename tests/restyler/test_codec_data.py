import numpy as np

from restyler.codec_data import band_limited, vary


def test_a_band_limit_empties_what_lies_above_and_leaves_what_lies_below():
    """Against sines, which lie on one side: 1 % off the limit there is nothing of a slope left."""
    seconds = np.arange(48_000) / 48_000
    below, above = (np.sin(2 * np.pi * frequency * seconds)[None] for frequency in (11_880, 12_120))
    limited = band_limited(below + above, limit_hz=12_000, sample_rate=48_000)
    assert np.abs(limited - below).max() < 1e-9


def test_some_excerpts_have_a_band_limit():
    noise = np.random.default_rng(0).standard_normal((2, 9_600))
    varied = [vary(noise, np.random.default_rng(seed), [], 48_000) for seed in range(200)]
    spectra = np.abs(np.fft.rfft(np.array(varied), axis=2)).mean(axis=1)
    top, middle = spectra[:, 4_400:].mean(axis=1), spectra[:, 1_000:1_500].mean(axis=1)
    assert 25 <= (top < 1e-4 * middle).sum() <= 75  # a quarter, less those that a fade follows
