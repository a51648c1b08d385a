"""Shards: what goes in comes out bit for bit, twice the same bytes, whole or not there, and any damage is named."""

from __future__ import annotations

import hashlib
import io
import json
import resource
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from audio.errors import InputError
from restyler.dataset_index import DATASET, ShardInfo, parse_index
from restyler.moments import Moments, together
from restyler.shard_reading import read_segment, read_shard_indices, verify
from restyler.shards import Segment, finished_shard, segment_moments, write_shard
from restyler.storage import Storage

Make = Callable[..., Segment]
RATE_HZ = 100.0


@pytest.fixture
def segments(toy_segment: Make) -> list[Segment]:
    """One block and less, whole blocks, more; one to three mixes; the odd values of half precision."""
    found = [toy_segment(0, 1), toy_segment(1, 128, mixes=2), toy_segment(2, 256), toy_segment(3, 333, mixes=3)]
    special = [-0.0, 6e-8, -65504.0, 65504.0]  # the smallest and the largest there are
    found[0].raw[0], found[3].mixes[2][-1] = special, special[::-1]
    found[1].facts["singer"] = "Élodie «Ö» \udcff"
    return found


def assert_same(ours: Segment, theirs: Segment) -> None:
    assert (ours.name, ours.facts) == (theirs.name, theirs.facts)
    assert [a.tobytes() for a in ours.arrays] == [b.tobytes() for b in theirs.arrays]
    assert all(a.dtype == np.float16 and a.shape == b.shape for a, b in zip(ours.arrays, theirs.arrays, strict=True))


def read_all(folder: Path, info: ShardInfo) -> Iterator[Segment]:
    storage = Storage(str(folder))
    (index,) = read_shard_indices(storage, [info])
    for entry in index.entries:
        yield read_segment(storage, info.name, entry, latent_dim=4)


def test_segments_come_back_bit_for_bit(segments: list[Segment], tmp_path: Path) -> None:
    info = write_shard(tmp_path, "train-000", segments, frame_rate_hz=RATE_HZ)
    for ours, theirs in zip(segments, read_all(tmp_path, info), strict=True):
        assert_same(ours, theirs)
    data = (tmp_path / "train-000.tar").read_bytes()
    assert (info.bytes, info.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (info.segments, info.seconds) == (4, (1 + 128 + 256 + 333) / RATE_HZ)
    assert finished_shard(tmp_path, "train-000") == info


def test_a_shard_is_a_tar_file_by_the_naming_of_webdataset(segments: list[Segment], tmp_path: Path) -> None:
    """Read front to back by Python's own tar reader: consecutive members of one key, a name up to its first dot."""
    write_shard(tmp_path, "train-000", segments, frame_rate_hz=RATE_HZ)
    samples: dict[str, dict[str, bytes]] = {}
    last = ""
    with tarfile.open(tmp_path / "train-000.tar", "r|") as tar:
        for member in tar:
            key, _, suffix = member.name.partition(".")
            assert key == last or key not in samples  # those who stream need a sample's members together
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            samples.setdefault(key, {})[suffix] = tar.extractfile(member).read()
            last = key
    for (key, members), segment in zip(samples.items(), segments, strict=True):
        assert key == segment.name
        assert json.loads(members.pop("json")) == segment.facts
        arrays = {name: np.load(io.BytesIO(data)) for name, data in members.items()}
        names = ["raw.npy", *(f"mix{number}.npy" for number in range(len(segment.mixes)))]
        assert list(arrays) == names
        assert all(np.array_equal(arrays[name], array) for name, array in zip(names, segment.arrays, strict=True))


def test_the_same_segments_give_the_same_bytes(segments: list[Segment], tmp_path: Path) -> None:
    turned = [Segment(s.name, s.raw, s.mixes, dict(reversed(s.facts.items()))) for s in segments]
    infos = [
        write_shard(tmp_path / name, "s", given, frame_rate_hz=RATE_HZ)
        for name, given in (("a", segments), ("b", turned))
    ]
    # Unchanged segments of an old shard are copied without being encoded again: a third time the same.
    infos.append(write_shard(tmp_path / "c", "s", read_all(tmp_path / "a", infos[0]), frame_rate_hz=RATE_HZ))
    assert infos[0] == infos[1] == infos[2]
    for name in ("s.tar", "s.json"):
        assert len({(tmp_path / folder / name).read_bytes() for folder in "abc"}) == 1
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"s.tar", "s.json"}


