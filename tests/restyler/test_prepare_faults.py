"""What `restyler prepare` says of pairs that were spoilt in one way each: that, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from audio.waveform import Waveform
from restyler.prepare.command import main

pytestmark = pytest.mark.usefixtures("fresh_accelerator")
RATE_HZ = 48_000
Sing = Callable[[int, float], Waveform]
Mix = Callable[..., np.ndarray]


class Pairs:
    """Writes pairs into two folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for side in ("raw", "mix"):
            (folder / side).mkdir()

    def add(self, name: str, raw: np.ndarray, mix: np.ndarray, *, raw_hz: int = RATE_HZ, mix_hz: int = RATE_HZ) -> None:
        for side, samples, rate in (("raw", raw, raw_hz), ("mix", mix, mix_hz)):
            soundfile.write(self.folder / side / f"{name}.wav", samples.T, rate, "PCM_24")


def played_at(samples: np.ndarray, rate: float) -> np.ndarray:
    """As if its clock ran so much faster."""
    return Waveform.resampled(_waveform(samples, round(rate * 1e6)), 1_000_000).samples.numpy()


def _waveform(samples: np.ndarray, rate: int) -> Waveform:
    return Waveform(torch.from_numpy(np.atleast_2d(samples).astype(np.float32)), rate)


def turned(samples: np.ndarray) -> np.ndarray:
    """Every frequency keeps its level and comes 0 to 40 ms late, others than its neighbours 150 Hz away."""
    length = samples.shape[1] + RATE_HZ
    frequency_hz = np.fft.rfftfreq(length, 1 / RATE_HZ)
    delay_s = 0.02 * (1 + np.sin(2 * np.pi * frequency_hz / 300))
    phase = -2 * np.pi * np.cumsum(delay_s) * frequency_hz[1]
    return 0.5 * np.fft.irfft(np.fft.rfft(samples, length) * np.exp(1j * phase), length)


def music(samples: int, random: np.random.Generator) -> np.ndarray:
    """Chords on a beat that no voice follows."""
    time = np.arange(samples) / RATE_HZ
    beat = np.exp(-4 * (time % 0.46))
    chords = sum(
        np.sin(2 * np.pi * 110 * 2 ** (np.floor(time / 1.84) % 4 * k / 12) * k * time + k) / k for k in range(1, 30)
    )
    return beat * (chords + 0.4 * random.standard_normal(samples))


def spoilt_pairs(pairs: Pairs, sung: Sing, mixed: Mix) -> dict[str, list[str]]:
    """Writes all of them; what is to be found, by the name of the pair."""
    expected: dict[str, list[str]] = {}
    random = np.random.default_rng(0)
    numbers = iter(range(100, 200))

    def fresh(seconds: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
        number = next(numbers)
        raw = sung(number, seconds).samples[0].numpy()
        return raw, mixed(raw, RATE_HZ, seed=number)

    def add(name: str, raw: np.ndarray, mix: np.ndarray, *codes: str, **rates: int) -> None:
        pairs.add(name, raw, mix, **rates)
        expected[name] = list(codes)

    add("healthy", *fresh())
    raw, mix = fresh()
    add("late", raw, np.pad(mix, ((0, 0), (round(4.6 * RATE_HZ), 0))))
    raw, mix = fresh()
    add("early", raw, mix[:, round(1.8 * RATE_HZ) :])
    raw, mix = fresh()
    add("inverted", raw, -mix, "inverted")
    raw, mix = fresh(20.0)
    add("drifting", raw, played_at(mix, 1.0001), "drift")
    raw, mix = fresh()
    add("mislabelled", raw, _waveform(mix, 48000).resampled(44100).samples.numpy(), "clock")
    add("wrong", fresh()[0], fresh()[1], "wrong_pair")
    raw, _ = fresh()
    add("unprocessed", raw, 0.5 * np.stack([raw, raw]), "unprocessed")
    raw, mix = fresh()
    add("rephased", raw, turned(mix), "rephased")
    raw, mix = fresh()
    backing = music(mix.shape[1], random)
    add("with backing", raw, 0.5 * (mix + backing * np.std(mix) / np.std(backing)), "bleed")
    raw, mix = fresh()
    add("silent take", 1e-5 * raw, mix, "silent_raw")
    raw, mix = fresh()
    add("clipped", np.clip(2 * raw, -0.5, 0.5), mix, "clipped_raw")
    raw, mix = fresh()
    loud = int(np.abs(mix[0]).argmax())
    gaps = mix.copy()
    gaps[:, loud + 200 : loud + 1400] = 0
    add("dropout", raw, gaps, "dropouts_mix")
    raw, mix = fresh()
    add("offset", raw + 0.05, mix, "dc_raw")
    raw, mix = fresh()
    add("stereo take", np.stack([raw, np.roll(raw, 30)]), mix, "stereo_raw")
    raw, mix = fresh()
    add("dead channel", raw, np.stack([mix[0], 0 * mix[0]]), "one_channel_mix")
    raw, mix = fresh()
    add("dull", raw, _waveform(mix, RATE_HZ).resampled(16000).samples.numpy(), "narrow_mix", mix_hz=16000)
    raw, _ = fresh()
    wet = mixed(raw, RATE_HZ, seed=7)
    add("reverberant", wet[0], mixed(wet[0], RATE_HZ, seed=8), "wet_raw")
    raw, mix = fresh()
    add("exchanged", mix[0], np.stack([raw, raw]), "wet_raw", "swapped")
    raw, mix = fresh(14.0)
    cut = 6 * RATE_HZ
    add("pause put in", raw, np.concatenate([mix[:, :cut], np.zeros((2, 3 * RATE_HZ)), mix[:, cut:]], axis=1), "edited")
    raw, mix = fresh(14.0)
    add("half of it", raw, mix[:, : 6 * RATE_HZ], "partial")
    raw, mix = fresh(1.5)
    add("short", raw[: RATE_HZ // 2], mix[:, : RATE_HZ // 2], "too_short")
    raw, mix = fresh()
    add("original", raw, mix)
    add("original again", 0.8 * raw, 0.7 * mix, "duplicate")
    raw, mix = fresh(7.0)
    other = mixed(raw, RATE_HZ, seed=99)
    add("take under one name", raw, mix, "duplicate_raw")
    add("take under another name", raw[1000:], other, "duplicate_raw")
    return expected


@pytest.fixture(scope="module")
def report(
    tmp_path_factory: pytest.TempPathFactory, model: Path, sung: Sing, mixed: Mix
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Encoded by a codec that is sooner done than the bundled one: none of it is judged."""
    folder = tmp_path_factory.mktemp("spoilt")
    expected = spoilt_pairs(Pairs(folder), sung, mixed)
    folders = [word for side in ("raw", "mix", "out") for word in (f"--{side}", str(folder / side))]
    assert main([*folders, "--workers", "1", f"codec.path={model / 'codec'}"]) == 0
    return json.loads((folder / "out/report.json").read_text()), expected


def test_each_is_told_by_its_code_and_healthy_ones_have_none(
    report: tuple[dict[str, Any], dict[str, list[str]]],
) -> None:
    told, expected = report
    assert {pair["key"]: pair["faults"] for pair in told["pairs"]} == expected
    assert set(told["faults"]) == {code for codes in expected.values() for code in codes}
