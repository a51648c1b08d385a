"""`restyler rack`: one file through an effect chain of built-in parts, plugins and programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restyler.command import LONGEST_TAIL_S, Parser, command, integer, number, printing, shown


def _listed(names: Sequence[str] | None) -> str:
    from restyler.rack_list import listed

    return listed(list(names or []))


def _settings(path: Path) -> str:
    from restyler.rack_settings import settings_of

    return settings_of(path)


def _parser() -> Parser:
    parser = Parser(
        prog="restyler rack",
        description="Put a recording through an effect chain: stereo, 24 bit, at the recording's own rate, exactly as "
        "long as it and --tail, in bounded memory. See docs/rack.md.",
    )
    add = parser.add_argument
    # fmt: off
    add("chain", type=Path, metavar="CHAIN.yaml", help="styles as effect chains, as for `restyler synthesize --chains`")
    add("source", type=Path, metavar="IN", help="an audio file, mono or stereo")
    add("out", type=Path, metavar="OUT", help="a .wav or .flac")
    add("--overwrite", action="store_true", help="replace OUT where it is there (default: refuse)")
    add("--style", metavar="NAME", help="which of the file's styles (default: the only one)")
    add("--seed", type=integer(0, 2**31 - 1), default=0, metavar="N",
        help="decides what the chain draws (default: %(default)s)")
    add("--tail", type=number(0, LONGEST_TAIL_S), default=0.0, metavar="SECONDS",
        help=f"how far the sound may ring on after its end, 0 to {LONGEST_TAIL_S:g} s (default: 0)")
    add("--list", nargs="*", action=printing(_listed), metavar="PART",
        help="print what chains are made of, with names, units, ranges and defaults: all of it, one part "
        "(compressor), the plugin at a path, or what a program has: ffmpeg, ffmpeg acompressor, sox reverb, "
        "ladspa PATH PLUGIN, lv2 URI")
    add("--settings", type=Path, action=printing(_settings), metavar="CHAIN.yaml",
        help="print a file's chains as lines to read, and to dial into the devices of a DAW")
    # fmt: on
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    options = _parser().parse_args(argv)

    from audio import io
    from audio.bwf import read_time_stamp
    from audio.io_stream import write_blocks
    from audio.parts_stages import stream
    from restyler.liked import file_digest
    from restyler.rack_chain import latency_lines, read_rack, require_place

    rack = read_rack(options.chain, style=options.style, seed=options.seed)
    require_place(options.out, options.source, rack, overwrite=options.overwrite)
    rate = io.header(options.source).sample_rate_hz
    told = latency_lines(rack.steps, rate)
    tags = {"rack": rack.tag, "style": rack.style, "seed": str(rack.seed), "take": file_digest(options.source)}
    tags |= {"tail": str(options.tail)} if options.tail else {}
    stamp, kept = read_time_stamp(options.source), options.out.suffix.lower() == ".wav"
    sound = stream(rack.steps, io.blocks(options.source), rate, tail_s=options.tail)
    frames = write_blocks(options.out, sound, rate, tags=tags, stamp=stamp if kept else None)
    for line in told:
        print(line)
    if stamp and not kept:
        print(f"{shown(options.out)}: only a .wav holds the recording's time stamp; it is left out")
    print(f"{shown(options.out)}  {rack.style}  {len(rack.steps)} parts  {frames / rate:.2f} s")
    return 0
