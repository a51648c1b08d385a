"""`python -m restyler.bench_speed`: whole calls, from a take to finished files, by every way of rendering."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audio.waveform import Waveform
from restyler.command import Parser, command, integer, shown
from restyler.model_folder import BUNDLED
from restyler.pipeline import VocalRestylePipeline
from restyler.rendering import load_model, render
from restyler.settings import ANY_STYLE
from restyler.sing import random_take
from restyler.stopwatch import CODEC, DENOISER, REST, Stopwatch
from restyler.way_names import WAYS

VARIATIONS = (1, 4)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m restyler.bench_speed", description="Speed of whole calls by every way of rendering."
    )
    parser.add_argument("--model", type=Path, default=BUNDLED, metavar="DIR", help="of the model; the bundled one")
    parser.add_argument("--seconds", type=integer(2, 600), default=20, metavar="S", help="length of the take; 20")
    parser.add_argument(
        "--processor", action="store_true", help="seconds of the processor, not of the clock: on a machine that is busy"
    )
    options = parser.parse_args(argv)
    pipeline = load_model(options.model, "cpu")
    counted = "of the processor" if options.processor else "of the clock"
    print(f"model {shown(options.model.name)}, {torch.get_num_threads()} threads, seconds {counted}")
    print_whole(pipeline, options.seconds, time.process_time if options.processor else time.perf_counter)
    return 0


@dataclass(frozen=True)
class Whole:
    """One call. seconds: of it, first_s: until its first file stood. shares: seconds by share (`restyler.stopwatch`).

    bare_s: what codec and denoiser take by themselves for as many mixes: one encoding, and for each mix one denoising
    and one decoding.
    """

    way: str
    variations: int
    audio_s: float
    seconds: float
    first_s: float
    bare_s: float
    shares: dict[str, float]

    @property
    def times_real_time(self) -> float:
        """Of the take's length: 2 for one that is done in half of it, with all its mixes."""
        return self.audio_s / self.seconds


def print_whole(pipeline: VocalRestylePipeline, seconds: int, clock: Callable[[], float] = time.perf_counter) -> None:
    """Whole calls as multiples of real time, with the ratio to the bare network; each after one that warms up."""
    rate = pipeline.codec.sample_rate
    take = random_take(seconds, sample_rate=rate, generator=np.random.default_rng(0))
    take = Waveform(take.samples[:, : seconds * rate], rate)
    print(f"\n{'whole calls, with files':24} × real time  ÷ bare network  first file after", flush=True)
    for one in measured(pipeline, take, WAYS, VARIATIONS, clock):
        bare, shares = one.seconds / one.bare_s, _shares(one.shares)
        name = f"{one.way}, {one.variations} mix" + ("es" if one.variations > 1 else "")
        print(f"  {name:22} {one.times_real_time:11.2f} {bare:15.2f} {one.first_s:14.1f} s  {shares}", flush=True)


def measured(
    pipeline: VocalRestylePipeline,
    take: Waveform,
    ways: Sequence[str],
    variations: Sequence[int],
    clock: Callable[[], float] = time.perf_counter,
    max_batch: int = 1,
) -> Iterator[Whole]:
    """Every way with every number of variations, `max_batch` mixes at once, each row as soon as it is known."""
    settings = pipeline.settings(style=ANY_STYLE if pipeline.styles else None)
    encoded = pipeline.encoded(take)
    said = pipeline.told(take, settings, [0])
    samples = encoded.waveform.samples.shape[1]
    with torch.no_grad():
        once = _seconds(lambda: pipeline.encoded(take), clock)
        each = _seconds(
            lambda: pipeline.codec.decode(
                pipeline.denoise(encoded.latents, settings, said, seeds=[0]), samples=samples
            ),
            clock,
        )
    for way in ways:
        for count in variations:
            with tempfile.TemporaryDirectory() as folder:
                paths = [Path(folder) / f"mix_{number}.wav" for number in range(count)]
                watch, began, first_s = Stopwatch(clock), clock(), 0.0
                options: dict[str, Any] = {
                    "way": way,
                    "raw": Path(folder) / "take.wav",
                    "watch": watch,
                    "max_batch": max_batch,
                }
                for mix in render(pipeline, take, settings, seeds=range(count), paths=paths, tags={}, **options):
                    first_s = first_s or clock() - began
                    del mix
                spent = clock() - began
            bare_s = once + count * each
            yield Whole(way, count, take.duration_s, spent, first_s, bare_s, watch.seconds())


def _seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """The quicker of two, after one that warms up."""
    work()
    spent = []
    for _ in range(2):
        began = clock()
        work()
        spent.append(clock() - began)
    return min(spent)


def _shares(seconds: dict[str, float]) -> str:
    whole = sum(seconds.values())
    first = [CODEC, DENOISER]
    names = [*first, *(name for name in seconds if name not in first and name != REST), REST]
    return ", ".join(f"{name} {seconds[name] / whole:.0%}" for name in names if name in seconds)


if __name__ == "__main__":
    sys.exit(main())
