"""Each knob of the bundled model against what it names, on takes of real singers. Slow: some fifty mixes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio.features import FEATURES, measure
from audio.loudness import brought_to
from audio.waveform import Waveform
from restyler.liked import Liked, around, between_seeds
from restyler.metrics import spectral_distance
from restyler.model_folder import BUNDLED
from restyler.noise import Seed
from restyler.pipeline import VocalRestylePipeline
from restyler.sample_plan import KNOBS
from restyler.settings import Settings
from restyler.strength import at_strength
from restyler.telling import Told
from restyler.ways import Way

pytestmark = pytest.mark.slow
RATE, SECONDS, LUFS = 48_000, 4, -18.0
THIRDS_HZ = 125 * 2 ** (np.arange(21) / 3)


@pytest.fixture(scope="module")
def bundled() -> VocalRestylePipeline:
    return VocalRestylePipeline.from_pretrained(BUNDLED)


@pytest.fixture(scope="module", params=[0, 1])
def take(request: pytest.FixtureRequest, shared_data: Path) -> Waveform:
    """The loudest seconds of a take that no training saw."""
    found = sorted((shared_data / "research" / "gtsinger").rglob("*.flac"))
    if len(found) < 2:
        pytest.skip("needs the takes of research/gtsinger")
    samples, rate = soundfile.read(found[request.param * len(found) // 2], dtype="float32", always_2d=True)
    energy, length = np.cumsum(np.square(samples).sum(axis=1)), min(SECONDS * rate, len(samples))
    first = int(np.argmax(energy[length - 1 :] - np.concatenate([[0], energy[:-length]])))
    cut = Waveform(torch.from_numpy(samples[first : first + length].T.copy()), rate)
    return brought_to(cut.resampled(RATE).stereo(), LUFS)


def rendered(
    pipeline: VocalRestylePipeline, take: Waveform, settings: Settings, seeds: list[Seed], said: list[Told]
) -> list[Waveform]:
    """As `sample.py` renders, at the take's loudness; whole mixes."""
    mixes, way = pipeline.stream(take, settings, seeds=seeds, said=said, max_batch=1), Way("residual", pipeline, take)
    return [brought_to(way(Waveform(mix, RATE), seed=0).waveform, LUFS) for mix in mixes]


def monotone(values: list[float]) -> bool:
    return bool((np.diff(values) > 0).all() or (np.diff(values) < 0).all())


@pytest.mark.parametrize("knob", KNOBS)
def test_a_knob_moves_what_it_names(bundled: VocalRestylePipeline, take: Waveform, knob: str) -> None:
    control, sign = KNOBS[knob]
    mean, std = bundled.defaults.controls[control]
    told = [mean + sign * turn * std for turn in (-2, 0, 2)]
    found = []
    for value in told:
        settings = bundled.settings(controls={control: value})
        (mix,) = rendered(bundled, take, settings, [1], bundled.told(take, settings, [1]))
        found.append(sign * (measure(mix)[control] - measure(take)[control]))
    print(f"\n{knob}: told {np.round(np.multiply(sign, told), 1)} dB, got {np.round(found, 2)} dB")
    assert all(np.diff(found) > 0), (knob, told, found)


def thirds_db(waveform: Waveform) -> np.ndarray:
    """Levels of thirds of an octave over all of it."""
    power = np.abs(np.fft.rfft(waveform.samples.double().numpy(), axis=1)) ** 2
    hz = np.fft.rfftfreq(waveform.samples.shape[1], 1 / RATE)
    bands = [(hz >= centre * 2 ** (-1 / 6)) & (hz < centre * 2 ** (1 / 6)) for centre in THIRDS_HZ]
    return np.array([10 * np.log10(power[:, band].sum()) for band in bands])


def test_strength_leads_from_the_take_to_the_mix_without_a_comb(bundled: VocalRestylePipeline, take: Waveform) -> None:
    settings = bundled.settings(style="any")
    (mix,) = rendered(bundled, take, settings, [0], bundled.told(take, settings, [0]))
    way = [brought_to(at_strength(take, mix, strength), LUFS) for strength in (0, 0.25, 0.5, 0.75, 1)]
    from_take = [0.0, *(spectral_distance(take, one).lr for one in way[1:])]
    to_mix = [*(spectral_distance(mix, one).lr for one in way[:-1]), 0.0]
    levels = [thirds_db(one) for one in way]
    dip_db = min(float((level - np.minimum(levels[0], levels[-1])).min()) for level in levels)
    print(f"\nstrength: from the take {np.round(from_take, 2)}, to the mix {np.round(to_mix, 2)}, dip {dip_db:.2f} dB")
    assert all(np.diff(from_take) > 0)
    assert all(np.diff(to_mix) < 0)
    assert dip_db > -0.5
    for name in FEATURES:
        assert monotone([measure(one)[name] for one in way]), name


def test_between_two_seeds_and_around_one_distances_grow(bundled: VocalRestylePipeline, take: Waveform) -> None:
    settings = bundled.settings(style="any")
    mixes = rendered(bundled, take, settings, *between_seeds(bundled, take, settings, 0, 1, 4))
    away = [0.0, *(spectral_distance(mixes[0], one).lr for one in mixes[1:])]
    (told,) = bundled.told(take, settings, [0])
    told_settings = bundled.settings(style=told.style)
    references: dict[str, str] = {}
    liked = Liked(Path("mix.wav"), told_settings, told, 0, references, 1.0, None, -1.0, "residual")
    spread = [rendered(bundled, take, settings, *around(bundled, take, liked, [5], r))[0] for r in (0, 0.3, 0.6, 1)]
    around_it = [0.0, *(spectral_distance(spread[0], one).lr for one in spread[1:])]
    print(f"\nbetween seeds 0 and 1: {np.round(away, 2)}; around seed 0: {np.round(around_it, 2)}")
    assert all(np.diff(away) > 0)
    assert all(np.diff(around_it) > 0)
    assert torch.equal(spread[0].samples, mixes[0].samples)
