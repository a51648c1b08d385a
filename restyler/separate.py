"""`restyler separate`: the vocal of finished songs, for users who have no stems."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audio.errors import InputError
from audio.io import duration_s, read, read_tags, require_signal, write, write_text_atomic
from audio.meters import TruePeakMeter
from audio.waveform import Waveform
from restyler.bleed import measure_bleed
from restyler.command import Parser, command, integer, is_utf8, number, shown
from restyler.devices import pick_device
from restyler.progress import progress_bar
from restyler.separation import Separator, load_separator, require_demucs
from restyler.takes import find_takes, made_folders

FORMAT = 1
FACTS = "separation.json"
PEAK_DB = -1.0
METER_DB = 0.06  # kept free under the ceiling: by so much the meter and 24 bits may be off
BLOCK_SAMPLES = 1 << 18

Facts = dict[str, Any]


@dataclass(frozen=True)
class Song:
    """path: the recording. vocal: the file to be written. sha256: of the recording's bytes."""

    path: Path
    vocal: Path
    sha256: str
    duration_s: float


def find_songs(paths: Sequence[Path], out: Path) -> list[Song]:
    """Every song read and checked once, with the place of its vocal: OUT/<stem>.flac.

    Raises InputError for a song that `audio.io.read` refuses or that is silent, for two whose vocals would have one
    name, for a name that is no UTF-8 (the record is), and where a vocal would replace a song.
    """
    claimed: dict[str, Path] = {}
    originals = {os.path.realpath(path) for path in paths}
    songs = []
    for path in paths:
        if not is_utf8(path.name):
            raise InputError(f"{shown(path)}: its name is no UTF-8, so it can't stand in {FACTS}; rename it")
        vocal = out / f"{path.stem}.flac"
        first = claimed.setdefault(path.stem.casefold(), path)  # some file systems ignore case
        if first is not path:
            raise InputError(
                f"{shown(first)} and {shown(path)} would both become {shown(vocal)}; "
                "rename one, or use two calls with different --out"
            )
        if os.path.realpath(vocal) in originals:
            raise InputError(f"{shown(vocal)}: the vocal would replace a song; use another --out")
        song = read(path)
        require_signal(song, path)
        songs.append(Song(path, vocal, _sha256(path), song.duration_s))
    return songs


def finished(songs: Sequence[Song], out: Path, separator: Separator) -> tuple[dict[str, Facts], list[Song]]:
    """What an earlier run of the same command recorded in OUT, by stem, only songs whose vocals are still there; and
    those of them whose vocals have been damaged since.

    A damaged vocal stays known until there is a new one: a run that is killed before that must not take the file for
    somebody else's.

    Raises InputError for a record of another model or other settings, a damaged one, and for a file in a vocal's place
    that was not made from this song by this model or is intact but no longer the one that was written.
    """
    known = _recorded(out / FACTS, _settings(separator))
    damaged = []
    for song in songs:
        entry = known.get(song.path.stem)
        if not os.path.lexists(song.vocal):
            known.pop(song.path.stem, None)
        elif entry is None:  # stopped between the vocal and the record, or a file of somebody else's
            try:
                ours = read_tags(song.vocal) == _tags(song, separator)
            except InputError:
                ours = False
            if not ours:
                raise InputError(f"{shown(song.vocal)}: already exists; use another --out")
        elif entry["sha256"] != song.sha256:
            raise InputError(f"{shown(song.vocal)}: was separated from another recording; use another --out")
        elif _sha256(song.vocal) != entry["vocal_sha256"]:
            if _readable(song.vocal):  # changed by somebody, who may want to keep it
                raise InputError(f"{shown(song.vocal)}: no longer the vocal that was written; use another --out")
            damaged.append(song)
    return known, damaged


