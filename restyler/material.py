"""What a training run works with: its codec, its pairs as latents, and what was measured on them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from codec.base import LatentCodec
from restyler.building import build_codec
from restyler.config import DenoiserConfig, EncodecChoice
from restyler.data import LatentPairs, Statistics, latent_pairs
from restyler.latents import LatentCache
from restyler.pairs import Pair, read_pairs, style_names
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
    """Reads or makes the pairs, encodes what the cache lacks (each process its share), and measures statistics."""
    codec = build_codec(config.codec, seed=config.seed)
    if config.data.kind == "synthetic":
        with accelerator.main_process_first():
            pairs = synthetic_pairs(config.data, seed=config.seed, sample_rate=codec.sample_rate)
    else:
        pairs = read_pairs(Path(config.data.path), validation_fraction=config.data.validation_fraction)
    pairs = [pair for pair in pairs if pair.split != "test"]
    cache = LatentCache(Path(config.data.cache), codec, loudness_lufs=config.data.loudness_lufs)
    cache.fill(
        [file for pair in pairs for file in (pair.raw, pair.mix)],
        device=accelerator.device,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
    )
    accelerator.wait_for_everyone()
    encoded = latent_pairs(pairs, cache)
    splits = {name: [item for item in encoded if item.pair.split == name] for name in ("train", "validation")}
    statistics = measure(
        splits["train"], config.conditioner.controls, codec, standardise_codec=isinstance(config.codec, EncodecChoice)
    )
    train, validation = (
        LatentPairs(
            splits[name],
            statistics=statistics,
            styles=style_names(pairs),
            controls=config.conditioner.controls,
            crop_frames=round(config.training.crop_s * codec.frame_rate_hz),
            reference_frames=round(config.training.reference_s * codec.frame_rate_hz),
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
