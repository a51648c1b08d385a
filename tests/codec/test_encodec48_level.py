"""The EnCodec 48 kHz codec carries level beside its latents: trajectories, pauses, silence, channels in anti-phase.

The network is narrow and its weights are random: what the tests state holds for any weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

import codec.encodec48 as encodec48
from codec.encodec48 import Encodec48Codec

RATE = 48_000


@pytest.fixture(scope="module")
def codec() -> Encodec48Codec:
    return Encodec48Codec.from_seed(0, n_filters=2)


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def _noise(samples: int, seed: int = 0) -> torch.Tensor:
    """White noise [1 2 samples] at −20 dB."""
    return torch.randn(1, 2, samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def _phrases(seconds: int, seed: int = 0, range_db: float = 30) -> torch.Tensor:
    """Noise [1 2 samples] whose level wanders over `range_db`, three times a second."""
    steps_db = -range_db * torch.rand(1, 1, 3 * seconds, generator=torch.Generator().manual_seed(seed + 1))
    level_db = torch.nn.functional.interpolate(steps_db, size=seconds * RATE, mode="linear")
    return _noise(seconds * RATE, seed) * 10 ** (level_db / 20)


def _levels_db(waveform: torch.Tensor, block_s: float = 0.1) -> np.ndarray:
    """RMS over both channels in blocks, in dB: an independent measure of the loudness trajectory."""
    block = round(block_s * RATE)
    samples = waveform[0].double().numpy()
    samples = samples[:, : samples.shape[1] // block * block].reshape(2, -1, block)
    return 10 * np.log10((samples**2).mean(axis=(0, 2)) + 1e-20)


def _round_trip(codec: Encodec48Codec, waveform: torch.Tensor) -> torch.Tensor:
    return codec.decode(codec.encode(waveform), samples=waveform.shape[-1])


@pytest.mark.parametrize("take_db", [-40, 0, 20])
def test_a_stationary_take_comes_back_at_its_level(codec: Encodec48Codec, take_db: int) -> None:
    waveform = _noise(3 * RATE) * 10 ** (take_db / 20)
    assert np.abs(_levels_db(_round_trip(codec, waveform)) - _levels_db(waveform)).max() < 0.5


def test_a_crescendo_over_60_db_comes_back_as_a_crescendo(codec: Encodec48Codec) -> None:
    waveform = _noise(6 * RATE) * torch.logspace(-2, 1, 6 * RATE)
    level_in, level_out = _levels_db(waveform), _levels_db(_round_trip(codec, waveform))
    slope = np.polyfit(level_in, level_out, 1)[0]
    assert abs(slope - 1) < 0.01
    assert np.abs(level_out - level_in).max() < 1


@pytest.mark.parametrize("take_db", [-40, 0])
def test_phrases_keep_their_loudness_trajectory(codec: Encodec48Codec, take_db: int) -> None:
    waveform = _phrases(6) * 10 ** (take_db / 20)
    level_in, level_out = _levels_db(waveform), _levels_db(_round_trip(codec, waveform))
    assert np.corrcoef(level_in, level_out)[0, 1] > 0.995
    assert np.abs(level_out - level_in).max() < 1.5


def test_a_louder_take_moves_the_level_channel_alone(codec: Encodec48Codec) -> None:
    waveform = _phrases(3)
    soft, loud = codec.encode(waveform), codec.encode(waveform * 10)
    torch.testing.assert_close(loud[:, :128], soft[:, :128], rtol=0, atol=1e-4)
    torch.testing.assert_close(loud[:, 128:], soft[:, 128:] + 20, rtol=0, atol=0.05)


def test_the_level_channel_rules_the_level_of_what_is_decoded(codec: Encodec48Codec) -> None:
    latents = codec.encode(_noise(2 * RATE))
    decoded = codec.decode(latents, samples=2 * RATE)
    raised = latents.clone()
    raised[:, 128] += 12
    louder = codec.decode(raised, samples=2 * RATE)
    torch.testing.assert_close(louder, decoded * 10 ** (12 / 20), rtol=1e-3, atol=1e-6)
    scaled = latents.clone()
    scaled[:, :128] *= 3
    assert np.abs(_levels_db(codec.decode(scaled, samples=2 * RATE)) - _levels_db(decoded)).max() < 0.5


def test_statistics_standardise_every_channel_the_level_too(codec: Encodec48Codec) -> None:
    standard = Encodec48Codec.from_seed(0, n_filters=2)
    waveform = _phrases(3)
    raw = codec.encode(waveform)
    standard.set_statistics(raw.mean(dim=(0, 2)), raw.std(dim=(0, 2)))
    latents = standard.encode(waveform)
    torch.testing.assert_close(latents.mean(dim=(0, 2)), torch.zeros(129), rtol=0, atol=1e-4)
    torch.testing.assert_close(latents.std(dim=(0, 2)), torch.ones(129), rtol=1e-4, atol=0)
    torch.testing.assert_close(
        standard.decode(latents, samples=3 * RATE), codec.decode(raw, samples=3 * RATE), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("samples", [1, 5_000, 130_000])
def test_silence_stays_silence(codec: Encodec48Codec, samples: int) -> None:
    silence = torch.zeros(1, 2, samples)
    assert bool(codec.encode(silence).isfinite().all())
    assert torch.equal(_round_trip(codec, silence), silence)


def test_nothing_comes_up_in_the_pauses_between_phrases(codec: Encodec48Codec) -> None:
    waveform = _noise(5 * RATE)
    waveform[..., 1 * RATE : 3 * RATE] = 0
    decoded = _round_trip(codec, waveform)
    reach = 8 * 320  # half the smoothing, and half a frame of the gain's slope
    assert torch.equal(decoded[..., RATE + reach : 3 * RATE - reach], waveform[..., RATE + reach : 3 * RATE - reach])
    assert abs(_levels_db(decoded)[3:9].mean() + 20) < 0.3


def test_a_quiet_room_between_phrases_stays_as_quiet(codec: Encodec48Codec) -> None:
    waveform = _noise(4 * RATE)
    waveform[..., RATE : 3 * RATE] *= 1e-3  # −80 dB
    assert abs(_levels_db(_round_trip(codec, waveform))[13:27].mean() + 80) < 0.5


def test_channels_in_anti_phase_are_safe_and_keep_their_level(codec: Encodec48Codec) -> None:
    left = _phrases(3)[:, :1]
    opposite = torch.cat([left, -left], dim=1)
    latents = codec.encode(opposite)
    assert bool(latents.isfinite().all())
    assert torch.equal(latents[:, 128:], codec.encode(left.expand(1, 2, -1))[:, 128:])
    assert np.abs(_levels_db(_round_trip(codec, opposite)) - _levels_db(opposite)).max() < 1.5


@pytest.mark.parametrize("share", [0.0, 1e-9, 1e-6, 1e-3])
def test_nearly_vanishing_sums_are_divided_by_something_sound(share: float) -> None:
    window = _noise(RATE)
    left, right = window[:, :1], window[:, 1:]
    scaled = torch.cat([left, share * right - left], dim=1)
    scaled = scaled / encodec48.window_scale(scaled)
    assert float(scaled.square().mean().sqrt()) == pytest.approx(2, rel=1e-3)