def test_a_full_disk_is_one_line_and_leaves_nothing(toy_segment: Make, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"train-0\.tar: cannot be written: File too large"):
            write_shard(tmp_path, "train-0", (toy_segment(n, 2000) for n in range(9)), frame_rate_hz=RATE_HZ)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_segments_are_made_leaves_nothing_and_keeps_its_type(toy_segment: Make, tmp_path: Path) -> None:
    def failing() -> Iterator[Segment]:
        yield toy_segment(0)
        raise OSError("the recording's disk is gone")

    with pytest.raises(OSError, match="the recording's disk is gone"):
        write_shard(tmp_path, "train-0", failing(), frame_rate_hz=RATE_HZ)
    assert list(tmp_path.iterdir()) == []


def test_what_a_shard_can_not_hold_is_refused(toy_segment: Make, tmp_path: Path) -> None:
    good = toy_segment(0, mixes=2)
    infinite = good.raw.copy()
    infinite[5, 1] = np.inf
    mix_without_style = {name: value for name, value in good.facts["mixes"][0].items() if name != "style"}
    bad = {
        "a name with a dot": Segment("a.b", good.raw, good.mixes, good.facts),
        "a name with a folder": Segment("a/b", good.raw, good.mixes, good.facts),
        "single precision": Segment("a", good.raw.astype(np.float32), good.mixes, good.facts),
        "a shorter mix": Segment("a", good.raw, (good.raw[:-1], good.raw), good.facts),
        "infinite": Segment("a", infinite, good.mixes, good.facts),
        "no mix": Segment("a", good.raw, (), good.facts | {"mixes": []}),
        "another length": Segment("a", good.raw, good.mixes, good.facts | {"frames": 7}),
        "another number of mixes": Segment("a", good.raw, good.mixes[:1], good.facts),
        "no key": Segment("a", good.raw, good.mixes, {"frames": 300}),
        "a mix without style": Segment("a", good.raw, good.mixes[:1], good.facts | {"mixes": [mix_without_style]}),
        "NaN": Segment("a", good.raw, good.mixes, good.facts | {"level_db": float("nan")}),
    }
    for what, segment in bad.items():
        with pytest.raises(ValueError, match=r".") as error:
            write_shard(tmp_path, "train-0", [segment], frame_rate_hz=RATE_HZ)
        assert not isinstance(error.value, InputError), what
    for given in ([], [good, good]):
        with pytest.raises(ValueError, match=r"at least one segment|two segments are called"):
            write_shard(tmp_path, "train-0", given, frame_rate_hz=RATE_HZ)
    with pytest.raises(ValueError, match="a shard's name"):
        write_shard(tmp_path, "../train", [good], frame_rate_hz=RATE_HZ)
    assert list(tmp_path.iterdir()) == []


# -- moments


def test_moments_are_those_of_all_frames_at_once(toy_segment: Make, tmp_path: Path) -> None:
    """The take of a segment counts 1, and so do all its mixes together."""
    segments = [toy_segment(n, frames=50 + 40 * n, mixes=1 + n % 3) for n in range(6)]
    info = write_shard(tmp_path, "s", segments, frame_rate_hz=RATE_HZ)
    (index,) = read_shard_indices(Storage(str(tmp_path)), [info])
    raws = [(segment.raw, 1 / len(segment.raw)) for segment in segments]
    mixes = [(mix, 1 / mix.shape[0] / len(segment.mixes)) for segment in segments for mix in segment.mixes]
    apart = [(m - s.raw.astype(float), 1 / len(m) / len(s.mixes)) for s in segments for m in s.mixes]
    for found, parts in ((index.latents, raws + mixes), (index.difference, apart)):
        values = np.concatenate([part.astype(np.float64) for part, _ in parts])
        weights = np.repeat([weight for _, weight in parts], [len(part) for part, _ in parts])
        mean = np.average(values, axis=0, weights=weights)
        std = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))
        np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
        np.testing.assert_allclose(found.std, std, rtol=1e-12)
        assert found.weight == pytest.approx(weights.sum())


