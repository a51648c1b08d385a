"""The row of the hybrid: the model's dry character, and a reverb by hand beside it (`restyler sample --reverb`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from audio.parts import Step, find_part
from audio.waveform import Waveform
from restyler.evaluate.evaluation_set import Song
from restyler.evaluate.row import Row, as_loud, like
from restyler.pipeline import VocalRestylePipeline
from restyler.sends import SPACE, dry_space_db, summed, wet
from restyler.settings import ANY_STYLE

# Nobody set it for these songs: a plate as the books have it for a lead vocal, the same for all.
PLATE = (
    ("high_pass", {"frequency_hz": 250.0}),
    (
        "reverb",
        {"wet_db": -14.0, "t60_low_s": 1.4, "t60_mid_s": 1.6, "t60_high_s": 1.1, "pre_delay_ms": 30.0, "seed": 0},
    ),
)


def hybrid_row(
    pipeline: VocalRestylePipeline, finish: Callable[[Waveform, Waveform], Waveform], *, draws: int, seed: int
) -> Row:
    """finish: the take and a decoded mix → the finished mix. A style drawn by each seed, the seeds those of the model's
    own rows. Raises InputError for a model that knows no space."""
    controls = {SPACE: dry_space_db(pipeline.defaults)}
    style = ANY_STYLE if pipeline.styles else None
    plate = [Step(name, find_part(name).checked(values)) for name, values in PLATE]

    def sample(song: Song) -> Sequence[Waveform]:
        mixes = pipeline(song.take, seeds=range(seed, seed + draws), style=style, controls=controls)
        return [with_plate(song, Waveform(mix, pipeline.codec.sample_rate)) for mix in mixes]

    def with_plate(song: Song, decoded: Waveform) -> Waveform:
        dry = finish(song.take.resampled(decoded.sample_rate), decoded).stereo()
        return as_loud(like(song.mix, summed(dry, wet(dry, {"plate": plate}))), song.take)

    what = (
        f"{draws} samples told {controls[SPACE]:.1f} dB of space, and one plate of 1.6 s at −14 dB beside all of them"
    )
    return Row("hybrid, residual and a plate", what, sample)
