"""Fixtures for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ENVIRONMENT_VARIABLE = "VOCAL_RESTYLER_DATA"


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
