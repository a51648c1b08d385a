"""How fast `restyler prepare` is, against the bare codec on the same audio: what hearing, aligning and writing cost."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from audio.io import duration_s, read
from codec.base import LatentCodec
from restyler.building import build_codec
from restyler.config import SyntheticData
from restyler.prepare.config import load_prepare_config
from restyler.prepare.manifest import read_manifest
from restyler.prepare.matching import Matched
from restyler.prepare.running import prepare
from restyler.synthetic import synthetic_pairs

TAKES, TAKE_S = 8, 8.0
CODECS: dict[str, list[str]] = {
    "pocket": ["codec={kind: pocket, path: bundled}"],
    "EnCodec 48 kHz, random weights": ["codec={kind: encodec_48khz, weights: random}"],
}


def print_preparation() -> None:
    """Hours of audio (takes and mixes) an hour, and the share of the codec's own speed on this machine."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = SyntheticData(kind="synthetic", takes=TAKES, seconds=TAKE_S, loudness_lufs=-18.0, cache=place)
        pairs = synthetic_pairs(data, seed=1, sample_rate=48_000)
        files = sorted({file for pair in pairs for file in (pair.raw, pair.mix)})
        audio_s = sum(map(duration_s, files))
        matched = Matched(read_manifest(pairs[0].raw.parents[1] / "pairs.jsonl"))
        print(f"\n{'preparing, hours of audio an hour':34} {len(files)} files, {audio_s / 60:.0f} min")
        for number, (name, overrides) in enumerate(CODECS.items()):
            config = load_prepare_config(None, overrides)
            bare_s = encoding_s(build_codec(config.codec, seed=0), files)
            started = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                prepare(matched, folder / f"set {number}", config, workers=os.cpu_count() or 1)
            whole_s = time.perf_counter() - started
            share = f"{bare_s / whole_s:.0%} of the codec's own {audio_s / bare_s:.1f}"
            print(f"  {name:32} {audio_s / whole_s:8.1f}   {share}")


@torch.no_grad()
def encoding_s(codec: LatentCodec, files: Sequence[Path]) -> float:
    """Seconds that the codec itself takes for the audio of all files, read beforehand, 12 s at a time."""
    length = 12 * codec.sample_rate
    total = 0.0
    for number, file in enumerate(files):
        samples = read(file).stereo().resampled(codec.sample_rate).samples[None]
        started = time.perf_counter()
        for start in range(0, samples.shape[-1], length):
            codec.encode_raw(samples[..., start : start + length])
        total += time.perf_counter() - started if number else 0.0  # the first one warms up
    return total * len(files) / (len(files) - 1)
