"""What `restyler synthesize` is going to render: every take with its augmentations and the chains of its mixes."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from audio.errors import InputError
from audio.parts import ProgramStep, Step, find_part
from audio.parts_kinds import Seed, Value
from audio.presets import read_presets, training_names
from audio.styles import find_styles
from restyler.chain_files import identified
from restyler.chain_tables import preset_values
from restyler.chains import Chains, share
from restyler.phrases import Phrase

STYLES = 7


@dataclass(frozen=True)
class Mix:
    """One mix of a take. name: of its files; chain: names what mixes that sound alike have in common.

    level_db: how much louder than the usual level its chain hears the take.
    """

    name: str
    style: str
    chain: str
    steps: tuple[Step, ...]
    level_db: float = 0.0


@dataclass(frozen=True)
class Take:
    """One raw take with its mixes. inverted: polarity, of the take and therefore of all its mixes."""

    phrase: Phrase
    mixes: tuple[Mix, ...]
    pitch_semitones: float = 0.0
    inverted: bool = False


@dataclass(frozen=True)
class Augmentation:
    """level_range_db: a mix's level_db lies within ± this. Probabilities are of a take, 0 … 1."""

    level_range_db: float = 0.0
    invert_probability: float = 0.0
    pitch_probability: float = 0.0
    pitch_range_semitones: float = 2.0


def plan_preset_takes(phrases: Sequence[Phrase], presets: Path, *, mixes_per_take: int, seed: int) -> list[Take]:
    """Deal the presets out evenly: those to train on to training and validation takes, the held-out ones to tests.

    A preset's style is the group of presets that sound alike. Raises InputError where a take or the styles would need
    more presets, or more different ones, than there are.
    """
    chains = read_presets(presets)
    trained = training_names(presets, list(chains))
    pools = {False: trained, True: sorted(chains.keys() - set(trained))}
    try:
        styles = find_styles([chains[name] for name in trained], count=STYLES)
    except ValueError as error:
        raise InputError(f"{presets}: of the presets to train on, {error}") from error
    for phrase in phrases:
        pool = pools[phrase.split == "test"]
        if mixes_per_take > len(pool):
            raise InputError(
                f"{presets}: {len(pool)} presets for the {phrase.split} split are too few for"
                f" {mixes_per_take} mixes of a take"
            )

    @cache
    def style_and_values(name: str) -> tuple[str, dict[str, Value]]:
        return styles.of(chains[name]), preset_values(presets, name, chains[name], seed=0)

    random = np.random.default_rng(seed)
    decks = {is_test: _Deck(pool, random) for is_test, pool in pools.items()}
    takes = []
    for phrase in phrases:
        mixes = []
        for name in decks[phrase.split == "test"].hand(mixes_per_take):
            reverb_seed = zlib.crc32(f"{seed}/{phrase.key}/{name}".encode())
            style, values = style_and_values(name)
            step = Step("vocal_chain", values | {Seed.name: reverb_seed})
            mixes.append(Mix(f"{phrase.key}__{name}", style, name, (step,)))
        takes.append(Take(phrase, tuple(mixes)))
    return takes


def plan_chain_takes(phrases: Sequence[Phrase], chains: Chains, *, mixes_per_take: int, seed: int) -> list[Take]:
    """Deal the styles of a file out evenly within each split, none twice to a take before it has all, and draw a chain
    for each mix.

    A mix is what its take, style and number within this style make it: other takes and styles don't change it, though
    they may change which mixes there are. Raises InputError where a table has no row for a split.
    """
    random = np.random.default_rng(seed)
    decks: dict[Hashable, _Deck] = defaultdict(lambda: _Deck(list(chains.styles), random))
    takes = []
    for phrase in phrases:
        hand = decks[phrase.split].hand(mixes_per_take)
        mixes = []
        for at, style in enumerate(hand):
            number = hand[:at].count(style)
            steps = chains.draw(style, number, key=phrase.key, seed=seed, is_test=phrase.split == "test")
            chain = f"{style}-{fingerprint(steps, chains.files)}"
            mixes.append(Mix(f"{phrase.key}__{style}_{number}", style, chain, steps))
        takes.append(Take(phrase, tuple(mixes)))
    return takes


def augmented(takes: Sequence[Take], augmentation: Augmentation, *, seed: int) -> Iterator[Take]:
    """The takes with levels, polarity and pitch drawn for each, by its key and the seed alone."""
    for take in takes:
        key = take.phrase.key
        is_shifted = share(seed, key, "pitch?") < augmentation.pitch_probability
        semitones = _within(augmentation.pitch_range_semitones, share(seed, key, "pitch")) if is_shifted else 0.0
        mixes = (
            replace(mix, level_db=_within(augmentation.level_range_db, share(seed, mix.name, "level")))
            for mix in take.mixes
        )
        inverted = share(seed, key, "invert?") < augmentation.invert_probability
        yield Take(take.phrase, tuple(mixes), semitones, inverted)


def _within(limit: float, share_of_range: float) -> float:
    """−limit … limit, evenly; never −0."""
    return (2 * share_of_range - 1) * limit + 0.0


def fingerprint(steps: Sequence[Step], files: Mapping[str, str]) -> str:
    """Eight hexadecimal digits that are the same for chains that differ in the seeds of their noise alone.

    files: what stands for the paths in the steps (see `restyler.chains.Chains`).
    """
    told = []
    for step in identified(steps, files):
        if isinstance(step, ProgramStep):
            told.append([step.name, step.path, dict(step.values), step.named])
            continue
        seeds = set() if step.path else {p.name for p in find_part(step.name).parameters if isinstance(p, Seed)}
        told.append([step.name, step.path, {name: v for name, v in step.values.items() if name not in seeds}])
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]


def mixes_crc32(takes: Iterable[Take], files: Mapping[str, str]) -> int:
    """A check sum of all mixes, the same wherever the `files` lie."""
    total = 0
    for take in takes:
        for mix in take.mixes:
            total = zlib.crc32(repr(replace(mix, steps=tuple(identified(mix.steps, files)))).encode(), total)
    return total


class _Deck:
    """Deals cards so that each has been dealt as often as any other, give or take one; shuffled anew each round."""

    def __init__(self, cards: Sequence[str], random: np.random.Generator) -> None:
        self._cards, self._random = list(cards), random
        self._left: list[str] = []

    def hand(self, count: int) -> list[str]:
        """`count` cards, none twice before each is among them."""
        hand: list[str] = []
        while len(hand) < count:
            least = len(hand) // len(self._cards)
            free = [card for card in self._left if hand.count(card) == least]
            if free:
                self._left.remove(free[0])
                hand.append(free[0])
            else:
                self._left += [self._cards[index] for index in self._random.permutation(len(self._cards))]
        return hand
