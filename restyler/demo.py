"""`restyler demo`: the whole road on a take that the project sings itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restyler.command import Parser, command

VARIATIONS = 4


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

    from audio.io import make_folder, write, write_text_atomic
    from audio.singing import demo_take
    from restyler.model_folder import BUNDLED
    from restyler.pipeline import ANY_STYLE
    from restyler.rendering import load_model, model_name, progress_bar, render
    from restyler.report import Version, report_html

    folder = chosen.model or BUNDLED
    pipeline = load_model(folder, "auto")
    make_folder(chosen.out)
    take = demo_take(pipeline.codec.sample_rate)
    model = model_name(folder)
    write(chosen.out / "take.wav", take, tags={"what": "a demo take, sung by the synthesiser of vocal-restyler"})

    settings = pipeline.settings(style=ANY_STYLE if pipeline.styles else None)
    paths = [chosen.out / f"mix_{number:02d}.wav" for number in range(VARIATIONS)]
    versions = [Version("Raw take", take.stereo())]
    with progress_bar("four mixes") as progress:
        for mix in render(
            pipeline, take, settings, seeds=range(VARIATIONS), paths=paths, tags={"model": model}, progress=progress
        ):
            tqdm.write(mix.line())
            versions.append(Version(f"Mix {mix.seed:02d}", mix.waveform, {"seed": str(mix.seed), **mix.chosen}))
    page = chosen.out / "index.html"
    write_text_atomic(
        page, report_html("One take, four mixes", f"Sung and restyled by vocal-restyler · model {model}", versions)
    )
    print(f"{chosen.out / 'take.wav'}  the raw take\n{page}  open this page to compare them")
    return 0
