"""Prepared sets: the order of examples, crops, references and mixtures; damage named; any URL; little memory."""

from __future__ import annotations

import itertools
import shutil
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from audio.errors import InputError
from restyler.data import Statistics
from restyler.draws import ShareSampler, plainly
from restyler.mixture import PreparedExamples, Turn, turn
from restyler.prepared import PreparedSet, PreparedSplit, Stretch
from restyler.shards import Segment

Make = Callable[..., Segment]
CROP, REFERENCE = 100, 60
PLAIN = Statistics(torch.zeros(4), torch.ones(4), torch.ones(4), torch.zeros(1), torch.ones(1), {})


def turns(numbers: range, counts: list[int], weights: list[int], seed: int = 0) -> list[Turn]:
    return [turn(n, counts=counts, weights=weights, seed=seed, purpose="crop") for n in numbers]


# -- order


def test_every_segment_comes_once_per_epoch_in_an_order_of_its_own() -> None:
    count = 23
    epochs = [turns(range(epoch * count, (epoch + 1) * count), [count], [1]) for epoch in range(3)]
    for epoch, found in enumerate(epochs):
        assert {one.epoch for one in found} == {epoch}
        assert sorted(one.segment for one in found) == list(range(count))
    other = turns(range(count), [count], [1], seed=1)
    orders = [[one.segment for one in found] for found in (*epochs, other)]
    assert all(ours != theirs for ours, theirs in itertools.combinations(orders, 2))


