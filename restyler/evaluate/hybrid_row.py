"""Rows of the hybrid: the model's dry character, and a reverb beside it (`restyler sample --reverb`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from audio.parts import Step, find_part
from audio.waveform import Waveform
from restyler.evaluate.evaluation_set import Song
from restyler.evaluate.model_rows import Finish, average_row
from restyler.evaluate.row import Row, as_loud, like, remembered
from restyler.pipeline import VocalRestylePipeline
from restyler.sends import ROOMS, dry_space_db, read_sends, summed, wet
from restyler.settings import ANY_STYLE, SPACE

# Nobody set these for the songs. PLATE: as the books have it for a lead vocal. SOFT_PLATE: found nearest for average
# answers on validation takes (docs/log.md).
HIGH_PASS = ("high_pass", {"frequency_hz": 250.0})
PLATE = (
    HIGH_PASS,
    (
        "reverb",
        {"wet_db": -14.0, "t60_low_s": 1.4, "t60_mid_s": 1.6, "t60_high_s": 1.1, "pre_delay_ms": 30.0, "seed": 0},
    ),
)
SOFT_PLATE = (
    HIGH_PASS,
    (
        "reverb",
        {"wet_db": -20.0, "t60_low_s": 2.5, "t60_mid_s": 2.5, "t60_high_s": 1.75, "pre_delay_ms": 20.0, "seed": 0},
    ),
)
PLATE_RATE_HZ = 48_000  # the noise of a reverb depends on it
AND_SOFT_PLATE = "and a soft plate"  # in names of rows
SOFT_PLATE_WHAT = "a plate of 2.5 s at −20 dB beside it"


def with_plate(dry: Waveform, plate: Sequence[tuple[str, Mapping[str, float]]] = SOFT_PLATE) -> Waveform:
    """The dry sound, stereo, and what a plate makes of it, at PLATE_RATE_HZ: at another rate it is another plate."""
    steps = [Step(name, find_part(name).checked(values)) for name, values in plate]
    heard = dry.stereo().resampled(PLATE_RATE_HZ)
    return summed(heard, wet(heard, {"plate": steps}))


def raw_with_plate_row() -> Row:
    """The soft plate beside the raw take: what of the hybrid the plate alone gives."""
    return Row(
        f"raw take {AND_SOFT_PLATE}",
        f"the raw take, and {SOFT_PLATE_WHAT} (what the plate alone gives)",
        lambda song: [as_loud(like(song.mix, with_plate(song.take)), song.take)],
    )


def finished_with_plate(finish: Finish) -> Finish:
    """The same with the soft plate beside what is finished."""
    return lambda take, mix: with_plate(finish(take, mix))


def hybrid_rows(
    pipeline: VocalRestylePipeline,
    finish: Finish,
    own: Row,
    *,
    draws: int,
    seed: int,
) -> list[Row]:
    """One plate beside all samples; the bundled file of rooms, as `restyler sample --reverb bundled` plays it; and the
    average answer with a soft plate.

    finish: the take and a decoded mix → the finished mix. own: the model's own row, a style drawn by each seed, whose
    seeds are `draws` from `seed` on and whose mixes are finished so too: the mixes without rooms are these. Raises
    InputError for a model that knows no space.
    """
    little = {SPACE: dry_space_db(pipeline.defaults)}
    style = ANY_STYLE if pipeline.styles else None
    rooms = read_sends(ROOMS, sample_rate=pipeline.codec.sample_rate)
    seeds = range(seed, seed + draws)

    @remembered
    def dry(song: Song) -> Sequence[Waveform]:
        take = song.take.resampled(pipeline.codec.sample_rate)
        mixes = pipeline(song.take, seeds=seeds, style=style, controls=little)
        return [finish(take, Waveform(mix, pipeline.codec.sample_rate)).stereo() for mix in mixes]

    def finished(song: Song, mix: Waveform) -> Waveform:
        return as_loud(like(song.mix, mix), song.take)

    every_room = replace(rooms, chains=replace(rooms.chains, every=1))

    def by_turns(in_rooms: Callable[[int], bool], song: Song) -> list[Waveform]:
        return [
            finished(song, summed(one_dry, wet(one_dry, every_room.drawn(one)))) if in_rooms(one) else one_own
            for one, one_dry, one_own in zip(seeds, dry(song), own.render(song), strict=True)
        ]

    what = f"{draws} samples told {little[SPACE]:.1f} dB of space"
    return [
        Row(
            "hybrid, residual and a plate",
            f"{what}, and one plate of 1.6 s at −14 dB beside all of them",
            lambda song: [finished(song, with_plate(mix, PLATE)) for mix in dry(song)],
        ),
        Row(
            "hybrid, residual and rooms for half",
            f"{what}, each in a room with echoes that its seed draws, by turns with the model's own (--reverb bundled)",
            partial(by_turns, rooms.heard_by),
        ),
        # The styles go by seeds too, the same for every song: what one order gains may be whose turn it was.
        Row(
            "hybrid, residual and rooms for the other half",
            "the same with the seeds that have rooms and those that have none exchanged",
            partial(by_turns, lambda one: not rooms.heard_by(one)),
        ),
        average_row(
            pipeline,
            f"hybrid, average answer {AND_SOFT_PLATE}",
            f"the average answer told {little[SPACE]:.1f} dB of space, and {SOFT_PLATE_WHAT}",
            finished_with_plate(finish),
            little,
        ),
    ]
