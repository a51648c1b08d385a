"""What a codec says it hears is enough: a stretch that is encoded alone has the latents that it has in the whole."""

from __future__ import annotations

import pytest
import torch

from codec.base import LatentCodec
from codec.encodec48 import Encodec48Codec
from codec.pocket import PocketCodec
from codec.windows import WindowGrid

FRAMES = 1200


@pytest.fixture(scope="module", params=["pocket", "encodec"])
def codec(request: pytest.FixtureRequest) -> LatentCodec:
    if request.param == "encodec":
        return Encodec48Codec.from_seed(0, n_filters=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PocketCodec(width=32).eval()


@pytest.fixture(scope="module")
def whole(codec: LatentCodec) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight seconds whose level wanders, and their latents."""
    random = torch.Generator().manual_seed(0)
    level_db = torch.nn.functional.interpolate(
        -30 * torch.rand(1, 1, 24, generator=random), size=FRAMES * codec.hop_samples, mode="linear"
    )
    audio = 0.1 * torch.randn(1, 2, FRAMES * codec.hop_samples, generator=random) * 10 ** (level_db / 20)
    with torch.no_grad():
        return audio, codec.encode_raw(audio)


def alone(codec: LatentCodec, audio: torch.Tensor, first: int, stop: int) -> torch.Tensor:
    with torch.no_grad():
        return codec.encode_raw(audio[..., first * codec.hop_samples : stop * codec.hop_samples])


@pytest.mark.parametrize(
    ("first", "stop"), [(0, 1), (0, 300), (59, 160), (60, 165), (134, 135), (135, 166), (311, 702), (750, 900)]
)
def test_a_stretch_with_what_is_heard_around_it_is_as_in_the_whole(
    codec: LatentCodec, whole: tuple[torch.Tensor, torch.Tensor], first: int, stop: int
) -> None:
    audio, expected = whole
    begin, end = codec.heard_frames(first, stop)
    assert 0 <= begin <= first < stop <= end
    found = alone(codec, audio, begin, end)[..., first - begin : stop - begin]
    torch.testing.assert_close(found, expected[..., first:stop], rtol=0, atol=1e-4)


def test_one_window_less_is_not_enough_for_encodec() -> None:
    codec = Encodec48Codec.from_seed(0, n_filters=2)
    audio = 0.1 * torch.randn(1, 2, FRAMES * codec.hop_samples, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = codec.encode_raw(audio)[..., 311:702]
    begin, end = codec.heard_frames(311, 702)
    for first, stop in ((begin + codec.grid.hop, end), (begin, end - codec.grid.hop), (begin + 1, end)):
        found = alone(codec, audio, first, stop)[..., 311 - first : 702 - first]
        assert (found - expected).abs().max() > 0.01


@pytest.mark.parametrize("grid", [WindowGrid(16, 7, 2, 4), WindowGrid(150, 75, 15, 45), WindowGrid(10, 4, 0, 0)])
def test_the_windows_around_a_stretch_are_the_fewest_that_shape_it(grid: WindowGrid) -> None:
    """Of every window, the frames that it has a share in: from its margin to the end of the fade into the next one."""
    for first in range(grid.length * 2):
        for stop in (first + 1, first + 5, first + grid.length):
            shaping = [
                number
                for number in range(first + stop)
                if number * grid.hop + (grid.margin if number else 0) < stop
                and first < (number + 1) * grid.hop + grid.margin + grid.fade
            ]
            expected = shaping[0] * grid.hop, shaping[-1] * grid.hop + grid.length
            assert grid.around(first, stop) == expected
