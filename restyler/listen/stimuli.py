"""The sounds of a test as files: every condition of every item cut, levelled and written."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from audio.errors import InputError
from audio.io import read, require_signal, write
from audio.waveform import Waveform
from restyler.command import shown
from restyler.listen.anchors import ANCHORS
from restyler.listen.excerpts import Sound, active_starts, cut, levelled
from restyler.listen.plan import STIMULI, Role, Stimulus
from restyler.listen.sources import Item
from restyler.listen.spec import RESERVED, ExcerptSection

SAMPLE_RATE_HZ = 48_000
OPEN = "\nopen reference"  # the reference as it is called beside the hidden one; no condition can have such a name
DECIMALS = 4


@dataclass(frozen=True)
class Spot:
    """One excerpt of one item, with a stimulus of every condition, and the open reference where there is one.

    item: the key, with the excerpt's number where an item has several.
    """

    item: str
    start_s: float
    duration_s: float
    stimuli: Mapping[str, Stimulus]


def role_of(condition: str) -> Role:
    """What a condition is for, by its name."""
    return condition if condition in RESERVED else "system"  # type: ignore[return-value]


def make_spots(
    folder: Path,
    item: Item,
    heard: Set[str],
    excerpt: ExcerptSection,
    *,
    seed: int,
    loudness_lufs: float,
    anchors: bool,
) -> list[Spot]:
    """Cuts the excerpts of an item and writes those of the conditions `heard` to folder/stimuli.

    They are cut where the raw take is most active; without one, the reference, the mix, or the first condition.
    anchors: also the reference's low-passed forms. Raises InputError where a file can't be read, is silent (or the
    excerpt), or is not as long as the item's others.
    """
    leader = next(name for name in ("raw", "reference", "mix", *item.files) if name in item.files)
    try:
        starts = active_starts(_signal(item.files[leader]), excerpt.duration_s, excerpt.per_item)
    except InputError as error:
        raise InputError(f"{shown(item.files[leader])}: {error}") from None
    surroundings, length = _surroundings(
        {name: path for name, path in item.files.items() if name in heard or name == leader}, starts, excerpt.duration_s
    )
    found = []
    for place, start_s in enumerate(starts):
        name = item.key if len(starts) == 1 else f"{item.key} {place + 1}"
        sounds = {condition: around[place] for condition, around in surroundings.items() if condition in heard}
        if anchors:
            sounds |= {anchor: low_pass.of(sounds["reference"]) for anchor, low_pass in ANCHORS.items()}
        duration_s = min(excerpt.duration_s, length / SAMPLE_RATE_HZ - start_s)
        within_s = start_s - _span_s(start_s, excerpt.duration_s)[0]
        pieces = {condition: cut(sound, within_s, duration_s) for condition, sound in sounds.items()}
        where = f"{shown(item.key)} from {start_s:.2f} s"
        follows = {anchor: "reference" for anchor in ANCHORS if anchor in pieces}
        levels = levelled(pieces, loudness_lufs, follows=follows, where=where)
        if "reference" in levels:
            levels[OPEN] = levels["reference"]
        stimuli = {
            condition: write_sound(folder, sound, condition, item.files, name, seed)
            for condition, sound in levels.items()
        }
        found.append(Spot(name, round(start_s, DECIMALS), next(iter(pieces.values())).duration_s, stimuli))
    return found


def write_sound(
    folder: Path, sound: Sound, condition: str, files: Mapping[str, Path], item: str, seed: int
) -> Stimulus:
    """Writes folder/stimuli/NAME.wav, 24 bit; nothing but its samples depends on what it holds.

    The name is a hash of seed, item and condition: its order among the others tells nothing of theirs.
    """
    drawn = hashlib.sha256(repr((seed, item, condition)).encode("utf-8", "surrogateescape")).hexdigest()[:20]
    write(folder / STIMULI / f"{drawn}.wav", sound.waveform, tags={})
    shown_as = "reference" if condition == OPEN else condition
    return Stimulus(
        condition=shown_as,
        role=role_of(shown_as),
        file=f"{drawn}.wav",
        source=str(files["reference" if shown_as in ANCHORS else shown_as]),
        gain_db=round(sound.gain_db, DECIMALS),
        loudness_lufs=round(sound.loudness_lufs, DECIMALS),
    )


def _signal(path: Path) -> Waveform:
    """A file as stereo. Raises InputError where it can't be read or is silent."""
    waveform = read(path).stereo()
    require_signal(waveform, path)
    return waveform


def _surroundings(
    files: Mapping[str, Path], starts: Sequence[float], duration_s: float
) -> tuple[dict[str, list[Waveform]], int]:
    """Of each file what lies around every start, at the test's rate, and the samples that all of them have at least.

    Only that much is resampled: it begins at a whole second, where samples of all rates coincide, and has more on
    either side than resampling and anchors reach for, so the excerpt is the same as if all had been.
    """
    found: dict[str, list[Waveform]] = {}
    lengths: dict[str, int] = {}
    rates: dict[str, int] = {}
    for condition, path in files.items():
        whole = _signal(path)
        rate = rates[condition] = whole.sample_rate
        lengths[condition] = -(-whole.samples.shape[1] * SAMPLE_RATE_HZ // rate)
        spans = [_span_s(start_s, duration_s) for start_s in starts]
        found[condition] = [
            Waveform(whole.samples[:, begin * rate : end * rate].clone(), rate).resampled(SAMPLE_RATE_HZ)
            for begin, end in spans
        ]
    refuse_unequal(lengths, rates, files)
    return found, min(lengths.values())


def _span_s(start_s: float, duration_s: float) -> tuple[int, int]:
    """Whole seconds around an excerpt."""
    return max(0, int(start_s) - 1), math.ceil(start_s + duration_s) + 1


def refuse_unequal(samples: Mapping[str, int], rates: Mapping[str, int], files: Mapping[str, Path]) -> None:
    """Raises InputError where two conditions of an item differ in length, at the one rate of the test.

    A sample more or less is forgiven between files of different rates, where lengths had to be rounded.
    """
    first = next(iter(samples))
    for name, count in samples.items():
        off = count - samples[first]
        if abs(off) > (rates[name] != rates[first]):
            raise InputError(
                f"{shown(files[name])}: {abs(off)} samples ({abs(off) / SAMPLE_RATE_HZ:.4f} s)"
                f" {'longer' if off > 0 else 'shorter'} than {shown(files[first])};"
                " what is compared must have one length"
            )


def longest_s(spots: Sequence[Spot]) -> float:
    return max(spot.duration_s for spot in spots)
