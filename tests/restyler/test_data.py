"""Pairs, their cached latents, and crops: matched by key, aligned, and a function of their generator alone."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from audio import io
from audio.errors import InputError
from audio.waveform import Waveform
from codec.pocket import PocketCodec
from restyler.config import load_config
from restyler.data import LatentPairs, latent_pairs
from restyler.draws import ShareSampler, TrainingExamples, ValidationExamples, drop
from restyler.latents import LatentCache
from restyler.pairs import Pair, read_pairs, style_names
from restyler.seeds import generator
from restyler.statistics import control_statistics, measure

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "tiny.yaml"
CPU = {"device": torch.device("cpu"), "process": 0, "processes": 1}
CROP, REFERENCE = 40, 30
Row = dict[str, Any]


def noise(seconds: float, seed: int) -> Waveform:
    """Stereo noise whose level and colour drift, so that every frame has latents of its own."""
    samples = torch.randn(2, round(seconds * 48_000), generator=torch.Generator().manual_seed(seed))
    return Waveform(0.1 * samples * torch.linspace(0.5, 1.5, samples.shape[1]), 48_000)


@pytest.fixture(scope="module")
def codec(pipeline: Any) -> PocketCodec:
    return pipeline.codec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five takes with known relations: every mix is its raw take, shifted in nothing but level per channel."""
    folder = tmp_path_factory.mktemp("pairs")
    rows: list[Row] = []
    for number, (seconds, style, chain, split) in enumerate(
        [
            (1.0, "near", "x", "train"),
            (1.4, "far", "y", "train"),
            (0.2, "far", "x", "train"),
            (1.2, None, None, "train"),
            (1.0, "near", "x", "validation"),
        ]
    ):
        take = noise(seconds, number)
        io.write(folder / f"raw_{number}.wav", take, tags={})
        mix = Waveform(take.samples * torch.tensor([[1.0], [0.1 + 0.15 * number]]), take.sample_rate)
        io.write(folder / f"mix_{number}.wav", mix, tags={})
        rows.append({"key": f"take {number}", "raw": f"raw_{number}.wav", "mix": f"mix_{number}.wav", "split": split})
        rows[-1] |= {"style": style, "chain": chain, "comment": "for people"}
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    return folder


