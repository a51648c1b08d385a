"""Takes of any length: in pieces as at once, silence silent, edges and breaths kept, tails that ring out."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile
import torch
import torchaudio
from scipy.signal import oaconvolve

from audio.interpolation import INTERPOLATOR_HALF_WIDTH, OVERSAMPLING, fractional_delay
from audio.io import read, read_tags
from audio.loudness import integrated_loudness_lufs, match_loudness, true_peak_db
from audio.meters import K_WEIGHTING
from audio.resampling import KAISER_BETA, ROLLOFF, TABLE_BLOCK_SAMPLES, ZERO_CROSSINGS, resample
from audio.waveform import Waveform
from codec.pocket import PocketCodec
from restyler.model_folder import BUNDLED
from restyler.noise import noise
from restyler.pipeline import VocalRestylePipeline
from restyler.sample import main
from restyler.stopwatch import REST, Stopwatch

RATE = 48_000


@pytest.fixture(scope="module")
def bundled() -> VocalRestylePipeline:
    return VocalRestylePipeline.from_pretrained(BUNDLED)


@pytest.fixture(scope="module")
def voice(shared_data: Path) -> Waveform:
    """14 s of a real singer at 48 kHz, mono: longer than one window of the model."""
    found = sorted((shared_data / "research" / "gtsinger").rglob("*.flac"))
    for file in found:
        if soundfile.info(file).duration >= 14:
            take = read(file).resampled(RATE)
            return Waveform(take.samples[:1, : 14 * RATE].clone(), RATE)
    pytest.skip("needs the takes of research/gtsinger")


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        (97, RATE),
        (19_201, RATE),
        ((1 << 18) - 1, RATE),
        ((1 << 18) + 4_801, RATE),
        (700_001, RATE),
        (30_011, 8_000),
        (100_003, 44_099),
        (300_007, 11_025),
        (800_009, 192_000),
    ],
)
def test_meters_in_blocks_are_meters_of_the_whole(samples: int, rate: int) -> None:
    """Against pyloudnorm and a plain oversampling of all of it, with a loud start, a pause and a soft end."""
    sound = torch.randn(2, samples, generator=torch.Generator().manual_seed(samples)) * torch.tensor([[0.2], [0.05]])
    sound[:, samples // 3 : samples // 2] = 0
    sound[:, samples // 2 :] *= 0.1
    whole = sound.double().numpy()
    block_s = min(0.4, np.nextafter(samples / rate, 0.0))
    expected = pyloudnorm.Meter(rate, K_WEIGHTING, block_s).integrated_loudness(whole.T)
    kernels = [fractional_delay(phase / OVERSAMPLING, INTERPOLATOR_HALF_WIDTH) for phase in range(OVERSAMPLING)]
    peak = max(np.abs(oaconvolve(whole, kernel[None], axes=1)).max() for kernel in kernels)
    # pyloudnorm's blocks begin a sample early where 0.1 s times a whole number falls just short of one.
    assert integrated_loudness_lufs(Waveform(sound, rate)) == pytest.approx(expected, abs=1e-3)
    assert true_peak_db(Waveform(sound, RATE)) == pytest.approx(20 * np.log10(peak), abs=1e-9)
    if samples > 0.4 * rate:
        matched = match_loudness(Waveform(sound, RATE), -30.0)
        assert matched.loudness_lufs == pytest.approx(integrated_loudness_lufs(matched.waveform), abs=1e-4)
        assert matched.true_peak_db == pytest.approx(true_peak_db(matched.waveform), abs=1e-4)


@pytest.mark.parametrize(("old", "new"), [(44_100, 48_000), (48_000, 44_100), (96_000, 48_000)])
def test_resampling_in_blocks_is_resampling_of_the_whole(old: int, new: int) -> None:
    sound = torch.randn(1, 2 * TABLE_BLOCK_SAMPLES + 12_345, generator=torch.Generator().manual_seed(old))
    options = {"lowpass_filter_width": ZERO_CROSSINGS, "rolloff": ROLLOFF, "beta": KAISER_BETA}
    whole = torchaudio.functional.resample(sound, old, new, resampling_method="sinc_interp_kaiser", **options)
    torch.testing.assert_close(resample(sound, old, new), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 32_000, 44_100, 88_200, 96_000])
def test_a_resampled_take_has_the_length_that_was_promised(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Around the edges of blocks and for many lengths, and a tone goes through each edge as through everything else."""
    monkeypatch.setattr("audio.resampling.TABLE_BLOCK_SAMPLES", 4_000)
    for samples in [1, 2, 7, 3_999, 4_000, 4_001, 7_999, 8_001, 12_347]:
        tone = torch.sin(2 * torch.pi * 440 / rate * torch.arange(samples, dtype=torch.float64)).float()[None]
        out = resample(tone, rate, RATE)
        assert out.shape[1] == -(-samples * RATE // rate)
        ideal = torch.sin(2 * torch.pi * 440 / RATE * torch.arange(out.shape[1], dtype=torch.float64)).float()
        margin = RATE // 100
        if out.shape[1] > 3 * margin:
            torch.testing.assert_close(out[0, margin:-margin], ideal[margin:-margin], rtol=0, atol=1e-4)
    # Where single precision, in which torchaudio rounds, no longer tells.
    lost = [n for n in range(454_700, 460_000) if int(torch.tensor(n * RATE / rate).ceil()) != -(-n * RATE // rate)]
    for samples in lost[:2]:
        assert resample(torch.zeros(1, samples), rate, RATE).shape[1] == -(-samples * RATE // rate)


def test_the_codecs_windows_are_one_pass(bundled: VocalRestylePipeline, voice: Waveform) -> None:
    """Of any length, within 1e-4 of full scale: its context is as far as it hears."""
    state, config = bundled.codec.state_dict(), dict(bundled.codec.config)
    outcomes = []
    for window in (100, 700, 10_000):
        codec = PocketCodec.from_config(config | {"window_frames": window})
        codec.load_state_dict(state)
        with torch.no_grad():
            latents = codec.eval().encode(voice.stereo().samples[None, :, : 5 * RATE])
            outcomes.append((latents, codec.decode(latents, samples=5 * RATE)))
    for latents, decoded in outcomes[:-1]:
        torch.testing.assert_close(latents, outcomes[-1][0], rtol=0, atol=1e-4)
        torch.testing.assert_close(decoded, outcomes[-1][1], rtol=0, atol=1e-4)


def sampled(take: Waveform, folder: Path, *options: str) -> list[Waveform]:
    """One mix by the command, and the take as it reads it."""
    folder.mkdir(exist_ok=True)
    soundfile.write(folder / "take.wav", take.samples.numpy().T, RATE, subtype="FLOAT")
    arguments = [str(folder / "take.wav"), "--out", str(folder), "--variations", "1", "--device", "cpu", "--overwrite"]
    assert main([*arguments, *options]) == 0
    return [take.stereo(), read(folder / "take" / "mix_00.wav")]


def level_db(samples: torch.Tensor) -> float:
    return float(10 * torch.log10(samples.double().square().mean() + 1e-20))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["codec", "residual"])
def test_pauses_stay_silent_and_edges_and_breaths_stay(way: str, voice: Waveform, tmp_path: Path) -> None:
    """A take that begins and ends in the middle of a sound, with 13 s of digital silence in it (more than a window of
    the model), the noise of a room at −75 dB for 2 s, and sounds as soft as breaths (−35 dB)."""
    sung = voice.samples[:, : 5 * RATE]
    sung = sung / sung.abs().max() * 0.5
    room = torch.randn(1, 2 * RATE, generator=torch.Generator().manual_seed(0)) * 10 ** (-75 / 20)
    breath = torch.randn(1, RATE // 2, generator=torch.Generator().manual_seed(1)) * torch.hann_window(RATE // 2) * 0.03
    gap = torch.zeros(1, 13 * RATE)
    quiet = torch.zeros(1, RATE)
    loud_from = int(sung.abs().argmax())
    start = sung[:, min(loud_from, 3 * RATE) :]
    take = Waveform(torch.cat([start, gap, room, quiet, breath, quiet, sung[:, : loud_from + 1]], dim=1), RATE)
    dry, mix = sampled(take, tmp_path, "--render", way, "--style", "open_dry", "--spread", "0")
    gain_db = level_db(dry.samples[:, : start.shape[1]]) - level_db(mix.samples[:, : start.shape[1]])
    at = list(itertools.accumulate([start.shape[1], gap.shape[1], room.shape[1], RATE, RATE // 2]))
    silent = mix.samples[:, at[0] + 5 * RATE : at[1] - RATE // 4]
    assert level_db(silent) + gain_db < -90
    hum = mix.samples[:, at[1] + RATE // 4 : at[2] - RATE // 4]
    assert -95 < level_db(hum) + gain_db < -55
    breathed = mix.samples[:, at[3] : at[4]]
    assert abs(level_db(breathed) + gain_db - level_db(breath)) < 9
    for edge in (slice(None, RATE // 20), slice(-RATE // 20, None)):
        assert abs(level_db(mix.samples[:, edge]) + gain_db - level_db(dry.samples[:, edge])) < 6


@pytest.mark.parametrize(
    "way", ["residual", *(pytest.param(way, marks=pytest.mark.slow) for way in ("codec", "transfer"))]
)
def test_tails_ring_out(way: str, voice: Waveform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reverberant mix of a take that stops in the midst of a sound: with a tail it goes on as it was and fades away;
    before the end it is the mix that it is without; --like makes it again, tail and all, byte for byte."""
    monkeypatch.setattr("restyler.transfer.fit.STEPS", 20)  # enough for some reverb
    loudest = int(voice.samples[:, 2 * RATE : 6 * RATE].abs().argmax()) + 2 * RATE
    take = Waveform(voice.samples[:, loudest - 2 * RATE : loudest], RATE)
    told = ("--render", way, "--style", "bright_long", "--space", "14")
    _, without = sampled(take, tmp_path / "without", *told)
    _, mix = sampled(take, tmp_path / "with", *told, "--tail", "1.5")
    file = tmp_path / "with" / "take" / "mix_00.wav"
    assert mix.samples.shape[1] == take.samples.shape[1] + 3 * RATE // 2
    assert read_tags(file)["tail"] == "1.5"
    assert "tail" not in read_tags(tmp_path / "without" / "take" / "mix_00.wav")
    ending = level_db(mix.samples[:, 2 * RATE - RATE // 10 : 2 * RATE])
    after = [
        level_db(mix.samples[:, 2 * RATE + at : 2 * RATE + at + RATE // 10]) for at in (0, RATE // 2, RATE * 14 // 10)
    ]
    assert ending - 40 < after[0] < ending
    assert after[2] < after[1] < after[0]
    inner = slice(RATE // 4, 7 * RATE // 4)
    scale = float((mix.samples[:, inner] * without.samples[:, inner]).sum() / without.samples[:, inner].square().sum())
    apart = level_db(mix.samples[:, inner] - scale * without.samples[:, inner]) - level_db(mix.samples[:, inner])
    assert apart < -10
    again = tmp_path / "again"
    arguments = [str(tmp_path / "with" / "take.wav"), "--like", str(file), "--around", "0", "--out", str(again)]
    assert main([*arguments, "--device", "cpu"]) == 0
    assert (again / "take" / "mix_00.wav").read_bytes() == file.read_bytes()


def test_the_noise_before_a_tail_is_what_it_is_without() -> None:
    with_tail, without = noise(3, (4, 30), 10), noise(3, (4, 20))
    assert torch.equal(with_tail[:, :20], without)
    assert not torch.equal(with_tail[:, 20:], without[:, 10:])


@pytest.mark.parametrize("tail", ["-1", "31", "nan"])
def test_tails_that_cannot_be_are_refused(tail: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["take.wav", "--tail", tail]) == 2
    assert "--tail" in capsys.readouterr().err


def test_a_stopwatch_counts_each_moment_once() -> None:
    clock = itertools.count().__next__  # a second passes at every look
    watch = Stopwatch(lambda: float(clock()))
    with watch.of("one"):
        with watch.of("two"), watch.of("three"):
            pass
        with watch.of("two"):
            pass
    assert watch.seconds() == {"three": 1.0, "two": 3.0, "one": 3.0, REST: 2.0}
    (line,) = watch.lines(30.0)
    assert "30 s of mixes" in line and "three 10%" in line and line.count("%") == 4


def test_timing_tells_all_shares(voice: Waveform, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sampled(Waveform(voice.samples[:, : 2 * RATE], RATE), tmp_path, "--timing")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("2 s of mixes in ")
    shares = {part.rsplit(" ", 1)[0]: int(part.rsplit(" ", 1)[1][:-1]) for part in last.split(": ")[1].split(", ")}
    assert {"codec", "denoiser", "rendering", "guards", "levels", "files", "the rest"} == shares.keys()
    assert abs(sum(shares.values()) - 100) <= 4 and shares["codec"] > 0 and shares["denoiser"] > 0
