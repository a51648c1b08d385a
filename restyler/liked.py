"""A mix that one likes: what it was told, read from its own file, and new mixes between it and other seeds'."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from audio.errors import InputError
from audio.io import read_tags
from audio.waveform import Waveform
from restyler.command import LONGEST_TAIL_S, LOWEST_PEAK_DBTP, QUIETEST_LUFS, shown
from restyler.digests import sha256
from restyler.noise import Seed, Walk, parse_seed, toward
from restyler.pipeline import VocalRestylePipeline
from restyler.sample_plan import CHAINS, references_text
from restyler.settings import Settings
from restyler.telling import Told, between
from restyler.way_names import WAYS

GUARDED = {"on": True, "off": False}  # by what a comment says


@dataclass(frozen=True)
class Liked:
    """What stands in the comment of a mix. settings: without style; its controls are those that no seed drew.

    told, seed: of this one mix. references: its tags about references, as `reference_tags` writes them. chains: those
    about the effect chains before and after the model.
    """

    path: Path
    settings: Settings
    told: Told
    seed: Seed
    references: Mapping[str, str]
    strength: float
    lufs: float | None
    peak_dbtp: float
    way: str
    guarded: bool = False
    tail_s: float = 0.0
    chains: Mapping[str, str] = field(default_factory=dict)

    @property
    def next_seed(self) -> int:
        """After all seeds that this mix comes from."""
        seeds = [self.seed.seed, *(seed for seed, _ in self.seed.turns)] if isinstance(self.seed, Walk) else [self.seed]
        return max(seeds) + 1


def between_seeds(
    pipeline: VocalRestylePipeline, take: Waveform, settings: Settings, first: int, last: int, count: int
) -> tuple[list[Seed], list[Told]]:
    """`count` mixes (at least 2) in equal steps from one seed's to another's, which are the first and the last."""
    one, other = pipeline.told(take, settings, [first, last])
    parts = [number / (count - 1) for number in range(count)]
    return [toward(first, last, part) for part in parts], [between(one, other, part) for part in parts]


def around(
    pipeline: VocalRestylePipeline, take: Waveform, liked: Liked, seeds: Sequence[int], reach: float
) -> tuple[list[Seed], list[Told]]:
    """One mix for each seed, `reach` (0 … 1) of the way from the liked one to what the seed draws for the same styles
    and told controls: 0 is the liked mix itself, 1 owes nothing to its seed.

    Raises InputError where the liked mix comes from too many steps already.
    """
    drawn = list[Told]()
    for seed in seeds:
        found, whole = None, 0.0
        for style, share in liked.told.shares():
            (one,) = pipeline.told(take, replace(liked.settings, style=style), [seed])
            whole += share
            found = one if found is None else between(found, one, share / whole)
        if found is None:
            raise ValueError("shares without a style")
        drawn.append(Told(liked.told.styles, found.controls, found.drawn))
    reached = [between(liked.told, one, reach) for one in drawn]
    return [toward(liked.seed, seed, reach) for seed in seeds], reached


def read_liked(path: Path, pipeline: VocalRestylePipeline, *, model: str, take: str) -> Liked:
    """From the comment of a mix that `restyler sample` wrote. model, take: the tags of the model and of the take's file
    that the new mixes are made with.

    Raises InputError, in one line, for a file without such a comment, for a mix of another take or by another model,
    and for settings that this model can't have.
    """
    tags = read_tags(path)
    if "seed" not in tags or "take" not in tags or "model" not in tags:
        raise InputError(f"{shown(path)}: its comment doesn't say which take, model and seed it was made with")
    if tags["model"].split(" ")[-1] != model.split(" ")[-1]:
        raise InputError(f"{shown(path)}: made with another model ({shown(tags['model'])}, not {shown(model)})")
    if tags["take"] != take:
        raise InputError(f"{shown(path)}: made from another take; give the file of its own take")
    try:
        return _liked(path, tags, pipeline)
    except InputError as error:
        raise InputError(f"{shown(path)}: {error}") from None
    except (KeyError, ValueError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise InputError(f"{shown(path)}: its comment is not as this version writes it ({error})") from None


def _liked(path: Path, tags: Mapping[str, str], pipeline: VocalRestylePipeline) -> Liked:
    controls: Any = ast.literal_eval(tags.get("controls", "{}"))
    drawn = tags.get("drawn", "").split()
    every = set(pipeline.defaults.controls)  # where some are drawn, none is left out
    if not isinstance(controls, dict) or not set(drawn) <= controls.keys() or (drawn and controls.keys() != every):
        raise ValueError(f"controls {controls}, drawn {drawn}")
    values = {str(name): float(value) for name, value in controls.items()}
    settings = pipeline.settings(
        controls={name: value for name, value in values.items() if name not in drawn},
        steps=int(tags["steps"]),
        guidance=float(tags["guidance"]) if "guidance" in tags else None,
        sigma=float(tags["sigma"]) if "sigma" in tags else None,
        spread=float(tags["spread"]) if drawn else 0.0,
    )
    pipeline.settings(controls=values)
    styles = styles_of(tags.get("style"), pipeline.styles)
    lufs = float(tags["lufs"]) if "lufs" in tags else None
    strength, peak, way = float(tags["strength"]), float(tags["peak_dbtp"]), tags["render"]
    if not 0 <= strength <= 1 or not LOWEST_PEAK_DBTP <= peak <= 0 or way not in WAYS:
        raise ValueError(f"strength {strength}, peak {peak} dBTP, render {way}")
    if lufs is not None and not QUIETEST_LUFS <= lufs <= 0:
        raise ValueError(f"{lufs} LUFS")
    guarded = GUARDED[tags.get("guard", "off")]  # before there were guards, no tag told of them
    tail_s = float(tags.get("tail", "0"))
    if not 0 <= tail_s <= LONGEST_TAIL_S:
        raise ValueError(f"tail {tail_s} s")
    references = {name: tags[name] for name in ("reference", "reference_sha256") if name in tags}
    seed = parse_seed(tags["seed"])
    chains = {name: tags[name] for name in CHAINS if name in tags}
    told = Told(styles, values, frozenset(drawn))
    return Liked(path, settings, told, seed, references, strength, lufs, peak, way, guarded, tail_s, chains)


def styles_of(text: str | None, known: Collection[str]) -> dict[str, float]:
    """What `Told.style` made of styles and their shares. Raises ValueError for what can't be shares of known styles."""
    if text is None:
        return {}
    if text in known:
        return {text: 1.0}
    shares: Any = json.loads(text)
    if not isinstance(shares, dict) or not shares.keys() <= set(known):
        raise ValueError(f"style {text}")
    found = {name: float(share) for name, share in shares.items()}
    if not all(0 < share < 1 for share in found.values()) or not math.isclose(sum(found.values()), 1):
        raise ValueError(f"shares {text}")
    return found


def reference_tags(references: Sequence[tuple[Path, float]]) -> dict[str, str]:
    """For a file's comment, of files with their weights: their names, and what tells the files themselves."""
    if not references:
        return {}
    digests = " ".join(f"{file_digest(path)}={weight!r}" for path, weight in references)
    return {"reference": references_text(references), "reference_sha256": digests}


def same_references(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether tags of `reference_tags` tell of the same files and weights, whatever the files are called now."""
    return one.get("reference_sha256") == other.get("reference_sha256")


def file_digest(path: Path) -> str:
    """Twelve hex digits of the SHA-256 of a file that could be read a moment ago."""
    return sha256(path)[:12]