def test_weights_are_exact_in_every_stretch_and_epochs_too() -> None:
    counts, weights = [7, 5, 11], [3, 1, 2]
    found = turns(range(200), counts, weights)
    for first in range(len(found) - 6):
        sets = Counter(one.set for one in found[first : first + 6])
        assert [sets[which] for which in range(3)] == weights
    for which, count in enumerate(counts):
        seen = [one for one in found if one.set == which]
        for epoch in range(len(seen) // count):
            part = seen[epoch * count : (epoch + 1) * count]
            assert {one.epoch for one in part} == {epoch}
            assert sorted(one.segment for one in part) == list(range(count))
    orders = {tuple(one.set for one in turns(range(6), counts, weights, seed=seed)) for seed in range(10)}
    assert len(orders) > 1


def test_the_order_of_a_set_is_uniform() -> None:
    """Each of six segments at each place of an epoch: 4 standard deviations of a binomial share."""
    places = Counter()
    for seed in range(600):
        places.update((place, one.segment) for place, one in enumerate(turns(range(6), [6], [1], seed=seed)))
    assert len(places) == 36
    assert all(abs(times - 100) < 4 * (600 * 1 / 6 * 5 / 6) ** 0.5 for times in places.values())


# -- examples


def examples_of(*splits: PreparedSplit, weights: list[int] | None = None, **changes: Any) -> PreparedExamples:
    settings = {
        "statistics": PLAIN,
        "styles": ["far", "near"],
        "controls": ["width_db"],
        "crop_frames": CROP,
        "reference_frames": REFERENCE,
        "frame_rate_hz": 100.0,
    }
    return PreparedExamples(list(splits), weights or [1] * len(splits), **(settings | changes))


def place_of(crop: torch.Tensor, sources: list[np.ndarray]) -> tuple[int, int]:
    """Which source [frames latent] holds `crop` [latent frames] unchanged, and at which frame."""
    wanted = crop.T.numpy()
    for number, source in enumerate(sources):
        for at in np.flatnonzero((source == wanted[0]).all(axis=1)):
            if np.array_equal(source[at : at + len(wanted)], wanted):
                return number, int(at)
    raise AssertionError("this crop comes from none of the sources")


@pytest.fixture
def segments(toy_segment: Make) -> list[Segment]:
    """0 and 1 share a chain; 2 is alone in one; 3 and 4 follow each other in one take, chainless; 5 is short."""
    return [
        toy_segment(0, chain="x", mixes=2),
        toy_segment(1, frames=150, chain="x"),
        toy_segment(2, chain="y"),
        toy_segment(3, key="song", start_s=0.0),
        toy_segment(4, key="song", start_s=3.0),
        toy_segment(5, frames=30, style=None),
    ]


@pytest.fixture
def split(segments: list[Segment], write_set: Callable[..., Path], tmp_path: Path) -> PreparedSplit:
    return PreparedSet(str(write_set(tmp_path / "set", segments))).split("train")


def test_crops_are_aligned_told_truly_and_uniform(segments: list[Segment], split: PreparedSplit) -> None:
    examples = examples_of(split)
    starts: dict[int, list[int]] = {number: [] for number in range(len(segments))}
    mixes = Counter()
    for number in range(1200):
        example = examples.numbered(number, seed=0, purpose="crop")
        frames = int(example["frame_mask"].sum())
        assert example["frame_mask"][:frames].all()
        which, start = place_of(example["raw"][:, :frames], [segment.raw for segment in segments])
        segment = segments[which]
        mix, at = place_of(example["mix"][:, :frames], list(segment.mixes))
        assert at == start
        assert frames == min(CROP, len(segment.raw))
        assert not example["raw"][:, frames:].any() and not example["mix"][:, frames:].any()
        told = segment.facts["mixes"][mix]
        assert int(example["style"]) == (-1 if told["style"] is None else ["far", "near"].index(told["style"]))
        controls = told["controls"]
        difference = controls["mix"]["width_db"] - controls["raw"]["width_db"]
        assert float(example["controls"]) == pytest.approx(difference, rel=1e-5)
        starts[which].append(start)
        mixes[which, mix] += 1
    assert {len(found) for found in starts.values()} == {200}
    assert set(starts[5]) == {0}
    assert abs(mixes[0, 0] - 100) < 4 * 50**0.5
    for which in (0, 2, 3, 4):  # Kolmogorov-Smirnov: 1.95/√200, exceeded by one sample in a thousand
        found = np.sort(starts[which]) / (300 - CROP)
        assert np.abs(found - np.linspace(0, 1, 200)).max() < 1.95 / 200**0.5
        assert (min(starts[which]), max(starts[which])) <= (10, 200)


def test_a_reference_has_the_chain_but_never_the_moments_to_be_predicted(
    segments: list[Segment], split: PreparedSplit
) -> None:
    examples = examples_of(split)
    every = [(which, mix) for which, segment in enumerate(segments) for mix in range(len(segment.mixes))]
    sources = [segments[which].mixes[mix] for which, mix in every]
    found: dict[tuple[int, int], set[tuple[int, int] | None]] = {}
    for number in range(600):
        example = examples.numbered(number, seed=0, purpose="crop")
        frames, valid = int(example["frame_mask"].sum()), int(example["reference_frames"])
        ours, start = place_of(example["mix"][:, :frames], sources)
        assert not example["reference"][:, valid:].any()
        theirs = None
        if valid:
            other, at = place_of(example["reference"][:, :valid], sources)
            theirs = every[other]
            # The other mix of this segment has the chain too, but shows the same moments.
            assert theirs[0] != every[ours][0] or at + valid <= start or at >= start + frames
        found.setdefault(every[ours], set()).add(theirs)
    assert found == {
        (0, 0): {(1, 0)},
        (0, 1): {(1, 0)},
        (1, 0): {(0, 0), (0, 1)},
        (2, 0): {(2, 0)},
        (3, 0): {(4, 0)},
        (4, 0): {(3, 0)},
        (5, 0): {None},
    }


def test_overlapping_segments_of_a_take_do_not_give_each_others_answer(
    toy_segment: Make, write_set: Callable[..., Path], tmp_path: Path
) -> None:
    """The same take cut twice: at 0 s and at 1 s, with a third part further on."""
    cut = [toy_segment(n, key="song", chain="x", start_s=float(start)) for n, start in enumerate((0, 1, 10))]
    split = PreparedSet(str(write_set(tmp_path, cut))).split("train")
    examples = examples_of(split)
    for number in range(60):
        example = examples.numbered(number, seed=0, purpose="crop")
        ours, start = place_of(example["mix"], [segment.mixes[0] for segment in cut])
        other, _ = place_of(example["reference"], [segment.mixes[0] for segment in cut])
        if (ours, start) != (0, 0):  # its first second is in no other segment
            assert other == 2 if ours < 2 else other < 2


# -- who reads


class Numbered(Dataset):
    def __init__(self, examples: PreparedExamples) -> None:
        self.examples = examples

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return self.examples.numbered(number, seed=3, purpose="crop")


def batches(examples: PreparedExamples, *, first: int, process: int, processes: int, workers: int) -> list[Any]:
    sampler = ShareSampler(first, 6, 4, process, processes)
    loader = DataLoader(Numbered(examples), sampler=sampler, batch_size=4 // processes, num_workers=workers)
    return list(plainly(loader))


def test_processes_workers_and_stops_change_nothing(
    toy_segment: Make, write_set: Callable[..., Path], tmp_path: Path
) -> None:
    """Two sets, six steps of four examples: the global batches, whoever reads them."""
    splits = [
        PreparedSet(str(write_set(tmp_path / name, [toy_segment(first + n, mixes=2) for n in range(5)]))).split("train")
        for first, name in ((0, "a"), (10, "b"))
    ]

    def run(processes: int = 1, workers: int = 0, first: int = 0) -> list[Any]:
        examples = examples_of(*splits, weights=[2, 1])  # anew: nothing is remembered
        shares = [
            batches(examples, first=first, process=process, processes=processes, workers=workers)
            for process in range(processes)
        ]
        return [
            {name: torch.cat([part[name] for part in step]) for name in step[0]} for step in zip(*shares, strict=True)
        ]

    whole = run()
    assert len(whole) == 6
    for found in (run(workers=2), run(processes=2), run(processes=4), whole[:2] + run(first=2, workers=1)):
        for ours, theirs in zip(whole, found, strict=True):
            assert ours.keys() == theirs.keys()
            for name in ours:
                assert torch.equal(ours[name], theirs[name])


def damage(folder: Path, how: str) -> str:
    """Does it to a shard of the set; what a reader has to say of it."""
    tar = folder / "train-000.tar"
    data = bytearray(tar.read_bytes())
    match how:
        case "flipped":
            data[2000] ^= 1
            tar.write_bytes(data)
            what = "the checksum is not that of what was written; restyler prepare … --verify makes it anew"
            return f"{tar}: damaged: segment s00000, raw: {what}"
        case "truncated":
            tar.write_bytes(data[:2000])
            return f"{tar}: truncated: of the bytes "
        case _:
            tar.unlink()
            return f"{tar}: there is no such file"


@pytest.mark.parametrize("how", ["flipped", "truncated", "deleted"])
def test_what_is_damaged_while_training_reads_is_named_in_one_line(
    toy_segment: Make, write_set: Callable[..., Path], tmp_path: Path, how: str
) -> None:
    examples = examples_of(PreparedSet(str(write_set(tmp_path, [toy_segment(0)]))).split("train"))
    message = damage(tmp_path, how)
    for workers in (0, 2):
        with pytest.raises(InputError) as error:
            batches(examples, first=0, process=0, processes=1, workers=workers)
        assert str(error.value).startswith(message)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", ["truncated", "deleted"])
def test_a_shard_that_is_not_whole_is_told_before_training(
    toy_segment: Make, write_set: Callable[..., Path], tmp_path: Path, how: str
) -> None:
    write_set(tmp_path, [toy_segment(0)], [toy_segment(1)])
    damage(tmp_path, how)
    with pytest.raises(InputError, match=r"train-000\.tar: (2000 bytes; \d+ were written|there is no such file)"):
        PreparedSet(str(tmp_path)).split("train")


# -- where it lies


@pytest.mark.parametrize("protocol", ["memory", "zip", "local"])
def test_a_set_is_read_from_any_url(
    segments: list[Segment], split: PreparedSplit, tmp_path: Path, protocol: str
) -> None:
    folder, inside = tmp_path / "set", "a [odd] set"
    match protocol:
        case "memory":
            memory = fsspec.filesystem("memory")
            memory.put(str(folder), f"/{inside}", recursive=True)
            url = f"memory://{inside}"
        case "zip":
            with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
                for path in folder.iterdir():
                    archive.write(path, f"{inside}/{path.name}")
            url = f"zip://{inside}::{tmp_path / 'set.zip'}"
        case _:
            shutil.copytree(folder, tmp_path / inside)
            url = f"file://{tmp_path / inside}/"
    there = PreparedSet(url).split("train")
    ours, theirs = examples_of(split), examples_of(there)
    for number in range(len(segments)):
        example, other = (one.numbered(number, seed=0, purpose="crop") for one in (ours, theirs))
        assert all(torch.equal(example[name], other[name]) for name in example)
    for workers in (0, 2):  # a connection is opened by each process for itself
        assert len(batches(theirs, first=0, process=0, processes=1, workers=workers)) == 6


def test_a_protocol_that_nothing_here_speaks_is_one_line() -> None:
    for url, message in (("nothing://set", "Protocol not known: nothing"), ("/no/where", "there is no such file")):
        with pytest.raises(InputError, match=message) as error:
            PreparedSet(url)
        assert str(error.value).startswith(url)


def test_a_stretch_across_blocks_is_the_stretch(segments: list[Segment], split: PreparedSplit) -> None:
    wanted = [
        Stretch(0, array, start, stop) for array in range(3) for start in (0, 127, 128, 250) for stop in (256, 300)
    ]
    for part, found in zip(wanted, split.read(wanted), strict=True):
        assert np.array_equal(found, segments[0].arrays[part.array][part.start : part.stop].astype(np.float32))


def test_what_a_segment_costs_in_memory(toy_segment: Make, write_set: Callable[..., Path], tmp_path: Path) -> None:
    """Bytes kept per segment of one mix and three blocks; whole minutes of names, facts and JSON are let go."""

    def opened(count: int) -> tuple[int, int]:
        parts = [toy_segment(n, audio_hash=f"{n:064d}", key=f"take {n // 50}") for n in range(count)]
        prepared = PreparedSet(str(write_set(tmp_path / str(count), parts, per_shard=100)))
        tracemalloc.start()
        split = prepared.split("train")
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return split.nbytes, kept

    (arrays, kept), (more_arrays, more_kept) = opened(200), opened(800)
    assert (more_arrays - arrays) / 600 < 150
    assert (more_kept - kept) / 600 < 300


def test_a_style_without_training_segments_is_refused(split: PreparedSplit) -> None:
    with pytest.raises(InputError, match="styles without a single training pair: far"):
        examples_of(split, styles=["near"])
