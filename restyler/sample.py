"""`restyler sample` and `python sample.py`: one raw take in, several different mixes out."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from restyler.command import (
    DEFAULT_PEAK_DBTP,
    LONGEST_TAIL_S,
    LOWEST_PEAK_DBTP,
    QUIETEST_LUFS,
    Parser,
    assignment,
    command,
    integer,
    number,
    shown,
)
from restyler.sample_plan import (
    DEFAULT_AROUND,
    DEFAULT_VARIATIONS,
    originals,
    require_together,
    reverb_file,
    weighted_file,
)
from restyler.way_names import DEFAULT_WAY, WAYS


def parser() -> Parser:
    options = Parser(
        prog="restyler sample",
        description="Restyle raw vocal takes: each take gets several different mixes, OUT/<take>/mix_00.wav and so on "
        "(stereo, 48 kHz, 24 bit, exactly as long as the take and its --tail). Every take, the model and "
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
    add("--variations", type=integer(1, 100), metavar="N",
        help=f"mixes per take, 1 to 100 (default: {DEFAULT_VARIATIONS})")
    add("--seed", type=integer(0, 2**62), metavar="N",
        help="seed of mix_00; mix_01 has the next one and so on (default: 0, or the one after those of --like)")
    add("--between", type=integer(0, 2**62), nargs=3, metavar=("A", "B", "N"),
        help="instead: N mixes, 2 to 100, in equal steps from the mix of seed A to that of seed B")
    add("--like", type=Path, metavar="MIX",
        help="more like this mix, which this command made of the same take by the same model: what it was told and how "
        "it was finished stands in its file")
    add("--around", type=number(0, 1), metavar="R",
        help="how far from the mix of --like: 0 is that mix again, 1 has no more in common with it than its style and "
        f"what was told (default: {DEFAULT_AROUND})")
    add("--style", metavar="NAME",
        help="one of the model's styles, see `restyler styles`; any: a style for each mix, drawn by its seed; none: "
        "not told; one style for all keeps the mixes closer together (default: any, or none where a reference or a "
        "control is given)")
    add("--reference", type=weighted_file, action="append", default=[], metavar="FILE[=WEIGHT]",
        help="a finished vocal whose style to take over; given several times, the mean of them, by their weights "
        "(default: none; a weight of 1)")
    add("--brightness", type=float, metavar="DB",
        help="how much brighter the mix is to be than the take: 4 to 16 kHz against 200 Hz to 2 kHz, in dB; the same "
        "as --control brightness_db=DB")
    add("--space", type=float, metavar="DB",
        help="how much higher the level is to stay after a sound, by reverb and echoes, in dB; --control space_db=DB")
    add("--compression", type=float, metavar="DB",
        help="how much the spread of the level is to shrink, in dB; --control dynamics_db=-DB")
    add("--width", type=float, metavar="DB",
        help="how much the side is to gain against the middle, in dB (a mono take starts at -60 dB); --control "
        "width_db=DB")
    add("--control", type=assignment, action="append", default=[], metavar="NAME=VALUE",
        help="what the mix is to change, as far as the model was taught controls: width_db=6; may be given several "
        "times (default: not told)")
    add("--guidance", type=float, metavar="G",
        help="how strongly to follow style, reference and controls, 0 to 20; 1 is as trained (default: the model's)")
    add("--diversity", "--sigma", dest="sigma", type=float, metavar="S",
        help="how freely the mixes may differ from each other and from the take; 0: not at all (default: the model's)")
    add("--spread", type=float, metavar="X",
        help="how far apart, besides their styles, the mixes lie in what the model has controls for and none is given: "
        "brightness, width and so on; 1: as mixes of one style do, 0: such controls are not told, up to 2 (default: "
        "the model's, or 0 where a reference is given)")
    add("--steps", type=int, metavar="N", help="solver steps per mix, 1 to 1000 (default: the model's)")
    add("--strength", type=number(0, 1), metavar="S",
        help="how much of the mix: 1 is all of it, 0 the take (default: the model's)")
    add("--lufs", type=number(QUIETEST_LUFS, 0), metavar="L",
        help=f"integrated loudness of the mixes in LUFS, {QUIETEST_LUFS} to 0 (default: the take's own)")
    add("--peak", type=number(LOWEST_PEAK_DBTP, 0), metavar="DBTP",
        help=f"highest true peak of the mixes in dBTP, {LOWEST_PEAK_DBTP} to 0: where it and the loudness can't both "
        f"be had, the mix is quieter (default: {DEFAULT_PEAK_DBTP:g})")
    add("--render", choices=WAYS, metavar="WAY",
        help="how a mix gets from the model into its file. codec: as the model's codec decodes it; residual: with what "
        "the codec lost of the take put back where the mix keeps it; transfer: an effect chain is fitted to the mix, "
        "and the take itself goes through it; the chain lies beside the mix, as mix_00.yaml for `restyler synthesize "
        f"--chains`, and as mix_00.txt to read (default: {DEFAULT_WAY})")
    add("--before", type=Path, metavar="CHAIN.yaml",
        help="an effect chain that the take goes through before the model hears it, see docs/rack.md")
    add("--after", type=Path, metavar="CHAIN.yaml",
        help="an effect chain that each mix goes through, before loudness and peak are set")
    add("--reverb", type=reverb_file, metavar="CHAIN.yaml|bundled|none",
        help="reverb and delay by hand: every style of the file is a bus that hears the mix, after --after; what it "
        "makes is added, what it leaves to chance drawn by each mix's seed. Of its own space the model is told to make "
        "little there, unless --space says else. every: N in the file: for one of so many mixes. bundled: a room and "
        "echoes of the project's own, others for each mix, by turns with mixes that have none (default: as for the mix "
        "of --like; the model's, which is bundled for the bundled one; none with a --style, --reference, --control, "
        "--between, --render transfer or --strength 0)")
    add("--stems", action="store_true",
        help="also write what adds up to each mix: mix_00.dry.wav, and with --reverb what each bus adds, with --render "
        "transfer mix_00.delay.wav and mix_00.reverb.wav")
    add("--tail", type=number(0, LONGEST_TAIL_S), metavar="SECONDS",
        help="how far the mixes may ring on after the end of the take, and are longer by, 0 to "
        f"{LONGEST_TAIL_S:g} s (default: 0, or as for the mix of --like)")
    add("--guard", choices=("on", "off"),
        help="on: a mix in which pitch, voicing, envelope, onsets or time are no longer the take's is made anew from "
        "another seed, up to three times, and a loudness that strays from the take's course is brought back; the line "
        "of a mix and its comment say so; off: mixes as they come (default: on, or as for the mix of --like)")
    add("--report", action="store_true",
        help="also write OUT/<take>/report.html: take and mixes to hear level-matched, with settings, spectrum and "
        "loudness against the take, and what the guards found; long takes are played from the files beside it")
    add("--timing", action="store_true",
        help="say at the end where the time went: codec, denoiser, rendering and so on")
    add("--batch", type=integer(1, 100), default=1, metavar="N",
        help="mixes made at once: faster on a GPU, but the first one is done later (default: %(default)s)")
    options.add_device()
    # fmt: on
    return options


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    options = parser().parse_args(argv)

    from audio.on_disk import kept_in

    with kept_in(options.out):  # all that is as long as a take lies there, and not in memory
        return _make(options)


def _make(options: Namespace) -> int:
    from tqdm import tqdm  # torch and diffusers take seconds to import: --help and typing errors don't wait for them

    from restyler.devices import finished_work
    from restyler.model_folder import BUNDLED
    from restyler.progress import progress_bar
    from restyler.rendering import load_model, model_name
    from restyler.report_take import PAGE, TakeReport, require_no_report
    from restyler.sample_choice import Choice
    from restyler.stems import require_no_stems, suffixes
    from restyler.stopwatch import Stopwatch
    from restyler.takes import find_takes, made_folders, plan, read_take
    from restyler.ways import companions, require_no_chain, require_raw_names

    require_together(options)
    paths, passed_over = find_takes(options.takes)
    folder = options.model or BUNDLED
    pipeline = load_model(folder, options.device)
    choice = Choice(options, pipeline, paths, model=model_name(folder))
    takes = plan(
        paths,
        options.out,
        variations=choice.variations,
        overwrite=options.overwrite,
        others=originals(options),
        companions=companions(choice.way) + suffixes(choice.stems),
    )
    if not options.overwrite:
        require_no_chain(mix for take in takes for mix in take.mixes)
        require_no_stems(mix for take in takes for mix in take.mixes)
    require_raw_names(choice.way, paths)
    for take in takes if options.report else ():
        kept = dict.fromkeys(paths, "a take") | originals(options)
        require_no_report(take.mixes[0].parent, overwrite=options.overwrite, kept=kept)
    for take in takes:
        read_take(take.path, pipeline.codec.sample_rate)
    _ = choice.references  # read before anything is made: a file that can't be one is refused

    watch, made_s = Stopwatch(settle=finished_work(pipeline.device)), 0.0
    with made_folders([take.mixes[0].parent for take in takes]):
        for path in passed_over:
            print(f"{shown(path)}: passed over, not an audio file by its name")
        for place, take in enumerate(takes, start=1):
            report = None
            if options.report:
                title, lead = take.path.name, f"Restyled by vocal-restyler · model {model_name(folder)}"
                raw, page = read_take(take.path, pipeline.codec.sample_rate), take.mixes[0].parent / PAGE
                report = TakeReport(page, title, raw, count=choice.variations, lead=lead)
            with progress_bar(f"take {place} of {len(takes)}") as progress:
                for mix in choice.render(take, progress=progress, watch=watch):
                    tqdm.write(mix.line())
                    made_s += mix.waveform.duration_s
                    if report:
                        report.add(mix)
                    del mix  # before the next one is made: each takes as much memory as the take
            if report:
                report.write()
                print(f"{shown(report.page)}  open this page to compare them")
    for line in watch.lines(made_s) if options.timing else ():
        print(line)
    return 0
