"""`restyler watch`: restyles takes as a DAW exports them into a folder."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from restyler import sample
from restyler.command import Parser, command, number, shown
from restyler.sample_plan import originals, require_together

# Of `restyler sample`, what is about one take, or said in another way here.
ELSEWHERE = frozenset({"help", "takes", "out", "like", "around", "report", "timing"})
DEFAULT_EVERY_S = 1.0
NOT_ASKED = frozenset({"folder", "out", "overwrite", "every", "once", "batch", "device"})  # they change no mix


def parser() -> Parser:
    options = Parser(
        prog="restyler watch",
        description="Restyle takes as they appear in a folder, as a DAW exports them: each once, as `restyler sample` "
        "does with the same options. Files that are still being written are waited for. Ctrl-C ends it; the same "
        "command goes on where it was.",
    )
    add = options.add_argument
    # fmt: off
    add("folder", type=Path, metavar="FOLDER", help="where takes appear: every audio file directly in it")
    add("--out", type=Path, metavar="DIR", help="folder for the mixes, DIR/<take>/mix_00.wav … (default: FOLDER)")
    for action in sample.parser()._actions:  # as argparse itself does for parents, of which none could be left out
        if action.dest not in ELSEWHERE:
            options._add_action(action)
    add("--every", type=number(0.1, 3600), default=DEFAULT_EVERY_S, metavar="SECONDS",
        help="how often to look (default: %(default)g)")
    add("--once", action="store_true", help="end when all that is there has been restyled (default: go on)")
    # fmt: on
    options.set_defaults(like=None, around=None)
    return options


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 with --once, 130 after Ctrl-C, or 2 after one line about bad input."""
    options = parser().parse_args(argv)

    from audio.errors import InputError
    from audio.io import make_folder
    from audio.on_disk import existing, kept_in
    from restyler.web_server import alone

    require_together(options)
    if not options.folder.is_dir():
        raise InputError(f"{shown(options.folder)}: not a folder; one is needed to watch")
    out = make_folder(options.out or options.folder)
    with alone(out, ".restyler-watch.lock", "or watcher puts mixes here"), kept_in(existing(out)):
        watcher = _watcher(options, out)
        while watcher() or not options.once:
            time.sleep(options.every)
    return 0


def _watcher(options: Namespace, out: Path) -> Callable[[], bool]:
    from tqdm import tqdm

    from audio.errors import InputError
    from restyler.model_folder import BUNDLED
    from restyler.progress import progress_bar
    from restyler.rendering import load_model, model_name
    from restyler.sample_choice import Choice
    from restyler.stems import require_no_stems, suffixes
    from restyler.takes import Take, made_folders, plan, read_take
    from restyler.watch_folder import Watcher, is_mix
    from restyler.watch_record import Record
    from restyler.ways import companions, require_no_chain, require_raw_names

    record = Record(out, options.folder)
    folder = options.model or BUNDLED
    pipeline = load_model(folder, options.device)
    choice = Choice(options, pipeline, [], model=model_name(folder))
    _ = choice.references  # read before anything is made: a file that can't be one is refused
    beside = companions(choice.way) + suffixes(choice.stems)

    def say(line: str) -> None:
        tqdm.write(line)
        sys.stdout.flush()  # who reads it through a pipe waits for it

    def planned(path: Path, known: bool) -> Take:
        if os.path.realpath(out / path.stem) == os.path.realpath(options.folder):
            raise InputError(f"{shown(path)}: its mixes would go among the takes; use another --out")
        may = options.overwrite or known
        (take,) = plan(
            [path],
            out,
            variations=choice.variations,
            overwrite=may,
            others=originals(options),
            companions=beside,
        )
        if not may:
            require_no_chain(take.mixes)
            require_no_stems(take.mixes)
        elif not options.overwrite:  # what was put there since is not ours to replace
            for mix in filter(os.path.isfile, take.mixes):
                if not is_mix(mix):
                    raise InputError(f"{shown(mix)}: already exists, and is no mix; use another --out, or --overwrite")
        require_raw_names(choice.way, [path])
        return take

    def restyle(take: Take, numbers: list[int], written: Callable[[int], None]) -> None:
        with made_folders([take.mixes[0].parent]), progress_bar(shown(take.path.name)) as progress:
            for at, mix in zip(numbers, choice.render(take, progress=progress, numbers=numbers), strict=True):
                written(at)
                say(mix.line())
                del mix  # before the next one is made: each takes as much memory as the take

    asked = {name: str(value) for name, value in vars(options).items() if name not in NOT_ASKED} | choice.tags
    asked |= {"reverb": choice.reverb.tag} if choice.reverb else {}
    watcher = Watcher(
        options.folder,
        record,
        asked=hashlib.sha256(repr(sorted(asked.items())).encode()).hexdigest(),
        check=lambda path: read_take(path, pipeline.codec.sample_rate),
        plan=planned,
        restyle=restyle,
        say=say,
        clock=time.monotonic,
    )
    say(f"{shown(options.folder)}: watched; Ctrl-C ends it")
    return watcher.look
