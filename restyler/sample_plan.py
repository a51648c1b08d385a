"""What the options of `restyler sample` mean together, and which of them exclude each other."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

from audio.errors import InputError

# Knobs by their option: the control that each turns, and the sign; compression narrows the spread of the level.
KNOBS = {
    "brightness": ("brightness_db", 1.0),
    "space": ("space_db", 1.0),
    "compression": ("dynamics_db", -1.0),
    "width": ("width_db", 1.0),
}
DEFAULT_VARIATIONS = 4
DEFAULT_AROUND = 0.3
MOST_REFERENCES = 8
MOST_REFERENCE_BYTES = 450  # of their names in a file's comment
CHAINS = ("before", "after", "reverb")  # options that name effect chains
BUNDLED_REVERB, NO_REVERB = "bundled", "none"  # words of --reverb; what else it says is a file
LONGEST_CHAIN = 8000  # of the text of one that is sent to a service
CHAIN_TAG_BYTES = 70  # fewer for each of those, whose tags need that much
STEM_TAG_BYTES = 55  # fewer with stems, which say their names
# What a mix that one likes was told stands in its file.
FIXED_BY_LIKE = ("style", "control", "guidance", "sigma", "spread", "steps", "between", *KNOBS)
FIXED_BY_BETWEEN = ("variations", "seed")


def weighted_file(text: str) -> tuple[Path, float]:
    """An argument type: FILE or FILE=WEIGHT; what follows the last = is a weight where it is a number."""
    name, sign, weight = text.rpartition("=")
    try:
        value = float(weight) if sign and name else None
    except ValueError:
        value = None
    if value is None:
        return Path(text), 1.0
    if not (math.isfinite(value) and 0 < value <= 1000):
        raise argparse.ArgumentTypeError(f"{text!r}: a weight is a number above 0, up to 1000")
    return Path(name), value


def reverb_file(text: str) -> Path | str:
    """An argument type: a file, or one of the words that --reverb has; ./none is a file."""
    return text if text in (BUNDLED_REVERB, NO_REVERB) else Path(text)


def require_together(options: argparse.Namespace) -> None:
    """Raises InputError for options that exclude each other, and for one that would do nothing."""
    given = {name for name, value in vars(options).items() if value not in (None, [])}
    for one, others in (("like", FIXED_BY_LIKE), ("between", FIXED_BY_BETWEEN)):
        for other in others:
            if one in given and other in given:
                why = "the mix that one likes says that" if one == "like" else "A, B and N say that"
                raise InputError(f"--{one} and --{other} exclude each other: {why}")
    if "around" in given and "like" not in given:
        raise InputError("--around needs a mix to be around: --like")
    if options.around == 0 and ("seed" in given or options.variations not in (None, 1)):
        raise InputError("--around 0 gives the one mix of --like again: no --seed, no more --variations than 1")
    if options.between and options.between[0] == options.between[1]:
        raise InputError(f"--between needs two different seeds, not {options.between[0]} twice")
    if options.between and not 2 <= options.between[2] <= 100:
        raise InputError(f"--between A B N: N is the number of mixes, 2 to 100, not {options.between[2]}")
    if len(options.reference) > MOST_REFERENCES:
        raise InputError(f"--reference: up to {MOST_REFERENCES} files, not {len(options.reference)}")
    require_names_fit(options)


def require_names_fit(options: argparse.Namespace, *, more_chains: int = 0) -> None:
    """Raises InputError where the references' names leave a mix's comment too little room. more_chains: of those that
    no option names."""
    names = len(json.dumps(references_text(options.reference)))
    chains = sum(vars(options).get(name) not in (None, NO_REVERB) for name in CHAINS) + more_chains
    most = MOST_REFERENCE_BYTES - CHAIN_TAG_BYTES * chains - STEM_TAG_BYTES * bool(vars(options).get("stems"))
    if names > most:
        raise InputError(f"--reference: the names take {names} bytes of a mix's comment, {most} are kept for them")


def default_variations(options: argparse.Namespace) -> int:
    """Mixes of a take where nothing says how many: all that --around 0 could make would be the same one."""
    return 1 if options.around == 0 else DEFAULT_VARIATIONS


def wished_controls(options: argparse.Namespace) -> dict[str, float]:
    """By name, those of --control and those of the knobs. Raises InputError for one that is set twice."""
    wishes = list(options.control)
    for knob, (control, sign) in KNOBS.items():
        value = getattr(options, knob)
        if value is not None:
            wishes.append((control, sign * value))
    controls = dict(wishes)
    for name in controls:
        if sum(name == other for other, _ in wishes) > 1:
            knobs = [f"--{knob}" for knob, (control, _) in KNOBS.items() if control == name]
            also = f" ({knobs[0]} is the same)" if knobs else ""
            raise InputError(f"--control: each control can be set once, not {name} twice{also}")
    return controls


def references_text(references: Sequence[tuple[Path, float]]) -> str:
    """For a file's comment: names, with weights other than 1."""
    return ", ".join(path.name + ("" if weight == 1 else f"={weight:g}") for path, weight in references)


def originals(options: argparse.Namespace) -> dict[Path, str]:
    """Files that no mix may replace, beside the takes, and what they are."""
    kept = {path: "the reference" for path, _ in options.reference}
    return kept | ({options.like: "the mix of --like"} if options.like else {})
