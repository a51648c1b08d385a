"""`restyler demo`: the whole road on a take that the project sings itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from restyler.command import Parser, command, shown

VARIATIONS = 4
TAKE = "a demo take, sung by the synthesiser of vocal-restyler"
MIX = "a mix of the demo take of vocal-restyler"


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    options = Parser(
        prog="restyler demo",
        description="Sing a demo take, restyle it into four different mixes and write a page to compare them. "
        "Files of an earlier demo in the same folder are replaced.",
    )
    options.add_argument(
        "--out",
        type=Path,
        default=Path("out/demo"),
        metavar="DIR",
        help="folder for the take, the mixes and the page (default: %(default)s)",
    )
    options.add_argument("--model", type=Path, metavar="DIR", help="folder of a saved model (default: the bundled one)")
    chosen = options.parse_args(argv)

    from tqdm import tqdm

    from audio.io import write
    from audio.singing import demo_take
    from restyler.model_folder import BUNDLED
    from restyler.progress import progress_bar
    from restyler.rendering import load_model, model_name, render
    from restyler.report_take import TakeReport
    from restyler.sample import parser
    from restyler.sample_choice import Choice
    from restyler.takes import made_folders

    take_file, page = chosen.out / "take.wav", chosen.out / "index.html"
    paths = [chosen.out / f"mix_{number:02d}.wav" for number in range(VARIATIONS)]
    refuse_foreign([take_file, *paths], page)
    folder = chosen.model or BUNDLED
    pipeline = load_model(folder, "auto")
    take = demo_take(pipeline.codec.sample_rate)
    as_sample = parser().parse_args([take_file.name, "--variations", str(VARIATIONS)])
    choice = Choice(as_sample, pipeline, [], model=model_name(folder))
    lead = f"Sung and restyled by vocal-restyler · model {choice.tags['model']}"
    report = TakeReport(page, "One take, four mixes", take, count=VARIATIONS, lead=lead)
    with made_folders([chosen.out]), progress_bar("four mixes") as progress:
        write(take_file, take, tags={"what": TAKE})
        seeds, said = choice.mixes(take)
        wanted: dict[str, Any] = {"seeds": seeds, "said": said, "paths": paths, "tags": {"what": MIX, **choice.tags}}
        # Of each seed its own mix, with what the guards say of it: a demo shows the model as it is.
        for mix in render(
            pipeline, take, choice.settings, **wanted, sends=choice.reverb, progress=progress, resampled=False
        ):
            tqdm.write(mix.line())
            report.add(mix)
    report.write()
    print(f"{shown(take_file)}  the raw take\n{shown(page)}  open this page to compare them")
    return 0


def refuse_foreign(sounds: Sequence[Path], page: Path) -> None:
    """Raises InputError for a file that is there and that no earlier demo wrote."""
    from audio.errors import InputError
    from audio.io import read_tags
    from restyler.report import is_report

    def is_ours(path: Path) -> bool:
        if path == page:
            return is_report(path)
        try:
            return read_tags(path).get("what") in (TAKE, MIX)
        except InputError:
            return False

    for path in (*sounds, page):
        if os.path.lexists(path) and not is_ours(path):
            raise InputError(f"{shown(path)}: already exists and is not of an earlier demo; use another --out")
