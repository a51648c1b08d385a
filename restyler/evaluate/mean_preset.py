"""The mean of the training presets: the best guess of whoever knows the chains but has not heard the mix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.special import expit

from audio.effects import EffectChain
from audio.errors import InputError
from audio.parts_kinds import Value
from audio.parts_vocal_chain import BANDS, PASSES, chain_of, values_of
from audio.presets import (
    NETWORK_DELAYS_SAMPLES,
    NETWORK_RATE_HZ,
    NETWORK_T60_MAX_S,
    REVERB_BAND_HZ,
    network_levels,
    training_names,
)

DECAY_COLUMNS = slice(55, 104)  # of a released row: the loop's gain, evenly from 0 Hz to half the rate


def _equaliser_columns(prefix: str, first: int) -> dict[str, int]:
    """Gain, frequency and Q of each peak, gain and frequency of each shelf."""
    names = [
        f"{prefix}{band}_{quantity}"
        for band in BANDS
        for quantity in ("gain_db", "frequency_hz", "q")
        if quantity != "q" or BANDS[band] == "peak"
    ]
    return {name: first + place for place, name in enumerate(names)}


# Value of the part `vocal_chain` → the one column of raw_params.npy that it is a rising or falling function of.
RAW_COLUMNS: dict[str, int] = {
    **_equaliser_columns("", 0),
    **{
        f"{band}_{quantity}": 10 + 2 * at + k
        for at, band in enumerate(PASSES)
        for k, quantity in enumerate(("frequency_hz", "q"))
    },
    "compressor_threshold_db": 14,
    "compressor_makeup_db": 16,
    "compressor_attack_ms": 18,
    "compressor_release_ms": 19,
    "compressor_ratio": 21,
    "delay_to_reverb": 23,
    "delay_time_ms": 24,
    "delay_feedback": 25,
    "delay_gain": 26,
    "delay_low_pass_frequency_hz": 27,
    "delay_low_pass_q": 28,
    "delay_odd_pan_percent": 29,
    "delay_even_pan_percent": 30,
    **_equaliser_columns("reverb_", 140),
    "dry_pan_percent": 150,
}


def mean_preset(csv_path: str | Path, chains: Mapping[str, EffectChain]) -> EffectChain:
    """The chain at the mean of the raw parameters over the rows that `train_index.npy` lists; the others never enter.

    chains: all of the table, as `read_presets` gives them.

    That is the blind floor of DiffVox (Yu et al. 2025; the mean of its `gaussian.npz`), where parameters are the
    unbounded numbers that were fitted. Each value of a chain is a rising or falling function of one of them, read off
    between the two training presets next to the mean; the reverb's decay and levels follow from the mean network. The
    signs of the networks' inputs and outputs differ from preset to preset, so that the mean reverb is all but silent.

    Raises InputError as `training_names` does, and where a column of the table does not follow its raw
    parameter: then the two files don't belong together.
    """
    path = Path(csv_path)
    trained = set(training_names(path, list(chains)))
    raw = np.load(path.with_name("raw_params.npy"), allow_pickle=False).astype(np.float64)
    raw = raw[[name in trained for name in chains]]
    values = [values_of(chain, seed=0) for name, chain in chains.items() if name in trained]
    mean = raw.mean(axis=0)
    found: dict[str, Value] = dict(values[0])  # the Q of shelves and the pre-delay are the same in all
    for name, column in RAW_COLUMNS.items():
        order = np.argsort(raw[:, column], kind="stable")
        ordered = np.array([row[name] for row in values], np.float64)[order]
        steps = np.diff(ordered)[np.diff(raw[order, column]) > 0]
        if not ((steps >= 0).all() or (steps <= 0).all()):
            raise InputError(f"{path}: {name} does not follow column {column} of raw_params.npy beside it")
        found[name] = float(np.interp(mean[column], raw[order, column], ordered))
    found |= {f"reverb_t60_{band:.0f}_s": t60 for band, t60 in zip(REVERB_BAND_HZ, network_t60_s(mean), strict=True)}
    levels = network_levels(mean)
    found |= dict(zip(("reverb_mid_level_db", "reverb_side_level_db", "reverb_correlation"), levels, strict=True))
    return chain_of(found)


def network_t60_s(raw: np.ndarray) -> tuple[float, ...]:
    """Decay times of one released feedback-delay network at `REVERB_BAND_HZ`, in seconds.

    The shortest line loses its gain once each time round, the longer ones by their length the more (DiffVox, section on
    the reverb); a gain g per N samples falls by 60 dB in −3 N / (rate · log₁₀ g) seconds (Jot & Chaigne 1991).
    """
    shortest = NETWORK_DELAYS_SAMPLES.min()
    highest = 10 ** (-3 * shortest / (NETWORK_RATE_HZ * NETWORK_T60_MAX_S))
    gains = expit(raw[DECAY_COLUMNS]) * highest
    position = np.array(REVERB_BAND_HZ) / (NETWORK_RATE_HZ / 2) * (len(gains) - 1)
    gain = np.interp(position, np.arange(len(gains)), gains)
    return tuple(float(t60) for t60 in -3 * shortest / (NETWORK_RATE_HZ * np.log10(gain)))
