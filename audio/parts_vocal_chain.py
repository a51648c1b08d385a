"""The part `vocal_chain`: a whole `EffectChain` of a preset as one flat list of values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from audio.delay import PingPongDelay
from audio.effects import Compressor, EffectChain, render
from audio.filters import Filter, FilterKind
from audio.parts_kinds import Number, Parameter, Part, Seed, Value
from audio.presets import REVERB_BAND_HZ
from audio.reverb import Reverb
from audio.waveform import Waveform

# Name of a filter in the part → kind; the order is that of the equaliser of a preset.
BANDS: dict[str, FilterKind] = {
    "peak1": "peak",
    "peak2": "peak",
    "low_shelf": "low_shelf",
    "high_shelf": "high_shelf",
}
PASSES: dict[str, FilterKind] = {"low_pass": "low_pass", "high_pass": "high_pass"}


def _filter_parameters(prefix: str, kinds: Mapping[str, FilterKind]) -> list[Parameter]:
    found: list[Parameter] = []
    for name, kind in kinds.items():
        found.append(Number(f"{prefix}{name}_frequency_hz", "Hz", 1.0, 20000.0))
        found.append(Number(f"{prefix}{name}_q", "", 0.01, 100.0))
        if kind not in PASSES:
            found.append(Number(f"{prefix}{name}_gain_db", "dB", -60.0, 60.0))
    return found


PARAMETERS: tuple[Parameter, ...] = (
    *_filter_parameters("", BANDS | PASSES),
    Number("compressor_threshold_db", "dBFS", -120.0, 20.0),
    Number("compressor_ratio", "", 1.0, 1000.0),
    Number("compressor_attack_ms", "ms", 0.0, 5000.0),
    Number("compressor_release_ms", "ms", 0.0, 10000.0),
    Number("compressor_makeup_db", "dB", -60.0, 60.0),
    Number("delay_time_ms", "ms", 0.1, 10000.0),
    Number("delay_feedback", "", 0.0, 0.9999),
    Number("delay_gain", "", -10.0, 10.0),
    *_filter_parameters("delay_", {"low_pass": "low_pass"}),
    Number("delay_odd_pan_percent", "%", -100.0, 100.0),
    Number("delay_even_pan_percent", "%", -100.0, 100.0),
    *(Number(f"reverb_t60_{band_hz:.0f}_s", "s", 0.001, 60.0) for band_hz in REVERB_BAND_HZ),
    Number("reverb_mid_level_db", "dB", -400.0, 40.0),
    Number("reverb_side_level_db", "dB", -400.0, 40.0),
    Number("reverb_correlation", "", -1.0, 1.0),
    Number("reverb_pre_delay_ms", "ms", 0.0, 1000.0),
    *_filter_parameters("reverb_", BANDS),
    Number("delay_to_reverb", "", -10.0, 10.0),
    Number("dry_pan_percent", "%", -100.0, 100.0),
    Seed(),
)


def values_of(chain: EffectChain, *, seed: int) -> dict[str, Value]:
    """A chain of `audio.presets` as the values of the part; `chain_of` gives the same chain back, bit for bit.

    Raises ValueError for a chain whose equalisers or reverb bands are not laid out as in a preset.
    """
    compressor, delay, reverb = chain.compressor, chain.delay, chain.reverb
    if reverb.band_hz != REVERB_BAND_HZ:
        raise ValueError(f"the reverb of a preset has the bands {REVERB_BAND_HZ} Hz, not {reverb.band_hz}")
    values = {
        **_filter_values("", BANDS | PASSES, chain.equaliser),
        "compressor_threshold_db": compressor.threshold_db,
        "compressor_ratio": compressor.ratio,
        "compressor_attack_ms": compressor.attack_ms,
        "compressor_release_ms": compressor.release_ms,
        "compressor_makeup_db": compressor.makeup_db,
        "delay_time_ms": delay.time_ms,
        "delay_feedback": delay.feedback,
        "delay_gain": delay.gain,
        **_filter_values("delay_", {"low_pass": "low_pass"}, (delay.low_pass,)),
        "delay_odd_pan_percent": delay.odd_pan_percent,
        "delay_even_pan_percent": delay.even_pan_percent,
        **{f"reverb_t60_{band_hz:.0f}_s": t60_s for band_hz, t60_s in zip(REVERB_BAND_HZ, reverb.t60_s, strict=True)},
        "reverb_mid_level_db": reverb.mid_level_db,
        "reverb_side_level_db": reverb.side_level_db,
        "reverb_correlation": reverb.correlation,
        "reverb_pre_delay_ms": reverb.pre_delay_ms,
        **_filter_values("reverb_", BANDS, reverb.equaliser),
        "delay_to_reverb": chain.delay_to_reverb,
        "dry_pan_percent": chain.dry_pan_percent,
    }
    return {**{name: float(value) for name, value in values.items()}, "seed": seed}  # NumPy's floats among them


def chain_of(values: Mapping[str, Any]) -> EffectChain:
    """The chain that the values of the part stand for."""
    return EffectChain(
        equaliser=_filters("", BANDS | PASSES, values),
        compressor=Compressor(
            **{name: values[f"compressor_{name}"] for name in ("threshold_db", "ratio", "attack_ms", "release_ms")},
            makeup_db=values["compressor_makeup_db"],
        ),
        delay=PingPongDelay(
            time_ms=values["delay_time_ms"],
            feedback=values["delay_feedback"],
            gain=values["delay_gain"],
            low_pass=_filters("delay_", {"low_pass": "low_pass"}, values)[0],
            odd_pan_percent=values["delay_odd_pan_percent"],
            even_pan_percent=values["delay_even_pan_percent"],
        ),
        reverb=Reverb(
            band_hz=REVERB_BAND_HZ,
            t60_s=tuple(values[f"reverb_t60_{band_hz:.0f}_s"] for band_hz in REVERB_BAND_HZ),
            mid_level_db=values["reverb_mid_level_db"],
            side_level_db=values["reverb_side_level_db"],
            correlation=values["reverb_correlation"],
            pre_delay_ms=values["reverb_pre_delay_ms"],
            equaliser=_filters("reverb_", BANDS, values),
        ),
        delay_to_reverb=values["delay_to_reverb"],
        dry_pan_percent=values["dry_pan_percent"],
    )


def _filter_values(prefix: str, kinds: Mapping[str, FilterKind], filters: tuple[Filter, ...]) -> dict[str, float]:
    if tuple(each.kind for each in filters) != tuple(kinds.values()):
        raise ValueError(f"an equaliser of a preset is {', '.join(kinds)}, not {[each.kind for each in filters]}")
    found: dict[str, float] = {}
    for (name, kind), each in zip(kinds.items(), filters, strict=True):
        found[f"{prefix}{name}_frequency_hz"] = each.frequency_hz
        found[f"{prefix}{name}_q"] = each.q
        if kind not in PASSES:
            found[f"{prefix}{name}_gain_db"] = each.gain_db
    return found


def _filters(prefix: str, kinds: Mapping[str, FilterKind], values: Mapping[str, Any]) -> tuple[Filter, ...]:
    return tuple(
        Filter(
            kind,
            values[f"{prefix}{name}_frequency_hz"],
            values[f"{prefix}{name}_q"],
            0.0 if kind in PASSES else values[f"{prefix}{name}_gain_db"],
        )
        for name, kind in kinds.items()
    )


def _process(values: Mapping[str, Any], samples: np.ndarray, sample_rate: int) -> np.ndarray:
    take = Waveform(torch.from_numpy(samples.astype(np.float32)), sample_rate)
    return render(chain_of(values), take, seed=values["seed"]).samples.numpy().astype(np.float64)


VOCAL_CHAIN = Part(
    "vocal_chain",
    "a whole chain as fitted to real mixes: equaliser, compressor, and in parallel dry sound, ping-pong delay, reverb",
    PARAMETERS,
    _process,
)
