"""`restyler bundle`: a trained model as a folder to hand on, in half precision, with its card."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from restyler.command import Parser, command, number, shown
from restyler.sample_plan import BUNDLED_REVERB, NO_REVERB

SAMPLING = ("steps", "sigma", "guidance", "reference_guidance", "spread", "strength", "reverb")


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    parser = Parser(
        prog="restyler bundle",
        description="Write a trained model once more, in half precision and with a model card: half the size, the same "
        "sound. The sampling defaults that ride in it can be set anew.",
    )
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="folder of a saved model, for example RUN/pipeline, or of a live student",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; must not exist")
    parser.add_argument("--card", type=Path, required=True, metavar="FILE", help="the model card, kept as README.md")
    parser.add_argument("--scheduler", metavar="NAME", help="euler, heun or dpmpp (default: as it is)")
    parser.add_argument("--steps", type=int, metavar="N", help="default solver steps (default: as they are)")
    parser.add_argument("--sigma", type=float, metavar="S", help="default sigma (default: as it is)")
    parser.add_argument("--guidance", type=float, metavar="G", help="default guidance (default: as it is)")
    parser.add_argument(
        "--reference-guidance",
        type=float,
        metavar="G",
        help="default guidance where a reference is given (default: as it is, or --guidance)",
    )
    parser.add_argument("--spread", type=float, metavar="X", help="default spread (default: as it is)")
    parser.add_argument("--strength", type=number(0, 1), metavar="S", help="default strength (default: as it is)")
    parser.add_argument(
        "--reverb",
        choices=(BUNDLED_REVERB, NO_REVERB),
        help="default reverb by hand, for mixes that are told nothing else (default: as it is)",
    )
    parser.add_argument(
        "--pairs",
        type=Path,
        metavar="DIR",
        help="pairs that the model was trained on: measure how their controls are spread, for a model that doesn't say "
        "(its default spread is then that of a newly trained one)",
    )
    options = parser.parse_args(argv)

    import torch

    from audio.errors import InputError
    from audio.io import write_text_atomic
    from diffusion.sampling import make_scheduler
    from restyler.model_folder import write_manifest
    from restyler.new_folder import new_folder
    from restyler.pairs import read_pairs
    from restyler.pipeline import VocalRestylePipeline
    from restyler.rendering import load_model
    from restyler.sends import dry_space_db
    from restyler.settings import DEFAULT_SPREAD
    from restyler.statistics import draws_of_recordings
    from restyler.student.files import is_student, load_student, save_student

    out: Path = options.out
    if os.path.lexists(out):
        raise InputError(f"{shown(out)}: already exists; bundle into a new folder")
    try:
        card = options.card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{shown(options.card)}: the model card can't be read: {error}") from None
    if is_student(options.model):
        told = [name for name in ("scheduler", *SAMPLING, "pairs") if getattr(options, name) is not None]
        if told:
            raise InputError(f"--{told[0].replace('_', '-')}: a live student doesn't sample")
        student = load_student(options.model)
        with new_folder(out) as fresh:
            save_student(fresh, student, dtype=torch.float16)
            write_text_atomic(fresh / "README.md", card)
            write_manifest(fresh)
        print(f"{shown(out)}  {_mib(out):.1f} MiB")
        return 0
    pipeline = load_model(options.model, "cpu")
    sampling, training = pipeline.defaults.model_dump(mode="json"), dict(pipeline.config.training)
    parts = pipeline.components
    if options.scheduler:
        parts["scheduler"] = make_scheduler(options.scheduler)
    if options.pairs:
        pairs = read_pairs(options.pairs, validation_fraction=0.0, needed=("train",))
        draws = draws_of_recordings(pairs, pipeline.conditioner.config.controls, pipeline.codec.sample_rate)
        sampling["draws"] = {name: joint.model_dump(mode="json") for name, joint in draws.items()}
        sampling["spread"] = DEFAULT_SPREAD
    wishes = {name: getattr(options, name) for name in ("steps", "sigma", "guidance", "spread")}
    chosen = VocalRestylePipeline(**parts, sampling=sampling, training=training).settings(**wishes)
    defaults = {name: getattr(chosen, name) for name in wishes}
    if options.reference_guidance is not None:
        pipeline.settings(guidance=options.reference_guidance)  # has to be possible
        defaults["reference_guidance"] = options.reference_guidance
    if options.strength is not None:
        defaults["strength"] = options.strength
    if options.reverb is not None:
        if options.reverb == BUNDLED_REVERB:
            dry_space_db(pipeline.defaults)  # has to be possible
        defaults["reverb"] = options.reverb
    bundled = VocalRestylePipeline(**parts, sampling=sampling | defaults, training=training)
    with new_folder(out) as fresh:
        bundled.save_pretrained(fresh, dtype=torch.float16)
        write_text_atomic(fresh / "README.md", card)
        write_manifest(fresh)
    print(f"{shown(out)}  {_mib(out):.1f} MiB")
    return 0


def _mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
