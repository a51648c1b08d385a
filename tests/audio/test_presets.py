"""Preset tables: units, order, the reverb's levels against a simulated network, and one clear line for bad tables."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from audio.effects import render
from audio.errors import InputError
from audio.presets import network_levels, read_presets, training_names
from audio.waveform import Waveform

DELAYS = (997, 1153, 1327, 1559, 1801, 2099)


def simulated_network(raw: np.ndarray, loop_gain: float, inputs: np.ndarray, samples: int) -> np.ndarray:
    """Impulse response [2 samples] of the feedback-delay network, sample by sample in blocks of its shortest line."""
    b, c, upper = raw[31:43].reshape(6, 2), raw[43:55].reshape(2, 6), np.triu(raw[104:140].reshape(6, 6), 1)
    mixing = expm(upper - upper.T) * loop_gain ** (np.array(DELAYS) / min(DELAYS))
    fed = np.zeros((6, samples))
    out = np.zeros((6, samples))
    for start in range(0, samples, min(DELAYS)):
        stop = min(samples, start + min(DELAYS))
        for line, delay in enumerate(DELAYS):
            times = np.arange(start, stop) - delay
            out[line, start:stop] = np.where(times >= 0, fed[line, times], 0)
        fed[:, start:stop] = mixing @ out[:, start:stop]
        if start == 0:
            fed[:, 0] += b @ inputs
    return c @ out


@pytest.mark.parametrize("seed", [0, 1])
def test_reverb_levels_are_the_energies_of_the_simulated_network(seed: int) -> None:
    raw = np.random.default_rng(seed).normal(size=151)
    raw[55:104] = 2.0
    loop_gain = 10 ** (-3 * min(DELAYS) / (44100 * 9.0)) / (1 + np.exp(-2.0))
    mid_db, side_db, correlation = network_levels(raw)
    mid, side = (simulated_network(raw, loop_gain, np.array([1.0, sign]), 88200) for sign in (1.0, -1.0))
    assert mid_db == pytest.approx(10 * np.log10((mid**2).sum() / 2), abs=0.3)
    assert side_db == pytest.approx(10 * np.log10((side**2).sum() / 2), abs=0.3)
    assert correlation == pytest.approx((mid[0] * mid[1]).sum() / np.sqrt((mid**2).sum(axis=1).prod()), abs=0.03)


def test_a_table_becomes_chains_in_its_units_and_order(preset_table: Path) -> None:
    chains = read_presets(preset_table)
    with preset_table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(chains) == [row["dry_file"] for row in rows]
    row, chain = rows[4], chains["chain_4"]
    kinds = {
        "peak1": "peak",
        "peak2": "peak",
        "lowshelf": "low_shelf",
        "highshelf": "high_shelf",
        "lowpass": "low_pass",
        "highpass": "high_pass",
    }
    assert [band.kind for band in chain.equaliser] == list(kinds.values())
    for band, column in zip(chain.equaliser, kinds, strict=True):
        assert band.frequency_hz == float(row[f"{column}_freq"])
        assert band.gain_db == float(row.get(f"{column}_gain_db", 0))
    assert chain.reverb.equaliser[1].frequency_hz == float(row["rev_peak2_freq"])
    assert chain.reverb.t60_s[3] == float(row["reverb_t60_2000hz_s"])
    assert chain.delay.even_pan_percent == float(row["delay_even_pan"])
    # From 10 to 90 % of a step takes an exponential ln 9 = 2.2 time constants.
    assert chain.compressor.attack_ms == pytest.approx(float(row["comp_attack_ms"]) / np.log(9), rel=0.002)


def test_a_table_is_the_same_chains_whatever_the_number_of_threads(preset_table: Path) -> None:
    raw = preset_table.parent / "raw_params.npy"
    np.save(raw, np.load(raw).astype(np.float32))  # as released
    program = "import sys, pathlib, audio.presets; print(audio.presets.read_presets(pathlib.Path(sys.argv[1])))"
    told = [
        subprocess.run(
            [sys.executable, "-c", program, str(preset_table)],
            env=os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    ]
    assert told[0] == told[1] and "reverb" in told[0]


def test_training_names_follow_the_index(preset_table: Path) -> None:
    names = list(read_presets(preset_table))
    held_out = [name for name in names if name not in training_names(preset_table, names)]
    assert held_out == ["chain_4", "chain_7", "chain_10", "chain_11"]


def rewrite(table: Path, change) -> None:
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows = change(rows)
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0] if rows else ["dry_file"])
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda rows: [{k: v for k, v in row.items() if k != "delay_ms"} for row in rows], "column 'delay_ms'"),
        (lambda rows: [rows[0] | {"comp_ratio": "loud"}, *rows[1:]], "line 2, preset chain_0: .*'loud'"),
        (lambda rows: [*rows[:3], rows[3] | {"dry_pan": "nan"}, *rows[4:]], "chain_3: .*finite"),
        (lambda rows: [rows[0] | {"delay_feedback": "1.5"}, *rows[1:]], "chain_0: .*feedback"),
        (lambda rows: [rows[0] | {"dry_pan": "180"}, *rows[1:]], "chain_0: .*100"),
        (lambda rows: [rows[0], rows[0], *rows[2:]], "line 3: .*name of its own"),
        (lambda rows: [rows[0] | {"dry_file": "../x"}, *rows[1:]], "line 2: .*name of its own"),
        (lambda rows: rows[:5], "raw_params.npy: shape"),
        (lambda rows: [], "no presets"),
    ],
)
def test_a_bad_table_is_refused_in_one_line(preset_table: Path, change, complaint: str) -> None:
    rewrite(preset_table, change)
    with pytest.raises(InputError, match=complaint) as caught:
        read_presets(preset_table)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["decoded.csv", "raw_params.npy", "train_index.npy"])
def test_a_missing_file_is_named(preset_table: Path, name: str) -> None:
    names = list(read_presets(preset_table))
    preset_table.with_name(name).unlink()
    with pytest.raises(InputError, match=name):
        training_names(preset_table, list(read_presets(preset_table)) if name != "train_index.npy" else names)


def test_an_index_beyond_the_table_is_refused(preset_table: Path) -> None:
    np.save(preset_table.with_name("train_index.npy"), np.array([0, 12]))
    with pytest.raises(InputError, match="0 to 11"):
        training_names(preset_table, list(read_presets(preset_table)))


def test_an_index_that_lists_a_row_twice_is_refused(preset_table: Path) -> None:
    np.save(preset_table.with_name("train_index.npy"), np.array([0, 3, 5, 3]))
    with pytest.raises(InputError, match=r"train_index\.npy: lists the row 3 more than once"):
        training_names(preset_table, list(read_presets(preset_table)))


def test_the_released_chains_are_all_there_and_sound_like_finished_vocals(shared_data: Path) -> None:
    """Reverbs lie 10 to 25 dB below the dry signal for most, and no chain blows up."""
    table = shared_data / "presets" / "internal" / "decoded.csv"
    chains = read_presets(table)
    assert len(chains) == 385
    assert len(training_names(table, list(chains))) == 365
    levels_db = np.array([chain.reverb.mid_level_db for chain in chains.values()])
    assert ((levels_db > -25) & (levels_db < -10)).mean() > 0.75
    noise = Waveform(0.1 * torch.randn(1, 48000, generator=torch.Generator().manual_seed(0)), 48000)
    for name in list(chains)[::24]:
        mix = render(chains[name], noise, seed=0).samples
        assert bool(mix.isfinite().all())
        assert -40 < 20 * np.log10(float(mix.square().mean().sqrt())) < 0, name
