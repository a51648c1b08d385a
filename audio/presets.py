"""Effect chains fitted to professional vocal mixes, read from the released tables.

Source: Yu et al., "DiffVox: A Differentiable Model for Capturing and Analysing Vocal Effects Distributions",
DAFx 2025, and its repository SonyResearch/diffvox (MIT). A preset folder holds `decoded.csv` (one chain a row, in
physical units), `raw_params.npy` (the parameters as released, same rows) and `train_index.npy` (rows to train on).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.linalg import expm
from scipy.special import expit

from audio.delay import PingPongDelay
from audio.effects import Compressor, EffectChain
from audio.errors import InputError
from audio.filters import Filter, FilterKind
from audio.reverb import Reverb

REVERB_BAND_HZ = (250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)
SHELF_Q = 1 / math.sqrt(2)

# DiffVox, presets/fx_config.yaml: the feedback-delay network's rate, delay lines and the longest T60 it can have.
NETWORK_RATE_HZ = 44100
NETWORK_DELAYS_SAMPLES = np.array([997, 1153, 1327, 1559, 1801, 2099])
NETWORK_T60_MAX_S = 9.0
RAW_COLUMNS = 151

LEVEL_DECIMALS = 6  # of what is worked out of a network
# Released attack and release run from 10 to 90 %: 2.2 time constants (torchcomp's ms2coef).
RISE_TIME_CONSTANTS = 2.2


def read_presets(csv_path: str | Path) -> dict[str, EffectChain]:
    """All chains of a `decoded.csv`, by the name in its column dry_file, in the order of the file.

    The levels of the reverb come from `raw_params.npy` beside it: the table has no column for them. Raises
    InputError for a missing file or column, a value that is no number or out of range, or tables of unequal length.
    """
    path = Path(csv_path)
    rows = read_rows(path, what="a table of presets", rows="presets")
    released = _load(path.with_name("raw_params.npy"))
    if released.shape != (len(rows), RAW_COLUMNS):
        raise InputError(
            f"{path.with_name('raw_params.npy')}: shape {released.shape}, but {path.name} asks for "
            f"{(len(rows), RAW_COLUMNS)}"
        )
    chains: dict[str, EffectChain] = {}
    for line, (row, raw) in enumerate(zip(rows, released, strict=True), start=2):
        name = row.get("dry_file")
        if not name or name in chains or Path(name).name != name:
            raise InputError(f"{path}, line {line}: column dry_file must hold a file name of its own, not {name!r}")
        try:
            chains[name] = _chain(row, raw)
        except KeyError as error:
            raise InputError(f"{path}: the column {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}, line {line}, preset {name}: {error}") from error
    return chains


def read_rows(path: Path, *, what: str, rows: str) -> list[dict[str, str]]:
    """The rows of a CSV table with a header, at least one. what and rows: what they are, for the message.

    Raises InputError for a file that is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            read = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as {what} ({error})") from error
    if not read:
        raise InputError(f"{path}: no {rows} in it; a table with a header and at least one row was expected")
    return read


def training_names(csv_path: str | Path, names: Sequence[str]) -> list[str]:
    """Those of all `names` of a table (in its order) that its `train_index.npy` lists; the others are held out.

    Raises InputError where that file is missing, holds anything but row numbers, or one of them twice.
    """
    path = Path(csv_path).with_name("train_index.npy")
    index = _load(path)
    if index.ndim != 1 or index.dtype.kind not in "iu" or not ((index >= 0) & (index < len(names))).all():
        raise InputError(f"{path}: a list of row numbers from 0 to {len(names) - 1} was expected")
    if len(np.unique(index)) < len(index):
        raise InputError(f"{path}: lists the row {np.flatnonzero(np.bincount(index) > 1)[0]} more than once")
    return [names[row] for row in index]


