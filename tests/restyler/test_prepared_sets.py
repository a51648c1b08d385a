"""Several prepared sets at once: what fits together, what is refused, and statistics by weight."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audio.errors import InputError
from audio.features import FEATURES
from codec.pocket import PocketCodec
from restyler.config import PreparedData
from restyler.prepared import PreparedSet
from restyler.prepared_sets import open_sets
from restyler.shards import Segment
from restyler.statistics import measure_prepared

Make = Callable[..., Segment]


@pytest.fixture
def two(toy_segment: Make, write_set: Callable[..., Path], tmp_path: Path) -> Callable[..., PreparedData]:
    """two(first facts, second facts, **how the second is written): a config of two sets with the weights 3 and 1."""

    def make(first: dict[str, Any], second: dict[str, Any], **changes: Any) -> PreparedData:
        write_set(tmp_path / "a", [toy_segment(0, **first), toy_segment(2)], [toy_segment(4)])
        write_set(tmp_path / "b", [toy_segment(1)], [toy_segment(3, **second)], **changes)
        sets = [{"path": str(tmp_path / "a"), "weight": 3}, {"path": str(tmp_path / "b"), "weight": 1}]
        return PreparedData.model_validate({"kind": "prepared", "sets": sets})

    return make


def test_sets_that_fit_are_opened_together(two: Callable[..., PreparedData]) -> None:
    # Keys may be the same in two sets: what tells recordings apart is their hash.
    sets = open_sets(
        two({"key": "song", "audio_hash": "1"}, {"key": "song", "audio_hash": "2"}), codec_fingerprint="toy"
    )
    assert (sets.styles, sets.loudness_lufs) == (["far", "near"], -18.0)
    assert (sets.train.weights, sets.train.segments, sets.validation.segments) == ([3, 1], 3, 2)
    assert sets.train_s == pytest.approx(9.0)


def test_one_recording_in_two_splits_is_refused_across_sets(two: Callable[..., PreparedData]) -> None:
    with pytest.raises(InputError, match=r"«x» of .*/a in train and «y» of .*/b in validation"):
        open_sets(two({"key": "x", "audio_hash": "1"}, {"key": "y", "audio_hash": "1"}), codec_fingerprint="toy")


def test_one_take_in_two_splits_of_a_set_is_refused(
    toy_segment: Make, write_set: Callable[..., Path], tmp_path: Path
) -> None:
    write_set(tmp_path, [toy_segment(0, key="song")], [toy_segment(1)], [toy_segment(2, key="song")])
    data = PreparedData.model_validate({"kind": "prepared", "sets": [str(tmp_path)]})
    with pytest.raises(InputError, match=r"in two splits: «song» of .* in train and «song» of .* in test"):
        open_sets(data, codec_fingerprint=None)


def test_sets_that_do_not_fit_are_refused(two: Callable[..., PreparedData], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/b: prepared at -20 LUFS, and .*/a at -18"):
        open_sets(two({}, {}, lufs=-20.0), codec_fingerprint="toy")
    with pytest.raises(InputError, match=r"/a: prepared with the codec toy, and codec of this config is other"):
        open_sets(two({}, {}), codec_fingerprint="other")


def test_a_split_without_segments_is_refused(toy_segment: Make, write_set: Callable[..., Path], tmp_path: Path) -> None:
    for name, splits in (("train", ([], [toy_segment(0)])), ("validation", ([toy_segment(0)],))):
        write_set(tmp_path / name, *splits)
        data = PreparedData.model_validate({"kind": "prepared", "sets": [str(tmp_path / name)]})
        with pytest.raises(InputError, match=f"no segment is in the {name} split"):
            open_sets(data, codec_fingerprint=None)


def test_the_digest_notices_every_change_but_not_another_place(
    two: Callable[..., PreparedData], toy_segment: Make, write_set: Callable[..., Path], tmp_path: Path
) -> None:
    data = two({}, {})
    before = open_sets(data, codec_fingerprint=None).digest
    shutil.move(tmp_path / "a", tmp_path / "c")
    moved = [data.sets[0].model_copy(update={"path": str(tmp_path / "c")}), data.sets[1]]
    assert open_sets(data.model_copy(update={"sets": moved}), codec_fingerprint=None).digest == before
    turned = data.model_copy(update={"sets": moved[::-1]})
    digests = {before, open_sets(turned, codec_fingerprint=None).digest}
    for number, changed in enumerate(({"style": "far"}, {"frames": 301})):
        write_set(tmp_path / "c", [toy_segment(0, **changed), toy_segment(2)], [toy_segment(4)])
        digests.add(open_sets(data.model_copy(update={"sets": moved}), codec_fingerprint=None).digest)
        assert len(digests) == 3 + number


# -- statistics


def test_statistics_count_each_set_by_its_weight(
    toy_segment: Make, write_set: Callable[..., Path], tmp_path: Path
) -> None:
    """Against all frames laid side by side: sets of other sizes, segments of other lengths, one to three mixes."""
    sets = [
        [toy_segment(first + n, frames=20 + 9 * n, mixes=1 + n % 3, latent_dim=128) for n in range(count)]
        for first, count in ((0, 7), (100, 3))
    ]
    shares = [0.75, 0.25]
    pooled, apart, controls = [], [], []
    for segments, share in zip(sets, shares, strict=True):
        for segment in segments:
            one = share / len(segments) / len(segment.raw)
            pooled.append((segment.raw, one))
            for mix, told in zip(segment.mixes, segment.facts["mixes"], strict=True):
                pooled.append((mix, one / len(segment.mixes)))
                apart.append((mix.astype(float) - segment.raw, one / len(segment.mixes)))
                difference = [told["controls"]["mix"][name] - told["controls"]["raw"][name] for name in FEATURES]
                controls.append((np.array([difference]), share / len(segments) / len(segment.mixes)))
    splits = [
        PreparedSet(str(write_set(tmp_path / str(n), segments, per_shard=2))).split("train")
        for n, segments in enumerate(sets)
    ]
    codec = PocketCodec(width=16, encoder_blocks=1, decoder_blocks=1)
    found = measure_prepared(splits, [3, 1], list(FEATURES), codec, standardise_codec=True)
    mean, std = mean_std(pooled)
    np.testing.assert_allclose(found.latent_mean, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(codec.latent_std, std, rtol=1e-5)
    np.testing.assert_allclose(found.residual_std, mean_std(apart)[1] / std, rtol=1e-5)
    np.testing.assert_allclose(found.control_mean, mean_std(controls)[0], rtol=1e-5)
    np.testing.assert_allclose(found.control_std, mean_std(controls)[1], rtol=1e-5)
    kept = PocketCodec(width=16, encoder_blocks=1, decoder_blocks=1)  # a codec with statistics of its own keeps them
    assert torch.equal(measure_prepared(splits, [3, 1], [], kept, standardise_codec=False).latent_std, torch.ones(128))


def mean_std(parts: list[tuple[np.ndarray, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Of [frames channels] with a weight for each frame."""
    values = np.concatenate([part.astype(np.float64) for part, _ in parts])
    weights = np.repeat([weight for _, weight in parts], [len(part) for part, _ in parts])
    mean = np.average(values, axis=0, weights=weights)
    return mean, np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))


