"""`make bench-ablations`, second table: what solver, steps, σ and guidance give, with one model's weights.

On the same validation takes as the first table. What is measured already is not done again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from restyler.ablation_scores import (
    APART,
    Way,
    against_cell,
    bounds,
    fixed_takes,
    mean_cell,
    median_cell,
    print_row,
    scores,
)
from restyler.command import Parser, command, integer, shown
from restyler.model_folder import BUNDLED
from restyler.pipeline import VocalRestylePipeline

SIGMA = 1.0
FINEST = Way("euler", 50, 1.0, SIGMA)  # what the others are compared with
TOLERANCE = 0.02
WAYS = (
    *(Way("euler", steps, 1.0, SIGMA) for steps in (1, 2, 4, 8, 16, 25)),
    FINEST,
    *(Way("heun", steps, 1.0, SIGMA) for steps in (2, 4, 8)),
    *(Way("dpmpp", steps, 1.0, SIGMA) for steps in (2, 4, 8, 16)),
    *(Way("euler", 1, 1.0, sigma) for sigma in (0.0, 0.25, 0.5, 1.5)),
    *(Way("euler", 8, 1.0, sigma) for sigma in (0.0, 0.25, 0.5)),
    *(Way("euler", 1, guidance, SIGMA) for guidance in (0.0, 1.5, 2.0, 3.0)),
    *(Way("euler", 8, guidance, SIGMA) for guidance in (1.5, 3.0)),
)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m restyler.ablate_sampling", description=__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--model", type=Path, default=BUNDLED, metavar="DIR", help="of the path bridge; the bundled one"
    )
    parser.add_argument("--scores", type=Path, default=Path("runs/ablations/sampling"), metavar="DIR",
                        help="where they are kept; runs/ablations/sampling")  # fmt: skip
    parser.add_argument("--takes", type=integer(2, 1000), default=10, metavar="N", help="that are restyled; 10")
    parser.add_argument("--seconds", type=integer(1, 60), default=3, metavar="S", help="of each take; 3")
    options = parser.parse_args(argv)
    codec = VocalRestylePipeline.from_pretrained(options.model).codec
    takes = fixed_takes(codec, count=options.takes, take_s=options.seconds)
    found = {way: scores(options.model, takes, way, kept=options.scores) for way in WAYS}
    finest = found[FINEST]["mss_lr"]
    print_row("solver", "steps", "σ", "guidance", "MSS_lr", "against 50 steps", "median MSS_ms", "MLDR", "seeds apart")
    print_row(*["---"] * 9)
    for name, row in bounds(takes, codec).items():
        print_row(
            name, "", "", "", mean_cell(row["mss_lr"]), "", median_cell(row["mss_ms"]), mean_cell(row["mldr"]), ""
        )
    for way, row in found.items():
        print_row(
            way.solver,
            str(way.steps),
            "" if way.sigma is None else f"{way.sigma:g}",
            f"{way.guidance:g}",
            mean_cell(row["mss_lr"]),
            "" if way == FINEST else against_cell(row["mss_lr"], finest),
            median_cell(row["mss_ms"]),
            mean_cell(row["mldr"]),
            mean_cell(row[APART]),
        )
    fewest = fewest_steps({way: sum(row["mss_lr"]) for way, row in found.items()})
    print(f"\n{shown(options.model.name)}, {len(takes)} takes of {options.seconds} s, style told; ± standard error")
    print(f"fewest steps whose MSS_lr is within {TOLERANCE:.0%} of that of {FINEST.steps} or lower: {fewest}")
    return 0


def fewest_steps(distance: dict[Way, float]) -> int:
    """Of the ways that differ from FINEST in steps alone; a lower distance is within any tolerance."""
    return min(
        way.steps
        for way, value in distance.items()
        if (way.solver, way.guidance, way.sigma) == (FINEST.solver, FINEST.guidance, FINEST.sigma)
        and value <= (1 + TOLERANCE) * distance[FINEST]
    )


if __name__ == "__main__":
    sys.exit(main())
