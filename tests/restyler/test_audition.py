"""Fixed takes, restyled and measured: what the numbers are, and that they depend on the weights alone."""

from __future__ import annotations

import copy
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio import io
from audio.errors import InputError
from audio.features import FEATURES
from audio.loudness import integrated_loudness_lufs, match_loudness, true_peak_db
from audio.waveform import Waveform
from restyler.audition import MEASURES, Audition, Auditions, Heard, levelled
from restyler.audition_takes import Candidate, audition_names, auditions_of_pairs, choose, stretches
from restyler.bench import distances
from restyler.bench_diversity import spread_db
from restyler.metrics import loudness_dynamics_distance, spectral_distance
from restyler.pairs import Pair
from restyler.pipeline import VocalRestylePipeline

Vocal = Callable[..., Waveform]
SECONDS = 1.0


@pytest.fixture(scope="module")
def takes(vocal: Vocal) -> list[Audition]:
    found = []
    for number, style in enumerate(("wide hall", None, "a style of others")):
        raw = vocal(SECONDS, 48_000, channels=1, seed=number).stereo()
        delay = torch.stack([raw.samples[0], raw.samples[1].roll(300 + 100 * number)])
        mix = Waveform(raw.samples + 0.5 * delay * torch.tensor([[0.3], [1.0]]), 48_000)
        raw, mix = (match_loudness(side, -18.0).waveform for side in (raw, mix))
        found.append(Audition(f"take {number}", raw, mix, style))
    return found


@pytest.fixture(scope="module")
def heard(takes: list[Audition], pipeline: VocalRestylePipeline) -> Heard:
    return Auditions(takes, pipeline.codec, seeds=2).hear(pipeline)


def test_values_are_those_of_the_benchmark(
    takes: list[Audition], heard: Heard, pipeline: VocalRestylePipeline, tmp_path: Path
) -> None:
    """Rendered and measured anew, one seed at a time, with the rows of the benchmark for floor and ceiling."""
    seeds: list[list[tuple[float, float, float]]] = []
    floors, ceilings, spreads = [], [], []
    for number, take in enumerate(takes):
        style = take.style if number == 0 else None  # not told where it is none of the model's
        mixes = [Waveform(pipeline(take.raw, seeds=[seed], style=style)[0], 48_000) for seed in (0, 1)]
        measured = [(spectral_distance(take.mix, mix), loudness_dynamics_distance(take.mix, mix)) for mix in mixes]
        seeds.append([(spectral.lr, spectral.ms, dynamics) for spectral, dynamics in measured])
        spreads.append(spread_db(pipeline, take.raw, style, (0, 1)))
        files = [tmp_path / f"{number}.{side}.wav" for side in ("raw", "mix")]
        for file, waveform in zip(files, (take.raw, take.mix), strict=True):
            io.write(file, waveform, tags={})
        rows = distances(pipeline, Pair("", *files, "validation"))
        floors.append(rows["raw take (floor)"])
        ceilings.append(rows["the mix through the codec (ceiling)"])
    expected = {"val_failed": 0.0}
    for place, measure in enumerate(MEASURES):
        expected[f"val_{measure}"] = statistics.median(statistics.fmean(s[place] for s in take) for take in seeds)
        nearest = [min(take, key=lambda one: one[0]) for take in seeds]
        expected[f"val_best_{measure}"] = statistics.median(one[place] for one in nearest)
    for name, rows in (("floor", floors), ("ceiling", ceilings)):
        expected[f"{name}_mss_lr"] = statistics.median(row.lr for row in rows)
        expected[f"{name}_mss_ms"] = statistics.median(row.ms for row in rows)
    for name in FEATURES:
        expected[f"val_spread_{name}"] = statistics.fmean(spread[name] for spread in spreads)
    dynamics = {f"{bound}_mldr" for bound in ("floor", "ceiling")}
    assert set(heard.values) == set(expected) | dynamics
    assert {name: heard.values[name] for name in expected} == pytest.approx(expected, rel=1e-3)
    assert all(0 < heard.values[name] < 5 for name in dynamics)
    assert heard.values["val_best_mss_lr"] < heard.values["val_mss_lr"]


def test_sounds_are_at_the_take_s_level_and_pictures_show_them(takes: list[Audition], heard: Heard) -> None:
    parts = ("raw", "mix", "seed 0", "seed 1")
    assert list(heard.sounds) == [f"{take.name}/{part}" for take in takes for part in parts]
    for take in takes:
        for part in parts:
            sound = heard.sounds[f"{take.name}/{part}"]
            assert sound.samples.shape == take.raw.samples.shape and float(sound.samples.abs().max()) <= 1
            loudness_lufs, peak_db = integrated_loudness_lufs(sound), true_peak_db(sound)
            assert loudness_lufs == pytest.approx(-18, abs=0.01) or (loudness_lufs < -18 and -1.2 < peak_db < -1)
        shown = np.asarray(heard.pictures[take.name])
        rows = [shown[160 * n + 4 * n :][:160].astype(float) for n in range(3)]
        assert shown.shape[0] == 3 * 160 + 2 * 4
        assert all(np.abs(one - other).mean() > 1 for one, other in zip(rows, rows[1:] + rows[:1], strict=True))


