"""What a training run works with: its codec, its pairs as latents, and what was measured on them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from codec.base import LatentCodec
from restyler.building import build_codec, example_frames
from restyler.config import DenoiserConfig, EncodecChoice
from restyler.data import LatentPairs, Statistics, latent_pairs
from restyler.export import check_exportable
from restyler.latents import LatentCache
from restyler.pairs import Pair, read_pairs, refuse_leaks, style_names
from restyler.processes import one_verdict
from restyler.statistics import measure
from restyler.synthetic import synthetic_pairs


@dataclass(frozen=True)
class Material:
    """Codec and data of a run."""

    codec: LatentCodec
    train: LatentPairs
    validation: LatentPairs
    statistics: Statistics
    facts: dict[str, Any]


def load_material(config: DenoiserConfig, accelerator: Accelerator) -> Material:
    """Reads or makes the pairs, encodes what the cache lacks (each process its share), and measures statistics.

    Raises InputError for pairs, audio and settings that training or its export could not use; but for the audio,
    before anything is encoded.
    """
    codec = build_codec(config.codec, seed=config.seed)
    if config.data.kind == "synthetic":
        with accelerator.main_process_first():
            pairs = synthetic_pairs(config.data, seed=config.seed, sample_rate=codec.sample_rate)
    else:
        pairs = read_pairs(Path(config.data.path), validation_fraction=config.data.validation_fraction)
    pairs = [pair for pair in pairs if pair.split != "test"]
    styles = style_names(pairs)
    check_exportable(config, styles, frame_rate_hz=codec.frame_rate_hz)
    crop_frames, reference_frames = example_frames(config, codec)
    cache = LatentCache(Path(config.data.cache), codec, loudness_lufs=config.data.loudness_lufs)
    refuse_leaks(pairs, cache.content_hash)
    with one_verdict():
        cache.fill(
            [file for pair in pairs for file in (pair.raw, pair.mix)],
            device=accelerator.device,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
        )
    encoded = latent_pairs(pairs, cache)
    splits = {name: [item for item in encoded if item.pair.split == name] for name in ("train", "validation")}
    statistics = measure(
        splits["train"], config.conditioner.controls, codec, standardise_codec=isinstance(config.codec, EncodecChoice)
    )
    train, validation = (
        LatentPairs(
            splits[name],
            statistics=statistics,
            styles=styles,
            controls=config.conditioner.controls,
            crop_frames=crop_frames,
            reference_frames=reference_frames,
        )
        for name in ("train", "validation")
    )
    facts = {"pairs": len(pairs), "digest": _digest(pairs, cache), "codec": codec.fingerprint()}
    return Material(codec, train, validation, statistics, facts)


def _digest(pairs: Sequence[Pair], cache: LatentCache) -> str:
    """A hash of everything about the pairs that training depends on; names of files don't matter."""
    rows = [
        (pair.key, pair.split, pair.style, pair.chain, cache.content_hash(pair.raw), cache.content_hash(pair.mix))
        for pair in pairs
    ]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
