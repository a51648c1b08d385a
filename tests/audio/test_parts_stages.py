"""A chain in blocks gives what the whole gives, wherever blocks end."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio.parts import PARTS, Step, render
from audio.parts_stages import STAGES, stream
from audio.parts_vocal_chain import values_of
from audio.presets import read_presets
from audio.waveform import Waveform

RATE_HZ = 48000
SAMPLES = 170_011  # two blocks and an odd rest
VALUES: dict[str, dict] = {
    "gain": {"gain_db": -3.0},
    "high_pass": {"frequency_hz": 100.0},
    "low_pass": {"frequency_hz": 5000.0},
    "peak": {"frequency_hz": 1000.0, "gain_db": 5.0},
    "low_shelf": {"frequency_hz": 200.0, "gain_db": 5.0},
    "high_shelf": {"frequency_hz": 6000.0, "gain_db": 5.0},
    "compressor": {"threshold_db": -30.0, "ratio": 4.0},
    "gate": {"threshold_db": -20.0},
    "saturation": {"drive_db": 12.0},
    "chorus": {},
    "pan": {"pan_percent": 30.0},
    "width": {"width_percent": 30.0},
    "delay": {"time_ms": 123.0, "feedback": 0.4},
    "ping_pong_delay": {"time_ms": 123.0, "wet_db": -6.0},
    "reverb": {"wet_db": -6.0, "seed": 3},
    "freeverb": {},
    "convolution": {"wet_db": -6.0, "pre_delay_ms": 5.0},
}


def test_every_part_is_held() -> None:
    assert VALUES.keys() | {"vocal_chain"} == PARTS.keys() and STAGES.keys() <= PARTS.keys()


def sound() -> Waveform:
    noise = np.random.default_rng(3).standard_normal((2, SAMPLES)) * 0.1 * (1 + np.sin(np.arange(SAMPLES) / 9000))
    return Waveform(torch.from_numpy(noise.astype(np.float32)), RATE_HZ)


def streamed(steps: list[Step], *, tail_s: float = 0.0) -> np.ndarray:
    edges = [0, 1, 40_000, 40_001, 150_000, SAMPLES]
    samples = sound().samples
    blocks = (Waveform(samples[:, at:to], RATE_HZ) for at, to in pairwise(edges))
    return np.concatenate([each.samples.numpy() for each in stream(steps, blocks, RATE_HZ, tail_s=tail_s)], axis=1)


@pytest.mark.parametrize("name", [*VALUES, "vocal_chain"])
def test_a_part_in_blocks_is_the_part(name: str, tmp_path: Path, read_only_presets: Path) -> None:
    values = dict(VALUES.get(name, {}))
    if name == "vocal_chain":
        values = values_of(next(iter(read_presets(read_only_presets).values())), seed=5)
    if name == "convolution":
        values["impulse_response"] = str(tmp_path / "room.wav")
        decay = np.exp(-np.arange(30_000) / 4000)[:, None] * np.random.default_rng(0).standard_normal((30_000, 2))
        soundfile.write(values["impulse_response"], 0.1 * decay, RATE_HZ)
    step = Step(name, values)
    found = streamed([step])
    np.testing.assert_allclose(found, render([step], sound()).samples.numpy(), atol=2e-6)


def test_a_tail_is_what_rings_after_the_end() -> None:
    steps = [Step("reverb", {"wet_db": -6.0, "seed": 3}), Step("delay", {"time_ms": 400.0, "feedback": 0.5})]
    padded = Waveform(torch.nn.functional.pad(sound().samples, (0, RATE_HZ)), RATE_HZ)
    found = streamed(steps, tail_s=1.0)
    np.testing.assert_allclose(found, render(steps, padded).samples.numpy(), atol=2e-6)
    assert found[:, SAMPLES:].std() > 1e-3
