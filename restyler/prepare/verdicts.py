"""What is wrong with a pair, by its measures and the limits of the config. docs/data.md explains every code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from audio.alignment import Alignment
from audio.inspection import Inspection
from audio.pair_quality import PairMeasures
from restyler.prepare.config import Action, PrepareConfig
from restyler.prepare.matching import Pair

SHORTEST_ACTIVE_S = 0.05  # a step of the level
Side = Literal["raw", "mix"]
SIDES: tuple[Side, ...] = ("raw", "mix")
Status = Literal["ok", "flagged", "rejected"]


@dataclass(frozen=True)
class Fault:
    """code: what is wrong, as in docs/data.md. reason: the measure and its limit, for people."""

    code: str
    action: Action
    reason: str


@dataclass(frozen=True)
class Verdict:
    """A pair with all that was found. raw, mix, alignment and measures are None as far as it could not be heard.

    Faults whose action is off are not found: they are dropped here, and nowhere else.
    """

    pair: Pair
    faults: tuple[Fault, ...]
    raw: Inspection | None = None
    mix: Inspection | None = None
    alignment: Alignment | None = None
    measures: PairMeasures | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "faults", tuple(fault for fault in self.faults if fault.action != "off"))

    @property
    def status(self) -> Status:
        actions = {fault.action for fault in self.faults}
        return "rejected" if "reject" in actions else "flagged" if actions else "ok"

    def with_fault(self, fault: Fault) -> Verdict:
        return replace(self, faults=(*self.faults, fault))


def file_faults(side: Side, heard: Inspection, config: PrepareConfig) -> Iterator[Fault]:
    """What is wrong with a file by itself."""
    limits = config.limits

    def fault(kind: str, reason: str) -> Fault:
        code = f"{kind}_{side}"
        return Fault(code, config.actions.of(code), reason)

    if heard.loudness_lufs < limits.quietest_lufs:
        yield fault("silent", f"{heard.loudness_lufs:.1f} LUFS; at least {limits.quietest_lufs:g} needed")
        return  # nothing else can be said about silence
    clipped = heard.clipped_samples / max(heard.active_s, SHORTEST_ACTIVE_S)
    if clipped > limits.clipped_samples_per_s and heard.clipped_samples > limits.clipped_samples:
        reason = f"{heard.clipped_samples} samples in flat tops, {clipped:.1f} for a second of activity"
        yield fault("clipped", f"{reason}; at most {limits.clipped_samples_per_s:g}")
    if heard.dropouts > limits.dropouts:
        places = ", ".join(f"{time_s:.2f} s" for time_s in heard.dropout_times_s[:5])
        yield fault("dropouts", f"{heard.dropouts} gaps with abrupt ends, at {places}; at most {limits.dropouts}")
    if heard.dc_to_rms_db > limits.dc_to_rms_db:
        yield fault("dc", f"{heard.dc_to_rms_db:.1f} dB against the signal; at most {limits.dc_to_rms_db:g}")
    if heard.bandwidth_hz < limits.bandwidth_hz:
        yield fault("narrow", f"nothing above {heard.bandwidth_hz:.0f} Hz; {limits.bandwidth_hz:g} needed")
    if heard.channels == 2 and heard.quiet_channel_db < limits.quiet_channel_db:
        yield fault("one_channel", f"one channel {heard.quiet_channel_db:.0f} dB under the other")
    elif side == "raw" and heard.side_db > limits.raw_side_db:
        yield fault("stereo", f"side {heard.side_db:.1f} dB; a raw take is one voice: at most {limits.raw_side_db:g}")


def pair_faults(alignment: Alignment, measures: PairMeasures, config: PrepareConfig) -> Iterator[Fault]:
    """What is wrong between a take and its mix. A measure that is None says nothing: there was too little sound."""
    limits, actions = config.limits, config.actions
    similarity = measures.similarity
    if alignment.score < limits.score or (similarity is not None and similarity < limits.similarity):
        reason = (
            f"score {alignment.score:.2f}, similarity {_shown(similarity)};"
            f" at least {limits.score:g} and {limits.similarity:g}"
        )
        yield Fault("wrong_pair", actions.wrong_pair, reason)
        if actions.wrong_pair == "reject":
            return  # what else would be said of it, would be said of two other things
    drift_ppm = 1e6 * (alignment.rate - 1)
    if abs(drift_ppm) > limits.clock_ppm:
        reason = f"labelled with another sample rate, {alignment.rate:.5f} times; it is corrected"
        yield Fault("clock", actions.clock, reason)
    if alignment.phase_agreement >= limits.settled_phase:  # below it, polarity and drift are a matter of definition
        if alignment.polarity < 0:
            yield Fault("inverted", actions.inverted, "the mix is upside down; it is turned")
        if limits.drift_ppm < abs(drift_ppm) <= limits.clock_ppm:
            yield Fault("drift", actions.drift, f"the clocks differ by {drift_ppm:+.1f} ppm; it is corrected")
    if len(alignment.regions) > 1:
        yield Fault("edited", actions.edited, f"the mix follows the take in {len(alignment.regions)} parts")
    if alignment.coverage < limits.coverage:
        reason = f"the mix covers {alignment.coverage:.0%} of the take's sound; at least {limits.coverage:.0%}"
        yield Fault("partial", actions.partial, reason)
    if measures.change_db is not None and measures.change_db < limits.change_db:
        reason = f"band levels differ by {measures.change_db:.2f} dB; at least {limits.change_db:g} in a mix"
        yield Fault("unprocessed", actions.unprocessed, reason)
    if measures.phase_agreement is not None and measures.phase_agreement < limits.phase_agreement:
        reason = f"phase agreement {measures.phase_agreement:.2f}; at least {limits.phase_agreement:g}"
        yield Fault("rephased", actions.rephased, reason)
    if measures.bleed_db is not None and measures.bleed_db > limits.bleed_db:
        reason = f"{measures.bleed_db:.1f} dB of the mix can't come from the take; at most {limits.bleed_db:g}"
        yield Fault("bleed", actions.bleed, reason)
    yield from _space_faults(measures, config)


def _space_faults(measures: PairMeasures, config: PrepareConfig) -> Iterator[Fault]:
    limits, raw_db, mix_db = config.limits, measures.raw_reverberance_db, measures.mix_reverberance_db
    if raw_db is not None and raw_db > limits.raw_reverberance_db:
        reason = f"slow against fast decays {raw_db:.1f} dB; at most {limits.raw_reverberance_db:g}"
        yield Fault("wet_raw", config.actions.wet_raw, reason)
    if raw_db is not None and mix_db is not None and raw_db - mix_db > limits.swapped_db:
        reason = f"the raw take decays more slowly than the mix, by {raw_db - mix_db:.1f} dB: exchanged?"
        yield Fault("swapped", config.actions.swapped, reason)


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