@pytest.fixture(scope="module")
def cache(codec: PocketCodec, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LatentCache:
    cache = LatentCache(tmp_path_factory.mktemp("cache"), codec, loudness_lufs=-18.0)
    cache.fill(sorted(folder.glob("*.wav")), **CPU)
    return cache


@pytest.fixture(scope="module")
def train(folder: Path, cache: LatentCache, codec: PocketCodec) -> LatentPairs:
    pairs = read_pairs(folder, validation_fraction=0.0)
    items = latent_pairs([pair for pair in pairs if pair.split == "train"], cache)
    statistics = measure(items, ["width_db"], codec, standardise_codec=False)
    return LatentPairs(
        items,
        statistics=statistics,
        styles=style_names(pairs),
        controls=["width_db"],
        crop_frames=CROP,
        reference_frames=REFERENCE,
    )


@pytest.fixture(scope="module")
def config() -> Any:
    return load_config(CONFIG)


# -- cache


def test_cached_latents_are_those_of_the_codec_at_the_training_loudness(
    folder: Path, cache: LatentCache, codec: PocketCodec
) -> None:
    take = io.read(folder / "raw_1.wav")
    recording = cache.recording(folder / "raw_1.wav")
    assert recording.frames == codec.frames(take.samples.shape[1])
    # Level is the first channel of this codec, in units of natural log: find the gain that the cache applied.
    plain = codec.encode_raw(take.samples[None])[0].detach()
    cached = recording.read(0, recording.frames)
    assert (cached[0] - plain[0]).std() < 5e-3
    assert torch.allclose(cached[1:], plain[1:], atol=5e-3)
    loud = LatentCache(cache.folder, codec, loudness_lufs=-8.0)
    loud.fill([folder / "raw_1.wav"], **CPU)
    gained = loud.recording(folder / "raw_1.wav").read(0, recording.frames)[0] - cached[0]
    assert gained.mean().item() == pytest.approx(10 / 20 * 2.302585, abs=2e-3)  # +10 dB


def test_the_cache_encodes_again_only_what_changed(folder: Path, codec: PocketCodec, tmp_path: Path) -> None:
    source = tmp_path / "take.wav"
    source.write_bytes((folder / "raw_0.wav").read_bytes())
    cache_folder = tmp_path / "cache"

    def fill(codec: PocketCodec) -> list[Path]:
        LatentCache(cache_folder, codec, loudness_lufs=-18.0).fill([source], **CPU)
        return sorted(cache_folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)

    (first,) = fill(codec)
    stamp = first.stat().st_mtime_ns
    source.touch()
    assert fill(codec) == [first]
    assert first.stat().st_mtime_ns == stamp
    source.write_bytes((folder / "raw_1.wav").read_bytes())
    assert len(fill(codec)) == 2  # another content
    other = PocketCodec.from_config(codec.config)
    assert len(fill(other.eval())) == 3  # another codec
    source.write_bytes((folder / "raw_0.wav").read_bytes())
    assert len(fill(codec)) == 3  # back again: known


def test_processes_share_the_encoding_without_gaps(folder: Path, codec: PocketCodec, tmp_path: Path) -> None:
    files = sorted(folder.glob("raw_*.wav"))
    counts = []
    for process in range(3):
        LatentCache(tmp_path, codec, loudness_lufs=-18.0).fill(files, **(CPU | {"process": process, "processes": 3}))
        counts.append(len(list(tmp_path.iterdir())))
    assert counts[0] < counts[1] < counts[2] == len(files)


@pytest.mark.parametrize("content", [b"", b"RIFF nonsense", "half", "silence"])
def test_damaged_audio_is_named_and_leaves_nothing_behind(
    folder: Path, codec: PocketCodec, tmp_path: Path, content: bytes | str
) -> None:
    bad = tmp_path / "bad take.wav"
    if content == "silence":
        io.write(bad, Waveform(torch.zeros(2, 48_000), 48_000), tags={})
    else:
        whole = (folder / "raw_0.wav").read_bytes()
        bad.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    cache = LatentCache(tmp_path / "cache", codec, loudness_lufs=-18.0)
    with pytest.raises(InputError, match=r"bad take\.wav") as error:
        cache.fill([bad], **CPU)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_mix_of_another_length_is_not_of_this_take(folder: Path, cache: LatentCache) -> None:
    pair = Pair("odd", folder / "raw_2.wav", folder / "mix_1.wav", "train")
    with pytest.raises(InputError, match=r"odd: the raw take lasts 0\.20 s and its mix 1\.40 s"):
        latent_pairs([pair], cache)


# -- statistics


def test_statistics_are_those_of_all_frames_at_once(train: LatentPairs, codec: PocketCodec) -> None:
    raw = torch.cat([item.raw.read(0, item.frames) for item in train.pairs], dim=1)
    mix = torch.cat([item.mix.read(0, item.frames) for item in train.pairs], dim=1)
    assert torch.allclose(
        train.statistics.residual_std, (mix - raw).double().std(1, correction=0).float() / codec.latent_std, rtol=1e-4
    )
    other = PocketCodec.from_config(codec.config)
    found = measure(train.pairs, [], other, standardise_codec=True)
    both = torch.cat([raw, mix], dim=1).double()
    assert torch.allclose(found.latent_mean, both.mean(1).float(), atol=1e-5)
    assert torch.allclose(other.latent_std, both.std(1, correction=0).float(), rtol=1e-4)
    standardised = (both - found.latent_mean[:, None]) / found.latent_std[:, None]
    assert torch.allclose(standardised.std(1, correction=0), torch.ones(()).double(), atol=1e-4)


def test_controls_are_standardised_over_the_training_pairs(train: LatentPairs) -> None:
    mean, std = train.statistics.control_mean, train.statistics.control_std
    told = torch.stack([(item.controls(["width_db"]) - mean) / std for item in train.pairs])
    assert torch.allclose(told.mean(0), torch.zeros(1), atol=1e-5)
    assert torch.allclose(told.std(0, correction=0), torch.ones(1), atol=1e-5)


def test_what_can_not_be_learnt_is_refused(train: LatentPairs, codec: PocketCodec) -> None:
    same = [type(item)(item.pair, item.raw, item.raw) for item in train.pairs]
    with pytest.raises(InputError, match="don't differ"):
        measure(same, [], codec, standardise_codec=False)
    with pytest.raises(InputError, match=r"without variation in the training pairs: width_db"):
        control_statistics(same, ["width_db"])


# -- examples


def examples(pairs: LatentPairs, count: int = 300) -> list[dict[str, torch.Tensor]]:
    return [pairs.example(generator("test", number)) for number in range(count)]


def whole(pairs: LatentPairs) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Every pair of `pairs` in full, as crops show it: standardised raw and mix."""
    mean, std = pairs.statistics.latent_mean[:, None], pairs.statistics.latent_std[:, None]
    return [tuple((side.read(0, item.frames) - mean) / std for side in (item.raw, item.mix)) for item in pairs.pairs]


def place_of(crop: torch.Tensor, sources: list[torch.Tensor]) -> tuple[int, int]:
    """Which source holds `crop` [latent frames] unchanged, and at which frame."""
    for number, source in enumerate(sources):
        for at in torch.nonzero((source == crop[:, :1]).all(0)).flatten().tolist():
            if torch.equal(source[:, at : at + crop.shape[1]], crop):
                return number, at
    raise AssertionError("this crop comes from none of the recordings")


def test_raw_and_mix_of_a_crop_are_the_same_moment_and_padding_is_masked(train: LatentPairs) -> None:
    pairs = whole(train)
    starts: dict[int, set[int]] = {number: set() for number in range(len(pairs))}
    for example in examples(train):
        frames = int(example["frame_mask"].sum())
        assert example["frame_mask"][:frames].all()
        place = place_of(example["raw"][:, :frames], [raw for raw, _ in pairs])
        assert place == place_of(example["mix"][:, :frames], [mix for _, mix in pairs])
        number, start = place
        assert frames == min(CROP, train.pairs[number].frames)
        assert not example["raw"][:, frames:].any()
        assert not example["mix"][:, frames:].any()
        style = train.pairs[number].pair.style
        assert int(example["style"]) == (train.styles.index(style) if style else -1)
        starts[number].add(start)
    # Long takes are seen in proportion to their length, from the first to the last possible start.
    assert len(starts[0]) > 40
    assert min(starts[0]) <= 5
    assert max(starts[0]) >= train.pairs[0].frames - CROP - 5
    assert starts[2] == {0}


def test_a_reference_has_the_chain_but_never_the_frames_to_be_predicted(train: LatentPairs) -> None:
    pairs = whole(train)
    found: dict[int, set[int]] = {}
    for example in examples(train):
        frames = int(example["frame_mask"].sum())
        number, start = place_of(example["mix"][:, :frames], [mix for _, mix in pairs])
        valid = int(example["reference_frames"])
        assert not example["reference"][:, valid:].any()
        if valid:
            other, at = place_of(example["reference"][:, :valid], [mix for _, mix in pairs])
            found.setdefault(number, set()).add(other)
            assert other != number or at + valid <= start or at >= start + frames
        else:
            found.setdefault(number, set())
    # 0 and 2 share a chain; 1 is alone in its chain and 3 has none, so they refer to other parts of themselves.
    assert found == {0: {2}, 1: {1}, 2: {0}, 3: {3}}


def test_a_style_without_training_pairs_is_refused(train: LatentPairs) -> None:
    with pytest.raises(InputError, match="without a single training pair: far"):
        LatentPairs(
            train.pairs, statistics=train.statistics, styles=["near"], controls=[], crop_frames=8, reference_frames=8
        )


# -- draws


def batches(train: LatentPairs, config: Any, sampler: ShareSampler, workers: int) -> list[dict[str, torch.Tensor]]:
    return list(DataLoader(TrainingExamples(train, config), sampler=sampler, batch_size=2, num_workers=workers))


def test_batches_depend_on_seed_and_step_alone(train: LatentPairs, config: Any) -> None:
    everything = batches(train, config, ShareSampler(0, 3, 4, 0, 1), workers=0)
    with_workers = batches(train, config, ShareSampler(0, 3, 4, 0, 1), workers=2)
    resumed = batches(train, config, ShareSampler(2, 3, 4, 0, 1), workers=0)
    shares = [batches(train, config, ShareSampler(0, 3, 4, process, 2), workers=0) for process in range(2)]
    by_processes = [part for step in zip(*shares, strict=True) for part in step]
    for name in everything[0]:
        for found in (with_workers, everything[:4] + resumed, by_processes):
            assert len(found) == len(everything)
            for a, b in zip(everything, found, strict=True):
                torch.testing.assert_close(a[name], b[name], rtol=0, atol=0, equal_nan=True)
    other = TrainingExamples(train, config.model_copy(update={"seed": 1}))[0]
    assert not torch.equal(other["noise"], everything[0]["noise"][0])


def test_every_draw_is_its_own(train: LatentPairs, config: Any) -> None:
    found = [TrainingExamples(train, config)[number] for number in range(50)]
    for name in ("sigma", "noise"):
        assert len({float(example[name].flatten()[0]) for example in found}) == 50


def test_the_stated_share_of_times_is_the_start(train: LatentPairs, config: Any) -> None:
    found = [float(TrainingExamples(train, config)[number]["t"]) for number in range(500)]
    share = config.time.start_share
    assert abs(found.count(1.0) / 500 - share) < 4 * (share * (1 - share) / 500) ** 0.5
    assert all(0 < t <= 1 for t in found)


def test_sigma_is_uniform_over_its_range(train: LatentPairs, config: Any) -> None:
    path = config.path.model_copy(update={"sigma_min": 0.5, "sigma_max": 1.5})
    example = TrainingExamples(train, config.model_copy(update={"path": path}))
    sigma = torch.tensor([example[number]["sigma"] for number in range(400)]).sort().values
    distance = (sigma - torch.linspace(0.5, 1.5, 400)).abs().max()
    assert distance < 0.1  # Kolmogorov-Smirnov: 1.95/√400, exceeded by one sample in a thousand


def test_guidance_dropout_has_the_stated_probabilities_and_never_touches_the_take(
    train: LatentPairs, config: Any
) -> None:
    whole_example = train.example(generator("one"))
    assert int(whole_example["style"]) >= 0
    assert int(whole_example["reference_frames"]) > 0
    count = 2000
    lost = {"style": 0, "reference": 0, "controls": 0, "all": 0}
    for number in range(count):
        example = drop(whole_example, config, generator("drop", number))
        for name in ("raw", "mix", "frame_mask"):
            assert example[name] is whole_example[name]
        lost["style"] += int(example["style"]) == -1
        lost["reference"] += int(example["reference_frames"]) == 0
        lost["controls"] += bool(example["controls"].isnan().all())
        lost["all"] += not bool(example["told"])
        assert bool(example["reference"].any()) == (int(example["reference_frames"]) > 0)
    dropout = config.dropout
    # Where controls are told, each is with probability one half, and this example has a single one.
    stated = {"style": dropout.style, "reference": dropout.reference, "all": dropout.all}
    stated["controls"] = dropout.controls + (1 - dropout.controls) / 2
    for name, expected in stated.items():
        assert abs(lost[name] / count - expected) < 4 * (expected * (1 - expected) / count) ** 0.5, name


def test_every_subset_of_controls_is_told_equally_often_and_by_its_values(train: LatentPairs, config: Any) -> None:
    """Users set one control or two: each subset must have been seen, beside the share where all are dropped."""
    example = train.example(generator("one")) | {"controls": torch.tensor([0.5, -1.0, 2.0])}
    count, told = 2000, dict.fromkeys(itertools.product((True, False), repeat=3), 0)
    for number in range(count):
        controls = drop(example, config, generator("drop", number))["controls"]
        kept = ~controls.isnan()
        assert torch.equal(controls[kept], example["controls"][kept])
        told[tuple(kept.tolist())] += 1
    share = (1 - config.dropout.controls) / 8
    for subset, times in told.items():
        expected = share + (0 if any(subset) else config.dropout.controls)
        assert abs(times / count - expected) < 4 * (expected * (1 - expected) / count) ** 0.5, subset


@pytest.mark.parametrize("content", [b"", b"garbage", "cut"])
def test_a_damaged_entry_is_encoded_anew(
    folder: Path, cache: LatentCache, codec: PocketCodec, tmp_path: Path, content: bytes | str
) -> None:
    """What a full disk or a power cut leaves must not end every later run."""
    other = LatentCache(tmp_path, codec, loudness_lufs=-18.0)
    other.fill([folder / "raw_0.wav"], **CPU)
    (entry,) = tmp_path.iterdir()
    whole_entry = entry.read_bytes()
    entry.write_bytes(whole_entry[: len(whole_entry) // 2] if content == "cut" else content)
    with pytest.raises(InputError, match=r"raw_0\.wav are gone or damaged"):
        other.recording(folder / "raw_0.wav")
    other.fill([folder / "raw_0.wav"], **CPU)
    assert [path.name for path in tmp_path.iterdir()] == [entry.name]
    assert entry.read_bytes() == whole_entry == cache.recording(folder / "raw_0.wav").path.read_bytes()


def test_validation_repeats_itself_and_pairs_the_times(train: LatentPairs, config: Any) -> None:
    first, again = ValidationExamples(train, config), ValidationExamples(train, config)
    buckets = config.validation.buckets
    assert len(first) == config.validation.examples * buckets
    takes = [first[number] for number in range(buckets, 2 * buckets)]
    assert [int(example["number"]) for example in takes] == list(range(buckets, 2 * buckets))
    assert [float(example["t"]) for example in takes] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    for example, other in zip(takes, (again[n] for n in range(buckets, 2 * buckets)), strict=True):
        for name in ("raw", "noise", "sigma", "reference"):
            assert torch.equal(example[name], takes[0][name])
            assert torch.equal(example[name], other[name])
    assert not torch.equal(takes[0]["noise"], first[0]["noise"])


def test_generators_tell_purposes_apart() -> None:
    def number(*purpose: Any) -> int:
        return generator(*purpose).initial_seed()

    assert number(0, "crop", 1) == number(0, "crop", 1)
    assert len({number(a, b, c) for a in range(3) for b in ("crop", "noise") for c in range(20)}) == 120
