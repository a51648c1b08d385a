"""The EnCodec 48 kHz codec: the official model, of any length, saved and loaded, and where its weights come from.

Most tests use a narrow network with random weights: what they state holds for any weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from encodec import EncodecModel

import codec.encodec48 as encodec48
from audio.errors import InputError
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


@pytest.mark.parametrize("samples", [1, 2, 319, 320, 321, 2_400, 47_999, 48_000, 48_001, 71_681, 96_000, 100_001])
def test_any_length_is_exact_to_the_sample(codec: Encodec48Codec, samples: int) -> None:
    waveform = _noise(samples)
    latents = codec.encode(waveform)
    decoded = codec.decode(latents, samples=samples)
    assert latents.shape == (1, 129, -(-samples // 320))
    assert decoded.shape == waveform.shape
    assert bool(latents.isfinite().all())
    assert bool(decoded.isfinite().all())


def test_the_takes_of_a_batch_do_not_see_each_other(codec: Encodec48Codec) -> None:
    quiet, loud = _noise(90_000, 1) * 0.01, _noise(90_000, 2)
    together = codec.encode(torch.cat([quiet, loud]))
    apart = torch.cat([codec.encode(quiet), codec.encode(loud)])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-4)
    decoded = codec.decode(together, samples=90_000)
    torch.testing.assert_close(decoded[:1], codec.decode(apart[:1], samples=90_000), rtol=0, atol=1e-6)


def test_one_second_is_encoded_as_the_official_model_does() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        official = EncodecModel.encodec_model_48khz(pretrained=False)
    codec = Encodec48Codec()
    codec.encoder.load_state_dict(official.encoder.state_dict())  # strict: the layouts are the same
    codec.decoder.load_state_dict(official.decoder.state_dict())
    second = _phrases(1) * torch.tensor([1.0, 0.3])[:, None]
    second[:, 1] += 0.3 * second[:, 0]

    scale = second.mean(dim=1).square().mean().sqrt() + 1e-8  # EncodecModel._encode_frame divides by this
    latents = codec.encode(second)
    torch.testing.assert_close(latents[:, :128], official.encoder(second / scale), rtol=0, atol=1e-5)

    # The decoder is the official one but for the level: one positive gain at a time, the same for both channels.
    expected = official.decoder(latents[:, :128])
    gain = codec.decode(latents, samples=RATE) / expected
    clear = (expected.abs() > 0.1).all(dim=1)
    left, right = gain[:, 0][clear], gain[:, 1][clear]
    assert len(left) > RATE / 2
    assert float(left.min()) > 0
    torch.testing.assert_close(left, right, rtol=1e-3, atol=0)


def test_the_official_size_is_the_default_and_weights_follow_the_seed() -> None:
    codec = Encodec48Codec.from_seed(3)
    assert sum(parameter.numel() for parameter in codec.parameters()) == 14_856_294
    narrow = [Encodec48Codec.from_seed(seed, n_filters=2).fingerprint() for seed in (3, 3, 4)]
    assert narrow[0] == narrow[1] != narrow[2]


def test_random_weights_leave_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    Encodec48Codec.from_seed(0, n_filters=2)
    assert torch.equal(torch.rand(4), expected)


def test_everything_survives_saving_and_loading(tmp_path: Path) -> None:
    codec = Encodec48Codec.from_seed(2, n_filters=3)
    codec.set_statistics(torch.linspace(-1, 1, 129), torch.linspace(0.5, 2, 129))
    codec.save_pretrained(tmp_path)
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = Encodec48Codec.from_pretrained(tmp_path)
    waveform = _phrases(2)
    latents = codec.encode(waveform)
    assert loaded.config.n_filters == 3
    assert loaded.fingerprint() == codec.fingerprint()
    assert torch.equal(loaded.encode(waveform), latents)
    assert torch.equal(loaded.decode(latents, samples=2 * RATE), codec.decode(latents, samples=2 * RATE))


def test_the_fingerprint_names_the_latents_and_not_the_decoder() -> None:
    def changed(change: Callable[[Encodec48Codec], object]) -> bool:
        codec = Encodec48Codec.from_seed(0, n_filters=2)
        before = codec.fingerprint()
        change(codec)
        return codec.fingerprint() != before

    assert changed(lambda codec: next(codec.encoder.parameters()).mul_(1.1))
    assert changed(lambda codec: codec.latent_mean.add_(1))
    assert changed(lambda codec: codec.latent_std.mul_(2))
    assert not changed(lambda codec: [parameter.mul_(1.1) for parameter in codec.decoder.parameters()])


def test_gradients_reach_both_halves_and_stay_finite_in_silence() -> None:
    codec = Encodec48Codec.from_seed(0, n_filters=2)
    waveform = _noise(60_000)
    waveform[..., 20_000:40_000] = 0
    with torch.enable_grad():
        codec.decode(codec.encode(waveform), samples=60_000).abs().mean().backward()
    for part in (codec.encoder, codec.decoder):
        gradients = [parameter.grad for parameter in part.parameters() if parameter.grad is not None]
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
        assert max(float(gradient.abs().max()) for gradient in gradients) > 0


def test_a_file_with_the_official_name_and_another_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / encodec48.CHECKPOINT).write_bytes(b"not the weights")
    with pytest.raises(InputError, match=r"checksum [0-9a-f]{8}, the official EnCodec weights 7e698e3e"):
        Encodec48Codec.from_official(tmp_path)


@pytest.mark.parametrize("folder", [".", "missing"])
def test_a_folder_without_the_weights_is_named(tmp_path: Path, folder: str) -> None:
    with pytest.raises(InputError, match=r"encodec_48khz-7e698e3e\.th \(No such file or directory\): https://"):
        Encodec48Codec.from_official(tmp_path / folder)


def test_a_cached_file_with_another_content_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / encodec48.CHECKPOINT
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"half a download")
    with pytest.raises(InputError, match="checksum"):
        Encodec48Codec.from_official()


def test_without_a_network_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # nothing fetched before
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(InputError, match=r"could not be fetched .* put https://.*7e698e3e\.th into a folder"):
        Encodec48Codec.from_official()


def test_weights_are_read_from_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A file in the official layout; only its checksum is made the expected one.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        official = EncodecModel.encodec_model_48khz(pretrained=False)
    file = tmp_path / "weights.th"
    torch.save(official.state_dict(), file)
    name = f"encodec_48khz-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.th"
    file.rename(tmp_path / name)
    monkeypatch.setattr(encodec48, "CHECKPOINT", name)
    loaded = Encodec48Codec.from_official(tmp_path)
    for part in ("encoder", "decoder"):
        expected = getattr(official, part).state_dict()
        actual = getattr(loaded, part).state_dict()
        assert expected.keys() == actual.keys()
        assert all(torch.equal(expected[key], actual[key]) for key in expected)
