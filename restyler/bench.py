"""`make bench`: what the model costs and how near it comes, measured side by side in one run.

Speed is given as multiples of the audio's length (2 is twice as fast as real time), distances between the two ends
that every such table needs: the raw take as it is, and the mix after the codec alone, which nothing decoded can beat.
A last table says how far the mixes of one take lie apart.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from audio.errors import InputError
from audio.io import read
from audio.waveform import Waveform
from restyler.bench_diversity import print_diversity
from restyler.command import Parser, command, integer, shown
from restyler.config import SyntheticData
from restyler.metrics import SpectralDistance, spectral_distance
from restyler.model_folder import BUNDLED
from restyler.pairs import Pair, read_pairs
from restyler.pipeline import VocalRestylePipeline
from restyler.processes import peak_memory_gib
from restyler.rendering import load_model
from restyler.settings import ANY_STYLE
from restyler.sing import random_take
from restyler.synthetic import synthetic_pairs

SEEDS = (0, 1, 2, 3)
UNSEEN_VOICES = 4242  # seed of the voices sung for the table where no pairs are given


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m restyler.bench", description=(__doc__ or "").splitlines()[0])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", type=Path, default=BUNDLED, metavar="DIR", help="of the model; the bundled one")
    parser.add_argument("--pairs", type=Path, metavar="DIR", help="of pairs: their test split is compared")
    parser.add_argument("--limit", type=integer(1, 10_000), default=24, metavar="N", help="pairs at the most; 24")
    parser.add_argument("--seconds", type=integer(2, 600), default=20, metavar="S", help="length of the timed take; 20")
    options = parser.parse_args(argv)
    pipeline = load_model(options.model, "cpu")
    print(f"model {shown(options.model.name)}, {torch.get_num_threads()} threads")
    print_speed(pipeline, options.seconds)
    with tempfile.TemporaryDirectory() as folder:
        pairs = test_pairs(options.pairs) if options.pairs else sung_pairs(Path(folder), pipeline)
        chosen = spread(pairs, options.limit)
        print_distances(pipeline, chosen)
        print_diversity(pipeline, list({pair.key: pair.raw for pair in chosen}.values()), SEEDS)
    print_memory()
    return 0


def print_speed(pipeline: VocalRestylePipeline, seconds: int) -> None:
    """Encode, denoise and decode of one take, each the median of three, as multiples of real time.

    Denoised is what sample.py denoises unless told otherwise: a style for each seed, the model's own guidance.
    """
    codec, settings = pipeline.codec, pipeline.settings(style=ANY_STYLE if pipeline.styles else None)
    take = random_take(seconds, sample_rate=codec.sample_rate, generator=np.random.default_rng(0))
    audio = take.stereo().samples[None, :, : seconds * codec.sample_rate]
    with torch.no_grad():
        latents = codec.encode(audio)
        said = pipeline.told(take, settings, SEEDS)
        parts: dict[str, Callable[[], object]] = {
            "encode": lambda: codec.encode(audio),
            f"denoise 1 mix, {settings.steps} steps": lambda: pipeline.denoise(
                latents, settings, said[:1], seeds=SEEDS[:1]
            ),
            "denoise 4 mixes at once": lambda: pipeline.denoise(latents, settings, said, seeds=SEEDS),
            "decode 1 mix": lambda: codec.decode(latents, samples=audio.shape[-1]),
        }
        print(f"\n{'speed, multiples of real time':34} {seconds:g} s take, guidance {settings.guidance:g}")
        for name, work in parts.items():
            print(f"  {name:32} {seconds / median_s(work):8.1f} ×")
        passes: list[int] = []
        hook = pipeline.denoiser.register_forward_hook(lambda *_: passes.append(1))
        pipeline.denoise(latents, settings, said[:1], seeds=SEEDS[:1])
        hook.remove()
    print(f"  {'denoiser evaluations a mix':32} {len(passes):8d} windows")


def print_memory() -> None:
    print(f"\n{'peak memory of all this':34} {peak_memory_gib(torch.device('cpu')):8.2f} GiB")


def median_s(work: Callable[[], object], repeats: int = 3) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def test_pairs(folder: Path) -> list[Pair]:
    pairs = [pair for pair in read_pairs(folder, validation_fraction=0.0, needed=("test",)) if pair.split == "test"]
    print(f"\n{len(pairs)} test pairs of {folder.name}")
    return pairs


def sung_pairs(folder: Path, pipeline: VocalRestylePipeline) -> list[Pair]:
    data = SyntheticData(
        kind="synthetic", takes=8, seconds=6.0, loudness_lufs=pipeline.defaults.loudness_lufs, cache=str(folder)
    )
    print("\npairs sung by the project's own voices through three chains; give --pairs for real ones")
    return synthetic_pairs(data, seed=UNSEEN_VOICES, sample_rate=pipeline.codec.sample_rate)


def spread(pairs: list[Pair], limit: int) -> list[Pair]:
    """At most `limit` of them, evenly over the whole list."""
    count = min(limit, len(pairs))
    return [pairs[i * len(pairs) // count] for i in range(count)]


def print_distances(pipeline: VocalRestylePipeline, pairs: list[Pair]) -> None:
    """A table of spectral distances to the undecoded mix, mean over pairs (and median of ms)."""
    rows: dict[str, list[SpectralDistance]] = {}
    for number, pair in enumerate(pairs, start=1):
        print(f"\r  pair {number} of {len(pairs)}", end="", file=sys.stderr, flush=True)
        for name, distance in distances(pipeline, pair).items():
            rows.setdefault(name, []).append(distance)
    print("\r", end="", file=sys.stderr)
    print(f"\n{'distance to the mix, lower is nearer':40} {'MSS_lr':>8} {'MSS_ms':>8} {'median ms':>10}")
    for name, row in rows.items():
        lr, ms = [d.lr for d in row], [d.ms for d in row]
        print(f"  {name:38} {statistics.fmean(lr):8.3f} {statistics.fmean(ms):8.3f} {statistics.median(ms):10.3f}")
    told = sum(pair.style in pipeline.styles for pair in pairs)
    print(f"  ({len(pairs)} pairs, all at equal loudness; style told for {told}; seeds {SEEDS[0]} … {SEEDS[-1]})")


def distances(pipeline: VocalRestylePipeline, pair: Pair) -> dict[str, SpectralDistance]:
    """Every row of the table for one pair."""
    rate = pipeline.codec.sample_rate
    raw, mix = (read(path).stereo().resampled(rate) for path in (pair.raw, pair.mix))
    if raw.samples.shape != mix.samples.shape:
        raise InputError(f"{pair.mix}: not as long as its take {pair.raw}")
    style = pair.style if pair.style in pipeline.styles else None

    def round_trip(waveform: Waveform) -> SpectralDistance:
        with torch.no_grad():
            latents = pipeline.codec.encode(waveform.samples[None])
            decoded = pipeline.codec.decode(latents, samples=waveform.samples.shape[-1])[0]
        return spectral_distance(mix, Waveform(decoded, rate))

    def mixes(**told: object) -> list[SpectralDistance]:
        rendered = pipeline(raw, seeds=SEEDS, **told)  # type: ignore[arg-type]
        return [spectral_distance(mix, Waveform(samples, rate)) for samples in rendered]

    found = {
        "raw take (floor)": spectral_distance(mix, raw),
        "raw take through the codec": round_trip(raw),
        "the mix through the codec (ceiling)": round_trip(mix),
    }
    ours = mixes(style=style)
    found["ours, expected draw"] = mean(ours)
    found["ours, best of four"] = min(ours, key=lambda distance: distance.lr)
    if style is not None:
        found["ours, style not told"] = mean(mixes())
    return found


def mean(found: list[SpectralDistance]) -> SpectralDistance:
    return SpectralDistance(statistics.fmean(d.lr for d in found), statistics.fmean(d.ms for d in found))


if __name__ == "__main__":
    sys.exit(main())
