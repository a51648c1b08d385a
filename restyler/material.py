"""What a training run works with: its codec, its pairs as latents, and what was measured on them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from codec.base import LatentCodec
from restyler.audition import Audition
from restyler.audition_takes import auditions_of_pairs, auditions_of_sets
from restyler.building import build_codec, example_frames
from restyler.config import DenoiserConfig, EncodecChoice, FolderData, PreparedData, SyntheticData
from restyler.data import Examples, LatentPairs, Statistics, latent_pairs
from restyler.export import check_exportable
from restyler.latents import LatentCache
from restyler.mixture import PreparedExamples
from restyler.pairs import Pair, read_pairs, refuse_leaks, style_names
from restyler.prepared_sets import open_sets
from restyler.processes import one_verdict
from restyler.statistics import measure, measure_prepared
from restyler.synthetic import synthetic_pairs


@dataclass(frozen=True)
class Material:
    """Codec and data of a run."""

    codec: LatentCodec
    train: Examples
    validation: Examples
    statistics: Statistics
    loudness_lufs: float
    facts: dict[str, Any]
    auditions: list[Audition]


def load_material(config: DenoiserConfig, accelerator: Accelerator) -> Material:
    """Codec and data by the config. Raises InputError for data and settings that training or its export could not use.

    Prepared sets are opened; pairs are read or made, and what the cache lacks of them is encoded, each process its
    share. All but the audio is checked before anything is encoded.
    """
    codec = build_codec(config.codec, seed=config.seed)
    if isinstance(config.data, PreparedData):
        with one_verdict():
            return _prepared_material(config, config.data, codec)
    return _pairs_material(config, config.data, codec, accelerator)


def _prepared_material(config: DenoiserConfig, data: PreparedData, codec: LatentCodec) -> Material:
    sets = open_sets(data, codec_fingerprint=codec.fingerprint())
    check_exportable(config, sets.styles, frame_rate_hz=codec.frame_rate_hz, loudness_lufs=sets.loudness_lufs)
    crop_frames, reference_frames = example_frames(config, codec)
    statistics = measure_prepared(
        sets.train.splits,
        sets.train.weights,
        config.conditioner.controls,
        codec,
        standardise_codec=_to_be_standardised(config, codec),
    )
    train, validation = (
        PreparedExamples(
            split.splits,
            split.weights,
            statistics=statistics,
            styles=sets.styles,
            controls=config.conditioner.controls,
            crop_frames=crop_frames,
            reference_frames=reference_frames,
            frame_rate_hz=codec.frame_rate_hz,
        )
        for split in (sets.train, sets.validation)
    )
    facts = {"segments": sets.train.segments, "digest": sets.digest, "codec": codec.fingerprint()}
    heard = config.validation
    auditions = auditions_of_sets(sets.sets, takes=heard.takes, take_s=heard.take_s) if heard.takes else []
    return Material(codec, train, validation, statistics, sets.loudness_lufs, facts, auditions)


def _pairs_material(
    config: DenoiserConfig, data: FolderData | SyntheticData, codec: LatentCodec, accelerator: Accelerator
) -> Material:
    if data.kind == "synthetic":
        with accelerator.main_process_first():
            pairs = synthetic_pairs(data, seed=config.seed, sample_rate=codec.sample_rate)
    else:
        pairs = read_pairs(Path(data.path), validation_fraction=data.validation_fraction)
    pairs = [pair for pair in pairs if pair.split != "test"]
    styles = style_names(pairs)
    check_exportable(config, styles, frame_rate_hz=codec.frame_rate_hz, loudness_lufs=data.loudness_lufs)
    crop_frames, reference_frames = example_frames(config, codec)
    cache = LatentCache(Path(data.cache), codec, loudness_lufs=data.loudness_lufs)
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
        splits["train"], config.conditioner.controls, codec, standardise_codec=_to_be_standardised(config, codec)
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
    auditions: list[Audition] = []
    if config.validation.takes:
        with one_verdict():
            auditions = auditions_of_pairs(
                pairs,
                takes=config.validation.takes,
                take_s=config.validation.take_s,
                sample_rate=codec.sample_rate,
                loudness_lufs=data.loudness_lufs,
            )
    return Material(codec, train, validation, statistics, data.loudness_lufs, facts, auditions)


def _to_be_standardised(config: DenoiserConfig, codec: LatentCodec) -> bool:
    """Whether the codec's statistics are still to be measured; they are taken from it where none are wanted.

    Only now: sets and caches know the codec by what it came with, and hold latents as its network gives them.
    """
    if not config.standardise:
        codec.set_statistics(torch.zeros(codec.latent_dim), torch.ones(codec.latent_dim))
    return config.standardise and isinstance(config.codec, EncodecChoice)


def _digest(pairs: Sequence[Pair], cache: LatentCache) -> str:
    """A hash of everything about the pairs that training depends on; names of files don't matter."""
    rows = [
        (pair.key, pair.split, pair.style, pair.chain, cache.content_hash(pair.raw), cache.content_hash(pair.mix))
        for pair in pairs
    ]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
