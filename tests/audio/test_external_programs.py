"""Parts that other programs run, each against its program run directly on the same sound."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from audio.errors import InputError
from audio.external import external, external_part, latency_samples
from audio.parts import ProgramStep, described, render
from audio.parts_kinds import Choice, Number
from audio.waveform import Waveform

RATE_HZ = 48000
LADSPA = Path("/usr/lib/ladspa/sc4_1882.so")
LIMITER = Path("/usr/lib/ladspa/fast_lookahead_limiter_1913.so")
LV2 = "http://plugin.org.uk/swh-plugins/sc4"
LATE_LV2 = "http://plugin.org.uk/swh-plugins/artificialLatency"
RAW = ["-f", "f32le", "-ar", "48000", "-ac", "2"]


def needs(*programs: str) -> None:
    for name in programs:
        if shutil.which(name) is None:
            pytest.skip(f"needs {name}")


def needs_ladspa() -> None:
    needs("ffmpeg")
    if not LADSPA.exists():
        pytest.skip("needs LADSPA plugins (Debian: swh-plugins)")


def needs_lv2() -> None:
    needs("ffmpeg", "lv2info", "lv2ls")
    if LV2 not in subprocess.run(["lv2ls"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("needs LV2 plugins (Debian: swh-lv2)")


def sound(samples: int = RATE_HZ) -> Waveform:
    noise = np.random.default_rng(3).standard_normal((2, samples)) * 0.1
    noise *= 1 + np.sin(np.arange(samples) / 3000)
    return Waveform(torch.from_numpy(noise.astype(np.float32)), RATE_HZ)


def direct(arguments: list[str], fed: np.ndarray) -> np.ndarray:
    ran = subprocess.run(arguments, input=fed.T.astype(np.float32).tobytes(), capture_output=True, check=True)
    return np.frombuffer(ran.stdout, np.float32).reshape(-1, 2).T


def by_ffmpeg(graph: str, fed: np.ndarray) -> np.ndarray:
    quiet = ["-loglevel", "error", "-nostdin"]
    return direct(["ffmpeg", *quiet, *RAW, "-i", "pipe:0", "-af", graph, "-f", "f32le", "pipe:1"], fed)


def rendered(step: ProgramStep) -> np.ndarray:
    return render([step], sound()).samples.numpy()


@pytest.mark.parametrize(
    ("name", "values", "graph"),
    [
        (
            "acompressor",
            {"threshold": 0.05, "ratio": 4.0, "detection": "peak"},
            "threshold=0.05:ratio=4:detection=peak",
        ),
        ("highpass", {"frequency": 300.0, "poles": 1.0}, "frequency=300:poles=1"),
        ("pan", {"args": "stereo|c0=.5*c0|c1=c0+.1*c1"}, "stereo|c0=.5*c0|c1=c0+.1*c1"),
        ("aecho", {"delays": "20|55", "decays": "0.5|0.25"}, "delays=20|55:decays=0.5|0.25"),
    ],
)
def test_a_filter_is_what_ffmpeg_makes(name: str, values: dict, graph: str) -> None:
    needs("ffmpeg")
    wanted = by_ffmpeg(f"{name}={graph}", sound().samples.numpy())[:, :RATE_HZ]
    np.testing.assert_array_equal(rendered(ProgramStep("ffmpeg", values, None, name)), wanted)


@pytest.mark.parametrize(
    ("name", "late"), [("superequalizer", 4095), ("alimiter", 239), ("firequalizer", 480), ("adelay", 0)]
)
def test_latency_is_taken_off_to_the_sample_and_the_end_is_kept(name: str, late: int) -> None:
    """The effect's delay is not: adelay is what it says."""
    needs("ffmpeg")
    values = {"delays": "10|10"} if name == "adelay" else {}
    graph = f"{name}=10|10" if name == "adelay" else name
    padded = np.pad(sound().samples.numpy(), ((0, 0), (0, late)))
    wanted = by_ffmpeg(graph, padded)[:, late : late + RATE_HZ]
    assert latency_samples("ffmpeg", name, None, tuple(values.items()), RATE_HZ) == late
    np.testing.assert_array_equal(rendered(ProgramStep("ffmpeg", values, None, name)), wanted)
    if late:
        spectra = [np.fft.rfft(each[0], 2 * RATE_HZ) for each in (wanted, sound().samples.numpy())]
        assert np.fft.irfft(spectra[0] * np.conj(spectra[1])).argmax() == 0


def test_a_part_that_keeps_impulses_for_itself_is_measured_by_noise() -> None:
    needs("ffmpeg")
    assert latency_samples("ffmpeg", "adeclick", None, (), RATE_HZ) == 0