def _load(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a NumPy array ({error})") from error


def _chain(row: dict[str, str], raw: np.ndarray) -> EffectChain:
    value = {key: float(text) for key, text in row.items() if key != "dry_file"}
    if not all(math.isfinite(number) for number in value.values()) or not np.isfinite(raw).all():
        raise ValueError("every value must be a finite number")

    def four_bands(prefix: str) -> tuple[Filter, ...]:
        def band(kind: FilterKind, name: str, q: float) -> Filter:
            return Filter(kind, value[f"{prefix}{name}_freq"], q, value[f"{prefix}{name}_gain_db"])

        return (
            band("peak", "peak1", value[f"{prefix}peak1_q"]),
            band("peak", "peak2", value[f"{prefix}peak2_q"]),
            band("low_shelf", "lowshelf", SHELF_Q),
            band("high_shelf", "highshelf", SHELF_Q),
        )

    mid_level_db, side_level_db, correlation = network_levels(raw)
    return EffectChain(
        equaliser=(
            *four_bands(""),
            Filter("low_pass", value["lowpass_freq"], value["lowpass_q"]),
            Filter("high_pass", value["highpass_freq"], value["highpass_q"]),
        ),
        compressor=Compressor(
            threshold_db=value["comp_threshold_db"],
            ratio=value["comp_ratio"],
            attack_ms=value["comp_attack_ms"] / RISE_TIME_CONSTANTS,
            release_ms=value["comp_release_ms"] / RISE_TIME_CONSTANTS,
            makeup_db=value["comp_makeup_db"],
        ),
        delay=PingPongDelay(
            time_ms=value["delay_ms"],
            feedback=value["delay_feedback"],
            gain=value["delay_gain"],
            low_pass=Filter("low_pass", value["delay_lp_freq"], value["delay_lp_q"]),
            odd_pan_percent=value["delay_odd_pan"],
            even_pan_percent=value["delay_even_pan"],
        ),
        reverb=Reverb(
            band_hz=REVERB_BAND_HZ,
            t60_s=tuple(value[f"reverb_t60_{frequency:.0f}hz_s"] for frequency in REVERB_BAND_HZ),
            mid_level_db=mid_level_db,
            side_level_db=side_level_db,
            correlation=correlation,
            pre_delay_ms=1000 * NETWORK_DELAYS_SAMPLES[0] / NETWORK_RATE_HZ,
            equaliser=four_bands("rev_"),
        ),
        delay_to_reverb=value["delay_to_reverb_send"],
        dry_pan_percent=value["dry_pan"],
    )


def network_levels(raw: np.ndarray) -> tuple[float, float, float]:
    """Mid level in dB, side level in dB and left-right correlation of one released feedback-delay network.

    H = c (D⁻¹ − Uγ)⁻¹ b from 2 inputs to 2 outputs (DiffVox, section on the reverb); its energy is the mean of |H|²
    over frequency (Parseval), estimated on an irrational grid so that it never locks to the delay lines.

    In double precision, and rounded to LEVEL_DECIMALS: the last bits of a matrix product depend on the number of
    threads, and a table of presets must be the same chains wherever it is read.
    """
    raw = raw.astype(np.float64)
    b, c, decay, mixing = raw[31:43].reshape(6, 2), raw[43:55].reshape(2, 6), raw[55:104], raw[104:140].reshape(6, 6)
    upper = np.triu(mixing, 1)
    orthogonal = expm(upper - upper.T)
    shortest = NETWORK_DELAYS_SAMPLES.min()
    gain_max = 10 ** (-3 * shortest / (NETWORK_RATE_HZ * NETWORK_T60_MAX_S))
    position = (np.arange(1, 4001) * (math.sqrt(5) - 1) / 2) % 1
    gain = np.interp(position * (len(decay) - 1), np.arange(len(decay)), expit(decay) * gain_max)
    loop = orthogonal * gain[:, None, None] ** (NETWORK_DELAYS_SAMPLES / shortest)
    advance = np.exp(1j * np.pi * position[:, None] * NETWORK_DELAYS_SAMPLES)
    matrix = advance[:, :, None] * np.eye(6) - loop
    response = c @ np.linalg.solve(matrix, (b @ np.array([[1.0, 1.0], [1.0, -1.0]])).astype(complex))
    energy = (np.abs(response) ** 2).mean(axis=0)
    cross = (response[:, 0, 0] * response[:, 1, 0].conj()).mean().real
    mid_db, side_db = 10 * np.log10(energy.mean(axis=0) + 1e-30)
    found = mid_db, side_db, cross / np.sqrt(energy[0, 0] * energy[1, 0])
    mid_level_db, side_level_db, correlation = (round(float(value), LEVEL_DECIMALS) for value in found)
    return mid_level_db, side_level_db, correlation
