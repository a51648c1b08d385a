"""A student that was never trained, with weights large enough that everything it can do shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from restyler.sing import random_take
from restyler.student.files import Student, build_student, save_student

STYLES = ["dark", "plain", "bright"]
SIZES = {"heard_bands": 20, "gain_bands": 12, "room_bands": 6, "width": 24, "told_width": 16, "room_frames": 40}


def make_student(seed: int = 5) -> Student:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_student(SIZES, STYLES)
        for name, weight in network.named_parameters():
            if weight.ndim == 2 and "remember" not in name:
                torch.nn.init.normal_(weight, std=0.15)
    network.eval().requires_grad_(False)
    return Student(network, SIZES, STYLES, "pocket 0123")


@pytest.fixture(scope="session")
def student() -> Student:
    return make_student()


@pytest.fixture(scope="session")
def student_folder(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student") / "student"
    save_student(folder, student)
    return folder


@pytest.fixture(scope="session")
def sung() -> torch.Tensor:
    """A good second of a sung take, [1 samples] at 48 kHz, of a length that no hop divides."""
    take = random_take(1.2, sample_rate=48_000, generator=np.random.default_rng(2))
    return take.samples[:, :55_111]
