"""Nothing tells where one window of the denoiser gave way to the next: level, spectrum and phase of a mix against its
take jump no more there than at the same moments of a mix whose windows join elsewhere. (Windows of the codec are one
pass: `test_whole_takes`.)"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import stft
from scipy.stats import wilcoxon

from audio.io import read
from audio.waveform import Waveform
from diffusion.windows import plan_windows
from restyler.bench_long import string_together
from restyler.model_folder import BUNDLED
from restyler.pipeline import VocalRestylePipeline
from restyler.stopwatch import Stopwatch

pytestmark = pytest.mark.slow
RATE = 48_000
HOP, SIDE = 960, 10  # 20 ms, and how many of them before and after a place are compared
BANDS_HZ = 125 * 2 ** (np.arange(15) / 2)
SECONDS, SEEDS = 270, (0, 1)
OTHER_WINDOW_FRAMES = 1720


@pytest.fixture(scope="module")
def bundled() -> VocalRestylePipeline:
    return VocalRestylePipeline.from_pretrained(BUNDLED)


@pytest.fixture(scope="module")
def take(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Waveform:
    folder = shared_data / "voices" / "speech"
    if not folder.is_dir():
        pytest.skip("needs the recordings of voices/speech")
    return read(string_together(tmp_path_factory.mktemp("take") / "take.wav", SECONDS / 60, folder))


def with_windows(pipeline: VocalRestylePipeline, frames: int) -> VocalRestylePipeline:
    return VocalRestylePipeline(
        **pipeline.components, sampling=dict(pipeline.config.sampling) | {"window_frames": frames}
    )


@pytest.fixture(scope="module")
def both(bundled: VocalRestylePipeline, take: Waveform) -> tuple[np.ndarray, list[tuple[np.ndarray, list[np.ndarray]]]]:
    """The take [2 samples]; and twice, with windows of two lengths: where they join, in samples, and the same mixes."""
    encoded, settings = bundled.encoded(take), bundled.settings(style="any")
    said = bundled.told(take, settings, SEEDS)
    found = []
    for frames in (bundled.defaults.window_frames, OTHER_WINDOW_FRAMES):
        pipeline = with_windows(bundled, frames)
        made = pipeline.mixes(encoded, settings, seeds=SEEDS, said=said, max_batch=1, watch=Stopwatch())
        found.append((joins(pipeline), [mix.numpy() for mix in made]))
    return encoded.waveform.samples.numpy(), found


def joins(pipeline: VocalRestylePipeline) -> np.ndarray:
    defaults, hop = pipeline.defaults, pipeline.codec.hop_samples
    windows = plan_windows(pipeline.codec.frames(SECONDS * RATE), defaults.window_frames, defaults.context_frames)
    return np.array([(one.stop + other.start) / 2 * hop for one, other in itertools.pairwise(windows)])


def jumps(take: np.ndarray, mix: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[3 places]: by how much level (dB), spectrum (dB, mean over bands) and phase (radians, mean over bands) of the
    mix against the take differ between the .2 s before and after each place, in samples; NaN where the take does not
    sound on both sides."""
    reach = SIDE * HOP
    cut = [np.stack([each[:, at - reach : at + reach].mean(axis=0) for at in places]) for each in (take, mix)]
    # [places sides frames bins]: what lies on one side alone, so that no frame sees both.
    dry, wet = (stft(each.reshape(len(places), 2, reach), RATE, nperseg=2048, noverlap=2048 - HOP)[2] for each in cut)
    edges = np.searchsorted(np.fft.rfftfreq(2048, 1 / RATE), BANDS_HZ)

    def by_band(spectra: np.ndarray) -> np.ndarray:
        """[places sides bands]"""
        return np.add.reduceat(spectra.sum(axis=-1), edges, axis=-1)[..., :-1]

    heard, made, cross = by_band(np.abs(dry) ** 2), by_band(np.abs(wet) ** 2), by_band(wet * dry.conj())
    loud = heard.sum(axis=-1)
    quiet = loud.min(axis=1) < 1e-4 * np.median(loud.max(axis=1))
    level_db = 10 * np.log10((made.sum(axis=-1) + 1e-12) / (loud + 1e-12))
    bands_db = 10 * np.log10((made + 1e-12) / (heard + 1e-12))
    phase = np.angle(cross[:, 1] * cross[:, 0].conj())
    level, bands = (np.abs(each[:, 1] - each[:, 0]) for each in (level_db, bands_db))
    found = np.stack([level, bands.mean(axis=-1), np.abs(phase).mean(axis=-1)])
    found[:, quiet] = np.nan
    return found


def chances(take: np.ndarray, both: list[tuple[np.ndarray, list[np.ndarray]]]) -> tuple[np.ndarray, np.ndarray]:
    """[3] each. How much larger the jumps are where windows join than in the same moments of the mixes whose windows
    join elsewhere, mean over all joins, and how likely that is by chance (Wilcoxon's signed ranks, one-sided)."""
    more = list[np.ndarray]()
    for own, other in ((0, 1), (1, 0)):
        apart = [np.abs(both[other][0] - place).min() > RATE for place in both[own][0]]
        places = both[own][0][apart].round().astype(int)
        here, there = (np.mean([jumps(take, mix, places) for mix in both[one][1]], axis=0) for one in (own, other))
        more += list((here - there).T)
    heard = np.array([one for one in more if not np.isnan(one).any()])
    assert len(heard) >= 20
    return heard.mean(axis=0), np.array([wilcoxon(one, alternative="greater").pvalue for one in heard.T])


def test_no_seam_shows_in_level_spectrum_or_phase(both) -> None:
    larger, chance = chances(*both)
    print("larger by", larger, "by chance", chance)
    assert (chance > 0.01).all(), (larger, chance)


@pytest.mark.parametrize("planted", ["level", "spectrum", "phase"])
def test_a_planted_seam_would_be_found(planted: str, both) -> None:
    """Every other window 2 dB louder, brighter by a shelf, or 3 samples late."""
    change = {
        "level": lambda x: x * 10 ** (2 / 20),
        "spectrum": lambda x: x + 0.6 * np.diff(x, axis=1, prepend=0),
        "phase": lambda x: np.roll(x, 3, axis=1),
    }[planted]
    take, found = both
    changed = []
    for places, mixes in found:
        second = np.searchsorted(places, np.arange(take.shape[1]), side="right") % 2 == 1
        changed.append((places, [np.where(second, change(mix), mix) for mix in mixes]))
    larger, chance = chances(take, changed)
    print(planted, "larger by", larger, "by chance", chance)
    assert chance[["level", "spectrum", "phase"].index(planted)] < 0.01, chance
