"""The bundled pocket codec keeps the level of what it codes, from moment to moment and for sound unlike any voice."""

from pathlib import Path

import pytest
import torch

from audio.singing import demo_take
from codec.pocket import PocketCodec

RATE = 48_000
BUNDLED = Path(__file__).parents[2] / "restyler" / "bundled" / "pocket" / "codec"
BLOCK = RATE // 10


@pytest.fixture(scope="module")
def codec() -> PocketCodec:
    return PocketCodec.from_pretrained(BUNDLED).float().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def voice() -> torch.Tensor:
    """2 s of the demo take, [2 samples], peak 0 dBFS."""
    take = demo_take(RATE).samples[:, RATE : 3 * RATE]
    return (take / take.abs().max()).repeat(2, 1)


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return 0.1 * torch.randn(2, RATE, generator=torch.Generator().manual_seed(0))


def round_trip(codec: PocketCodec, audio: torch.Tensor) -> torch.Tensor:
    return codec.decode(codec.encode(audio[None]), samples=audio.shape[-1])[0]


def power_db(audio: torch.Tensor) -> float:
    return 10 * torch.log10(audio.square().mean()).item()


def levels_db(audio: torch.Tensor) -> torch.Tensor:
    """Mean power of both channels in blocks of 100 ms."""
    return 10 * torch.log10(audio.unfold(1, BLOCK, BLOCK).square().mean((0, 2)) + 1e-12)


@pytest.mark.parametrize("dynamics", ["full scale", "-40 dB", "crescendo"])
def test_a_take_comes_back_with_its_level_trajectory(codec, voice, dynamics):
    """To 1 dB in every 100 ms, consonants and a hard cut at the start included; in the sung blocks to 0.1 dB."""
    gain_db = {
        "full scale": torch.zeros(1),
        "-40 dB": torch.full((1,), -40.0),
        "crescendo": torch.linspace(-40, 0, voice.shape[-1]),
    }[dynamics]
    take = voice * 10 ** (gain_db / 20)
    change_db = levels_db(round_trip(codec, take)) - levels_db(take)
    sung = levels_db(voice) > levels_db(voice).max() - 10
    assert sung.sum() > 10
    assert change_db.abs().max() < 1.0
    assert change_db[sung].abs().max() < 0.1


@pytest.mark.parametrize("band_hz", [(0, 24_000), (4_000, 12_000), (12_000, 20_000)])
def test_noise_of_any_colour_comes_back_as_loud(codec, noise, band_hz):
    hertz = torch.fft.rfftfreq(noise.shape[-1], 1 / RATE)
    kept = (hertz >= band_hz[0]) & (hertz <= band_hz[1])
    sound = torch.fft.irfft(torch.fft.rfft(noise) * kept, noise.shape[-1])
    assert (levels_db(round_trip(codec, sound)) - levels_db(sound)).abs().max() < 0.5


@pytest.mark.parametrize("sides", [(1.0, -1.0), (1.0, 0.0), (0.0, 1.0)])
def test_opposite_channels_and_one_side_alone_keep_their_level(codec, voice, noise, sides):
    gains = torch.tensor(sides)[:, None]
    for sound in (voice[:1] * gains, noise[:1] * gains):
        decoded = round_trip(codec, sound)
        assert decoded.isfinite().all()
        assert power_db(decoded) == pytest.approx(power_db(sound), abs=0.2)
    left, right = round_trip(codec, voice[:1] * gains)
    if 0.0 in sides:  # what leaks to the other side of a voice
        assert abs(power_db(left) - power_db(right)) > 20
    else:
        assert power_db(left - right) - power_db(left + right) > 20


def test_pauses_and_silence_stay_silent(codec, voice):
    assert round_trip(codec, torch.zeros(2, RATE)).abs().max() < 1e-5
    paused = voice.clone()
    paused[:, RATE // 2 : RATE] = 0
    assert levels_db(round_trip(codec, paused))[6:9].max() < -100
