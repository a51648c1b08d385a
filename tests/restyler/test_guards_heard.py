"""What the command promises of every mix, on takes of real singers by the bundled model: in time to the sample, under
the ceiling by other meters, still its take. Slow: every way of rendering, some forty mixes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from audio.io import read, read_tags
from restyler.model_folder import BUNDLED
from restyler.pipeline import VocalRestylePipeline
from restyler.sample import main
from restyler.way_names import WAYS

pytestmark = pytest.mark.slow
RATE, SECONDS = 48_000, 4


@pytest.fixture(scope="module")
def takes(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The loudest seconds of two takes that no training saw, at 48 kHz."""
    found = sorted((shared_data / "research" / "gtsinger").rglob("*.flac"))
    if len(found) < 2:
        pytest.skip("needs the takes of research/gtsinger")
    folder, cut = tmp_path_factory.mktemp("takes"), []
    for number in (0, len(found) // 2):
        samples, rate = soundfile.read(found[number], always_2d=True)
        energy, length = np.cumsum(np.square(samples).sum(axis=1)), min(SECONDS * rate, len(samples))
        first = int(np.argmax(energy[length - 1 :] - np.concatenate([[0], energy[:-length]])))
        cut.append(folder / f"take_{number}.wav")
        resampled = scipy.signal.resample_poly(samples[first : first + length], RATE, rate)
        soundfile.write(cut[-1], 0.9 * resampled / np.abs(resampled).max(), RATE, subtype="PCM_24")
    return cut


@pytest.fixture(scope="module", params=WAYS)
def mixes(request: pytest.FixtureRequest, takes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp(request.param)
    variations = "1" if request.param == "transfer" else "4"
    arguments = [*map(str, takes), "--out", str(out), "--variations", variations, "--lufs", "-9"]  # into the ceiling
    assert main([*arguments, "--render", request.param, "--device", "cpu"]) == 0
    return sorted(out.rglob("*.wav"))


def take_of(mix: Path, takes: list[Path]) -> Path:
    (found,) = [take for take in takes if take.stem == mix.parent.name]
    return found


def test_every_mix_is_as_long_as_its_take_and_in_time_to_the_sample(mixes: list[Path], takes: list[Path]) -> None:
    for mix in mixes:
        one, other = (soundfile.read(path, always_2d=True)[0].mean(axis=1) for path in (take_of(mix, takes), mix))
        assert len(one) == len(other)
        # Whitened by what the take is, as a linear prediction of it: else a bright and a dark voice peak differently.
        spectra = [np.fft.rfft(each, 2 * len(one)) for each in (one, other)]
        cross = spectra[1] * spectra[0].conj()
        correlation = np.fft.irfft(cross / (np.abs(spectra[0]) ** 2 + 1e-3 * np.mean(np.abs(spectra[0]) ** 2)))
        lag = int(np.abs(correlation).argmax())
        assert min(lag, 2 * len(one) - lag) == 0, (mix, lag)


def test_no_written_file_peaks_over_the_ceiling_by_other_meters(mixes: list[Path]) -> None:
    highest = []
    for mix in mixes:
        samples, _ = soundfile.read(mix, always_2d=True)
        assert soundfile.info(mix).subtype == "PCM_24"
        oversampled = scipy.signal.resample_poly(samples, 16, 1, axis=0, window=("kaiser", 12.0))
        highest.append(20 * np.log10(np.abs(oversampled).max()))
        assert highest[-1] <= -1.0
        if shutil.which("ffmpeg"):
            command = ["ffmpeg", "-nostats", "-i", str(mix), "-af", "ebur128=peak=true", "-f", "null", "-"]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
            assert float(re.findall(r"Peak:\s+(-?[0-9.]+) dBFS", said)[-1]) <= -1.0
    assert max(highest) > -1.3  # loud enough to have met the ceiling


def test_the_guards_have_nothing_to_say_of_what_the_model_makes(mixes: list[Path]) -> None:
    for mix in mixes:
        tags = read_tags(mix)
        assert tags["guard"] == "on"
        assert "guarded" not in tags, (mix, tags["guarded"])


def test_diversity_tells_how_far_mixes_lie_apart(takes: list[Path]) -> None:
    """σ at one style and no spread: noise alone, the mean distance of three mixes to each other."""

    pipeline = VocalRestylePipeline.from_pretrained(BUNDLED)
    apart = []
    for take in takes:
        told = {"style": pipeline.styles[0], "spread": 0.0, "max_batch": 1}
        apart.append([])
        for sigma in (0.0, 0.5, 1.0, 1.5):
            made = pipeline(read(take), seeds=[0, 1, 2], sigma=sigma, **told)
            pairs = [(made[a], made[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
            apart[-1].append(float(np.mean([(a - b).square().mean() / a.square().mean() for a, b in pairs])))
    print(f"\ndiversity: {np.round(apart, 4)}")
    for row in apart:
        assert row[0] < 1e-9 and all(np.diff(row) > 0)
