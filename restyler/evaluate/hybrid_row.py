"""Rows of the hybrid: the model's dry character, and a reverb beside it (`restyler sample --reverb`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from audio.parts import Step, find_part
from audio.waveform import Waveform
from restyler.evaluate.evaluation_set import Song
from restyler.evaluate.model_rows import average_row
from restyler.evaluate.row import Row, as_loud, like, remembered
from restyler.pipeline import VocalRestylePipeline
from restyler.sends import ROOMS, SPACE, dry_space_db, read_sends, summed, wet
from restyler.settings import ANY_STYLE

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


def hybrid_rows(
    pipeline: VocalRestylePipeline, finish: Callable[[Waveform, Waveform], Waveform], *, draws: int, seed: int
) -> list[Row]:
    """One plate beside all samples; the bundled file of rooms, as `restyler sample --reverb bundled` plays it; and the
    average answer with a soft plate.

    finish: the take and a decoded mix → the finished mix. A style drawn by each seed, the seeds those of the model's
    own rows. Raises InputError for a model that knows no space.
    """
    little = {SPACE: dry_space_db(pipeline.defaults)}
    style = ANY_STYLE if pipeline.styles else None
    plate, soft_plate = (
        {"plate": [Step(name, find_part(name).checked(values)) for name, values in parts]}
        for parts in (PLATE, SOFT_PLATE)
    )
    rooms = read_sends(ROOMS, sample_rate=pipeline.codec.sample_rate)
    seeds = range(seed, seed + draws)

    def sampled(controls: Mapping[str, float], song: Song) -> Sequence[Waveform]:
        take = song.take.resampled(pipeline.codec.sample_rate)
        mixes = pipeline(song.take, seeds=seeds, style=style, controls=controls)
        return [finish(take, Waveform(mix, pipeline.codec.sample_rate)).stereo() for mix in mixes]

    dry, own = (remembered(partial(sampled, controls)) for controls in (little, {}))

    def finished(song: Song, mix: Waveform, buses: Mapping[str, Sequence[Step]]) -> Waveform:
        return as_loud(like(song.mix, summed(mix, wet(mix, buses))), song.take)

    every_room = replace(rooms, chains=replace(rooms.chains, every=1))

    def by_turns(in_rooms: Callable[[int], bool], song: Song) -> list[Waveform]:
        return [
            finished(song, *((one_dry, every_room.drawn(one)) if in_rooms(one) else (one_own, {})))
            for one, one_dry, one_own in zip(seeds, dry(song), own(song), strict=True)
        ]

    def with_soft_plate(take: Waveform, mix: Waveform) -> Waveform:
        answer = finish(take, mix).stereo()
        return summed(answer, wet(answer, soft_plate))

    what = f"{draws} samples told {little[SPACE]:.1f} dB of space"
    return [
        Row(
            "hybrid, residual and a plate",
            f"{what}, and one plate of 1.6 s at −14 dB beside all of them",
            lambda song: [finished(song, mix, plate) for mix in dry(song)],
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
            "hybrid, average answer and a soft plate",
            f"the average answer told {little[SPACE]:.1f} dB of space, and a plate of 2.5 s at −20 dB beside it",
            with_soft_plate,
            little,
        ),
    ]
