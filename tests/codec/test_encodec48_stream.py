"""The EnCodec 48 kHz codec is one stream: however it is chunked, without visible joins, in bounded memory.

The network is narrow and its weights are random: what the tests state holds for any weights.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

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
        codec = kind.from_seed(0, n_filters=2)
        decoded = codec.decode(codec.encode(tone), samples=4 * RATE)[0, :, RATE // 4 : -RATE // 4]
        change = (decoded[:, 320:] - decoded[:, :-320]).abs().max()
        return float(20 * torch.log10(change / decoded.square().mean().sqrt()))

    assert largest_change_db(Encodec48Codec) < -60
    assert largest_change_db(_HardJoins) > -55
    assert largest_change_db(_Abutting) > 0


@pytest.mark.slow  # a process of its own that encodes a minute
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
for seconds in (10, 40):
    latents = codec.encode_stream(second for _ in range(seconds))
    samples = sum(chunk.shape[-1] for chunk in codec.decode_stream(latents, samples=48_000 * seconds))
    assert samples == 48_000 * seconds
    print(peak_kib())
take = second.repeat(1, 1, 40)
print(peak_kib())
codec.encode(take)
print(peak_kib())
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    short, long, with_take, encoded = map(int, run.stdout.split())
    assert long - short < 8_000  # 30 s more are 11 MB of waveform on either side
    assert encoded - with_take < 30_000  # its latents are 3 MB, its windows' activations hundreds