def test_undefined_controls_are_left_out_and_a_flat_one_is_refused(
    toy_segment: Make, write_set: Callable[..., Path], tmp_path: Path
) -> None:
    segments = [toy_segment(n, latent_dim=128) for n in range(3)]
    values = [1.0, 4.0, None]
    for segment, value in zip(segments, values, strict=True):
        segment.facts["mixes"][0]["controls"] = {
            "raw": {"width_db": 0.0, "space_db": 2.0},
            "mix": {"width_db": value, "space_db": 5.0},
        }
    split = PreparedSet(str(write_set(tmp_path, segments))).split("train")
    codec = PocketCodec(width=16, encoder_blocks=1, decoder_blocks=1)
    found = measure_prepared([split], [1], ["width_db"], codec, standardise_codec=False)
    assert (float(found.control_mean), float(found.control_std)) == (2.5, 1.5)
    for flat in ("space_db", "dynamics_db"):  # the same everywhere; nowhere measured
        with pytest.raises(InputError, match=f"without variation in the training pairs: {flat}"):
            measure_prepared([split], [1], ["width_db", flat], codec, standardise_codec=False)


def test_mixes_that_are_their_takes_are_refused(
    toy_segment: Make, write_set: Callable[..., Path], tmp_path: Path
) -> None:
    one = toy_segment(0, latent_dim=128)
    same = Segment(one.name, one.raw, (one.raw,), one.facts)
    split = PreparedSet(str(write_set(tmp_path, [same]))).split("train")
    codec = PocketCodec(width=16, encoder_blocks=1, decoder_blocks=1)
    with pytest.raises(InputError, match="don't differ"):
        measure_prepared([split], [1], [], codec, standardise_codec=False)
