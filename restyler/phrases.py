"""From folders of dry voices to raw takes: short recordings joined to phrases, long ones cut, in three splits."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from audio import io
from audio.errors import InputError
from audio.waveform import Waveform
from restyler.chain_files import content_digest, require_utf8
from restyler.command import shown
from restyler.takes import AUDIO_SUFFIXES

Split = Literal["train", "validation", "test"]

PHRASE_S = (6.0, 12.0)
GAP_S = (0.2, 0.8)
FADE_S = 0.005
SHIFT_SEMITONES = 2.0
RATE_STEP_HZ = 300
MAX_SINGER_CHARACTERS = 80  # up to 12 bytes each in the tags, which hold 2000 with the name of the chain


@dataclass(frozen=True)
class Recording:
    """One file of a dry voice. digest: of its content. test_only: of a singer whom no model may be trained on."""

    path: Path
    singer: str
    duration_s: float
    digest: str
    test_only: bool = False

    @property
    def split(self) -> Split:
        """90 % train, 5 % validation, 5 % test by a hash of singer and file name: the same on every machine."""
        if self.test_only:
            return "test"
        share = _fraction(f"{self.singer}/{self.path.stem}")
        return "train" if share < 0.9 else "validation" if share < 0.95 else "test"


@dataclass(frozen=True)
class Piece:
    """A stretch of a recording and the silence after it, in seconds."""

    recording: Recording
    start_s: float
    stop_s: float
    gap_s: float


@dataclass(frozen=True)
class Phrase:
    """One raw take to be: pieces of one singer in a row.

    speed: of playing, 1 is unchanged; pitch and formants move with it.
    """

    key: str
    pieces: tuple[Piece, ...]
    speed: float

    @property
    def singer(self) -> str:
        return self.pieces[0].recording.singer

    @property
    def song(self) -> str:
        """The names of the recordings in it."""
        return "+".join(dict.fromkeys(piece.recording.path.stem for piece in self.pieces))

    @property
    def split(self) -> Split:
        return self.pieces[0].recording.split


def _fraction(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _file_name(singer: str) -> str:
    """A name for files that is readable and, by its hash, the singer's own."""
    readable = "".join(letter if letter.isalnum() else "-" for letter in singer)[:20].strip("-")
    return f"{readable}-{hashlib.sha256(singer.encode()).hexdigest()[:6]}"


