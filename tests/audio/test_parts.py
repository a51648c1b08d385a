"""Parts of effect chains: each against an independent answer, in place to the sample, over its whole declared range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pedalboard
import pytest
import soundfile
import torch

from audio.effects import render as render_chain
from audio.errors import InputError
from audio.parts import PARTS, Step, described, find_part, render
from audio.parts_kinds import AudioFile, Choice, Number, Seed, Value
from audio.parts_vocal_chain import chain_of, values_of
from audio.presets import read_presets
from audio.waveform import Waveform

RATE_HZ = 48000
ONSET = 1000


def burst(seconds: float = 0.5) -> Waveform:
    """Silence, then a click with noise after it."""
    samples = 0.1 * np.random.default_rng(0).standard_normal((1, round(seconds * RATE_HZ)))
    samples[:, :ONSET] = 0
    samples[:, ONSET] = 0.5
    return Waveform(torch.from_numpy(samples).float(), RATE_HZ)


def tone(level_db: float, frequency_hz: float = 1000.0, seconds: float = 1.0) -> Waveform:
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return Waveform(
        torch.from_numpy(10 ** (level_db / 20) * np.sin(2 * np.pi * frequency_hz * times))[None].float(), RATE_HZ
    )


def rendered(name: str, waveform: Waveform, /, **values: Value) -> np.ndarray:
    return render([Step(name, values)], waveform).samples.numpy()


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """An impulse response at 44.1 kHz with 30 ms of near silence before it."""
    random = np.random.default_rng(1)
    decay = random.standard_normal((11025, 2)) * np.exp(-np.arange(11025) / 2000)[:, None]
    decay[0] = 6.0
    soundfile.write(tmp_path / "room.wav", np.concatenate([np.full((1323, 2), 1e-5), decay / 10]), 44100, "FLOAT")
    return tmp_path / "room.wav"


def setting(name: str, side: str, room: Path) -> Mapping[str, Value]:
    """All parameters of a part at one end of their range, or at their defaults where they have any."""
    values: dict[str, Value] = {}
    for parameter in find_part(name).parameters:
        if isinstance(parameter, AudioFile):
            values[parameter.name] = str(room)
        elif isinstance(parameter, Seed):
            values[parameter.name] = 7
        elif isinstance(parameter, Number):
            middle = parameter.default if parameter.default is not None else (parameter.low + parameter.high) / 2
            values[parameter.name] = {"low": parameter.low, "high": parameter.high, "middle": middle}[side]
    return values


@pytest.mark.parametrize("side", ["low", "middle", "high"])
@pytest.mark.parametrize("name", [name for name in PARTS if name != "vocal_chain"])
def test_a_part_keeps_length_and_place_over_its_whole_range(name: str, side: str, room: Path) -> None:
    values = setting(name, side, room)
    out = rendered(name, burst(), **values)
    assert out.shape == (2, RATE_HZ // 2)
    assert np.isfinite(out).all()
    assert not np.abs(out[:, :ONSET]).max() > 1e-5  # nothing comes early
    again = rendered(name, burst(), **values)
    np.testing.assert_array_equal(out, again)
    wet_alone = {"chorus", "delay"} if side == "high" else set()  # with mix = 1 the dry sound is gone
    if name not in wet_alone and not (side == "high" and name == "gate") and not (side == "low" and "pass" in name):
        heard = np.abs(out).max(axis=0)
        assert np.argmax(heard > 0.01 * heard.max()) <= ONSET + 1


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("peak", lambda f, g, q: pedalboard.PeakFilter(f, g, q)),
        ("low_shelf", lambda f, g, q: pedalboard.LowShelfFilter(f, g, q)),
        ("high_shelf", lambda f, g, q: pedalboard.HighShelfFilter(f, g, q)),
    ],
)
def test_filters_equal_those_of_pedalboard(name: str, theirs: type) -> None:
    for frequency_hz, gain_db, q in ((120.0, 6.0, 0.7), (3000.0, -9.0, 2.0), (9000.0, 4.0, 0.4)):
        expected = theirs(frequency_hz, gain_db, q)(burst().stereo().samples.numpy(), RATE_HZ)
        out = rendered(name, burst(), frequency_hz=frequency_hz, gain_db=gain_db, q=q)
        np.testing.assert_allclose(out, expected, atol=5e-5)


@pytest.mark.parametrize(("name", "kept_hz", "cut_hz"), [("high_pass", 4000.0, 125.0), ("low_pass", 250.0, 8000.0)])
def test_passes_fall_by_12_db_an_octave(name: str, kept_hz: float, cut_hz: float) -> None:
    def level_db(frequency_hz: float) -> float:
        out = rendered(name, tone(-20, frequency_hz), frequency_hz=1000.0)[0, RATE_HZ // 2 :]
        return 20 * math.log10(math.sqrt(2 * np.mean(out**2))) + 20

    assert level_db(kept_hz) == pytest.approx(0, abs=0.1)
    assert level_db(1000.0) == pytest.approx(-3.01, abs=0.05)
    assert level_db(cut_hz) == pytest.approx(-36, abs=2)  # three octaves, and what the bilinear transform adds


@pytest.mark.parametrize("level_db", [-60.0, -45.0, -30.0])
def test_the_static_curve_of_the_gate(level_db: float) -> None:
    out = rendered("gate", tone(level_db), threshold_db=-43.0, ratio=2.0, release_ms=50.0)[0, -RATE_HZ // 4 :]
    below_db = max(0.0, -43.0 - level_db)
    assert 20 * math.log10(np.abs(out).max()) == pytest.approx(level_db - below_db, abs=0.1)


def test_the_release_of_the_gate_is_a_time_constant() -> None:
    """After the end of a loud tone its level decays exponentially towards the one that follows."""
    before, after, threshold = 0.1, 0.001, 10 ** (-43 / 20)

    def open_s(release_ms: float) -> float:
        loud = tone(20 * math.log10(before), seconds=0.5).samples
        take = Waveform(torch.cat([loud, torch.full((1, 3 * RATE_HZ), after)], dim=1), RATE_HZ)
        out = rendered("gate", take, threshold_db=-43.0, ratio=100.0, attack_ms=0.1, release_ms=release_ms)[0]
        return float(np.argmax(out[RATE_HZ // 2 + 100 :] < 0.5 * after)) / RATE_HZ

    expected_s = 0.2 * math.log((before - after) / (threshold - after))
    assert open_s(400.0) - open_s(200.0) == pytest.approx(expected_s, rel=0.02)


def test_saturation_is_the_hyperbolic_tangent() -> None:
    out = rendered("saturation", burst(), drive_db=12.0)
    np.testing.assert_allclose(out, np.tanh(burst().stereo().samples.numpy() * 10 ** (12 / 20)), atol=1e-5)


def test_compressor_and_echoes_have_their_levels_and_times() -> None:
    out = rendered("compressor", tone(-10), threshold_db=-30.0, ratio=4.0, release_ms=500.0, makeup_db=3.0)
    assert 20 * math.log10(np.abs(out[:, -9000:]).max()) == pytest.approx(-30 + 20 / 4 + 3, abs=0.6)
    click = Waveform(torch.eye(1, RATE_HZ), RATE_HZ)
    mono = rendered("delay", click, time_ms=100.0, feedback=0.5, mix=0.5)
    np.testing.assert_allclose(mono[:, [0, 4800, 9600]], np.array([[0.5, 0.5, 0.25]] * 2), atol=1e-6)
    wide = rendered("ping_pong_delay", click, time_ms=100.0, feedback=0.5, wet_db=-6.0, low_pass_hz=20000.0)
    energy = [(wide[:, start : start + 1000] ** 2).sum(axis=1) for start in (4800, 9600)]
    assert energy[0][0] > 4 * energy[0][1] and energy[1][1] > 4 * energy[1][0]
    np.testing.assert_array_equal(wide[:, 0], [1, 1])


def test_reverbs_leave_the_dry_sound_and_decay() -> None:
    click = Waveform(torch.eye(1, 3 * RATE_HZ), RATE_HZ)
    values = {"t60_low_s": 1.0, "t60_mid_s": 1.0, "t60_high_s": 1.0, "pre_delay_ms": 20.0, "wet_db": -12.0}
    out, other = (rendered("reverb", click, **values, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(out[:, 0], [1, 1])
    assert np.abs(out[:, 1:959]).max() < 1e-12 and not np.array_equal(out, other)
    assert 10 * math.log10((out[:, 1:] ** 2).sum() / 2) == pytest.approx(-12, abs=0.5)
    early, late = ((out[:, start : start + 9600] ** 2).sum() for start in (1000, 25000))
    assert 10 * math.log10(early / late) == pytest.approx(60 * 24000 / RATE_HZ, abs=1.5)
    free = rendered("freeverb", click, room_size=0.7, wet=0.2)
    np.testing.assert_allclose(free[:, 0], [1, 1], atol=1e-6)
    assert (free[:, 2000:] ** 2).sum() > 1e-4


def test_convolution_is_scaled_to_its_energy_and_begins_with_the_dry_sound(room: Path) -> None:
    click = Waveform(torch.eye(1, RATE_HZ), RATE_HZ)
    wet = rendered("convolution", click, impulse_response=str(room), wet_db=-6.0, dry_db=-100.0)
    assert 10 * math.log10((wet**2).sum() / 2) == pytest.approx(-6, abs=0.01)
    assert np.abs(wet).argmax(axis=1).tolist() == [0, 0]
    both = rendered("convolution", click, impulse_response=str(room), wet_db=-6.0, pre_delay_ms=10.0)
    np.testing.assert_allclose(both[:, :480], np.eye(1, 480).repeat(2, 0), atol=1e-6)
    np.testing.assert_allclose(both[:, 480:], wet[:, :-480], atol=2e-5)


def test_an_impulse_response_that_is_silent_or_none_is_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE_HZ), RATE_HZ)
    for name, complaint in (("silent.wav", "silent"), ("none.wav", "cannot be read")):
        with pytest.raises(InputError, match=f"{name}.*{complaint}"):
            rendered("convolution", burst(), impulse_response=str(tmp_path / name), wet_db=0.0)


def test_a_preset_is_its_own_list_of_values(preset_table: Path) -> None:
    for chain in read_presets(preset_table).values():
        values = values_of(chain, seed=11)
        assert chain_of(values) == chain
        assert find_part("vocal_chain").checked(values) == values
    out = render([Step("vocal_chain", values)], burst()).samples
    assert torch.equal(out, render_chain(chain, burst(), seed=11).samples)
    assert set(out.abs().argmax(dim=1).tolist()) <= {ONSET, ONSET + 1}


@pytest.mark.parametrize(
    ("name", "values", "complaint"),
    [
        ("compresor", {}, r"«compresor» \(did you mean compressor\?\)"),
        ("compressor", {"treshold_db": -3}, r"«treshold_db» \(did you mean threshold_db\?\)"),
        ("compressor", {"ratio": 2}, "compressor needs threshold_db: -80 … 0 dBFS"),
        ("gain", {"gain_db": math.nan}, "gain_db lies within -60 … 60 dB, not nan"),
        ("gain", {"gain_db": True}, "not True"),
        ("gain", {"gain_db": "3"}, "not '3'"),
        ("gain", {"gain_db": 10**400}, "gain_db lies within"),
        ("reverb", {"wet_db": -6, "seed": 1.5}, "seed is a whole number from 0 to 4294967295, not 1.5"),
        ("convolution", {"impulse_response": 3, "wet_db": 0}, "impulse_response is the path of an audio file"),
    ],
)
def test_what_a_part_does_not_declare_is_refused(name: str, values: dict[str, Value], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        render([Step(name, values)], burst(0.1))


def test_a_choice_takes_its_own_words_alone() -> None:
    assert Choice("mode", ("soft", "hard")).check("soft") == "soft"
    for value in ("loud", 1, None):
        with pytest.raises(ValueError, match="mode is one of soft, hard"):
            Choice("mode", ("soft", "hard")).check(value)
    with pytest.raises(ValueError, match="one of false, true, not 1"):
        Choice("on", (False, True)).check(1)


def test_a_description_has_every_name_with_unit_and_range() -> None:
    text = described(PARTS["compressor"])
    assert [line.split(":")[0].strip() for line in text.splitlines()] == [
        "compressor",
        *(parameter.name for parameter in PARTS["compressor"].parameters),
    ]
    assert "threshold_db: -80 … 0 dBFS (default: must be given)" in text
    assert "attack_ms: 0 … 1000 ms (default: 5)" in text


def test_pan_and_width_move_and_scale_what_they_say() -> None:
    sound = np.random.default_rng(0).standard_normal((2, 1000))
    left = PARTS["pan"].process({"pan_percent": -100.0}, sound, 48_000)
    assert np.allclose(left, [2**0.5 * sound[0], 0 * sound[1]])
    assert np.allclose(PARTS["pan"].process({"pan_percent": 0.0}, sound, 48_000), sound)
    for percent in (0.0, 100.0, 250.0):
        out = PARTS["width"].process({"width_percent": percent}, sound, 48_000)
        assert np.allclose(out.sum(axis=0), sound.sum(axis=0))
        assert np.allclose(out[0] - out[1], percent / 100 * (sound[0] - sound[1]))


def test_the_low_pass_of_the_reverb_is_heard_in_the_room_alone() -> None:
    click = np.zeros((2, 48_000))
    click[:, 0] = 1.0
    told = {"wet_db": -6.0, "seed": 1}
    bright, dull = (
        PARTS["reverb"].process(PARTS["reverb"].checked(told | more), click, 48_000) - click
        for more in ({}, {"low_pass_hz": 1000.0})
    )
    spectra = [np.abs(np.fft.rfft(each[0])) ** 2 for each in (bright, dull)]
    octave_db = 10 * np.log10(spectra[1][8000:10000].sum() / spectra[0][8000:10000].sum())
    assert octave_db == pytest.approx(-20 * np.log10(9**2), abs=2.5)  # second order, three octaves over the corner
    assert spectra[1][50:300].sum() == pytest.approx(spectra[0][50:300].sum(), rel=0.05)
