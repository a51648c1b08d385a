"""How near a rendering is to the engineer's mix: distances of spectrum and dynamics, and errors of what can be named.

Every function takes two stereo signals of one length and rate.
"""

from __future__ import annotations

import numpy as np

from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from restyler.evaluate.descriptors import (
    LEAST_BAND_DB,
    bark_levels_db,
    centroid_hz,
    crest_db,
    imbalance_db,
    loudness_range_lu,
    mel_levels_db,
    width_db,
)
from restyler.evaluate.quantities import Quantity
from restyler.metrics import at_loudness, loudness_dynamics_distance, spectral_distance

FIDELITY = (
    Quantity("mss_lr", "", "lower", "Multi-resolution STFT distance of left and right (DiffVox), both at −18 LUFS."),
    Quantity("mss_ms", "", "lower", "The same of sum and difference; explodes for near-mono mixes: read its median."),
    Quantity("mldr", "", "lower", "Distance of the loudness dynamic range at two scales (DiffVox's own form)."),
    Quantity("mel_db", "dB", "lower", "Mean absolute difference of mel levels over time, both at −18 LUFS."),
    Quantity("lufs_error_lu", "LU", "lower", "Difference of the integrated loudness of both files as they came."),
    Quantity("lra_error_lu", "LU", "lower", "Difference of the loudness range (EBU Tech 3342)."),
    Quantity("crest_error_db", "dB", "lower", "Difference of the crest factor."),
    Quantity("centroid_error_percent", "%", "lower", "Difference of the spectral centroid, as a share of the mix's."),
    Quantity("bark_error_db", "dB", "lower", "Mean absolute difference of tonal balance over critical bands."),
    Quantity("width_error_db", "dB", "lower", "Difference of the ratio of side to middle."),
    Quantity("imbalance_error_db", "dB", "lower", "Difference of the ratio of right to left."),
)


def fidelity(reference: Waveform, estimate: Waveform) -> dict[str, float]:
    """All of FIDELITY by name, 0 where the two agree. The level counts in lufs_error_lu alone.

    lra_error_lu is nan under 3 s. Raises ValueError for signals of different shape or rate, InputError for a silent
    one.
    """
    spectral = spectral_distance(reference, estimate)
    return {
        "mss_lr": spectral.lr,
        "mss_ms": spectral.ms,
        "mldr": loudness_dynamics_distance(reference, estimate),
        "mel_db": mel_distance_db(reference, estimate),
        "lufs_error_lu": abs(integrated_loudness_lufs(estimate) - integrated_loudness_lufs(reference)),
        "lra_error_lu": abs(loudness_range_lu(estimate) - loudness_range_lu(reference)),
        "crest_error_db": abs(crest_db(estimate) - crest_db(reference)),
        "centroid_error_percent": 100 * abs(centroid_hz(estimate) / centroid_hz(reference) - 1),
        "bark_error_db": tonal_balance_error_db(reference, estimate),
        "width_error_db": abs(width_db(estimate) - width_db(reference)),
        "imbalance_error_db": abs(imbalance_db(estimate) - imbalance_db(reference)),
    }


def mel_distance_db(reference: Waveform, estimate: Waveform) -> float:
    """Mean absolute difference of `mel_levels_db` over channels, frames and bands, both at −18 LUFS.

    What lies under −80 dBFS in both is no difference. Raises InputError for a silent signal.
    """
    levels = [
        mel_levels_db(Waveform(at_loudness(waveform), waveform.sample_rate)) for waveform in (reference, estimate)
    ]
    return float(np.abs(levels[0] - levels[1]).mean())


def tonal_balance_error_db(reference: Waveform, estimate: Waveform) -> float:
    """Mean absolute difference of `bark_levels_db`, over the bands in which either holds more than −60 dB."""
    levels = np.stack([bark_levels_db(waveform) for waveform in (reference, estimate)])
    heard = levels.max(0) > LEAST_BAND_DB
    return float(np.abs(levels[0] - levels[1])[heard].mean())
