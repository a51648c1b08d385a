"""Whether a rendering is still this singer singing this take: pitch, voicing, envelope, time, voice.

Every function takes the take and a rendering of it, of one length and rate, mono or stereo. What they measure is what
no mixing engineer changes; compression, reverb and echoes move them a little, so compare with an engineer's mix.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import correlate

from audio.activity import active
from audio.waveform import Waveform
from restyler.evaluate import speaker
from restyler.evaluate.descriptors import BARK_EDGES_HZ, band_sums, power_spectrogram
from restyler.evaluate.pitch import HOP_S, pitch
from restyler.evaluate.quantities import Quantity
from restyler.metrics import at_loudness

GROSS_CENTS = 50.0
LOWEST_LEVEL_DB = -80.0
FLUX_WINDOW_SAMPLES = 512
FLUX_SMOOTHING_FRAMES = 2.0  # a peak between frames is then nearly a parabola
FLUX_RANGE_DB = 40.0  # under a band's loudest moment: what rises below it is noise
LONGEST_SHIFT_S = 0.2

CONTENT = (
    Quantity("f0_rmse_cents", "cents", "lower", "Root mean square difference of pitch where both are voiced."),
    Quantity("f0_gross_percent", "%", "lower", "Share of these moments in which the pitch is over 50 cents off."),
    Quantity("voicing_error_percent", "%", "lower", "Share of the take's sounding moments voiced in one of them only."),
    Quantity("envelope_correlation", "", "higher", "Correlation of the levels in dB while the take sounds."),
    Quantity("onset_shift_ms", "ms", "lower", "How far the onsets are early or late."),
    Quantity("speaker_similarity", "", "higher", "Cosine of speaker embeddings (Resemblyzer, where it is installed)."),
)


def content(take: Waveform, estimate: Waveform) -> dict[str, float]:
    """All of CONTENT by name; speaker_similarity only where `speaker.available()`.

    nan for what can't be told: pitch where nothing is voiced in both, correlation of a level that does not move.
    Raises ValueError for signals of different shape or rate, InputError for a silent one.
    """
    if take.sample_rate != estimate.sample_rate or take.samples.shape[1] != estimate.samples.shape[1]:
        raise ValueError(
            f"a rendering is as long as its take, not {estimate.samples.shape[1]} samples at {estimate.sample_rate} Hz "
            f"beside {take.samples.shape[1]} at {take.sample_rate} Hz"
        )
    levels = [levels_db(one) for one in (take, estimate)]
    sounding = active(levels[0])
    found = pitch_errors(take, estimate, sounding) | {
        "envelope_correlation": _correlation(levels[0][sounding], levels[1][sounding]),
        "onset_shift_ms": abs(onset_shift_ms(take, estimate)),
    }
    return found | ({"speaker_similarity": speaker.similarity(take, estimate)} if speaker.available() else {})


def pitch_errors(take: Waveform, estimate: Waveform, sounding: np.ndarray) -> dict[str, float]:
    """f0_rmse_cents, f0_gross_percent and voicing_error_percent in the moments [frames of 10 ms] that count.

    Outside of them the take is silent, and what a mix has there are its tails.
    """
    f0_hz = [pitch(one).f0_hz[: len(sounding)][sounding] for one in (take, estimate)]
    voiced = [np.isfinite(one) for one in f0_hz]
    cents = 1200 * np.log2(f0_hz[1] / f0_hz[0])[voiced[0] & voiced[1]]
    return {
        "f0_rmse_cents": float(np.sqrt(np.mean(cents**2))) if len(cents) else np.nan,
        "f0_gross_percent": 100 * float(np.mean(np.abs(cents) > GROSS_CENTS)) if len(cents) else np.nan,
        "voicing_error_percent": 100 * float(np.mean(voiced[0] != voiced[1])),
    }


def envelope_correlation(take: Waveform, estimate: Waveform) -> float:
    """Pearson's correlation of `levels_db` while the take sounds (`audio.activity.active`); nan for a steady level."""
    levels = [levels_db(one) for one in (take, estimate)]
    sounding = active(levels[0])
    return _correlation(levels[0][sounding], levels[1][sounding])


def levels_db(waveform: Waveform) -> np.ndarray:
    """RMS level over both channels at −18 LUFS, in dBFS and no lower than −80, every 10 ms: [frames].

    Windows of 20 ms, at the ends 10.
    """
    power = at_loudness(waveform).numpy(force=True).astype(np.float64) ** 2
    hop = round(HOP_S * waveform.sample_rate)
    running = np.cumsum(np.pad(power.mean(0), (1, 0)))
    centres = np.arange(0, power.shape[1] + 1, hop)
    first, last = np.maximum(centres - hop, 0), np.minimum(centres + hop, power.shape[1])
    windows = (running[last] - running[first]) / (last - first)
    return np.asarray(10 * np.log10(np.maximum(windows, 10 ** (LOWEST_LEVEL_DB / 10))))


def onset_shift_ms(take: Waveform, estimate: Waveform) -> float:
    """How many ms the estimate's onsets come after the take's (below 0: before), within ±200 ms.

    Where the correlation of their spectral fluxes is highest, between frames by a parabola through the peak.
    """
    first, second = (gaussian_filter1d(spectral_flux(one), FLUX_SMOOTHING_FRAMES) for one in (take, estimate))
    hop_s = FLUX_WINDOW_SAMPLES / 4 / take.sample_rate
    reach = min(int(LONGEST_SHIFT_S / hop_s), len(first) - 2)
    agreement = correlate(second - second.mean(), first - first.mean(), method="fft")[len(first) - 1 - reach :]
    agreement = agreement[: 2 * reach + 1]
    at = int(np.clip(np.argmax(agreement), 1, 2 * reach - 1))
    before, here, after = agreement[at - 1 : at + 2]
    bend = before - 2 * here + after
    moved = (before - after) / (2 * bend) if bend < 0 else 0.0
    return float(1000 * hop_s * (at - reach + np.clip(moved, -1, 1)))


def spectral_flux(waveform: Waveform) -> np.ndarray:
    """How fast levels rise, in dB a frame: their increase added over critical bands and channels, [frames].

    Of each band only the 40 dB under its loudest moment count.
    """
    power = power_spectrogram(waveform, FLUX_WINDOW_SAMPLES)
    bands = band_sums(power, waveform.sample_rate, BARK_EDGES_HZ)
    top = bands.max(1, keepdims=True)
    level_db = 10 * np.log10(np.maximum(bands, 10 ** (-FLUX_RANGE_DB / 10) * top) + 1e-30)
    return np.asarray(np.maximum(np.diff(level_db, axis=1), 0).sum((0, 2)))


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if first.std() < 1e-6 or second.std() < 1e-6:  # dB: no movement, only rounding
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
