"""Fixtures for every test."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from audio.parts_vocal_chain import values_of
from audio.presets import read_presets
from restyler.evaluate.mean_preset import RAW_COLUMNS

ENVIRONMENT_VARIABLE = "VOCAL_RESTYLER_DATA"

# The same examples every time: a suite that fails now and then is soon believed no more.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

# Files that take longest are begun first, so that at the end no core waits for the other.
LONGEST = ("test_notebooks.py", "test_listen_page.py", "test_page.py", "test_training.py", "test_prepare.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real recordings and presets (voices/, ir/, presets/, research/), never part of the repository.

    The test that asks for it is skipped where the folder is absent. A folder that was named in
    VOCAL_RESTYLER_DATA but does not exist is a mistake, so it fails.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        folder = Path(named)
        assert folder.is_dir(), f"{ENVIRONMENT_VARIABLE} names {folder}, which is not a folder"
        return folder
    folder = Path(__file__).resolve().parents[1] / "../shared/data"
    if not folder.is_dir():
        pytest.skip(f"needs real recordings: set {ENVIRONMENT_VARIABLE} to their folder")
    return folder.resolve()


@pytest.fixture
def preset_table(read_only_presets: Path, tmp_path: Path) -> Path:
    """A test's own copy of `read_only_presets`."""
    return shutil.copytree(read_only_presets.parent, tmp_path / "presets") / read_only_presets.name


@pytest.fixture(scope="session")
def read_only_presets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`decoded.csv` of a folder of 12 random effect chains, in the form of the released ones; 8 are to train on."""
    random = np.random.default_rng(0)
    columns = {
        "comp_threshold_db": (-28, -18),
        "comp_ratio": (1.5, 8),
        "comp_attack_ms": (0.5, 10),
        "comp_release_ms": (50, 500),
        "comp_makeup_db": (0, 5),
        "delay_ms": (150, 500),
        "delay_feedback": (0, 0.6),
        "delay_gain": (0, 0.2),
        "delay_lp_freq": (500, 12000),
        "delay_lp_q": (0.5, 1.5),
        "delay_odd_pan": (-60, 60),
        "delay_even_pan": (-60, 60),
        "delay_to_reverb_send": (0, 1),
        "dry_pan": (-5, 5),
        "lowpass_freq": (9000, 18000),
        "lowpass_q": (0.5, 1.5),
        "highpass_freq": (20, 250),
        "highpass_q": (0.5, 1.5),
    }
    for prefix in ("", "rev_"):
        for band in ("peak1", "peak2", "lowshelf", "highshelf"):
            columns[f"{prefix}{band}_gain_db"] = (-8, 8)
            columns[f"{prefix}{band}_freq"] = (100, 400) if band == "lowshelf" else (600, 7000)
            if band.startswith("peak"):
                columns[f"{prefix}{band}_q"] = (0.3, 4)
    columns |= {f"reverb_t60_{frequency}hz_s": (0.3, 3) for frequency in (250, 500, 1000, 2000, 4000, 8000)}
    folder = tmp_path_factory.mktemp("presets")
    with (folder / "decoded.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["dry_file", *columns])
        for number in range(12):
            table.writerow([f"chain_{number}", *(f"{random.uniform(*limits):.4g}" for limits in columns.values())])
    raw = random.normal(size=(12, 151))
    raw[:, 31:55] *= 0.2
    np.save(folder / "raw_params.npy", raw)
    np.save(folder / "train_index.npy", np.array([0, 1, 2, 3, 5, 6, 8, 9]))
    values = [values_of(chain, seed=0) for chain in read_presets(folder / "decoded.csv").values()]
    for name, column in RAW_COLUMNS.items():  # of the released ones, every column follows its raw parameter
        raw[:, column] = [row[name] for row in values]
    np.save(folder / "raw_params.npy", raw)
    return folder / "decoded.csv"