def test_the_same_weights_give_the_same_bits_and_no_global_state_moves(
    takes: list[Audition], heard: Heard, pipeline: VocalRestylePipeline
) -> None:
    auditions = Auditions(takes, pipeline.codec, seeds=2)
    other = copy.deepcopy(pipeline.denoiser)
    for parameter in pipeline.denoiser.parameters():
        parameter.data.mul_(1.3)
    assert auditions.hear(pipeline).values != heard.values
    pipeline.denoiser.load_state_dict(other.state_dict())
    torch.manual_seed(99)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    again = auditions.hear(pipeline)
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2][1])  # noqa: NPY002
    assert again.values == heard.values
    assert all(torch.equal(again.sounds[name].samples, sound.samples) for name, sound in heard.sounds.items())
    assert all(again.pictures[name].tobytes() == picture.tobytes() for name, picture in heard.pictures.items())


@pytest.mark.parametrize("failure", ["not finite", "silent"])
def test_a_model_that_fails_is_told_by_a_number(
    takes: list[Audition], heard: Heard, build_pipeline: Callable[..., VocalRestylePipeline], failure: str
) -> None:
    broken = build_pipeline()
    auditions = Auditions(takes[:1], broken.codec, seeds=2)
    auditions.hear(broken)
    if failure == "silent":
        for parameter in broken.codec.parameters():
            parameter.data.zero_()
    else:
        next(broken.denoiser.parameters()).data.fill_(math.nan)
    found = auditions.hear(broken)
    assert found.values["val_failed"] == 2
    assert all(
        math.isnan(value) for name, value in found.values.items() if name.startswith("val_") and "failed" not in name
    )
    assert math.isfinite(found.values["ceiling_mldr"])  # of before: bounds are measured once
    assert list(found.sounds) == ["take 0/raw", "take 0/mix"]
    ours = np.asarray(found.pictures["take 0"])[2 * (160 + 4) :]
    assert (ours == ours[0, 0]).all()  # dark


def test_a_level_is_kept_under_the_ceiling() -> None:
    click = torch.zeros(2, 48_000)
    click[:, ::4800] = 0.5
    assert float(levelled(Waveform(click, 48_000), -10.0).samples.abs().max()) < 0.9  # type: ignore[union-attr]
    assert levelled(Waveform(torch.zeros(2, 48_000), 48_000), -18.0) is None
    assert levelled(Waveform(torch.full((2, 48_000), math.inf), 48_000), -18.0) is None


def test_takes_that_can_not_be_compared_are_refused(takes: list[Audition], pipeline: VocalRestylePipeline) -> None:
    one = takes[0]
    mono, short = Waveform(one.mix.samples[:1], 48_000), Waveform(one.mix.samples[:, 1:], 48_000)
    for wrong in ([], [one, one], [replace(one, mix=short)], [replace(one, raw=mono, mix=mono)]):
        with pytest.raises(ValueError, match="take"):
            Auditions(wrong, pipeline.codec, seeds=2)
    with pytest.raises(ValueError, match="at 48000 Hz"):
        Auditions([replace(one, raw=Waveform(one.raw.samples, 44_100))], pipeline.codec, seeds=2)


# -- which takes


def test_takes_come_in_turn_and_styles_in_equal_shares() -> None:
    def candidates(takes: int) -> list[Candidate[tuple[int, str]]]:
        return [
            Candidate((take, style), f"take {take}", style, take == 3, (style,))
            for take in range(takes)
            for style in ("a", "b", "c")
        ]

    def chosen(candidates: list[Candidate[tuple[int, str]]], count: int = 100) -> list[tuple[int, str]]:
        return choose(candidates, count, lambda item: item)

    order = chosen(candidates(6))
    assert len(order) == len(set(order)) == 18
    for first in (0, 6, 12):  # every take once, then every take again
        assert sorted(take for take, _ in order[first : first + 6]) == list(range(6))
    assert sorted(style for _, style in order[:6]) == ["a", "a", "b", "b", "c", "c"]
    assert order[5][0] == 3  # a poor one comes after all others
    shuffled = candidates(6)
    random.Random(0).shuffle(shuffled)
    assert chosen(shuffled, 4) == order[:4]
    more = [take for take, _ in chosen(candidates(7), 7)]
    assert [take for take in more if take < 6] == [take for take, _ in order[:6]]  # another take moves none of them
    useless = choose(candidates(6), 6, lambda item: None if item[0] < 2 and item[1] != "b" else item)
    assert sorted(take for take, _ in useless) == list(range(6))  # what is passed over doesn't count as a turn