def find_recordings(places: Sequence[str | Path], manifest: Path | None, *, test_only: bool = False) -> list[Recording]:
    """All audio files of the given files and folders (searched through), each once, sorted by path.

    Every file is read through once, so that none turns out unusable when half of the pairs are made.

    manifest: a table with tabs and the columns `file` and `singer`, `file` relative to its own folder; without one
    the name of its folder is a file's singer. Raises InputError for a place without audio, a file that `audio.io.read`
    refuses, a manifest without these columns, a file without a singer in it, a singer's name that tags can't hold and
    a name that is not UTF-8.
    """
    singers = _singers(manifest) if manifest else None
    found: dict[Path, tuple[Path, str]] = {}
    for place in map(Path, places):
        files = [place]
        if place.is_dir():
            files = sorted(path for path in place.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
        if not files:
            raise InputError(f"{place}: no audio file there")
        for path in files:
            singer = path.resolve().parent.name if singers is None else singers.get(path.resolve())
            if not singer:
                raise InputError(f"{shown(path)}: has no singer in {manifest}")
            require_utf8(path, path.name + singer)
            if len(singer) > MAX_SINGER_CHARACTERS:
                raise InputError(
                    f"{manifest or path}: the singer {singer[:20]}… has a name of {len(singer)} characters;"
                    f" at most {MAX_SINGER_CHARACTERS} allowed"
                )
            found[path.resolve()] = path, singer
    ordered = sorted(found.values(), key=lambda each: str(each[0]))
    bar = tqdm(ordered, unit="file", desc="checking", disable=None, leave=False)
    return [Recording(path, singer, io.duration_s(path), content_digest(path), test_only) for path, singer in bar]


def _singers(manifest: Path) -> dict[Path, str]:
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{manifest}: cannot be read as a manifest ({error})") from error
    if not rows or not {"file", "singer"} <= rows[0].keys():
        raise InputError(f"{manifest}: a table with the columns file and singer was expected")
    return {(manifest.parent / row["file"]).resolve(): row["singer"] for row in rows if row["file"]}


def plan_phrases(recordings: Sequence[Recording], *, passes: int, shift_probability: float, seed: int) -> list[Phrase]:
    """Every recording once in each pass, in another order and with other gaps and shifts each time.

    Phrases hold one singer and one split and last about 6 … 12 s. Less than 3 s left over of a singer join the last
    phrase; more, or where there is no other, are a shorter phrase of their own. With `shift_probability` a phrase is
    played faster or slower by up to two semitones.
    """
    groups: dict[tuple[str, Split], list[Recording]] = defaultdict(list)
    for recording in recordings:
        groups[recording.singer, recording.split].append(recording)
    phrases = []
    for number in range(passes):
        for (singer, split), members in sorted(groups.items()):
            random = np.random.default_rng([seed, number, int(_fraction(f"{singer}/{split}") * 2**48)])
            for index, pieces in enumerate(_pack(members, random)):
                shifted = random.random() < shift_probability
                semitones = random.uniform(-SHIFT_SEMITONES, SHIFT_SEMITONES) if shifted else 0.0
                key = f"{_file_name(singer)}_{split}_{number}_{index:04d}"
                phrases.append(Phrase(key, pieces, 2 ** (semitones / 12)))
    return phrases


def _pack(recordings: Sequence[Recording], random: np.random.Generator) -> list[tuple[Piece, ...]]:
    shortest, longest = PHRASE_S
    stretches = []
    for recording in recordings:
        parts = max(1, int(np.ceil(recording.duration_s / longest)))
        edges = np.linspace(0, recording.duration_s, parts + 1)
        stretches += [(recording, start, stop) for start, stop in pairwise(edges)]
    packed: list[list[Piece]] = []
    current: list[Piece] = []
    length_s = 0.0
    for index in random.permutation(len(stretches)):
        recording, start, stop = stretches[index]
        if length_s >= shortest or (current and length_s + stop - start > longest):
            packed.append(current)
            current, length_s = [], 0.0
        current.append(Piece(recording, float(start), float(stop), float(random.uniform(*GAP_S))))
        length_s += stop - start + current[-1].gap_s
    if packed and length_s < shortest / 2:
        packed[-1] += current
    else:
        packed.append(current)
    return [tuple(pieces) for pieces in packed]


def read_phrase(phrase: Phrase, sample_rate: int) -> Waveform:
    """The phrase as mono at `sample_rate`; pieces of 5 ms fades at both ends, stereo recordings averaged."""
    parts = []
    for piece in phrase.pieces:
        stretch = io.read_stretch(piece.recording.path, piece.start_s, piece.stop_s)
        rate = stretch.sample_rate
        mono = stretch.samples.mean(dim=0, keepdim=True)
        # To play it faster by `speed` is to take its samples as those of a higher rate. Steps of 300 Hz, an eighth of
        # a semitone at 44.1 kHz, keep the ratio of the two rates, and with it the resampling filter, small.
        played_rate = rate if phrase.speed == 1 else RATE_STEP_HZ * round(rate * phrase.speed / RATE_STEP_HZ)
        part = Waveform(mono, played_rate).resampled(sample_rate).samples
        fade = torch.linspace(0, 1, min(round(FADE_S * sample_rate), part.shape[1]))
        part[:, : len(fade)] *= fade
        part[:, part.shape[1] - len(fade) :] *= fade.flip(0)
        parts += [part, torch.zeros(1, round(piece.gap_s * sample_rate))]
    return Waveform(torch.cat(parts, dim=1), sample_rate)
