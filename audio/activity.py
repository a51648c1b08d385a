"""How loud a recording is from moment to moment, and how much of it is active."""

from __future__ import annotations

import base64

import numpy as np

STEP_S = 0.05
LOWEST_DB = -120.0
DB_PER_CODE = 0.625  # 256 codes from −120 to +39.4 dBFS
SOUND_DB = -70.0  # what lies lower is no part of the sound
LOUD_PERCENTILE = 95
ACTIVE_UNDER_LOUD_DB = 30.0
LOWEST_ACTIVE_DB = -60.0
FLOOR_PERCENTILE = 5


def encode_levels(power: np.ndarray) -> str:
    """Mean square [steps] → one byte a step, as base64: 96 kB an hour."""
    with np.errstate(divide="ignore"):
        codes = np.round((10 * np.log10(power) - LOWEST_DB) / DB_PER_CODE)
    return base64.b64encode(np.clip(codes, 0, 255).astype(np.uint8).tobytes()).decode("ascii")


def decode_levels(text: str) -> np.ndarray:
    """The levels [steps of 50 ms] in dBFS, to 0.3 dB; −120 stands for all that is as low or lower.

    That of the mean square over time and channels: a full-scale sine has −3. The last step may be shorter.
    """
    codes = np.frombuffer(base64.b64decode(text), np.uint8)
    return LOWEST_DB + DB_PER_CODE * codes.astype(np.float64)


def loud_db(level_db: np.ndarray) -> float:
    """Level of the loud parts in dBFS: the 95th percentile of all steps over −70 dBFS; −inf where there are none."""
    sound = level_db[level_db > SOUND_DB]
    return float(np.percentile(sound, LOUD_PERCENTILE)) if len(sound) else -np.inf


def active(level_db: np.ndarray) -> np.ndarray:
    """[steps], true where a voice is active: at most 30 dB under the loud parts, and over −60 dBFS."""
    threshold_db = max(loud_db(level_db) - ACTIVE_UNDER_LOUD_DB, LOWEST_ACTIVE_DB)
    return level_db >= threshold_db


def noise_floor_db(level_db: np.ndarray) -> float:
    """What is left in the quietest moments in dBFS: the 5th percentile of all steps that are not digital silence.

    That of the quietest sound where a recording has no pauses; −inf for silence.
    """
    sound = level_db[level_db > LOWEST_DB]
    return float(np.percentile(sound, FLOOR_PERCENTILE)) if len(sound) else -np.inf