@pytest.mark.parametrize(
    ("name", "values", "arguments"),
    [
        ("reverb", {"reverberance_percent": 30.0, "wet_gain_db": -6.0}, ["30", "50", "100", "100", "0", "-6"]),
        ("reverb", {"wet_only": True}, ["-w", "50", "50", "100", "100", "0", "0"]),
        ("equalizer", {"frequency_hz": 900.0, "q": 2.0, "gain_db": -5.5}, ["900", "2q", "-5.5"]),
        ("bass", {"gain_db": 4.0}, ["4", "100", "0.707q"]),
    ],
)
def test_an_effect_is_what_sox_makes(name: str, values: dict, arguments: list[str]) -> None:
    needs("sox")
    raw = ["-t", "raw", "-e", "floating-point", "-b", "32", "-L"]
    line = ["sox", "-D", *raw, "-r", "48000", "-c", "2", "-", *raw, "-", name, *arguments]
    wanted = direct(line, sound().samples.numpy())[:, :RATE_HZ]
    np.testing.assert_array_equal(rendered(ProgramStep("sox", values, None, name)), wanted)


def test_what_sox_would_clip_is_refused() -> None:
    needs("sox")
    with pytest.raises(InputError, match=r"gain: clips .* put a gain before it"):
        rendered(ProgramStep("sox", {"gain_db": 40.0}, None, "gain"))


def test_a_ladspa_plugin_is_what_ffmpeg_makes_and_its_latency_is_taken_off() -> None:
    needs_ladspa()
    wanted = by_ffmpeg(f"ladspa=f={LADSPA}:p=sc4:c=c3=-25|c4=6", sound().samples.numpy())
    step = ProgramStep("ladspa", {"threshold_level_db": -25.0, "ratio_1_n": 6.0}, str(LADSPA), "sc4")
    np.testing.assert_array_equal(rendered(step), wanted)
    padded = np.pad(sound().samples.numpy(), ((0, 0), (0, 240)))
    late = by_ffmpeg(f"ladspa=f={LIMITER}:p=fastLookaheadLimiter:c=c1=-12", padded)[:, 240:]
    found = rendered(ProgramStep("ladspa", {"limit_db": -12.0}, str(LIMITER), None))
    np.testing.assert_allclose(found[:, :-240], late[:, :-240], atol=1e-6)


def test_an_lv2_plugin_is_what_ffmpeg_makes_and_one_for_mono_hears_each_side() -> None:
    needs_lv2()
    escaped = LV2.replace(":", r"\\:")
    wanted = by_ffmpeg(f"lv2=p={escaped}:c=threshold=-25|ratio=6", sound().samples.numpy())
    step = ProgramStep("lv2", {"threshold": -25.0, "ratio": 6.0}, None, LV2)
    np.testing.assert_array_equal(rendered(step), wanted)
    late = ProgramStep("lv2", {"delay": 10.0}, None, LATE_LV2)  # delays, and says so: the sound comes out in place
    assert external("lv2", LATE_LV2, None).channels == 1
    np.testing.assert_allclose(rendered(late), sound().samples.numpy(), atol=1e-6)


def test_parts_declare_what_the_real_ones_do() -> None:
    needs("ffmpeg", "sox")
    compressor = external_part("ffmpeg", "acompressor", None)
    attack, detection = compressor.parameter("attack"), compressor.parameter("detection")
    assert isinstance(attack, Number) and (attack.low, attack.high, attack.default) == (0.01, 2000, 20)
    assert isinstance(detection, Choice) and (detection.choices, detection.default) == (("peak", "rms"), "rms")
    assert "frequency: 0 … 999999 Hz (default: 3000)" in described(external_part("ffmpeg", "highpass", None))
    with pytest.raises(ValueError, match="did you mean frequency"):
        external_part("ffmpeg", "highpass", None).checked({"frequenzy": 1})
    with pytest.raises(ValueError, match="whole number"):
        external_part("ffmpeg", "highpass", None).checked({"poles": 1.5})
    dumped = {each.name for each in external_part("ffmpeg", "firequalizer", None).parameters}
    assert "gain" in dumped and not dumped & {"dumpfile", "dumpscale"}  # FFmpeg would write that file
    needs_ladspa()
    ratio = external_part("ladspa", "sc4", str(LADSPA)).parameter("ratio_1_n")
    assert isinstance(ratio, Number) and (ratio.low, ratio.high, ratio.default) == (1, 20, 1)
    assert "attack_time_ms: 1.5 … 400 ms" in described(external_part("ladspa", None, str(LADSPA)))
    needs_lv2()
    knee = external_part("lv2", LV2, None).parameter("knee")
    assert isinstance(knee, Number) and (knee.unit, knee.low, knee.high, knee.default) == ("dB", 1, 10, 3.25)
