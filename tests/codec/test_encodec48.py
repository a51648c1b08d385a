"""The EnCodec 48 kHz codec: one stream of latents with a level, whatever the length, the level and the chunks.

Most tests use a narrow network with random weights: what they state holds for any weights.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from encodec import EncodecModel

import codec.encodec48 as encodec48
from audio.errors import InputError
from codec.encodec48 import Encodec48Codec
from codec.windows import WindowGrid

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


# Lengths


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


# The official model


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


# Level


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


# Silence and phase


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


# One stream


@pytest.mark.parametrize("size", [777, 33_333, 200_000])
def test_chunks_of_any_size_give_the_very_same_stream(codec: Encodec48Codec, size: int) -> None:
    waveform = _phrases(7)[..., :-123]
    samples = waveform.shape[-1]
    latents = codec.encode(waveform)
    assert torch.equal(torch.cat(list(codec.encode_stream(waveform.split(size, dim=-1))), dim=-1), latents)
    chunks = codec.decode_stream(latents.split(size // 320 + 1, dim=-1), samples=samples)
    assert torch.equal(torch.cat(list(chunks), dim=-1), codec.decode(latents, samples=samples))


def test_a_stream_begins_before_its_source_has_ended(codec: Encodec48Codec) -> None:
    taken = 0

    def source():
        nonlocal taken
        for chunk in _noise(30 * RATE).split(RATE, dim=-1):
            taken += 1
            yield chunk

    next(codec.encode_stream(source()))
    assert taken < 6


def test_a_stream_of_the_wrong_form_is_refused(codec: Encodec48Codec) -> None:
    with pytest.raises(ValueError, match=r"chunks \[batch 2 any\]"):
        list(codec.encode_stream([torch.zeros(1, 1, 500)]))
    with pytest.raises(ValueError, match="at least one sample"):
        list(codec.encode_stream([]))
    with pytest.raises(ValueError, match="from 3 frames, not 2"):
        list(codec.decode_stream([torch.zeros(1, 129, 2)], samples=900))


def test_the_beginning_does_not_depend_on_what_comes_later(codec: Encodec48Codec) -> None:
    waveform = _phrases(6)
    whole, beginning = codec.encode(waveform), codec.encode(waveform[..., : 4 * RATE])
    # At 4 s, frame 600, the shorter take ends; the window that the longer one has more fades in from frame 540 on.
    torch.testing.assert_close(whole[..., :540], beginning[..., :540], rtol=0, atol=1e-5)
    assert float((whole[..., 540:600] - beginning[..., 540:]).abs().max()) > 1e-3


class _HardJoins(Encodec48Codec):
    grid = WindowGrid(length=150, hop=75, margin=37, fade=0)


class _Abutting(Encodec48Codec):
    grid = WindowGrid(length=150, hop=150, margin=0, fade=0)


def _jumps(frames: torch.Tensor) -> torch.Tensor:
    """RMS step from each frame [features frames] to the next."""
    return frames.diff(dim=-1).square().mean(dim=0).sqrt()


def _spectra(waveform: torch.Tensor) -> torch.Tensor:
    """Log magnitudes relative to the mean, one spectrum per latent frame."""
    frames = waveform[0, 0].double().unfold(0, 640, 320)
    spectra = torch.fft.rfft(frames * torch.hann_window(640, dtype=torch.float64)).abs()
    return torch.log(spectra / spectra.mean(dim=1, keepdim=True).clamp_min(1e-12) + 1e-3).T


def _most_visible_on_grid(track: torch.Tensor) -> tuple[float, int]:
    """Does anything recur with the windows' hop of 75 frames? (mean excess in nepers, its position in the hop).

    The track's excess over its four neighbours is averaged per position in the hop; the largest one counts.
    """
    logs = torch.log(track.double().clamp_min(1e-12))
    excess = logs[2:-2] - (logs[:-4] + logs[1:-3] + logs[3:-1] + logs[4:]) / 4
    mean = excess[: len(excess) // 75 * 75].reshape(-1, 75)[2:-2].mean(dim=0)
    return float(mean.max()), (int(mean.argmax()) + 2) % 75


def _assert_joins_cannot_be_measured(waveform: torch.Tensor) -> None:
    def measure(kind: type[Encodec48Codec]) -> dict[str, tuple[float, int]]:
        codec = kind.from_seed(1, n_filters=2)
        latents = codec.encode(waveform)
        decoded = codec.decode(latents, samples=waveform.shape[-1])
        return {
            "latents": _most_visible_on_grid(_jumps(latents[0, :128])),
            "spectrum": _most_visible_on_grid(_jumps(_spectra(decoded))),
        }

    for name, (excess, _) in measure(Encodec48Codec).items():
        assert excess < 0.05, name  # what chance leaves in 30 s
    # The same measure finds the joins of a codec without cross-fades, in their place: from frame 36 to 37 of a hop.
    excess, position = measure(_HardJoins)["latents"]
    assert excess > 0.08
    assert position == 36
    # And it finds, in the waveform too, where windows only abut: at a hop's end.
    excess, position = measure(_Abutting)["spectrum"]
    assert excess > 0.08
    assert position in (73, 74)


def test_joins_cannot_be_measured_in_noise_of_changing_level() -> None:
    _assert_joins_cannot_be_measured(_phrases(30, range_db=80))


def test_joins_cannot_be_measured_in_real_singing(shared_data: Path) -> None:
    takes = sorted((shared_data / "research/gtsinger").rglob("*.flac"))[:20]
    mono = np.concatenate([sf.read(take, dtype="float32", always_2d=True)[0][:, 0] for take in takes])
    _assert_joins_cannot_be_measured(torch.from_numpy(mono[: 40 * RATE]).expand(1, 2, -1))


def test_a_steady_tone_goes_on_in_level_and_phase_across_the_joins() -> None:
    # A whole number of periods per frame: whatever the weights, each frame must repeat the one before it.
    time_s = torch.arange(4 * RATE, dtype=torch.float64) / RATE
    tone = (0.3 * torch.sin(2 * torch.pi * 450 * time_s)).float().expand(1, 2, -1)

    def largest_change_db(kind: type[Encodec48Codec]) -> float:
        decoded = _round_trip(kind.from_seed(0, n_filters=2), tone)[0, :, RATE // 4 : -RATE // 4]
        change = (decoded[:, 320:] - decoded[:, :-320]).abs().max()
        return float(20 * torch.log10(change / decoded.square().mean().sqrt()))

    assert largest_change_db(Encodec48Codec) < -60
    assert largest_change_db(_HardJoins) > -55
    assert largest_change_db(_Abutting) > 0


def test_memory_does_not_grow_with_the_length() -> None:
    script = """
import resource, torch
from codec.encodec48 import Encodec48Codec

def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

torch.set_num_threads(1)
torch.set_grad_enabled(False)
codec = Encodec48Codec.from_seed(0, n_filters=2)
second = torch.rand(1, 2, 48_000)
for seconds in (20, 60):
    latents = codec.encode_stream(second for _ in range(seconds))
    samples = sum(chunk.shape[-1] for chunk in codec.decode_stream(latents, samples=48_000 * seconds))
    assert samples == 48_000 * seconds
    print(peak_kib())
take = second.repeat(1, 1, 60)
print(peak_kib())
codec.encode(take)
print(peak_kib())
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    short, long, with_take, encoded = map(int, run.stdout.split())
    assert long - short < 8_000  # 40 s more are 15 MB of waveform on either side
    assert encoded - with_take < 30_000  # a minute's latents are 5 MB, its windows' activations hundreds


# Identity and files


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


# Where the official weights come from


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
