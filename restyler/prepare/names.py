"""What a file's name says: the song, which take of it, and whether it is the raw take or the mix."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

SIGNS = set("#&%@+$")  # punctuation that tells titles apart
TAKE = re.compile(r"(take|tk|t|version|ver|v|pass)(\d*)")
Key = tuple[str, ...]


@dataclass(frozen=True)
class Name:
    """A relative path without what names the side: «Ann/Blue Moon_take 2_raw.wav» → folder (ann), name (blue, moon),
    take (2), shown «Ann/Blue Moon_take 2», folders as they are spelled (Ann).

    Words are compared without case, accents composed (macOS decomposes them). The word for the side may stand first
    or last, a number behind it («mix 2») tells mixes of one take apart and is no part of the name. A take's word and
    number may stand before or after it; a number alone belongs to the name. At most one word is taken for the side,
    and never the last one that is left: a song may be called «Dry».
    """

    folder: Key
    name: Key
    take: Key
    has_role: bool
    shown: str
    folders: tuple[str, ...]


def parse(path: PurePath, role_words: Sequence[str]) -> Name:
    """The name of a file at a relative path; role_words: what its side is called in file names, in small letters."""
    parts = [unicodedata.normalize("NFC", part) for part in path.with_suffix("").parts]
    *folders, stem = parts
    kept_folders = [part for part in folders if part.casefold() not in role_words]
    words = _words(stem)
    texts = [stem[start:stop].casefold() for start, stop in words]
    take, removed = _take(texts)
    role = _role(texts, removed, role_words)
    rest = [index for index in range(len(texts)) if index not in removed | role]
    if not rest:  # nothing but a take and a side: then these words are the name
        role, take, removed, rest = set(), (), set(), list(range(len(texts)))
    shown = stem
    for index in sorted(role, reverse=True):
        shown = _without(shown, words[index], first=index == 0)
    return Name(
        tuple(part[start:stop].casefold() for part in kept_folders for start, stop in _words(part)),
        tuple(texts[index] for index in rest),
        take,
        bool(role) or len(kept_folders) < len(folders),
        "/".join([*kept_folders, shown]),
        tuple(kept_folders),
    )


def _words(text: str) -> list[tuple[int, int]]:
    """Where words start and stop: what lies between spaces, underscores and punctuation. Symbols and marks are parts of
    words («C#», «♥», vowel signs), and a text of punctuation alone is one word."""
    parted = [character not in SIGNS and unicodedata.category(character)[0] in "ZCP" for character in text]
    edges = [i for i in range(len(text) + 1) if (i > 0 and not parted[i - 1]) != (i < len(text) and not parted[i])]
    return list(zip(edges[::2], edges[1::2], strict=True)) or [(0, len(text))]


def _take(texts: Sequence[str]) -> tuple[Key, set[int]]:
    """The number of the take, and which words say it."""
    for index in range(len(texts) - 1, 0, -1):  # the first word is the song's
        match = TAKE.fullmatch(texts[index])
        if match and match.group(2):
            return (str(int(match.group(2))),), {index}
        if match and len(match.group(1)) > 1 and index + 1 < len(texts) and texts[index + 1].isdecimal():
            return (str(int(texts[index + 1])),), {index, index + 1}
    return (), set()


def _role(texts: Sequence[str], taken: set[int], role_words: Sequence[str]) -> set[int]:
    """Which words name the side: the last one apart from the take's, with a number in or behind it, or the first."""
    free = [index for index in range(len(texts)) if index not in taken]
    if not free:
        return set()
    pattern = re.compile(rf"({'|'.join(map(re.escape, role_words))})\d*")
    last = free[-1]
    if pattern.fullmatch(texts[last]):
        return {last}
    if len(free) > 1 and texts[last].isdecimal() and texts[free[-2]] in role_words:
        return {free[-2], last}
    return {free[0]} if texts[free[0]] in role_words else set()


def _without(stem: str, word: tuple[int, int], *, first: bool) -> str:
    """The stem without a word and the signs that part it from its neighbour."""
    before, after = stem[: word[0]], stem[word[1] :]
    if first:
        return re.sub(r"^[\W_]+", "", after)
    return re.sub(r"[\s_\-.(\[]+$", "", before) + re.sub(r"^[)\]]", "", after)
