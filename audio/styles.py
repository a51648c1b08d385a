"""Named styles: groups of effect chains that sound alike, found by k-means on what can be heard of their settings."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import ClusterError, kmeans2
from scipy.signal import freqz_sos

from audio.delay import pan_gains
from audio.effects import EffectChain
from audio.filters import Filter, sections

ANALYSIS_RATE_HZ = 48000
BODY_HZ = (100.0, 300.0)
MIDDLE_HZ = (300.0, 2000.0)
TOP_HZ = (4000.0, 12000.0)
SUNG_PEAK_DB = -10.0  # where the loud syllables of a mono take at −18 LUFS lie
INAUDIBLE_DB = -30.0  # against the dry signal; all weaker sends are alike
LEAST_SPREAD = 1.0  # dB, or doublings of T60: what differs by less is not what styles are told apart by
STARTS = 20

# Feature → (word where it is low, word where it is high), in the order in which words stand in a name.
WORDS = {
    "brightness": ("dark", "bright"),
    "body": ("thin", "full"),
    "compression": ("open", "dense"),
    "decay": ("short", "long"),
    "reverb": ("dry", "wet"),
    "echo": ("plain", "echo"),
}


def response_db(filters: tuple[Filter, ...], band_hz: tuple[float, float]) -> float:
    """Mean gain in dB over a band, on a logarithmic frequency axis."""
    if not filters:
        return 0.0
    frequencies = np.geomspace(*band_hz, 32)
    _, response = freqz_sos(sections(filters, ANALYSIS_RATE_HZ), worN=frequencies, fs=ANALYSIS_RATE_HZ)
    return float(np.mean(20 * np.log10(np.abs(response) + 1e-9)))


def features(chain: EffectChain) -> np.ndarray:
    """What is heard of a chain, in the order of WORDS.

    brightness: 4–12 kHz against 300–2000 Hz, body: 100–300 Hz against the same, both dB of the equaliser;
    compression: dB taken off a loud syllable; decay: log₂ of the mean T60 in seconds; reverb and echo: their energy
    against the dry signal's, dB, at least −30. Width is no feature of its own: it comes from reverb and echoes.
    """
    delay, reverb = chain.delay, chain.reverb
    middle_db = response_db(chain.equaliser, MIDDLE_HZ)
    over_db = max(0.0, SUNG_PEAK_DB + middle_db - chain.compressor.threshold_db)
    # The odd and the even echoes' energies, each a geometric series; the reverb hears them beside the dry signal.
    first_echo = delay.gain**2 * 10 ** (response_db((delay.low_pass,), MIDDLE_HZ) / 10)
    energies = first_echo * np.array([1, delay.feedback**2]) / (1 - delay.feedback**4)
    left, right = np.array([pan_gains(delay.odd_pan_percent), pan_gains(delay.even_pan_percent)]).T
    sent = chain.delay_to_reverb**2 * energies
    mid_energy, side_energy = 1 + (sent * ((left + right) / 2) ** 2).sum(), (sent * ((left - right) / 2) ** 2).sum()
    reverb_energy = mid_energy * 10 ** (reverb.mid_level_db / 10) + side_energy * 10 ** (reverb.side_level_db / 10)
    least = 10 ** (INAUDIBLE_DB / 10)
    return np.array(
        [
            response_db(chain.equaliser, TOP_HZ) - middle_db,
            response_db(chain.equaliser, BODY_HZ) - middle_db,
            over_db * (1 - 1 / chain.compressor.ratio),
            np.log2(np.mean(reverb.t60_s)),
            10 * np.log10(max(reverb_energy * 10 ** (response_db(reverb.equaliser, MIDDLE_HZ) / 10), least)),
            10 * np.log10(max(energies.sum(), least)),
        ]
    )


@dataclass(frozen=True)
class Styles:
    """Names and centres of groups of chains.

    names: one a group; centres: standardised features [groups features]; median, spread: of each feature over the
    chains that the groups were found in.
    """

    names: tuple[str, ...]
    centres: np.ndarray
    median: np.ndarray
    spread: np.ndarray

    def of(self, chain: EffectChain) -> str:
        """Name of the style whose centre is nearest."""
        point = standardise(features(chain)[None], self.median, self.spread)
        return self.names[int(np.argmin(((self.centres - point) ** 2).sum(axis=1)))]


def standardise(values: np.ndarray, median: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Deviation from the median in units of the spread, held within ±2 so that outliers don't found groups."""
    return np.clip((values - median) / spread, -2.0, 2.0)


def find_styles(chains: Sequence[EffectChain], *, count: int, seed: int = 0) -> Styles:
    """Group chains by k-means (best of 20 starts) and name each group by what sets it apart from the others.

    Deterministic for a given order of chains. Raises ValueError for fewer chains than groups, or
    chains so alike that a group stays empty.
    """
    if not 1 <= count <= len(chains):
        raise ValueError(f"{len(chains)} chains can't form {count} styles")
    values = np.array([features(chain) for chain in chains])
    median = np.median(values, axis=0)
    spread = np.maximum(np.subtract(*np.percentile(values, [75, 25], axis=0)), LEAST_SPREAD)
    points = standardise(values, median, spread)
    random = np.random.default_rng(seed)
    starts = []
    for _ in range(STARTS):
        with suppress(ClusterError):  # a start that leaves a group empty
            starts.append(kmeans2(points, count, iter=100, minit="++", seed=random, missing="raise"))
    if not starts:
        raise ValueError(f"{len(chains)} chains are too alike to form {count} styles")
    centres = min(starts, key=lambda start: ((points - start[0][start[1]]) ** 2).sum())[0]
    return Styles(name_groups(centres), centres, median, spread)


def name_groups(centres: np.ndarray) -> tuple[str, ...]:
    """Two words a group: of all pairs of features, the most deviating one whose name is still free.

    The group with the strongest deviation chooses first, so that a name is never shared.
    """
    deviation = centres - centres.mean(axis=0)
    pairs = list(WORDS.values())
    names: dict[int, str] = {}
    for group in np.argsort(-np.sort(np.abs(deviation), axis=1)[:, -2:].sum(axis=1), kind="stable"):
        strength = np.abs(deviation[group])
        options = [(first, second) for first in range(len(pairs)) for second in range(first + 1, len(pairs))]
        for first, second in sorted(options, key=lambda option: -strength[list(option)].sum()):
            name = "_".join(pairs[feature][int(deviation[group, feature] > 0)] for feature in (first, second))
            if name not in names.values():
                names[int(group)] = name
                break
    return tuple(names[group] for group in range(len(centres)))
