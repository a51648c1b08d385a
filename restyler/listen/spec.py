"""What a listening test is designed from: SPEC.yaml, checked before any sound is read."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from audio.errors import InputError
from restyler.config import validate
from restyler.listen.texts import CONSENT, FINISH, INSTRUCTIONS, QUESTIONS
from restyler.sections import NonNegative, Section
from restyler.yamltree import Tree

RESERVED = ("reference", "anchor35", "anchor70", "raw", "mix")  # names with a role; no system may have them
MOST_SOUNDS = 12  # of a trial (ITU-R BS.1534-3, 5.3)
LONGEST_S = 12.0  # of an excerpt (BS.1534-3, 6)
SHORTEST_S = 0.5  # of a loop (BS.1534-3, 5.5)

Named = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$")]
Folder = Annotated[str, Field(min_length=1)]
Couple = Annotated[tuple[Named, Named], Field(description="two conditions")]

_OF_KINDS = {
    "conditions": ("mushra", "rating", "paired", "acr"),
    "anchors": ("mushra",),
    "pairs": ("ab", "abx", "ccr"),
    "ties": ("ab", "paired"),
    "reference": ("ab", "paired"),
    "trials_per_pair": ("abx",),
}


class Block(Section):
    """Trials of one kind. What each key means stands in docs/listening.md."""

    kind: Literal["mushra", "rating", "ab", "abx", "paired", "acr", "ccr"]
    question: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    conditions: Annotated[tuple[Named, ...], Field(min_length=1)] | None = None
    anchors: bool | None = None
    pairs: Annotated[tuple[Couple, ...], Field(min_length=1)] | None = None
    ties: bool | None = None
    reference: bool | None = None
    trials_per_pair: Annotated[int, Field(ge=1, le=200)] | None = None
    training: Annotated[int, Field(ge=0, le=20)] = 1
    repeats: Annotated[int, Field(ge=0, le=100)] = 0

    @model_validator(mode="after")
    def _of_its_kind(self) -> Block:
        for key, kinds in _OF_KINDS.items():
            if getattr(self, key) is not None and self.kind not in kinds:
                raise ValueError(f"«{key}» belongs to {', '.join(kinds)}, not to {self.kind}")
        if self.kind in _OF_KINDS["pairs"] and self.pairs is None:
            raise ValueError(f"{self.kind} needs «pairs»: a list of [condition, condition]")
        for couple in self.pairs or ():
            if couple[0] == couple[1]:
                raise ValueError(f"«{couple[0]}» against itself")
        for what, given in (
            ("pair", [frozenset(couple) for couple in self.pairs or ()]),
            ("condition", self.conditions),
        ):
            if given and len(set(given)) < len(given):
                raise ValueError(f"a {what} is given twice")
        return self

    def asked(self) -> str:
        return self.question or QUESTIONS[("similar" if self.reference else self.kind)]


class ExcerptSection(Section):
    duration_s: Annotated[float, Field(ge=SHORTEST_S, le=LONGEST_S)] = 10.0
    per_item: Annotated[int, Field(ge=1, le=20)] = 1


class PowerSection(Section):
    """The least effects worth finding. effect_d: Cohen's d of paired differences; share: of correct answers (abx), or
    of listeners who prefer the same (ab)."""

    effect_d: Annotated[float, Field(gt=0, le=5)] = 0.5
    share: Annotated[float, Field(gt=0.5, lt=1)] = 0.75
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05


class EvaluateSection(Section):
    """Kept renders of `restyler evaluate --keep-renders`: its OUT, its SET (for raw takes and mixes), whether these
    mixes are the true references too, and which rows (default: all)."""

    folder: Folder
    set: Folder | None = None
    reference: bool = False
    rows: Annotated[tuple[Named, ...], Field(min_length=1)] | None = None


class Spec(Section):
    name: Annotated[str, Field(min_length=1, max_length=200)]
    seed: NonNegative
    listeners: Annotated[int, Field(ge=1, le=1000)]
    conditions: dict[Named, Folder] = Field(default_factory=dict)
    evaluate: EvaluateSection | None = None
    draw: NonNegative = 0
    variations: Folder | None = None
    raw: Folder | None = None
    mix: Folder | None = None
    reference: Folder | None = None
    items: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    trials: Annotated[tuple[Block, ...], Field(min_length=1)]
    excerpt: ExcerptSection = ExcerptSection()
    loudness_lufs: Annotated[float, Field(ge=-40, le=-10)] = -23.0
    power: PowerSection = PowerSection()
    headphone_check: bool = True
    consent: Annotated[str, Field(max_length=20_000)] = CONSENT
    instructions: Annotated[str, Field(max_length=20_000)] = INSTRUCTIONS
    finish: Annotated[str, Field(max_length=20_000)] = FINISH

    @model_validator(mode="after")
    def _possible(self) -> Spec:
        taken = sorted(set(self.conditions) & set(RESERVED))
        if taken:
            raise ValueError(f"conditions: «{taken[0]}» has a meaning of its own; name the system otherwise")
        if not (self.conditions or self.evaluate or self.variations):
            raise ValueError("nothing to compare: give conditions, evaluate or variations")
        if self.evaluate and self.evaluate.set and (self.raw or self.mix):
            raise ValueError("evaluate: «set» has raw takes and mixes; give either it, or «raw» and «mix»")
        of_set = self.evaluate is not None and self.evaluate.reference
        if of_set and (self.reference or not (self.evaluate and self.evaluate.set)):
            raise ValueError("evaluate: «reference: true» takes the mixes of «set», instead of a folder «reference»")
        referenced = of_set or self.reference is not None
        for block in self.trials:
            if block.kind == "mushra" and not referenced:
                raise ValueError(
                    "trials: mushra is offered only where a true reference exists: give «reference», or ask by «rating»"
                )
            if block.reference and not referenced:
                raise ValueError(f"trials: {block.kind} with «reference: true» needs the folder «reference»")
        return self


def parse_spec(tree: Tree, source: str) -> Spec:
    """Raises InputError with one line for every mistake."""
    return validate(tree, Spec, source)


def compared(block: Block, systems: Sequence[str], further: Sequence[str]) -> list[tuple[str, ...]]:
    """The sets of conditions that the trials of a block show for every item, without MUSHRA's reference and anchors.

    systems: by name, in the order of the tables. further: "raw", "mix" and "reference", where there are such files. A
    block of many sounds shows the systems it names, or all, with raw take and mix hidden among them; mushra the raw
    take alone, unless it names the mix.

    Raises InputError for a condition that there is not, and for too many sounds.
    """
    known = [*systems, *further]
    chosen = list(block.conditions or systems)
    for name in [*chosen, *(name for couple in block.pairs or () for name in couple)]:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise InputError(
                f"trials: {block.kind}: there is no condition «{name}»"
                + (f", did you mean «{near[0]}»?" if near else f" (there are: {', '.join(known)})")
            )
    if block.kind == "mushra" and "reference" in chosen:
        raise InputError("trials: mushra: the hidden reference is there already; «conditions» are the others")
    among = ("raw",) if block.kind == "mushra" else ("raw", "mix")
    hidden = [name for name in further if name in among and name not in chosen]
    match block.kind:
        case "mushra" | "rating":
            sounds = [*chosen, *hidden]
            extra = 0 if block.kind == "rating" else 1 if block.anchors is False else 3
            if len(sounds) + extra > MOST_SOUNDS:
                raise InputError(
                    f"trials: {block.kind} of {len(sounds) + extra} sounds; at most {MOST_SOUNDS} on one page:"
                    " name fewer «conditions»"
                )
            if len(sounds) < 2 - min(extra, 1):
                raise InputError(f"trials: {block.kind} of one sound; at least two are needed")
            return [tuple(sounds)]
        case "acr":
            return [(name,) for name in [*chosen, *hidden]]
        case "paired":
            if len(chosen) < 2:
                raise InputError("trials: paired comparison of one condition; at least two are needed")
            return list(combinations(chosen, 2))
        case _:
            return list(block.pairs or ())


def below(base: Path, folder: str) -> Path:
    """A path of the spec: relative to the spec's own folder."""
    return base / Path(folder).expanduser()
