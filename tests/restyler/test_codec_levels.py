import copy
from pathlib import Path

import pytest
import torch

from audio.singing import demo_take
from codec.pocket import PocketCodec
from restyler.codec_levels import lacking_gains

RATE = 48_000
BUNDLED = Path(__file__).parents[2] / "restyler" / "bundled" / "pocket" / "codec"


@pytest.fixture(scope="module")
def batches():
    """Stereo excerpts of the demo take whose channels differ, each [2 2 samples], with noise up to the highest bin."""
    take = demo_take(RATE).samples
    noise = torch.randn(2, take.shape[1], generator=torch.Generator().manual_seed(0))
    stereo = torch.cat([take, 0.6 * take.roll(40, 1)]) + 0.0002 * noise
    return list(stereo[:, : 8 * 24_000].unfold(1, 24_000, 24_000).permute(1, 0, 2).unflatten(0, (4, 2)))


@pytest.fixture(scope="module")
def codec():
    return PocketCodec.from_pretrained(BUNDLED).float().eval().requires_grad_(False)


def turned_down(codec, gain_db):
    """The same with a decoder that is softer above 12 kHz in mid and side."""
    softer = copy.deepcopy(codec)
    gains = torch.ones(640)
    gains[160:320] = gains[480:] = 10 ** (gain_db / 20)
    softer.raise_bins(gains)
    return softer


def gains_db(codec, batches):
    return 20 * lacking_gains(codec, batches).log10()


def test_raised_bins_are_those_of_another_bin_scale(batches):
    torch.manual_seed(0)
    codec = PocketCodec(latent_dim=16, width=8, encoder_blocks=1, decoder_blocks=1).eval().requires_grad_(False)
    gains = torch.ones(640)
    gains[160:320], gains[480:] = 2.0, 0.5  # outside what copies are made of, which would change with it
    raised, scaled = copy.deepcopy(codec), copy.deepcopy(codec)
    raised.raise_bins(gains)
    latents = codec.encode_frames(batches[0])
    assert torch.equal(raised.encode_frames(batches[0]), latents)
    assert raised.fingerprint() == codec.fingerprint()
    scaled.bin_scale *= gains
    torch.testing.assert_close(raised.decode_frames(latents), scaled.decode_frames(latents), rtol=0, atol=2e-6)
    assert (raised.decode_frames(latents) - codec.decode_frames(latents)).abs().max() > 0.01


def test_gains_must_be_one_for_each_bin_and_positive(codec):
    for wrong in (torch.ones(320), torch.zeros(640)):
        with pytest.raises(ValueError, match="640 gains above 0"):
            copy.deepcopy(codec).raise_bins(wrong)


def test_a_known_lack_is_read_off(codec, batches):
    """Against the bins below, as the decoder is held to the level of the whole."""
    found = gains_db(turned_down(codec, -6.0), batches) - gains_db(codec, batches)
    high = found[170:310] - found[:150].mean()
    assert high.mean() == pytest.approx(6.0, abs=0.3)
    assert high.min() > 5
    assert found[:150].std() < 0.2
    assert (found[320:] == 0).all()


def test_what_is_made_up_for_is_lacking_no_more(codec, batches):
    softer = turned_down(codec, -12.0)
    raised = copy.deepcopy(softer)
    raised.raise_bins(lacking_gains(softer, batches))
    before, after = gains_db(softer, batches), gains_db(raised, batches)
    assert before.max() > 12
    assert after.abs().max() < 0.3 * before.max()


def test_silence_says_nothing_about_levels(codec):
    with pytest.raises(ValueError, match="sound in every bin"):
        lacking_gains(codec, [torch.zeros(1, 2, 9600)])