def _recorded(record: Path, settings: Facts) -> dict[str, Facts]:
    if not os.path.exists(record):  # noqa: PTH110 - Path.exists raises for a name that is too long
        return {}
    try:
        facts = json.loads(record.read_text(encoding="utf-8"))
        made_with, known = facts["separator"], dict(facts["songs"])
        complete = facts["format"] == FORMAT and all(_is_complete(entry) for entry in known.values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise InputError(f"{shown(record)}: cannot be read as the record of a separation; use another --out")
    if made_with != settings:
        raise InputError(f"{shown(record)}: its vocals were made with other weights or settings; use another --out")
    return known


def _is_complete(entry: Facts) -> bool:
    """Whether a song's record has all that is needed to go on; LookupError or TypeError are a no as well."""
    texts = (entry["sha256"], entry["vocal"], entry["vocal_sha256"], entry["unmeasured"])
    measured = entry["unmeasured"] == "" and _is_number(entry["bleed_db"])
    unmeasured = entry["unmeasured"] != "" and entry["bleed_db"] is None
    return all(isinstance(text, str) for text in texts) and (measured or unmeasured) and _is_number(entry["gain_db"])


def _is_number(value: object) -> bool:
    """Python reads Infinity, NaN and true from JSON as well."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def _sha256(path: Path) -> str:
    """Raises InputError where there is no file to read."""
    try:
        if not path.is_file():  # a pipe would never end
            raise InputError(f"{shown(path)}: not a file")
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be read: {error.strerror}") from error


def _readable(vocal: Path) -> bool:
    """Whether it is audio from its beginning to its end; FLAC's checksums tell."""
    try:
        duration_s(vocal)
    except InputError:
        return False
    return True


def separate(song: Song, separator: Separator, tell: Callable[[float], None]) -> Facts:
    """Writes the vocal of one song; the facts about it.

    The file is 24 bit stereo at the model's rate, aligned with the song and as long. Where its true peak would pass
    −1 dBTP, one gain lowers all of it.
    """
    whole = read(song.path).stereo().resampled(separator.sample_rate)
    vocal = separator.vocal(whole, tell)
    bleed = measure_bleed(vocal, whole)
    level_db = _level_db(vocal) - _level_db(whole)
    gain_db = min(0.0, PEAK_DB - METER_DB - _true_peak_db(vocal))
    safe = Waveform(vocal.samples * 10 ** (gain_db / 20), vocal.sample_rate)
    write(song.vocal, safe, tags=_tags(song, separator))
    return {
        "song": song.path.name,
        "sha256": song.sha256,
        "vocal": song.vocal.name,
        "vocal_sha256": _sha256(song.vocal),
        "samples": safe.samples.shape[1],
        "gain_db": round(gain_db, 3),
        "vocal_to_song_db": _rounded(level_db),
        "bleed_db": _rounded(bleed.level_db),
        "bleed_floor_db": _rounded(bleed.floor_db),
        "unmeasured": bleed.why,
    }


def flags(facts: Facts, max_bleed_db: float) -> list[str]:
    """bleed, or why it could not be measured; empty where all is well."""
    if facts["unmeasured"]:
        return [facts["unmeasured"]]
    return ["bleed"] if facts["bleed_db"] > max_bleed_db else []


def line(out: Path, facts: Facts) -> str:
    """One line for the terminal."""
    measured = "bleed not measured" if facts["bleed_db"] is None else f"bleed {facts['bleed_db']:.1f} dB"
    lowered = f"  lowered by {-facts['gain_db']:.1f} dB" if facts["gain_db"] else ""
    flagged = f"  FLAGGED: {', '.join(facts['flags'])}" if facts["flags"] else ""
    return f"{shown(out / facts['vocal'])}  {measured}{lowered}{flagged}"


def _settings(separator: Separator) -> Facts:
    return {
        "model": separator.name,
        "fingerprint": separator.fingerprint,
        "sample_rate": separator.sample_rate,
        "shifts": separator.shifts,
    }


def _tags(song: Song, separator: Separator) -> dict[str, str]:
    return {"song_sha256": song.sha256} | {name: str(value) for name, value in _settings(separator).items()}


def _true_peak_db(waveform: Waveform) -> float:
    """In blocks: of ten minutes in one piece, `audio.loudness` would take 3 GB and a minute."""
    meter = TruePeakMeter()
    for block in waveform.samples.split(BLOCK_SAMPLES, dim=1):
        meter.feed(block.numpy())
    return meter.db()


def _level_db(waveform: Waveform) -> float:
    return 10 * float((waveform.samples.double() ** 2).mean().log10())


def _rounded(level_db: float | None) -> float | None:
    """For JSON, which has no infinity."""
    return None if level_db is None or level_db == -math.inf else round(level_db, 2)


def _record(out: Path, separator: Separator, known: dict[str, Facts], max_bleed_db: float) -> None:
    for facts in known.values():
        facts["flags"] = flags(facts, max_bleed_db)
    content = {
        "format": FORMAT,
        "separator": _settings(separator),
        "max_bleed_db": max_bleed_db,
        "songs": dict(sorted(known.items())),
    }
    write_text_atomic(out / FACTS, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def parser() -> Parser:
    options = Parser(
        prog="restyler separate",
        description="Extract the vocal of finished songs with Demucs: OUT/<song>.flac (stereo, 24 bit, at the model's "
        "rate, aligned with the song and as long), and OUT/separation.json with what was measured. Every song is "
        "checked before the first is separated; after an interruption the same command goes on where it was.",
    )
    add = options.add_argument
    # fmt: off
    add("songs", nargs="+", type=Path, metavar="SONG",
        help="an audio file, or a folder: every audio file directly in it")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the vocals")
    add("--model", default="htdemucs", metavar="NAME",
        help="a model of Demucs, such as htdemucs or htdemucs_ft (default: %(default)s)")
    add("--weights", type=Path, metavar="FOLDER",
        help="folder with the model's weights as `demucs --repo` reads them; they are pickles and can run any code, so "
        "take them from whom you trust (default: demucs downloads and keeps them)")
    add("--shifts", type=integer(1, 20), default=1, metavar="N",
        help="average N estimates, each of the song moved by up to half a second: a little better, N times slower "
        "(default: %(default)s)")
    add("--max-bleed-db", type=number(-80, 0), default=-20.0, metavar="X",
        help="flag a vocal with more of the accompaniment in it, relative to the vocal itself (default: %(default)g)")
    options.add_device()
    # fmt: on
    return options


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, flagged vocals or not, or 2 after one line about bad input."""
    options = parser().parse_args(argv)

    require_demucs()
    device = pick_device(options.device)
    paths, passed_over = find_takes(options.songs)
    songs = find_songs(paths, options.out)
    separator = load_separator(options.model, weights=options.weights, shifts=options.shifts, device=device)
    known, damaged = finished(songs, options.out, separator)
    waiting = [song for song in songs if song.path.stem not in known or song in damaged]
    in_all_s = sum(song.duration_s for song in waiting)
    done_s = 0.0
    with made_folders([options.out]), progress_bar("separate") as bar:
        for path in passed_over:
            tqdm.write(f"{shown(path)}: passed over, not an audio file by its name")
        for song in damaged:
            tqdm.write(f"{shown(song.vocal)}: damaged since it was written, separated again")
        for song in waiting:

            def tell(share: float, start_s: float = done_s, song: Song = song) -> None:
                bar(round(start_s + share * song.duration_s), round(in_all_s))

            known[song.path.stem] = separate(song, separator, tell)
            _record(options.out, separator, known, options.max_bleed_db)
            done_s += song.duration_s
            tqdm.write(line(options.out, known[song.path.stem]))
        _record(options.out, separator, known, options.max_bleed_db)
    flagged = sum(bool(known[song.path.stem]["flags"]) for song in songs)
    print(f"{shown(options.out)}: {len(songs)} vocals, {flagged} flagged")
    return 0
