"""Plugins of other makers: what can't be one is named; real ones, where any are installed, stay in place."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from audio.errors import InputError
from audio.parts import Step, described, render
from audio.parts_kinds import Choice, Number
from audio.parts_plugin import plugin_part
from audio.waveform import Waveform

RATE_HZ = 48000
PLUGINS = "VOCAL_RESTYLER_VST3"  # a folder to look for plugins in before the usual ones


def find_plugin(name: str) -> str:
    places = [Path(os.environ[PLUGINS])] if PLUGINS in os.environ else []
    places += [Path.home() / ".vst3", Path("/usr/local/lib/vst3"), Path("/usr/lib/vst3")]
    for place in places:
        if (place / name).exists():
            return str(place / name)
    pytest.skip(f"needs {name} (Debian: dragonfly-reverb-vst3, zam-plugins) in {PLUGINS} or where plugins lie")


def click() -> Waveform:
    return Waveform(0.5 * torch.eye(1, RATE_HZ).roll(1000, 1), RATE_HZ)


@pytest.mark.parametrize("kind", ["missing", "text", "empty folder", "audio library"])
def test_what_is_no_plugin_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "Thing.vst3"
    if kind == "text":
        path.write_text("not a plugin")
    elif kind == "empty folder":
        path.mkdir()
    elif kind == "audio library":
        path.write_bytes(Path(sys.executable).read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"Thing\.vst3: (there is no such plugin|can't be loaded as a plugin)") as told:
        plugin_part(str(path))
    assert "\n" not in str(told.value)


def test_a_plugin_built_with_fast_maths_changes_no_arithmetic_of_ours() -> None:
    plugin_part(find_plugin("ZamComp.vst3"))
    assert float(torch.tensor(1e-40) * 1) > 0 and float(np.float32(1e-40) * np.float32(1)) > 0


def test_a_plugin_declares_its_parameters_with_units_and_ranges() -> None:
    part = plugin_part(find_plugin("DragonflyPlateReverb.vst3"))
    decay, algorithm = part.parameter("decay_s"), part.parameter("algorithm")
    assert isinstance(decay, Number) and (decay.unit, decay.high) == ("s", pytest.approx(10))
    assert isinstance(algorithm, Choice) and set(algorithm.choices) == {"Simple", "Nested", "Tank"}
    assert part.checked({"decay_s": 2}) == {"decay_s": 2.0}  # the others stay as the plugin has them
    with pytest.raises(ValueError, match="did you mean decay_s"):
        part.checked({"decay": 2})
    with pytest.raises(ValueError, match="algorithm is one of Simple, Nested, Tank, not 'Hall'"):
        part.checked({"algorithm": "Hall"})
    assert "decay_s: 0.1 … 10 s" in described(part)


def test_a_plugin_sounds_as_it_is_set_and_no_run_hears_another() -> None:
    path = find_plugin("DragonflyPlateReverb.vst3")

    def tail(decay_s: float) -> np.ndarray:
        step = Step("vst3", {"algorithm": "Simple", "decay_s": decay_s, "wet_level": 50.0}, path)
        out = render([step], click()).samples.numpy()
        assert out.shape == (2, RATE_HZ)
        assert np.argmax(np.abs(out[0])) == 1000 and not (np.abs(out[:, :1000]) > 1e-6).any()
        return out[:, RATE_HZ // 2 :]

    short, long, short_again = tail(0.3), tail(5.0), tail(0.3)
    np.testing.assert_array_equal(short, short_again)
    assert (long**2).sum() > 100 * (short**2).sum()


def test_the_latency_of_a_plugin_is_taken_off() -> None:
    """A limiter that looks 10 ms ahead, and says so."""
    out = render([Step("vst3", {}, find_plugin("ZaMaximX2.vst3"))], click()).samples.numpy()
    assert out.shape == (2, RATE_HZ)
    np.testing.assert_array_equal(np.abs(out).argmax(axis=1), [1000, 1000])


def test_a_mono_plugin_hears_left_and_right_on_their_own() -> None:
    path = find_plugin("ZamComp.vst3")
    loud, soft = click().samples, 0.01 * torch.randn(1, RATE_HZ, generator=torch.Generator().manual_seed(0))
    both = render([Step("vst3", {"threshold_db": -30.0}, path)], Waveform(torch.cat([loud, soft]), RATE_HZ))
    for side, samples in enumerate((loud, soft)):
        alone = render([Step("vst3", {"threshold_db": -30.0}, path)], Waveform(samples, RATE_HZ))
        assert torch.equal(both.samples[side], alone.samples[0])
