"""From a spec and its items to the plan of a test: which sounds meet on which page."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

import numpy as np

from audio.errors import InputError
from restyler.listen.plan import ListeningTest, Trial
from restyler.listen.power import Question, power_table, powers
from restyler.listen.sources import OWN, find_items
from restyler.listen.spec import Block, Spec, compared
from restyler.listen.stimuli import OPEN, SAMPLE_RATE_HZ, Spot, longest_s, make_spots
from restyler.progress import Progress, Work

DEFAULT_TRIALS_PER_PAIR = 16  # of ABX: 12 right answers are then significant at 5 %


def make_test(
    spec: Spec, base: Path, folder: Path, *, owner: str, tokens: Sequence[str], progress: Progress
) -> tuple[ListeningTest, list[str]]:
    """Writes folder/stimuli and returns the plan, and lines for who made it: advice and the table of power.

    base: the spec's folder. owner, tokens: of the owner's and the listeners' links. The plan depends on the spec and
    the files alone, but for the tokens. Raises InputError for what the spec asks of files that can't give it.
    """
    systems, items = find_items(spec, base)
    further = [name for name in OWN if name in items[0].files]
    sets = [compared(block, systems, further) for block in spec.trials]
    anchors = any(block.kind == "mushra" and block.anchors is not False for block in spec.trials)
    heard = {name for of_item in sets for conditions in of_item for name in conditions}
    if any(block.kind == "mushra" or block.reference for block in spec.trials):
        heard.add("reference")
    # What needs no sound is refused before any is read.
    for block, of_item in zip(spec.trials, sets, strict=True):
        _refuse_too_many(block, of_item, len(items) * spec.excerpt.per_item)
    questions = _questions(spec.trials, sets)
    asked = (questions, spec.listeners, spec.power.effect_d, spec.power.share, spec.power.alpha)
    table = power_table(*asked)
    work = Work(len(items), progress)
    spots: list[Spot] = []
    for item in items:
        spots += make_spots(
            folder, item, heard, spec.excerpt, seed=spec.seed, loudness_lufs=spec.loudness_lufs, anchors=anchors
        )
        work.add(1)
    trials: list[Trial] = []
    for number, (block, of_item) in enumerate(zip(spec.trials, sets, strict=True)):
        trials += _block_trials(block, of_item, spots, trials, _generator(spec.seed, "block", number))
    plan = ListeningTest(
        format=1,
        name=spec.name,
        seed=spec.seed,
        consent=spec.consent,
        instructions=spec.instructions,
        finish=spec.finish,
        headphone_check=spec.headphone_check,
        sample_rate_hz=SAMPLE_RATE_HZ,
        duration_s=longest_s(spots),
        listeners=spec.listeners,
        owner_token_sha256=token_hash(owner),
        listener_tokens_sha256=tuple(token_hash(token) for token in tokens),
        power=tuple(powers(*asked)),
        trials=tuple(trials),
    )
    return plan, [*advice(plan), table]


def token_hash(token: str) -> str:
    """What the plan keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def advice(plan: ListeningTest) -> list[str]:
    """What BS.1534-3 recommends and this test falls short of, one line each."""
    mushra = [trial for trial in plan.trials if trial.kind == "mushra"]
    count = len({trial.item for trial in mushra})
    lines = []
    if mushra:
        systems = max(sum(stimulus.role == "system" for stimulus in trial.stimuli) for trial in mushra)
        least = max(5, -(-3 * systems // 2))
        if count < least:
            lines.append(
                f"{count} items; BS.1534-3 advises at least {least} for {systems} systems (1.5 a system, and 5)"
            )
        if not any(trial.kind == "mushra" and trial.training for trial in plan.trials):
            lines.append("no pages for practice; BS.1534-3 demands them")
        if plan.listeners < 20:
            lines.append(f"{plan.listeners} listeners; BS.1534-3 finds about 20 after screening often enough")
        if not any(stimulus.role == "anchor35" for trial in mushra for stimulus in trial.stimuli):
            lines.append("no anchors; BS.1534-3 demands both, and without them nobody can be screened by the 7 kHz one")
    return lines


def _block_trials(
    block: Block,
    sets: Sequence[tuple[str, ...]],
    spots: Sequence[Spot],
    before: Sequence[Trial],
    rng: np.random.Generator,
) -> Iterator[Trial]:
    """The block's training pages, its trials, and its repeats.

    before: the trials of earlier blocks; numbers go on from theirs.
    """
    kind = "ab" if block.kind == "paired" else block.kind
    first = sum(trial.kind == kind and not trial.training and trial.repeat_of is None for trial in before)
    first_training = sum(trial.kind == kind and trial.training for trial in before)
    originals = [
        Trial(
            id=f"{kind}-{number:02d}",
            kind=kind,
            item=spot.item,
            question=block.asked(),
            reference=spot.stimuli[OPEN] if kind == "mushra" or block.reference else None,
            stimuli=tuple(spot.stimuli[name] for name in _sounds(block, conditions)),
            ties=bool(block.ties),
            start_s=spot.start_s,
        )
        for number, (spot, conditions) in enumerate(_meetings(block, sets, spots, rng), start=first + 1)
    ]
    for number, place in enumerate(rng.permutation(len(originals))[: block.training], start=first_training + 1):
        yield originals[place].model_copy(update={"id": f"training-{kind}-{number:02d}", "training": True})
    yield from originals
    for place in sorted(rng.permutation(len(originals))[: block.repeats]):
        original = originals[place]
        yield original.model_copy(update={"id": f"{original.id}-again", "repeat_of": original.id})


def _refuse_too_many(block: Block, sets: Sequence[tuple[str, ...]], spots: int) -> None:
    """Raises InputError where a block has fewer trials than are to be practised, or repeated (apart, so of two)."""
    count = len(sets) * (block.trials_per_pair or DEFAULT_TRIALS_PER_PAIR if block.kind == "abx" else spots)
    for what, wanted, least in (("training", block.training, 1), ("repeats", block.repeats, 2)):
        if wanted and count < max(wanted, least):
            raise InputError(f"trials: {block.kind}: {what} of {wanted}, but the block has {count} trials")


def _sounds(block: Block, conditions: tuple[str, ...]) -> tuple[str, ...]:
    if block.kind != "mushra":
        return conditions
    return ("reference", *(() if block.anchors is False else ("anchor35", "anchor70")), *conditions)


def _meetings(
    block: Block, sets: Sequence[tuple[str, ...]], spots: Sequence[Spot], rng: np.random.Generator
) -> Iterator[tuple[Spot, tuple[str, ...]]]:
    """Every set of conditions on every spot; of ABX as many trials of a pair as asked for, evenly over the spots."""
    for conditions in sets:
        if block.kind != "abx":
            yield from ((spot, conditions) for spot in spots)
            continue
        wanted = block.trials_per_pair or DEFAULT_TRIALS_PER_PAIR
        order = [int(place) for place in rng.permutation(len(spots))]
        yield from ((spots[place], conditions) for place in sorted((order * wanted)[:wanted]))


def _questions(blocks: Sequence[Block], sets: Sequence[Sequence[tuple[str, ...]]]) -> list[Question]:
    """What is tested, by kind and question, as the analysis tests it: blocks that ask the same are one family."""
    together: dict[tuple[str, str], list[tuple[Block, Sequence[tuple[str, ...]]]]] = {}
    for block, of_item in zip(blocks, sets, strict=True):
        kind = "ab" if block.kind == "paired" else block.kind
        together.setdefault((kind, block.asked()), []).append((block, of_item))
    return [
        _asked([block for block, _ in group], {conditions for _, of_item in group for conditions in of_item})
        for group in together.values()
    ]


def _asked(blocks: Sequence[Block], sets: Set[tuple[str, ...]]) -> Question:
    name = blocks[0].kind
    pairs = len({frozenset(conditions) for conditions in sets})
    match name:
        case "abx":
            fewest = min(block.trials_per_pair or DEFAULT_TRIALS_PER_PAIR for block in blocks)
            return Question(name, "binomtest", pairs, fewest)
        case "ab" | "paired":
            return Question(name, "sign test", pairs)
        case "ccr":
            return Question(name, "wilcoxon", pairs)
        case _:
            count = len({one for conditions in sets for one in conditions})
            return Question(name, "wilcoxon", max(1, count * (count - 1) // 2))


def _generator(*purpose: int | str) -> np.random.Generator:
    digest = hashlib.sha256(repr(purpose).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
