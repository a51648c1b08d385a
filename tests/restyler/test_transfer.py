"""A chain fitted to a mix: what it recovers, what is saved of it, and how it is rendered."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch

from audio.errors import InputError
from audio.filters import Filter, sections
from audio.loudness import brought_to
from audio.parts import Step, find_part, render
from audio.waveform import Waveform
from restyler.chain_settings import Rendered, render_again, settings_text
from restyler.chains import read_chains
from restyler.metrics import loudness_dynamics_distance, spectral_distance
from restyler.transfer import start
from restyler.transfer.excerpts import BODY_S, MOST, excerpts
from restyler.transfer.fit import HEARD_LUFS, as_steps, fit_chain
from restyler.transfer.knobs import KNOBS
from restyler.transfer.rendering import render_chain, rings_s
from restyler.transfer.text import DEVICES, readable

RATE_HZ = 48_000
EQUALISER = (
    Step("high_pass", {"frequency_hz": 110.0, "q": 0.7071}),
    Step("low_shelf", {"frequency_hz": 220.0, "gain_db": -4.0, "q": 0.7071}),
    Step("peak", {"frequency_hz": 2600.0, "gain_db": 4.0, "q": 1.0}),
    Step("high_shelf", {"frequency_hz": 8000.0, "gain_db": 5.0, "q": 0.7071}),
)
COMPRESSOR = Step("compressor", {"threshold_db": -22.0, "ratio": 4.0, "attack_ms": 5.0, "release_ms": 120.0})
REVERB = Step("reverb", {"wet_db": -14.0, "t60_low_s": 1.2, "t60_mid_s": 1.0, "t60_high_s": 0.8, "seed": 99})
EVERYTHING = as_steps(
    {name: knob.start for name, knob in KNOBS.items()}
    | {f"{band}.gain_db": 3.0 for band in ("low_shelf", "peak1", "peak2", "peak3", "peak4", "high_shelf")}
    | {"pan.pan_percent": -20.0, "width.width_percent": 140.0},
    stereo=True,
    seed=7,
)
Sung = Callable[[int, float], Waveform]


def take_of(sung: Sung, number: int, seconds: int) -> Waveform:
    samples = brought_to(sung(number, seconds).stereo(), HEARD_LUFS).samples[:, : seconds * RATE_HZ]
    return Waveform(samples, RATE_HZ)


def response_db(steps: tuple[Step, ...], frequency_hz: np.ndarray) -> np.ndarray:
    """Of the filters among the steps, its mean taken off."""
    bands = [step for step in steps if "frequency_hz" in step.values]
    filters = tuple(Filter(step.name, **step.values) for step in bands)  # type: ignore[arg-type]
    _, response = scipy.signal.sosfreqz(sections(filters, RATE_HZ), worN=frequency_hz, fs=RATE_HZ)
    found = 20 * np.log10(np.abs(response))
    return np.asarray(found - found.mean())


# -- where the search begins


def test_the_tone_of_an_equalised_voice_is_found(sung: Sung) -> None:
    dry = take_of(sung, 1, 4)
    wet = render(EQUALISER, dry)
    found = start.tone(*(each.samples[0].numpy().astype(float) for each in (dry, wet)), RATE_HZ)
    neutral = {name: knob.start for name, knob in KNOBS.items()}
    frequency_hz = np.geomspace(150, 10000, 60)
    error_db = response_db(as_steps(neutral | found, stereo=False, seed=0), frequency_hz) - response_db(
        EQUALISER, frequency_hz
    )
    assert np.abs(error_db).max() < 1.5
    assert np.abs(error_db).mean() < 0.5


def test_an_echo_is_found_and_none_where_there_is_none(sung: Sung) -> None:
    dry = take_of(sung, 2, 4)
    echo = Step("ping_pong_delay", {"time_ms": 230.0, "wet_db": -10.0, "feedback": 0.0, "low_pass_hz": 18000.0})
    wet = render([echo], dry)
    mono = [each.samples.mean(dim=0).numpy().astype(float) for each in (dry, wet)]
    found = start.echo(*mono, RATE_HZ)
    assert found["ping_pong_delay.time_ms"] == pytest.approx(230, abs=3)
    assert start.echo(mono[0], mono[0] * 0.7, RATE_HZ) == {}


def test_the_dynamics_of_a_compressed_voice_are_found(sung: Sung) -> None:
    dry = take_of(sung, 3, 4)
    wet = render([COMPRESSOR], dry)
    mono = [each.samples[0].numpy().astype(float) for each in (dry, wet)]
    found = start.dynamics(*mono, RATE_HZ)
    step = Step("compressor", {name.split(".")[1]: value for name, value in found.items()})
    again = render([step], dry)
    assert loudness_dynamics_distance(wet, again) < 0.65 * loudness_dynamics_distance(wet, dry)
    same = start.dynamics(mono[0], mono[0] * 0.5, RATE_HZ)
    assert same["compressor.ratio"] < 1.2
    assert same["compressor.makeup_db"] == pytest.approx(-6.02, abs=0.3)


def test_excerpts_are_of_what_sounds_with_what_went_before() -> None:
    ramp = torch.arange(60 * RATE_HZ, dtype=torch.float32)[None] / RATE_HZ
    mix = torch.where((ramp > 20) & (ramp < 50), ramp, 0.0).repeat(2, 1)
    found = excerpts(ramp, mix, RATE_HZ)
    assert len(found) == MOST
    for piece in found:
        body = piece.take[:, piece.context :]
        assert body.shape[1] == round(BODY_S * RATE_HZ)
        assert piece.take.shape[1] % 2 == 0
        assert torch.equal(body, ramp[:, int(piece.take[0, piece.context] * RATE_HZ + 0.5) :][:, : body.shape[1]])
        assert torch.equal(piece.mix[0], mix[0, int(piece.take[0, piece.context] * RATE_HZ + 0.5) :][: body.shape[1]])
        assert piece.mix.square().mean() > 100
    starts = [float(piece.take[0, piece.context]) for piece in found]
    assert min(b - a for a, b in pairwise(starts)) >= BODY_S


# -- the fit


def test_a_few_steps_of_the_fit_already_come_nearer(sung: Sung) -> None:
    dry = Waveform(take_of(sung, 4, 1).samples, RATE_HZ)
    wet = render([*EQUALISER, COMPRESSOR], dry)
    told = list[int]()
    steps = fit_chain(dry, wet, steps=3, progress=lambda: told.append(1))
    assert len(told) == 3
    for step in steps:
        assert find_part(step.name).checked(step.values) == step.values
    assert spectral_distance(wet, render(steps, dry)).lr < 0.7 * spectral_distance(wet, dry).lr


@pytest.mark.slow
def test_a_known_chain_is_recovered(sung: Sung) -> None:
    dry = take_of(sung, 5, 12)
    known = (*EQUALISER, COMPRESSOR, REVERB)
    wet = render(known, dry)
    steps = fit_chain(dry, wet)
    frequency_hz = np.geomspace(100, 10000, 60)
    error_db = response_db(steps, frequency_hz) - response_db(EQUALISER, frequency_hz)
    assert np.abs(error_db).max() < 1.5
    assert np.abs(error_db).mean() < 0.6
    out = render(steps, dry)
    assert spectral_distance(wet, out).lr < 0.5 * spectral_distance(wet, dry).lr
    assert loudness_dynamics_distance(wet, out) < 0.5 * loudness_dynamics_distance(wet, dry)
    [reverb] = [step.values for step in steps if step.name == "reverb"]
    # Other noise of the same level is farther than less of it: the distance asks for less.
    assert float(reverb["wet_db"]) == pytest.approx(-15.5, abs=4)
    assert float(reverb["t60_mid_s"]) == pytest.approx(1.0, rel=0.5)


@pytest.mark.slow
def test_a_mix_that_is_the_take_gets_a_chain_that_does_next_to_nothing(sung: Sung) -> None:
    dry = take_of(sung, 8, 4)
    out = render(fit_chain(dry, dry), dry)
    assert spectral_distance(dry, out).lr < 0.2


def test_what_cannot_be_fitted_is_refused() -> None:
    second = Waveform(torch.randn(2, RATE_HZ, generator=torch.Generator().manual_seed(0)) * 0.1, RATE_HZ)
    with pytest.raises(ValueError, match="one length and one rate of at least 44100"):
        fit_chain(Waveform(second.samples[:, 1:], RATE_HZ), second)
    with pytest.raises(ValueError, match="one length and one rate of at least 44100"):
        fit_chain(Waveform(second.samples, 32_000), Waveform(second.samples, 32_000))
    with pytest.raises(InputError, match="too quiet"):
        fit_chain(Waveform(second.samples * 0, RATE_HZ), second)


# -- what is saved, and how it is rendered


def test_blocks_do_not_show(sung: Sung) -> None:
    take = take_of(sung, 6, 4)
    soon_over = {
        "compressor": {"attack_ms": 5.0, "release_ms": 30.0},
        "ping_pong_delay": {"time_ms": 40.0},
        "reverb": {"t60_low_s": 0.4, "t60_mid_s": 0.3, "t60_high_s": 0.2},
    }
    steps = [Step(step.name, {**step.values, **soon_over.get(step.name, {})}) for step in EVERYTHING]
    assert 0.5 < rings_s(steps) < 2  # or every block would begin where the take does
    whole, blocks = (render_chain(take, steps, block_s=block_s).samples for block_s in (60.0, 0.8))
    assert 10 * torch.log10((whole - blocks).square().sum() / whole.square().sum()) < -90


def test_a_part_whose_memory_is_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="freeverb"):
        rings_s([Step("freeverb", {})])


def test_the_settings_render_the_same_mix_again(sung: Sung, write_take: Callable[[Waveform], Path]) -> None:
    take = take_of(sung, 7, 2)
    file = write_take(Waveform(take.samples * 0.25, RATE_HZ))
    settings = file.with_suffix(".yaml")
    told = Rendered(raw=file.name, input_gain_db=20 * math.log10(4.0), output_gain_db=-12.0)
    settings.write_text(settings_text("fitted", EVERYTHING, told, folder=file.parent), encoding="utf-8")
    again, style = render_again(settings)
    wanted = render_chain(take, EVERYTHING).samples * 10 ** (-12 / 20)
    assert style == "fitted"
    assert (again.samples - wanted).abs().max() < 1e-4  # 24 bits, four times
    assert read_chains(settings).draw("fitted", 0, key="", seed=0, is_test=False) == EVERYTHING


def test_every_device_is_a_line_to_read() -> None:
    text = readable(EVERYTHING, mix="mix_00.wav", heard_lufs=HEARD_LUFS, input_gain_db=3.2, output_gain_db=-1.0)
    lines = text.splitlines()[2:]
    assert [line[4:15].strip() for line in lines] == ["Input", *(DEVICES[s.name][0] for s in EVERYTHING), "Output"]
    assert lines[1].endswith("40 Hz, 12 dB/oct, Q 0.71")
    assert "threshold -20.0 dBFS, ratio 2.0:1, attack 8.0 ms, release 150 ms" in text
    assert "+3.2 dB: thresholds are for a take of -15 LUFS" in text
    assert "20 % left" in text


@pytest.fixture
def write_take(tmp_path: Path) -> Callable[[Waveform], Path]:
    from audio.io import write

    def made(waveform: Waveform) -> Path:
        path = tmp_path / "take.wav"
        write(path, waveform, tags={})
        return path

    return made