def test_names_are_unique_plain_and_fit_for_files() -> None:
    told = [("a/b", None), ("a_b", None), ("A_B", None), ("k\n\x1b", "hall"), ("..", None), ("x" * 300, "y")]
    names = audition_names(told)
    assert names[:5] == ["a_b", "a_b (2)", "A_B (3)", "k__, hall", "take"]
    assert len(names[5]) <= 80 and all(name.isprintable() for name in names)


def test_the_loudest_stretch_is_heard_in_time_at_the_loudness_of_the_data(vocal: Vocal, tmp_path: Path) -> None:
    """Of a take that begins with noise; the mix has another rate, another level, and ends earlier."""
    rate = 44_100
    raw = torch.cat([0.003 * vocal(1.6, rate).samples, vocal(2.0, rate, seed=1).samples], dim=1)
    mix = Waveform(0.3 * raw, rate).resampled(48_000).samples[:, : round(3.5 * 48_000)]
    io.write(tmp_path / "raw.wav", Waveform(raw, rate), tags={})
    io.write(tmp_path / "mix.flac", Waveform(mix.repeat(2, 1), 48_000), tags={})
    pair = Pair("song", tmp_path / "raw.wav", tmp_path / "mix.flac", "validation", "hall")
    trained_on = replace(pair, key="other", split="train")

    def found(**changes: float) -> list[Audition]:
        settings = {"takes": 3, "take_s": 1.5, "loudness_lufs": -20.0} | changes
        return auditions_of_pairs([trained_on, pair], sample_rate=48_000, **settings)  # type: ignore[arg-type]

    (take,) = found()
    assert (take.name, take.style) == ("song, hall", "hall")
    assert take.raw.samples.shape == take.mix.samples.shape == (2, 72_000)
    for side in (take.raw, take.mix):
        assert integrated_loudness_lufs(side) == pytest.approx(-20, abs=0.01)
    expected = Waveform(raw, rate).resampled(48_000).samples[0, 72_000:144_000]  # the second of three stretches
    for side in (take.raw, take.mix):
        assert np.corrcoef(side.samples[0, 500:-500], expected[500:-500])[0, 1] > 0.9999
    assert found(takes=0) == []


def test_files_are_read_no_further_than_needed(vocal: Vocal, tmp_path: Path) -> None:
    """A hundred seconds of NaN at the end of a file are never met."""
    samples = np.tile(vocal(5.0, 8_000).samples[0].numpy(), 50)
    samples[150 * 8_000 :] = np.nan
    for side in ("raw", "mix"):
        soundfile.write(tmp_path / f"{side}.wav", samples, 8_000, "FLOAT")
    with pytest.raises(InputError, match="NaN"):
        io.read(tmp_path / "raw.wav")
    pair = Pair("song", tmp_path / "raw.wav", tmp_path / "mix.wav", "validation")
    (take,) = auditions_of_pairs([pair], takes=1, take_s=10.0, sample_rate=48_000, loudness_lufs=-18.0)
    assert take.raw.duration_s == pytest.approx(10.0)


def test_a_silent_pair_is_passed_over_and_none_at_all_is_told(vocal: Vocal, tmp_path: Path) -> None:
    pairs = []
    for number in range(4):
        for side, gain in (("raw", 1.0), ("mix", 0.0 if number else 1.0)):
            io.write(tmp_path / f"{number}.{side}.wav", Waveform(gain * vocal(0.5, 48_000).samples, 48_000), tags={})
        files = (tmp_path / f"{number}.{side}.wav" for side in ("raw", "mix"))
        pairs.append(Pair(str(number), *files, "validation"))
    settings = {"take_s": 10.0, "sample_rate": 48_000, "loudness_lufs": -18.0}
    (take,) = auditions_of_pairs(pairs, takes=2, **settings)  # type: ignore[arg-type]
    assert take.name == "0"
    with pytest.raises(InputError, match="none of 3 validation pairs"):
        auditions_of_pairs(pairs[1:], takes=2, **settings)  # type: ignore[arg-type]


def test_stretches_are_the_whole_file_in_order(vocal: Vocal, tmp_path: Path) -> None:
    whole = vocal(7.0, 44_100, channels=2)
    io.write(tmp_path / "a.flac", whole, tags={})
    parts = list(stretches(tmp_path / "a.flac", 1.00001))
    assert torch.equal(torch.cat([part.samples for part in parts], dim=1), io.read(tmp_path / "a.flac").samples)
    assert [len(part.samples[0]) for part in parts[:3]] == [44_100, 44_101, 44_100]
