"""Make a listening test from SPEC.yaml, or from the configuration of a webMUSHRA test.

restyler listen design SPEC.yaml --out TEST                    cut, level and write the sounds; plan the pages
restyler listen design SPEC.yaml --out TEST --webmushra DIR    the same, and once more for webMUSHRA
restyler listen design CONFIG.yaml --out TEST --listeners 20   a webMUSHRA test, to be served here

docs/listening.md explains the spec. TEST/links.txt holds the links' tokens, and nothing else does: keep it.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from restyler.command import Parser, command, integer, shown

LINKS = "links.txt"
TOKEN_BYTES = 16


def parser() -> Parser:
    options = Parser(prog="restyler listen design", description=(__doc__ or "").strip())
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    add = options.add_argument
    # fmt: off
    add("spec", type=Path, metavar="SPEC", help="what is compared and how, or a webMUSHRA configuration")
    add("--out", type=Path, required=True, metavar="TEST", help="new or empty folder for the test")
    add("--webmushra", type=Path, metavar="DIR",
        help="also write the test for webMUSHRA, to be copied into its folder: DIR/configs/NAME.yaml and the sounds")
    add("--listeners", type=integer(1, 1000), metavar="N",
        help="of a webMUSHRA configuration, which doesn't say (default: 20); a spec has its own")
    add("--seed", type=integer(0, 2**31), metavar="N",
        help="of a webMUSHRA configuration (default: 0); a spec has its own")
    # fmt: on
    return options


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    options = parser().parse_args(argv)

    from audio.errors import InputError  # --help must not wait for torch
    from audio.io import make_folder
    from restyler.listen.design import make_test
    from restyler.listen.plan import STIMULI, write_plan
    from restyler.listen.spec import parse_spec
    from restyler.listen.webmushra_config import refuse_unwritable, write_webmushra
    from restyler.listen.webmushra_reading import read_webmushra
    from restyler.progress import progress_bar
    from restyler.yamltree import read_tree

    tree = read_tree(options.spec)
    owner = secrets.token_urlsafe(TOKEN_BYTES)
    with _filled(options.out) as folder, progress_bar("items") as progress:
        make_folder(folder / STIMULI)
        if "pages" in tree:
            count = options.listeners or 20
            tokens = _tokens(count)
            plan, lines = read_webmushra(
                tree, options.spec, folder, owner=owner, tokens=tokens, seed=options.seed or 0, progress=progress
            )
        else:
            for name in ("listeners", "seed"):
                if getattr(options, name) is not None:
                    raise InputError(f"--{name}: the spec says that: {shown(options.spec)}")
            spec = parse_spec(tree, str(options.spec))
            tokens = _tokens(spec.listeners)
            plan, lines = make_test(spec, options.spec.parent, folder, owner=owner, tokens=tokens, progress=progress)
        if options.webmushra is not None:
            refuse_unwritable(plan, options.webmushra)
        _write_links(folder / LINKS, owner, tokens)
        write_plan(folder, plan)
    if options.webmushra is not None:
        lines.append(f"{shown(write_webmushra(plan, options.out, options.webmushra))}: the same for webMUSHRA")
    pages = sum(not trial.training for trial in plan.trials)
    for line in lines:
        print(line)
    print(
        f"{shown(options.out)}: {pages} pages and {len(plan.trials) - pages} for practice, {plan.listeners} listeners"
    )
    return 0


def _tokens(count: int) -> list[str]:
    return [secrets.token_urlsafe(TOKEN_BYTES) for _ in range(count)]


def _write_links(path: Path, owner: str, tokens: Sequence[str]) -> None:
    """The tokens in plain text, for their owner's eyes: the file can be read by nobody else."""
    from audio.io import write_text_atomic

    lines = [
        "# The owner's token, and one for each listener, whose link is http://HOST:PORT/l/TOKEN. No other copy.",
        f"owner {owner}",
    ]
    lines += [f"{number} {token}" for number, token in enumerate(tokens, start=1)]
    write_text_atomic(path, "\n".join(lines) + "\n")
    path.chmod(0o600)


@contextmanager
def _filled(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `out` when all has gone well, and vanishes otherwise.

    Nobody but its owner may look into it: it knows which sound is which. Raises InputError where `out` is neither new
    nor empty, or can't be made.
    """
    from audio.errors import InputError
    from audio.io import make_folder

    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{shown(out)}: not a new or empty folder; a test is never written over")
    make_folder(out.parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise InputError(f"{shown(out.parent)}: no folder can be made here: {error.strerror}") from error
    try:
        yield folder
        try:
            folder.replace(out)
        except OSError as error:
            raise InputError(f"{shown(out)}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
