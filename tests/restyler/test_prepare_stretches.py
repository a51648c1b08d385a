"""Neighbouring segments are encoded in one go: with the latents of the whole take, whichever of them are asked for."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio.activity import STEP_S
from audio.alignment import Alignment, Region
from audio.waveform import Waveform
from codec.base import LatentCodec
from codec.encodec48 import Encodec48Codec
from codec.pocket import PocketCodec
from restyler.model_folder import BUNDLED
from restyler.prepare.encoding import Encoder
from restyler.prepare.examining import stamps_of
from restyler.prepare.plan import JOINED_GAP_S, STRETCH_S, PlannedMix, PlannedSegment, PlannedTake, plan_segments
from restyler.prepare.segments import SegmentRules
from restyler.shards import Segment

RATE_HZ = 48_000
FRAME_RATE_HZ = 150
RULES = SegmentRules(longest_s=2.0, shortest_s=0.2, gap_s=0.3, lead_s=0.1, tail_s=0.2)


def planned_take(raw: Path, *mixes: tuple[Path, tuple[Region, ...]]) -> PlannedTake:
    return PlannedTake(
        key="take",
        path=raw,
        content="raw",
        song="song",
        singer=None,
        split="train",
        gain_db=0.0,
        stamps=stamps_of([raw, *(path for path, _ in mixes)]),
        mixes=tuple(
            PlannedMix(path.stem, path, path.stem, Alignment(regions, 1.0, 1, 1.0, 1.0, 1.0, 0.0), 0.0, None, None)
            for path, regions in mixes
        ),
    )


def plan(take: PlannedTake, sounding: list[tuple[bool, float]]) -> list[PlannedSegment]:
    active = np.concatenate([np.full(round(seconds / STEP_S), on) for on, seconds in sounding])
    level_db = np.where(active, -20.0, -90.0) + np.linspace(0, 0.1, len(active))
    return plan_segments(take, level_db, RULES, frame_rate_hz=FRAME_RATE_HZ)


def covered(stop_s: float) -> tuple[tuple[Path, tuple[Region, ...]], ...]:
    return ((Path("mix"), (Region(0.0, stop_s, 0.0),)),)


def test_close_segments_share_a_stretch_and_far_ones_do_not() -> None:
    found = plan(
        planned_take(Path("raw"), *covered(60)), [(True, 5.0), (False, 0.9), (True, 4.0), (False, 3.0), (True, 3.0)]
    )
    assert len(found) >= 7
    for one, other in pairwise(found):
        close = other.start_frame - one.stop_frame <= JOINED_GAP_S * FRAME_RATE_HZ
        assert (one.stretch == other.stretch) == close
    assert len({one.stretch for one in found}) == 2
    for one in found:
        ends = [other for other in found if other.stretch == one.stretch]
        assert one.stretch == (ends[0].start_frame, ends[-1].stop_frame)


def test_a_stretch_has_a_longest_length_and_another_one_makes_another_segment() -> None:
    take = planned_take(Path("raw"), *covered(400))
    long, short = (plan(take, [(True, seconds)]) for seconds in (3 * STRETCH_S, STRETCH_S / 2))
    lengths = [(stop - first) / FRAME_RATE_HZ for first, stop in dict.fromkeys(one.stretch for one in long)]
    assert max(lengths) <= STRETCH_S and len(lengths) <= 4
    frames = {(one.start_frame, one.stop_frame): one for one in long}
    both = [(frames[key], one) for one in short if (key := (one.start_frame, one.stop_frame)) in frames]
    assert both and all(ours.stretch != theirs.stretch and ours.digest() != theirs.digest() for ours, theirs in both)


def test_where_a_mix_or_a_region_ends_a_stretch_does() -> None:
    """One mix in two parts, the other ends earlier still."""
    edited = Path("edited"), (Region(0.0, 8.0, 0.0), Region(8.0, 12.0, 0.5))
    short = Path("short"), (Region(0.0, 4.0, 0.0),)
    found = plan(planned_take(Path("raw"), edited, short), [(True, 12.0)])
    for one, other in pairwise(found):
        same = (one.mixes, one.regions) == (other.mixes, other.regions)
        assert (one.stretch == other.stretch) == same
    assert [stop / FRAME_RATE_HZ for _, stop in dict.fromkeys(one.stretch for one in found)] == [4.0, 8.0, 12.0]


@pytest.fixture(scope="module", params=["pocket", "encodec"])
def codec(request: pytest.FixtureRequest) -> LatentCodec:
    if request.param == "encodec":
        return Encodec48Codec.from_seed(0, n_filters=2)
    return PocketCodec.from_pretrained(BUNDLED / "codec").eval()


@pytest.fixture(scope="module")
def sound(sung: Callable[[int, float], Waveform]) -> np.ndarray:
    return np.resize(sung(3, 8.0).samples[0].numpy(), 10 * RATE_HZ)


@pytest.fixture
def take(tmp_path: Path, sound: np.ndarray) -> PlannedTake:
    """Ten seconds. The mix is the take, a quarter of a second late, and from 6 s on half a second; louder by a half."""
    cut = 6 * RATE_HZ
    late = np.zeros(RATE_HZ // 4)
    soundfile.write(tmp_path / "raw.wav", sound, RATE_HZ, "FLOAT")
    soundfile.write(
        tmp_path / "mix.wav", np.concatenate([late, sound[:cut], late, sound[cut:]]) * 1.5, RATE_HZ, "FLOAT"
    )
    regions = Region(0.0, 6.0, 0.25), Region(6.0, 10.0, 0.5)
    return planned_take(tmp_path / "raw.wav", (tmp_path / "mix.wav", regions))


def encoded(codec: LatentCodec, planned: list[PlannedSegment]) -> list[Segment]:
    return Encoder(codec, torch.device("cpu")).segments(planned)


def stretches(planned: list[PlannedSegment]) -> list[list[PlannedSegment]]:
    return [[one for one in planned if one.stretch == stretch] for stretch in dict.fromkeys(p.stretch for p in planned)]


def test_segments_have_the_latents_of_the_whole_take(codec: LatentCodec, take: PlannedTake, sound: np.ndarray) -> None:
    with torch.no_grad():
        raw, mix = (
            codec.encode_raw(torch.from_numpy(gain * sound).float().repeat(1, 2, 1))[0].T.numpy() for gain in (1, 1.5)
        )
    parts = stretches(plan(take, [(True, 10.0)]))
    assert [len(part) >= 2 for part in parts] == [True, True]
    encoder = Encoder(codec, torch.device("cpu"))
    end = len(raw) - 150  # what is behind the end of a file is silence here, and mirrored there
    for part in parts:
        for planned, segment in zip(part, encoder.segments(part), strict=True):
            start, stop = planned.start_frame, min(planned.stop_frame, end)
            np.testing.assert_allclose(segment.raw[: stop - start], raw[start:stop], atol=0.01, rtol=0.005)
            # Around the cut the mix holds something else within its region's own sound: silence.
            near, far = max(start, 900 + 150) if start >= 900 else start, min(stop, 900 - 150) if start < 900 else stop
            if near < far:
                found = segment.mixes[0][near - start : far - start]
                np.testing.assert_allclose(found, mix[near:far], atol=0.01, rtol=0.005)


def test_any_of_a_stretchs_segments_are_the_same_to_the_bit(codec: LatentCodec, take: PlannedTake) -> None:
    for part in stretches(plan(take, [(True, 10.0)])):
        together = encoded(codec, part)
        for number, segment in enumerate(together):
            (alone,) = encoded(codec, part[number : number + 1])
            assert alone.facts == segment.facts
            assert [a.tobytes() for a in alone.arrays] == [a.tobytes() for a in segment.arrays]
