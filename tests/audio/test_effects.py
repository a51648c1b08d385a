"""The chain as a whole: what reaches the output, when, and at which level."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from audio.delay import PingPongDelay
from audio.effects import Compressor, EffectChain, compress, render
from audio.filters import Filter
from audio.reverb import Reverb
from audio.waveform import Waveform

RATE_HZ = 48000
NO_DELAY = PingPongDelay(100.0, 0.0, 0.0, Filter("low_pass", 8000, 0.7), -50, 50)
NO_REVERB = Reverb((1000.0,), (0.5,), -np.inf, -np.inf, 0.0, 0.0, ())
BYPASS = EffectChain((), Compressor(0.0, 1.0, 1.0, 100.0, 0.0), NO_DELAY, NO_REVERB, 0.0, 0.0)
FULL = EffectChain(
    (Filter("high_pass", 120, 0.7), Filter("peak", 1000, 1.0, -4.0)),
    Compressor(-24.0, 3.0, 2.0, 80.0, 2.0),
    PingPongDelay(120.0, 0.4, 0.3, Filter("low_pass", 4000, 0.7), -60, 40),
    Reverb((250.0, 2000.0), (0.6, 0.4), -12.0, -15.0, -0.2, 20.0, ()),
    0.5,
    10.0,
)


def voice(channels: int = 1, seconds: float = 0.5) -> Waveform:
    noise = np.random.default_rng(0).standard_normal((channels, round(seconds * RATE_HZ)))
    return Waveform(torch.from_numpy(0.1 * noise).float(), RATE_HZ)


def test_a_chain_that_does_nothing_returns_the_take_on_both_channels() -> None:
    take = voice()
    torch.testing.assert_close(render(BYPASS, take, seed=0).samples, take.samples.repeat(2, 1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("rate_hz", [16000, 44100, 96000])
def test_the_mix_is_stereo_at_the_rate_and_length_of_the_take(rate_hz: int) -> None:
    take = Waveform(voice().samples, rate_hz)
    mix = render(FULL, take, seed=0)
    assert mix.sample_rate == rate_hz
    assert mix.samples.shape == (2, take.samples.shape[1])
    assert mix.samples.dtype == torch.float32
    assert bool(mix.samples.isfinite().all())
    followed = Waveform(torch.nn.functional.pad(take.samples, (0, rate_hz // 4)), rate_hz)  # silence for the tail
    longer = render(FULL, followed, seed=0).samples
    torch.testing.assert_close(longer[:, : take.samples.shape[1]], mix.samples, atol=1e-5, rtol=0)


def test_a_mono_take_sounds_like_itself_doubled() -> None:
    take = voice()
    torch.testing.assert_close(render(FULL, take, seed=0).samples, render(FULL, take.stereo(), seed=0).samples)


def test_the_seed_changes_the_reverb_and_nothing_else() -> None:
    first, again, other = (render(FULL, voice(), seed=seed).samples for seed in (1, 1, 2))
    torch.testing.assert_close(first, again, atol=0, rtol=0)
    reverb_from = round(0.02 * RATE_HZ)
    assert not torch.equal(first, other)
    torch.testing.assert_close(first[:, :reverb_from], other[:, :reverb_from], atol=1e-6, rtol=0)
    dry = replace(FULL, reverb=NO_REVERB)
    torch.testing.assert_close(render(dry, voice(), seed=1).samples, render(dry, voice(), seed=2).samples)


def test_the_reverb_of_echoes_begins_one_echo_later() -> None:
    click = Waveform(torch.eye(1, RATE_HZ // 2), RATE_HZ)
    with_send, without = (render(replace(FULL, delay_to_reverb=send), click, seed=0).samples for send in (1.0, 0.0))
    change = (with_send - without).abs().amax(dim=0)
    onset = round((0.12 + 0.02) * RATE_HZ)
    assert float(change[: onset - 1].max()) < 1e-7
    assert float(change[onset : onset + 500].max()) > 1e-4


def test_only_the_dry_signal_follows_the_dry_pan() -> None:
    left, right = render(replace(BYPASS, dry_pan_percent=50.0), voice(), seed=0).samples.square().mean(dim=1)
    assert float(right / left) == pytest.approx(np.tan(0.75 * np.pi / 2) ** 2, rel=1e-4)
    without_sends = replace(FULL, delay=NO_DELAY, reverb=NO_REVERB)
    changes = [
        render(replace(each, dry_pan_percent=-80.0), voice(), seed=0).samples
        - render(replace(each, dry_pan_percent=80.0), voice(), seed=0).samples
        for each in (FULL, without_sends)
    ]
    torch.testing.assert_close(*changes, atol=1e-5, rtol=0)


@pytest.mark.parametrize("level_db", [-40.0, -20.0, -6.0])
def test_the_static_curve_of_the_compressor(level_db: float) -> None:
    """On a square wave, whose peak level is its level at every moment, the gain can be read off exactly."""
    square = 10 ** (level_db / 20) * np.sign(np.sin(2 * np.pi * 500.5 * np.arange(RATE_HZ) / RATE_HZ))[None]
    out = compress(Compressor(-24.0, 4.0, 5.0, 50.0, 3.0), square, RATE_HZ)
    gain_db = 20 * np.log10(np.abs(out[0, -2000:]).mean() / np.abs(square[0, -2000:]).mean())
    assert gain_db == pytest.approx(3.0 - max(0.0, level_db + 24.0) * (1 - 1 / 4), abs=0.05)


@pytest.mark.parametrize(("before", "after", "constant_ms"), [(0.1, 1.0, 8.0), (1.0, 0.1, 40.0)])
def test_attack_and_release_are_time_constants_of_the_level(before: float, after: float, constant_ms: float) -> None:
    samples = np.full((1, RATE_HZ), before)
    samples[:, RATE_HZ // 2 :] = after
    out = compress(Compressor(-40.0, 2.0, 8.0, 40.0, 0.0), samples, RATE_HZ)[0, RATE_HZ // 2 :]
    seconds = np.arange(1, len(out) + 1) / RATE_HZ
    level = after + (before - after) * np.exp(-seconds / (constant_ms / 1000))
    np.testing.assert_allclose(out, after * (level / 0.01) ** (1 / 2 - 1), rtol=0.01)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="stereo"):
        render(BYPASS, voice(channels=3), seed=0)
    with pytest.raises(ValueError, match="ratio"):
        Compressor(-20.0, 0.5, 1.0, 1.0, 0.0)
