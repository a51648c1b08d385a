"""Pairs made from nothing: the project's own singing synthesiser through three effect chains."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from audio import io
from audio.delay import PingPongDelay
from audio.effects import Compressor, EffectChain, render
from audio.filters import Filter
from audio.loudness import match_loudness
from audio.reverb import Reverb
from audio.waveform import Waveform
from restyler.config import SyntheticData
from restyler.pairs import Pair, read_pairs
from restyler.sing import random_take

NO_ECHO = PingPongDelay(300.0, 0.0, 0.0, Filter("low_pass", 8_000, 0.7), -60.0, 60.0)
NO_REVERB = Reverb((1_000.0,), (1.0,), -np.inf, -np.inf, 0.0, 0.0, ())
# Strong in tone, weak in space: tone is what a toy learns within a few hundred steps. The reverb's noise is another in
# every take, so most of a loud tail would stay unknowable.
CHAINS = {
    "bright": EffectChain(
        (Filter("high_pass", 120, 0.7), Filter("high_shelf", 4_000, 0.7, 12.0)),
        Compressor(-26, 4, 5, 80, 6),
        NO_ECHO,
        NO_REVERB,
        0.0,
        0.0,
    ),
    "dark hall": EffectChain(
        (Filter("high_shelf", 2_000, 0.7, -14.0),),
        Compressor(-18, 1.5, 20, 200, 0),
        NO_ECHO,
        Reverb((250.0, 1_000.0, 4_000.0), (2.5, 2.0, 1.0), -18.0, -18.0, 0.0, 20.0, ()),
        0.0,
        0.0,
    ),
    "echo": EffectChain(
        (Filter("peak", 1_500, 0.7, 12.0),),
        Compressor(-20, 2, 10, 100, 0),
        PingPongDelay(280.0, 0.4, 0.2, Filter("low_pass", 6_000, 0.7), -80.0, 80.0),
        NO_REVERB,
        0.0,
        0.0,
    ),
}
VALIDATION_EVERY = 8


def synthetic_pairs(data: SyntheticData, *, seed: int, sample_rate: int) -> list[Pair]:
    """`data.takes` random takes of `data.seconds` with one mix per chain; every eighth take is for validation.

    Written below `data.cache` in a folder named by the settings and the chains, and made only once.
    """
    settings = json.dumps([data.takes, data.seconds, data.loudness_lufs, seed, sample_rate, repr(CHAINS)])
    folder = Path(data.cache) / f"synthetic-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
    manifest = folder / "pairs.jsonl"
    if not manifest.exists():
        for side in ("raw", "mix"):
            io.make_folder(folder / side)
        rows = []
        for number in range(data.takes):
            rows += _write_take(folder, number, data, np.random.default_rng([seed, number]), sample_rate)
        io.write_text_atomic(manifest, "".join(json.dumps(row) + "\n" for row in rows))  # with it, all is there
    return read_pairs(folder, validation_fraction=0.0)


def _write_take(
    folder: Path, number: int, data: SyntheticData, generator: np.random.Generator, sample_rate: int
) -> list[dict[str, str]]:
    sung = random_take(data.seconds, sample_rate=sample_rate, generator=generator)
    take = Waveform(sung.samples[:, : round(data.seconds * sample_rate)], sample_rate)
    take = match_loudness(take, data.loudness_lufs).waveform
    key = f"take_{number:03d}"
    raw = f"raw/{key}.flac"
    io.write(folder / raw, take, tags={})
    split = "validation" if number % VALIDATION_EVERY == VALIDATION_EVERY - 1 else "train"
    rows = []
    for style, chain in CHAINS.items():
        mix = f"mix/{key}_{style.replace(' ', '_')}.flac"
        rendered = match_loudness(render(chain, take, seed=number), data.loudness_lufs)
        io.write(folder / mix, rendered.waveform, tags={})
        rows.append({"key": key, "raw": raw, "mix": mix, "split": split, "style": style, "chain": style})
    return rows
