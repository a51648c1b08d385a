import pytest
import torch

from codec.pocket import LEVEL_REACH_FRAMES, PocketCodec

RATE = 48_000


@pytest.fixture(scope="module")
def codec():
    """Small, with random weights everywhere: the properties below must not depend on training."""
    torch.manual_seed(0)
    codec = PocketCodec(width=32, encoder_blocks=2, decoder_blocks=3, window_frames=40).eval()
    for parameter in codec.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    codec.bin_scale.uniform_(0.2, 2)
    codec.set_statistics(torch.randn(128), torch.rand(128) + 0.5)
    return codec.requires_grad_(False)


def noise(samples, seed=0, batch=1, rms=0.1):
    return rms * torch.randn(batch, 2, samples, generator=torch.Generator().manual_seed(seed))


def one_pass(codec):
    whole = PocketCodec.from_config({**codec.config, "window_frames": 100_000}).eval()
    whole.load_state_dict(codec.state_dict())
    return whole


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 48_000, 50_001])
def test_frames_and_length_are_exact(codec, samples):
    latents = codec.encode(noise(samples))
    assert latents.shape == (1, 128, -(-samples // 320))
    assert codec.decode(latents, samples=samples).shape == (1, 2, samples)


def test_windows_equal_one_pass(codec):
    audio = noise(320 * 333 + 17)
    whole = one_pass(codec)
    latents, expected = codec.encode(audio), whole.encode(audio)
    torch.testing.assert_close(latents, expected, atol=1e-5, rtol=0)
    decoded = codec.decode(latents, samples=audio.shape[-1])
    torch.testing.assert_close(decoded, whole.decode(expected, samples=audio.shape[-1]), atol=1e-5, rtol=0)


def test_nothing_reaches_beyond_the_context(codec):
    """The context that windows rely on covers the real receptive field of both directions, measured by impulses."""
    whole, frames = one_pass(codec), 161
    audio = noise(frames * 320)
    touched = audio.clone()
    touched[..., 80 * 320 : 81 * 320] *= -3
    moved = (whole.encode(touched) - whole.encode(audio)).abs().amax(dim=(0, 1)).nonzero().flatten()
    assert 80 - codec.context_frames <= int(moved.min()) and int(moved.max()) <= 80 + codec.context_frames
    assert int(moved.max()) - int(moved.min()) > 2 * LEVEL_REACH_FRAMES - 2  # the impulse is seen at all
    latents = whole.encode(audio)
    changed = latents.clone()
    changed[..., 80] += 1
    difference = whole.decode(changed, samples=frames * 320) - whole.decode(latents, samples=frames * 320)
    moved = (difference.abs().amax(dim=(0, 1)) > 0).nonzero().flatten() // 320
    assert 80 - codec.context_frames <= int(moved.min()) and int(moved.max()) <= 80 + codec.context_frames


def test_level_is_a_channel_of_its_own(codec):
    """Twice the amplitude moves the level channel by ln 2 and nothing else; the audio comes back as loud as it was,
    whatever the shape that these random weights decode."""
    audio = noise(320 * 60)
    mean, std = codec.latent_mean[:, None], codec.latent_std[:, None]
    quiet, loud = (codec.encode(gain * audio) * std + mean for gain in (1, 2))
    torch.testing.assert_close(loud[:, 0] - quiet[:, 0], torch.full((1, 60), 2.0).log(), atol=1e-4, rtol=0)
    torch.testing.assert_close(loud[:, 1:], quiet[:, 1:], atol=2e-3, rtol=0)
    for gain, latents in ((1, quiet), (2, loud)):
        decoded = codec.decode((latents - mean) / std, samples=audio.shape[-1])
        assert decoded.square().mean().sqrt() == pytest.approx(0.1 * gain, rel=0.03)


def test_holding_the_level_leaves_right_coefficients_as_they_are(codec):
    """Down to −80 dBFS and through a crescendo, synthesis undoes analysis."""
    audio = noise(320 * 60) * torch.logspace(-3, 0, 320 * 60)
    torch.testing.assert_close(codec.synthesise(*codec.analyse(audio)), audio, rtol=0, atol=1e-5)
    quiet = noise(320 * 60, rms=1e-4)
    torch.testing.assert_close(codec.synthesise(*codec.analyse(quiet)), quiet, rtol=0, atol=1e-6)


def test_level_channel_is_the_log_rms(codec):
    sine = 0.25 * torch.sin(2 * torch.pi * 440 * torch.arange(RATE) / RATE)
    latents = codec.encode(sine.repeat(1, 2, 1))
    level = latents[0, 0] * codec.latent_std[0] + codec.latent_mean[0]
    torch.testing.assert_close(level[20:-20].exp(), torch.full((110,), 0.25 / 2**0.5), rtol=0.03, atol=0)


def test_silence_and_opposite_channels_are_safe(codec):
    silent = torch.zeros(1, 2, RATE)
    decoded = codec.decode(codec.encode(silent), samples=RATE)
    assert decoded.abs().max() < 10 ** (-60 / 20)
    opposite = noise(RATE)
    opposite[:, 1] = -opposite[:, 0]
    decoded = codec.decode(codec.encode(opposite), samples=RATE)
    assert decoded.isfinite().all() and decoded.square().mean() > 1e-6


def test_gradients_reach_every_parameter(codec):
    trainable = PocketCodec(width=16, encoder_blocks=1, decoder_blocks=1)
    audio = noise(320 * 20)
    trainable.decode_frames(trainable.encode_frames(audio)).sub(audio).square().mean().backward()
    assert [n for n, p in trainable.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_saved_folder_is_the_same_codec(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = PocketCodec.from_pretrained(tmp_path).eval()
    audio = noise(5000)
    assert torch.equal(loaded.encode(audio), codec.encode(audio))
    assert loaded.fingerprint() == codec.fingerprint()


def test_fingerprint_names_the_latents(codec, tmp_path):
    identity = codec.fingerprint()
    half = PocketCodec.from_config(codec.config)
    half.load_state_dict({k: v.half().float() for k, v in codec.state_dict().items()})
    assert half.fingerprint() == identity, "half precision must not make it another codec"
    half.decoder_out.weight.data += 1
    assert half.fingerprint() == identity, "the decoder does not define the latents"
    half.latent_std *= 2
    assert half.fingerprint() != identity
    half.latent_std /= 2
    half.encoder_out.weight.data += 1
    assert half.fingerprint() != identity


def test_bad_shapes_are_refused(codec):
    with pytest.raises(ValueError, match="batch 2 samples"):
        codec.encode(torch.zeros(1, 1, 500))
    with pytest.raises(ValueError, match="batch 2 samples"):
        codec.encode(torch.zeros(1, 2, 0))
    with pytest.raises(ValueError, match="128 2"):
        codec.decode(torch.zeros(1, 128, 3), samples=640)
    with pytest.raises(ValueError, match="positive"):
        codec.set_statistics(torch.zeros(128), torch.zeros(128))
