"""Whether a mix may go out as what was made of this take, and what is done where it may not (docs/guards.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from audio.waveform import Waveform
from restyler.guards_content import MEASURES, measured, stretches
from restyler.guards_loudness import repair_db, step_powers, trajectories, with_gain

# Beyond what engineers' mixes, 150 mixes by real presets and chains, and the codec reached (docs/guards.md).
LOUDNESS_BOUND_DB = 4.0
MOST_REPAIR_DB = 6.0  # what asks for more gain is not a level that wanders but something else
REPAIRED_WITHIN_DB = 0.5  # of the bound; a gain that may not be quicker can't always reach it
HIGHEST = {
    "silent": 0.0,
    "pitch_cents": 12.0,
    "pitch_gross_percent": 20.0,
    "voicing_percent": 30.0,
    "onset_ms": 15.0,
    "lag_ms": 0.1,
}
LOWEST = {"envelope": 0.5, "spectrum": 0.5}
WORDS = {
    "silent": "nothing is heard while the take sounds",
    "pitch_cents": "pitch {:.0f} cents off",
    "pitch_gross_percent": "pitch astray in {:.0f} % of the sung moments",
    "voicing_percent": "voicing wrong in {:.0f} % of its moments",
    "envelope": "level follows the take's at a correlation of {:.2f} only",
    "spectrum": "spectrum follows the take's at a correlation of {:.2f} only",
    "onset_ms": "onsets {:.0f} ms off",
    "lag_ms": "{:.1f} ms away from the take",
}


@dataclass(frozen=True)
class Verdict:
    """What the guards found in one mix.

    faults: in words, with the second where each begins; none where it may go out. excess: how far the worst measure
    lies beyond its bound, as a share of it; 0 within. measures: the worst of all stretches by name
    (`guards_content.MEASURES`). loudness_db: furthest that its loudness lay from the course it should take, before any
    repair. gain_db: the largest gain, either way, of the slow one that brought it back; 0 for none. instead_of: the
    seed whose mix was not let out, with `refused`, its faults. tries: mixes that were judged.
    """

    faults: tuple[str, ...] = ()
    excess: float = 0.0
    measures: Mapping[str, float] = field(default_factory=dict)
    loudness_db: float = 0.0
    gain_db: float = 0.0
    instead_of: str | None = None
    refused: tuple[str, ...] = ()
    tries: int = 1

    def note(self) -> str:
        """For a line and a file's comment: what was done and what could not be; empty for a mix as it came."""
        told = []
        if self.instead_of is not None:
            last = self.instead_of.split(" ")[-1].split("@")[0]  # of a walk, the seed that was replaced
            told.append(f"instead of seed {last}: {self.refused[0]}")
        if self.gain_db:
            told.append(f"loudness strayed {self.loudness_db:.1f} dB, held by a slow gain of {self.gain_db:.1f} dB")
        if self.faults:
            told.append(("no other seed was better: " if self.tries > 1 else "") + self.faults[0])
        return "; ".join(told)


class Guard:
    """The guards of one take: what they need of it is worked out once, for all mixes. take: stereo."""

    def __init__(self, take: Waveform) -> None:
        self.take = take
        self._powers = step_powers(take)
        self._stretches = stretches(take)

    def __call__(self, mix: Waveform, *, repairs: bool) -> tuple[Waveform, Verdict]:
        """A mix at the take's rate → the same under the slow gain that it may need, and the verdict. What rings on
        after the take's end is not judged.

        repairs: whether a loudness that strays may be brought back; a chain can't be, its mix would not be the chain's.
        Raises ValueError for a mix that is shorter than its take, of another rate or not stereo.
        """
        channels, length = self.take.samples.shape
        if len(mix.samples) != channels or mix.samples.shape[1] < length or mix.sample_rate != self.take.sample_rate:
            raise ValueError(f"a mix is as long as its take, {[channels, length]}, not {list(mix.samples.shape)}")
        beside = Waveform(mix.samples[:, :length], mix.sample_rate)
        powers = step_powers(beside)
        strayed_db = trajectories(self._powers, powers).furthest_db
        faults, excess, gain_db = list[str](), 0.0, np.zeros(1)
        if strayed_db > LOUDNESS_BOUND_DB:
            gain_db = repair_db(self._powers, powers, LOUDNESS_BOUND_DB)
            left_db = trajectories(self._powers, powers * 10 ** (gain_db / 10)).furthest_db
            within = left_db <= LOUDNESS_BOUND_DB + REPAIRED_WITHIN_DB and np.abs(gain_db).max() <= MOST_REPAIR_DB
            if repairs and within:
                mix = with_gain(mix, gain_db)
                beside = Waveform(mix.samples[:, :length], mix.sample_rate)
            else:
                gain_db = np.zeros(1)
                faults.append(f"loudness strays {strayed_db:.1f} dB from the take's course")
                excess = strayed_db / LOUDNESS_BOUND_DB - 1
        worst = dict[str, float]()
        for start_s, found in measured(self.take, beside, self._stretches):
            for name, value in found.items():
                beyond = _beyond(name, value)
                if beyond > 0:
                    faults.append(f"{WORDS[name].format(value)} from {start_s:.0f} s on")
                excess = max(excess, beyond)
                worst[name] = value if name not in worst else (min if name in LOWEST else max)(worst[name], value)
        named = {name: worst[name] for name in ("silent", *MEASURES) if name in worst}
        return mix, Verdict(tuple(faults), excess, named, strayed_db, float(np.abs(gain_db).max()))


def _beyond(name: str, value: float) -> float:
    """By which share of its bound a measure lies beyond it; 0 within."""
    if name in LOWEST:
        return max(0.0, (LOWEST[name] - value) / LOWEST[name])
    return max(0.0, (value - HIGHEST[name]) / max(HIGHEST[name], 1.0))
