"""`restyler distil`: what the live student learns from, takes of dry voices and the sampler's mixes of them.

PAIRS/raw/KEY.flac, PAIRS/mix/KEY.flac, in time and equally loud; PAIRS/pairs.jsonl with the knobs that each was told.
Stop it when there is enough, run it again to go on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from restyler.command import Parser, command, integer, shown


def parser() -> Parser:
    options = Parser(prog="restyler distil", description=(__doc__ or "").strip())
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    add = options.add_argument
    # fmt: off
    add("voices", nargs="+", type=Path, metavar="VOICES", help="folders or files of dry voices")
    add("--out", type=Path, required=True, metavar="PAIRS", help="new folder, or one to go on with")
    add("--model", type=Path, metavar="DIR", help="folder of a saved model (default: the bundled one)")
    add("--manifest", type=Path,
        help="table (tabs) with the columns file and singer; without it a file's folder is its singer")
    add("--hold-out", action="append", default=[], metavar="SINGER",
        help="a singer who validates, besides a tenth of those with little sound; may be given several times")
    add("--test-only", action="store_true",
        help="put everything into the test split: for voices that nothing may be trained on")
    add("--passes", type=integer(1, 100), default=1,
        help="how often each voice is used, each time joined, shifted and mixed otherwise (default: %(default)s)")
    add("--limit", type=integer(1, 1_000_000), metavar="N", help="pairs at the most (default: all)")
    add("--seed", type=integer(0, 2**31 - 1), default=0, metavar="N", help="default: %(default)s")
    add("--device", default="auto", metavar="D", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    # fmt: on
    return options


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    options = parser().parse_args(argv)

    import torch
    from tqdm import tqdm

    from audio.errors import InputError
    from restyler.model_folder import BUNDLED
    from restyler.phrases import find_recordings, plan_phrases
    from restyler.rendering import load_model, model_name
    from restyler.seeds import generator
    from restyler.student.distilling import DISTILLATION, appended, claim, distilled, held_out_singers, read_rows
    from restyler.student.knobs import CONTROLS, Knobs, ordered_styles
    from restyler.takes import refuse_foreign

    refuse_foreign(options.out, DISTILLATION)
    folder = options.model or BUNDLED
    pipeline = load_model(folder, options.device)
    lacking = [name for name in CONTROLS if name not in pipeline.defaults.controls]
    if lacking:
        raise InputError(f"{shown(folder)}: not taught the control {lacking[0]}, which a knob of the student needs")
    recordings = find_recordings(options.voices, options.manifest)
    phrases = plan_phrases(recordings, passes=options.passes, shift_probability=0.5, seed=options.seed)
    order = torch.randperm(len(phrases), generator=generator("distil", options.seed, "order")).tolist()
    held_out = held_out_singers(recordings, options.hold_out)
    styles = ordered_styles(pipeline.styles, pipeline.defaults)
    facts = {
        "model": model_name(folder),
        "styles": styles,
        "recordings": [f"{each.digest} {each.singer}/{each.path.stem}" for each in recordings],  # what the plan is of
        "held_out": sorted(held_out),
        "test_only": options.test_only,
        "passes": options.passes,
        "seed": options.seed,
    }
    claim(options.out, facts)
    with appended(options.out) as sink:
        done = {row["key"] for row in read_rows(options.out)}
        for number in tqdm(order[: options.limit], unit="pair", desc="distil"):
            phrase = phrases[number]
            if phrase.key in done:
                continue
            knobs = Knobs.drawn(len(styles), generator("distil", options.seed, "knobs", phrase.key))
            draws = generator("distil", options.seed, "seed", phrase.key)
            seed = int(torch.randint(2**31, (), generator=draws))
            split = "test" if options.test_only else "validation" if phrase.singer in held_out else "train"
            row = distilled(pipeline, phrase, knobs, styles, seed=seed, out=options.out)
            if row is not None:
                row["split"] = split
                sink.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode())
                sink.flush()
    print(f"{len(read_rows(options.out))} pairs in {shown(options.out)}")
    return 0
