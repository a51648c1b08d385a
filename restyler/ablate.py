"""`make bench-ablations`, first table: what each choice of the design gives.

Trains configs/ablations/*.yaml, each in RUNS/NAME, with the same seed and so the same crops, times and noise, and
compares their mixes of the same validation takes. What is trained or measured already is not done again: to go on after
a stop, run the same command. The budget is small: designs are compared, no figure is what the design could reach.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from audio.errors import InputError
from restyler.ablation_scores import (
    APART,
    CONFIGS,
    PLAIN,
    Scores,
    Way,
    against_cell,
    bounds,
    design,
    fixed_takes,
    mean_cell,
    median_cell,
    print_row,
    scores,
)
from restyler.building import build_codec
from restyler.checkpoints import CHANGEABLE_ON_RESUME, RunFolder
from restyler.command import Parser, command, integer
from restyler.config import DenoiserConfig, FolderData
from restyler.export import exported_step
from restyler.training import settled, train

STEPS = (1, 4, 16)  # of the Euler solver


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m restyler.ablate", description=__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"files of {CONFIGS}, without .yaml; all")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"), metavar="DIR", help="runs/ablations")
    parser.add_argument("--takes", type=integer(2, 1000), default=10, metavar="N", help="that are restyled; 10")
    parser.add_argument("--seconds", type=integer(1, 60), default=3, metavar="S", help="of each take; 3")
    options = parser.parse_args(argv)
    names = options.names or [file.stem for file in sorted(CONFIGS.glob("*.yaml"))]
    names = [PLAIN, *(name for name in names if name != PLAIN)]
    designs = {name: design(name) for name in names}
    for name, config in designs.items():
        check_runnable(name, config, options.runs / name)
    codec = build_codec(designs[PLAIN].codec, seed=0)
    takes = fixed_takes(codec, count=options.takes, take_s=options.seconds)
    for name, config in designs.items():
        code = trained(config, options.runs / name)
        if code:
            return code
    measured = {
        name: {way: scores(options.runs / name / "pipeline", takes, way, kept=options.runs / name / "scores")
               for way in ways(config)}
        for name, config in designs.items()
    }  # fmt: skip
    print_row("design", "loss at t = 1", "MSS_lr, 1 step", "against plain", "median MSS_ms", "MLDR", "seeds apart",
              "untold", *(f"{steps} steps" for steps in STEPS[1:]), f"apart, {STEPS[-1]}")  # fmt: skip
    print_row(*["---"] * (8 + len(STEPS)))
    for name, found in bounds(takes, codec).items():
        print_row(name, "", *distance_cells(found, None), "", "", *[""] * len(STEPS))
    one, untold, *more = (list(column) for column in zip(*(found.values() for found in measured.values()), strict=True))
    for number, name in enumerate(designs):
        print_row(
            name.replace("_", " "),
            last_loss(options.runs / name),
            *distance_cells(one[number], one[0] if number else None),
            mean_cell(one[number][APART]),
            mean_cell(untold[number]["mss_lr"]),
            *(mean_cell(column[number]["mss_lr"]) for column in more),
            mean_cell(more[-1][number][APART]),
        )
    print(f"\n{len(takes)} takes of {options.seconds} s, style told, guidance 1, each design's own σ; ± standard error")
    return 0


def check_runnable(name: str, config: DenoiserConfig, run: Path) -> None:
    """A mistake in any design is told before the first is trained. Raises InputError for pairs that are still to be
    made, and for a run folder of another config."""
    data = config.data
    if isinstance(data, FolderData) and not Path(data.path).is_dir():
        raise InputError(f"{CONFIGS / name}.yaml: data.path: {data.path} is still to be made: see what the file says")
    facts = settled(config).model_dump(mode="json")
    RunFolder(run).check("config", facts, changeable=CHANGEABLE_ON_RESUME)


def trained(config: DenoiserConfig, run: Path) -> int:
    """Exit code of its training, 0 where it was finished before."""
    return 0 if exported_step(run / "pipeline") == config.training.steps else train(config, run)


def ways(config: DenoiserConfig) -> list[Way]:
    """One step with the style told and untold, then more steps."""
    guidance, sigma = config.sampling.guidance, config.sampling.sigma
    one, *more = (Way("euler", steps, guidance, sigma) for steps in STEPS)
    return [one, Way("euler", 1, guidance, sigma, told=False), *more]


def distance_cells(found: Scores, plain: Scores | None) -> list[str]:
    against = against_cell(found["mss_lr"], plain["mss_lr"]) if plain else ""
    return [mean_cell(found["mss_lr"]), against, median_cell(found["mss_ms"]), mean_cell(found["mldr"])]


def last_loss(run: Path) -> str:
    """The last validation loss at t = 1, where all weightings of the loss are one."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return f"{[row['val_loss_t1'] for row in rows if 'val_loss_t1' in row][-1]:.3f}"


if __name__ == "__main__":
    sys.exit(main())
