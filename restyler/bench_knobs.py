"""`python -m restyler.bench_knobs TAKE …`: what each control of a model is told, and what its mixes then measure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from audio.features import measure
from audio.waveform import Waveform
from restyler.command import Parser, command, integer, shown
from restyler.model_folder import BUNDLED
from restyler.pipeline import VocalRestylePipeline
from restyler.rendering import load_model
from restyler.takes import read_take
from restyler.way_names import RESIDUAL
from restyler.ways import Way

DEVIATIONS = (-3.0, -1.5, 0.0, 1.5, 3.0)  # of the training pairs, around their mean


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m restyler.bench_knobs",
        description="Each control told five values, nothing else told, at the model's own guidance and strength: what "
        "the mixes have more of than their takes, in dB.",
    )
    parser.add_argument("takes", type=Path, nargs="+", metavar="TAKE")
    parser.add_argument("--model", type=Path, default=BUNDLED, metavar="DIR", help="the bundled one if not given")
    parser.add_argument("--seed", type=integer(0, 2**31), default=0, metavar="N", help="of all mixes; 0")
    options = parser.parse_args(argv)
    pipeline = load_model(options.model, "cpu")
    defaults = pipeline.defaults
    takes = [read_take(path, pipeline.codec.sample_rate) for path in options.takes]
    ways = [Way(RESIDUAL, pipeline, take, strength=defaults.strength) for take in takes]
    print(f"{shown(options.model.name)}, guidance {defaults.guidance:g}, strength {defaults.strength:g}")
    for name, (mean, deviation) in defaults.controls.items():
        print(f"{name:<24} {'told':>8}" + "".join(f"{shown(path.stem)[:14]:>16}" for path in options.takes))
        for away in DEVIATIONS:
            value = mean + away * deviation
            measured = [changed(pipeline, way, {name: value}, options.seed)[name] for way in ways]
            row = "".join(f"{one:16.1f}" for one in measured)
            print(f"  {away:+.1f} deviations{'':7} {value:8.1f}{row}", flush=True)
    return 0


def changed(pipeline: VocalRestylePipeline, way: Way, told: dict[str, float], seed: int) -> dict[str, float]:
    """What the mix of one seed, told these controls alone, has more of than the take of `way`: mix − take, each
    feature."""
    (mix,) = pipeline(way.take, seeds=[seed], controls=told, spread=0.0)
    written = way.kept(way(Waveform(mix, pipeline.codec.sample_rate), seed=seed).waveform)
    before, after = measure(way.take), measure(written)
    return {name: after[name] - before[name] for name in after}


if __name__ == "__main__":
    sys.exit(main())
