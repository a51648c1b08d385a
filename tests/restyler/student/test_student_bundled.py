"""The live student that comes with the project: what is in its folder, and its knobs on real singers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from audio.features import measure
from audio.io import read
from audio.waveform import Waveform
from restyler.bench_live import latency_samples
from restyler.model_folder import BUNDLED
from restyler.pipeline import VocalRestylePipeline
from restyler.student.files import BUNDLED_STUDENT, Student, load_student
from restyler.student.knobs import ordered_styles
from restyler.student.streaming import StreamingStudent

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def bundled() -> Student:
    return load_student(BUNDLED_STUDENT)


def test_it_is_small_in_half_precision_and_with_its_card() -> None:
    assert sum(path.stat().st_size for path in BUNDLED_STUDENT.iterdir()) < 1e6
    assert {tensor.dtype for tensor in load_file(BUNDLED_STUDENT / "student.safetensors").values()} == {torch.float16}
    assert (BUNDLED_STUDENT / "README.md").read_text() == (ROOT / "docs" / "student_card.md").read_text()


def test_it_names_its_teacher_and_has_its_styles_in_order(bundled: Student) -> None:
    teacher = VocalRestylePipeline.from_pretrained(BUNDLED)
    assert bundled.teacher.split()[0] == BUNDLED.name  # its hash moves with every word of that model's card
    assert bundled.styles == ordered_styles(teacher.styles, teacher.defaults)


def test_its_latency_is_within_twenty_milliseconds(bundled: Student) -> None:
    assert latency_samples(StreamingStudent(bundled.network), block=512) <= 0.020 * 48_000


@pytest.mark.slow
def test_its_knobs_do_what_they_are_called_on_real_singers(bundled: Student, shared_data: Path) -> None:
    """Brightness from end to end by more than 8 dB and never back; space the right way; every style is wide."""
    files = sorted((shared_data / "research" / "gtsinger").rglob("*.flac"))[::30][:3]
    if len(files) < 3:
        pytest.skip("no takes of GTSinger there")
    takes = [read(file).resampled(48_000).samples.mean(0, keepdim=True)[:, :240_000] for file in files]

    def heard(name: str, knobs: Sequence[float]) -> list[float]:
        mixes = (bundled.network(take, torch.tensor([list(knobs)]))[0] for take in takes)
        return [measure(Waveform(mix, 48_000))[name] for mix in mixes]

    brightness = [heard("brightness_db", (place, 0.5, 0.5)) for place in (0, 0.25, 0.5, 0.75, 1)]
    for take in zip(*brightness, strict=True):
        assert all(one < other for one, other in itertools.pairwise(take))
        assert take[-1] - take[0] > 8
    dry, wet = (heard("space_db", (0.5, place, 0.5)) for place in (0, 1))
    assert sum(wet) > sum(dry)
    for number in range(len(bundled.styles)):
        assert min(heard("width_db", (0.5, 0.5, number / (len(bundled.styles) - 1)))) > -45  # of a mono take, −60