def test_moments_keep_their_digits_far_from_zero_and_do_not_depend_on_the_parts() -> None:
    values = 1e9 + np.random.default_rng(0).normal(size=(1000, 3))
    parts = [Moments.of(values[at : at + 7], weight=1.0) for at in range(0, 1000, 7)]
    np.testing.assert_allclose(together(parts).std, values.std(axis=0), rtol=1e-6)
    assert together([parts[0]]) is parts[0]
    np.testing.assert_allclose(parts[0].scaled(0.1).std, parts[0].std, rtol=1e-12)


def test_a_segment_without_a_difference_has_none(toy_segment: Make) -> None:
    one = toy_segment(0)
    _, apart = segment_moments(Segment("a", one.raw, (one.raw,), one.facts))
    assert not apart.std.any()


# -- damage


@pytest.fixture
def dataset(toy_segment: Make, write_set: Callable[..., Path], tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", [toy_segment(n, mixes=2) for n in range(8)], [toy_segment(8)], [toy_segment(9)])


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def member(tar: Path, name: str) -> int:
    with tarfile.open(tar) as opened:
        return opened.getmember(name).offset_data


def test_a_set_that_is_well_has_no_problems(dataset: Path) -> None:
    assert verify(str(dataset)) == []


@pytest.mark.parametrize("name", ["raw.npy", "mix0.npy", "mix1.npy", "json"])
def test_a_flipped_bit_is_found_and_its_segment_named(dataset: Path, name: str) -> None:
    tar = dataset / "train-004.tar"
    flip(tar, member(tar, f"s00006.{name}") + 200)
    (problem,) = verify(str(dataset))
    assert problem.startswith(f"{tar}: damaged: segment s00006, {name.removesuffix('.npy')}: the checksum")


def test_every_other_damage_is_found_too(dataset: Path) -> None:
    flip(dataset / "train-000.tar", 3)  # in the header of a member, which training does not read
    whole = (dataset / "train-004.tar").read_bytes()
    (dataset / "train-004.tar").write_bytes(whole[:-1])
    flip(dataset / "validation-000.json", 900)
    (dataset / "test-000.tar").unlink()
    assert verify(str(dataset)) == [
        f"{dataset}/train-000.tar: damaged: its SHA-256 is not the one in dataset.json",
        f"{dataset}/train-004.tar: {len(whole) - 1} bytes; {len(whole)} were written",
        f"{dataset}/validation-000.json: damaged: its SHA-256 is not the one in dataset.json",
        f"{dataset}/test-000.tar: there is no such file",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index | {"format": 2}, "format 2; this version reads format 1"),
        (lambda index: index | {"loudness_lufs": "loud"}, "loudness_lufs: should be a valid number"),
        (lambda index: index | {"more": 1}, "more: Extra inputs are not permitted"),
        (lambda index: {}, "format: Field required"),
        (lambda index: [], "it: should be an object"),
        (lambda index: index | {"shards": {**index["shards"], "test": index["shards"]["train"]}}, "named 2 times"),
        (lambda index: json.loads(json.dumps(index).replace("train-000.tar", "../../x.tar")), "should match pattern"),
    ],
)
def test_an_index_that_can_not_be_is_one_line(dataset: Path, change: Callable, message: str) -> None:
    place = dataset / DATASET
    with pytest.raises(InputError) as error:
        parse_index(json.dumps(change(json.loads(place.read_text()))).encode(), str(place))
    assert str(error.value).startswith(f"{place}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_torn_index_is_one_line(dataset: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"dataset\.json: not the index of a prepared data set: it: "):
        parse_index(content, str(dataset / DATASET))


def test_a_folder_without_an_index_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset\.json: there is no such file; a prepared data set holds one"):
        verify(str(tmp_path))


def test_damage_is_noticed_by_the_index_and_where_asked_for_by_the_tar(toy_segment: Make, tmp_path: Path) -> None:
    info = write_shard(tmp_path, "s", [toy_segment(0)], frame_rate_hz=RATE_HZ)
    assert finished_shard(tmp_path, "s", whole=True) == info
    tar = bytearray((tmp_path / "s.tar").read_bytes())
    tar[1000] ^= 1
    (tmp_path / "s.tar").write_bytes(tar)
    assert finished_shard(tmp_path, "s") == info
    assert finished_shard(tmp_path, "s", whole=True) is None
    index = (tmp_path / "s.json").read_text()
    digit = index.index('"mean": [') + 12
    (tmp_path / "s.json").write_text(f"{index[:digit]}{(int(index[digit]) + 1) % 10}{index[digit + 1 :]}")
    assert finished_shard(tmp_path, "s") is None
