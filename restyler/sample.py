"""`restyler sample` and `python sample.py`: one raw take in, several different mixes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restyler.command import QUIETEST_LUFS, Parser, assignment, command, integer, number, shown
from restyler.way_names import DEFAULT_WAY, WAYS


def parser() -> Parser:
    options = Parser(
        prog="restyler sample",
        description="Restyle raw vocal takes: each take gets several different mixes, OUT/<take>/mix_00.wav and so on "
        "(stereo, 48 kHz, 24 bit, exactly as long as the take, true peak at most -1 dBTP). Every take, the model and "
        "the output folder are checked before the first mix is made; if anything is wrong, nothing is written.",
    )
    add = options.add_argument
    # fmt: off
    add("takes", nargs="+", type=Path, metavar="TAKE",
        help="an audio file (mono or stereo, 8 to 384 kHz, at least 0.1 s, any format that libsndfile reads), or a "
        "folder: every audio file directly in it")
    add("--out", type=Path, default=Path("out"), metavar="DIR", help="folder for the mixes (default: %(default)s)")
    add("--overwrite", action="store_true",
        help="replace mixes of the same name (default: refuse before anything is made)")
    add("--model", type=Path, metavar="DIR", help="folder of a saved model (default: the bundled one)")
    add("--variations", type=integer(1, 100), default=4, metavar="N",
        help="mixes per take, 1 to 100 (default: %(default)s)")
    add("--seed", type=integer(0, 2**62), default=0, metavar="N",
        help="seed of mix_00; mix_01 has the next one and so on (default: %(default)s)")
    add("--style", metavar="NAME",
        help="one of the model's styles, see `restyler styles`; any: a style for each mix, drawn by its seed; none: "
        "not told; one style for all keeps the mixes closer together (default: any, or none where a reference or a "
        "control is given)")
    add("--reference", type=Path, metavar="FILE", help="a finished vocal whose style to take over (default: none)")
    add("--control", type=assignment, action="append", default=[], metavar="NAME=VALUE",
        help="what the mix is to change, as far as the model was taught controls: width_db=6; may be given several "
        "times (default: not told)")
    add("--guidance", type=float, metavar="G",
        help="how strongly to follow style, reference and controls, 0 to 20; 1 is as trained (default: the model's)")
    add("--sigma", type=float, metavar="S",
        help="how freely the mixes may differ from each other and from the take; 0: not at all (default: the model's)")
    add("--spread", type=float, metavar="X",
        help="how far apart, besides their styles, the mixes lie in what the model has controls for and none is given: "
        "brightness, width and so on; 1: as mixes of one style do, 0: such controls are not told, up to 2 (default: "
        "the model's, or 0 where a reference is given)")
    add("--steps", type=int, metavar="N", help="solver steps per mix, 1 to 1000 (default: the model's)")
    add("--lufs", type=number(QUIETEST_LUFS, 0), metavar="L",
        help=f"integrated loudness of the mixes in LUFS, {QUIETEST_LUFS} to 0 (default: the take's own)")
    add("--render", choices=WAYS, default=DEFAULT_WAY, metavar="WAY",
        help="how a mix gets from the model into its file. codec: as the model's codec decodes it; residual: with what "
        "the codec lost of the take put back where the mix keeps it; transfer: an effect chain is fitted to the mix, "
        "and the take itself goes through it; the chain lies beside the mix, as mix_00.yaml for `restyler synthesize "
        "--chains`, and as mix_00.txt to read (default: %(default)s)")
    add("--batch", type=integer(1, 100), default=1, metavar="N",
        help="mixes made at once: faster on a GPU, but the first one is done later (default: %(default)s)")
    add("--device", default="auto", metavar="D",
        help="auto (a GPU if there is one), cpu, cuda or cuda:N (default: %(default)s)")
    # fmt: on
    return options


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    options = parser().parse_args(argv)

    from tqdm import tqdm  # torch and diffusers take seconds to import: --help and typing errors don't wait for them

    from audio.errors import InputError
    from restyler.model_folder import BUNDLED
    from restyler.progress import progress_bar
    from restyler.rendering import load_model, model_name, render
    from restyler.settings import ANY_STYLE, NO_STYLE
    from restyler.takes import find_takes, made_folders, plan, read_take
    from restyler.ways import companions, require_no_chain, require_raw_names

    controls = dict(options.control)
    if len(controls) < len(options.control):
        raise InputError("--control: each control can be set once")
    paths, passed_over = find_takes(options.takes)
    takes = plan(
        paths,
        options.out,
        variations=options.variations,
        overwrite=options.overwrite,
        reference=options.reference,
        companions=companions(options.render),
    )
    if not options.overwrite:
        require_no_chain(mix for take in takes for mix in take.mixes)
    require_raw_names(options.render, paths)
    folder = options.model or BUNDLED
    pipeline = load_model(folder, options.device)
    told = options.reference is not None or bool(controls)
    style = options.style or (NO_STYLE if told or not pipeline.styles else ANY_STYLE)
    settings = pipeline.settings(
        style=None if style == NO_STYLE else style,
        controls=controls,
        steps=options.steps,
        guidance=options.guidance,
        sigma=options.sigma,
        spread=0.0 if options.spread is None and options.reference else options.spread,
    )
    if options.guidance is not None and not settings.told and not options.reference:
        raise InputError("--guidance needs something to follow: a --style, a --reference, a --control or a --spread")
    rate = pipeline.codec.sample_rate
    for take in takes:
        read_take(take.path, rate)
    reference = read_take(options.reference, rate) if options.reference else None

    tags = {"model": model_name(folder)} | ({"reference": options.reference.name} if options.reference else {})
    with made_folders([take.mixes[0].parent for take in takes]):
        for path in passed_over:
            print(f"{shown(path)}: passed over, not an audio file by its name")
        for place, take in enumerate(takes, start=1):
            with progress_bar(f"take {place} of {len(takes)}") as progress:
                for mix in render(
                    pipeline,
                    read_take(take.path, rate),
                    settings,
                    seeds=range(options.seed, options.seed + options.variations),
                    paths=take.mixes,
                    tags=tags,
                    reference=reference,
                    loudness_lufs=options.lufs,
                    max_batch=options.batch,
                    progress=progress,
                    way=options.render,
                    raw=take.path,
                ):
                    tqdm.write(mix.line())
    return 0
