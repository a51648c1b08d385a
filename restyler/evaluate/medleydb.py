"""python -m restyler.evaluate.medleydb FOLDER OUT: the real pairs of the DiffVox demo page as a set to evaluate on.

FOLDER holds SONG__dry (raw take), SONG__wet (the engineer's mix, MedleyDB), and SONG__diffvox and SONG__rt_diffvox
(chains fitted to that mix; Yu et al. 2025), as audio files of any kind. OUT becomes a set with those as renders.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from audio.errors import InputError
from audio.io import make_folder, write_text_atomic
from restyler.command import Parser, command, shown
from restyler.evaluate.evaluation_set import RENDERS
from restyler.takes import AUDIO_SUFFIXES, refuse_foreign

MANIFEST = "pairs.jsonl"
FOLDERS = {
    "dry": "raw",
    "wet": "mix",
    "diffvox": f"{RENDERS}/DiffVox fitted to the mix",
    "rt_diffvox": f"{RENDERS}/DiffVox fitted to the mix, real-time form",
}
UNPROCESSED = {"MatthewEntwistle_DontYouEver"}  # its mix is virtually its raw take


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    parser = Parser(prog="python -m restyler.evaluate.medleydb", description=(__doc__ or "").strip())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of the files")
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder")
    options = parser.parse_args(argv)
    songs = find_songs(options.folder)
    refuse_foreign(options.out, MANIFEST)
    rows = [copied(name, files, options.out) for name, files in songs.items()]
    write_text_atomic(options.out / MANIFEST, "".join(json.dumps(row) + "\n" for row in rows))
    print(f"{shown(options.out)}: {len(rows)} pairs")
    return 0


def find_songs(folder: Path) -> dict[str, dict[str, Path]]:
    """Of every song the files by what they are (`FOLDERS`), sorted.

    Raises InputError for a missing folder, for none of these files in it, and for a song without one of them.
    """
    if not folder.is_dir():
        raise InputError(f"{shown(folder)}: there is no such folder")
    songs: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        name, _, what = path.stem.rpartition("__")
        if name and what in FOLDERS and path.suffix.lower() in AUDIO_SUFFIXES:
            songs.setdefault(name, {})[what] = path
    if not songs:
        raise InputError(f"{shown(folder)}: holds no files called SONG__{', SONG__'.join(FOLDERS)}")
    for name, files in songs.items():
        for what in FOLDERS:
            if what not in files:
                raise InputError(f"{shown(folder)}: there is no {shown(name)}__{what}")
    return dict(sorted(songs.items()))


def copied(name: str, files: dict[str, Path], out: Path) -> dict[str, object]:
    """Copies a song's files into OUT; its row of pairs.jsonl."""
    row: dict[str, object] = {"key": name}
    for what, place in FOLDERS.items():
        target = make_folder(out / place) / f"{name}{files[what].suffix}"
        shutil.copyfile(files[what], target)
        if what in ("dry", "wet"):
            row[place] = f"{place}/{target.name}"
    singer, _, _ = name.partition("_")
    row |= {"song": name, "singer": singer, "split": "test"}
    return row | ({"unprocessed": True} if name in UNPROCESSED else {})


if __name__ == "__main__":
    sys.exit(main())
