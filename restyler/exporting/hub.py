"""`restyler export hub`: a folder that a model hub takes as it is."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from restyler.command import Parser, command, shown

APACHE = "apache-2.0"
CARD, LICENCE, ATTRIBUTES = "README.md", "LICENSE", ".gitattributes"
LARGE_FILES = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


def parser() -> Parser:
    parser = Parser(
        prog="restyler export hub",
        description="Write a model as a folder for a model hub: weights and configuration byte for byte, a card with "
        "the hub's front matter, the licence, a manifest. Nothing is sent anywhere: `hf upload OWNER/NAME DIR` or git "
        "does that.",
    )
    parser.add_argument("--model", type=Path, metavar="DIR", help="folder of a saved model (default: the bundled one)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write; absent or empty")
    parser.add_argument(
        "--card",
        type=Path,
        metavar="FILE",
        help="the model card (default: the model's README.md, else what it says of itself)",
    )
    parser.add_argument(
        "--license", metavar="NAME", help="by the hub's name, for example cc-by-4.0 (default: what the card says)"
    )
    parser.add_argument(
        "--license-file", type=Path, metavar="FILE", help=f"text of the licence; needed unless it is {APACHE}"
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    options = parser().parse_args(argv)

    from audio.errors import InputError
    from audio.io import write_text_atomic
    from restyler.exporting.hub_card import hub_card, plain_card, split_card
    from restyler.model_folder import BUNDLED, listed_files, write_manifest
    from restyler.new_folder import new_folder, require_free, require_outside
    from restyler.rendering import load_model

    folder: Path = options.model or BUNDLED
    require_free(options.out)
    require_outside(options.out, folder)
    pipeline = load_model(folder, "cpu")
    files = listed_files(folder)
    if options.card:
        card, name = _text(options.card), shown(options.card)
    elif CARD in files:
        card, name = _text(folder / CARD), shown(folder / CARD)
    else:
        card, name = plain_card(pipeline, folder.resolve().name), "the model's card"
    fields, text = split_card(card, name)
    licence = _licence(options.license, fields.get("license"), name)
    whole = hub_card(fields, text, licence=licence)
    terms = _terms(options.license_file, licence, folder / LICENCE if LICENCE in files else None)
    with new_folder(options.out) as fresh:
        for file in files:
            (fresh / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, fresh / file)
        write_text_atomic(fresh / CARD, whole)
        write_text_atomic(fresh / LICENCE, terms)
        write_text_atomic(fresh / ATTRIBUTES, LARGE_FILES)
        write_manifest(fresh)
        if load_model(fresh, "cpu").codec.fingerprint() != pipeline.codec.fingerprint():
            raise InputError(f"{shown(folder)}: changed while it was copied")
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{shown(options.out)}  {size / 2**20:.1f} MiB, licence {licence}")
    return 0


def _licence(wished: str | None, stated: object, card: str) -> str:
    """Raises InputError where none is known, or the two contradict each other."""
    from audio.errors import InputError

    known = wished or stated
    if known is None:
        raise InputError(f"{card} states no licence: say which by --license, for example --license {APACHE}")
    if not isinstance(known, str) or not known or not all(sign.isalnum() or sign in ".-" for sign in known):
        raise InputError(f"a licence has a name of letters, digits, points and dashes like {APACHE}, not {known!r}")
    if stated is not None and known != stated:
        raise InputError(f"{card} states the licence {stated!r}, --license {known!r}: let both say the same")
    return known


def _terms(file: Path | None, licence: str, own: Path | None) -> str:
    """The text of the licence: of the file, else the model's own LICENSE, else the project's where it is the same.

    Raises InputError where there is none.
    """
    from importlib.metadata import distributions

    from audio.errors import InputError

    if file or own:
        return _text(file or own or Path())
    if licence != APACHE:
        raise InputError(f"the text of {licence} is not here: name its file by --license-file")
    installed = distributions(name="vocal-restyler")  # a build's leftovers in a checkout are one too, without the text
    text = next(filter(None, (each.read_text("licenses/LICENSE") for each in installed)), None)
    if text is None:
        raise InputError("vocal-restyler was installed without its LICENSE: name a file of the text by --license-file")
    return text


def _text(file: Path) -> str:
    from audio.errors import InputError

    try:
        return file.read_text(encoding="utf-8-sig")  # a mark of byte order would hide the front matter
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise InputError(f"{shown(file)}: cannot be read: {reason}") from None
