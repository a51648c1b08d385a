"""How fast `restyler prepare` is, against the bare codec on the same audio: what all the rest of it costs."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from audio.io import duration_s, read
from codec.base import LatentCodec
from restyler.building import build_codec
from restyler.command import Parser, command, integer
from restyler.config import SyntheticData
from restyler.prepare.config import load_prepare_config
from restyler.prepare.manifest import read_manifest
from restyler.prepare.matching import Matched
from restyler.prepare.running import prepare
from restyler.synthetic import synthetic_pairs

TAKES = 8  # with three mixes each
CODECS = {
    "pocket": "codec={kind: pocket, path: bundled}",
    "encodec": "codec={kind: encodec_48khz, weights: random}",
}


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m restyler.bench_prepare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=integer(2, 600), default=8, metavar="S", help="length of each of 8 takes; 8")
    parser.add_argument("--codec", choices=list(CODECS), default=None, help="that one alone")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = SyntheticData(
            kind="synthetic", takes=TAKES, seconds=float(options.seconds), loudness_lufs=-18.0, cache=place
        )
        pairs = synthetic_pairs(data, seed=1, sample_rate=48_000)
        files = sorted({file for pair in pairs for file in (pair.raw, pair.mix)})
        audio_s = sum(map(duration_s, files))
        matched = Matched(read_manifest(pairs[0].raw.parents[1] / "pairs.jsonl"))
        print(f"\n{'preparing, hours of audio an hour':34} {len(files)} files, {audio_s / 60:.1f} min")
        for name in [options.codec] if options.codec else CODECS:
            bare, whole = measured(matched, files, folder / name, CODECS[name])
            share = f"{bare / whole:.0%} of the codec's own {audio_s / bare:.1f}"
            print(f"  {name:32} {audio_s / whole:8.1f}   {share}")
    return 0


def measured(matched: Matched, files: Sequence[Path], out: Path, override: str) -> tuple[float, float]:
    """Seconds of the codec alone, and of `restyler prepare` for the same files."""
    config = load_prepare_config(None, [override])
    bare_s = encoding_s(build_codec(config.codec, seed=0), files)
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        prepare(matched, out, config, workers=os.cpu_count() or 1)
    return bare_s, time.perf_counter() - started


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


if __name__ == "__main__":
    sys.exit(main())
